"""dogpile.cache: any store as the backend of a region."""

import logging
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from stockstore.backends.coherent import LEASE_SECONDS, CoherentBackend
from stockstore.errors import ConfigurationError
from stockstore.keys import canonical, key_text
from stockstore.stores.backed import BackendStore
from stockstore.stores.base import Store
from stockstore.stores.chained import ChainedStore
from stockstore.urls import open_store

try:
    from dogpile.cache.api import NO_VALUE, BytesBackend, CacheMutex, NoValue
except ModuleNotFoundError as exc:
    raise ConfigurationError('stockstore_ext.dogpile needs dogpile.cache, which is missing: pip install "stockstore[dogpile]"') from exc

_log: Final = logging.getLogger(__name__)
_ARGUMENTS: Final = ("store", "url", "distributed_lock")
_PAUSE: Final = 0.02


@dataclass
class Value:
    """A region's value as the store keeps it."""

    __keys__: ClassVar = ["key"]
    key: str
    value: bytes


class StoreBackend(BytesBackend):
    """The backend ``"stockstore"``: a region's values as bytes in a store, a chain too.

    Coherence: what the store has between its tiers and processes, and none towards the database. A region writes what its
    creator has computed, however long ago that began to read; a value that another has invalidated meanwhile comes back.
    Lifetimes are the store's, such as ``lifetime=`` in its URL; the region's ``expiration_time`` only says when a value
    is created anew. A read that a server does not answer is a miss, a write or lock raises ``CacheUnreachable``.

    dogpile encodes values by pickle unless the region has a ``serializer`` and a ``deserializer``: then whoever can write to
    the server runs code in the processes that read from it.

    Args:
        arguments: Those of the region. ``store``: a blocking store, which stays the caller's; or ``url``: one URL, or several,
            the fastest first, in a list or parted by spaces, as ``open_store`` takes them. ``distributed_lock``: whether only
            one of all processes creates a value at a time, for 10 seconds at the most; it needs Redis or memcached as the
            last tier. Others are passed over with a warning: no backend of dogpile refuses them.

    Raises:
        ConfigurationError: Not exactly one of store and url, or one that does not fit.

    >>> from dogpile.cache import make_region
    >>> region = make_region().configure("stockstore", arguments={"url": "memory://?maxsize=1000&lifetime=300"})
    >>> region.get_or_create("answer", lambda: 42)
    42
    >>> region.backend.store
    ChainedStore([ProcessMemoryStore(maxsize=1000)])
    """

    # The arguments of a backend are of any type.
    def __init__(self, arguments: Mapping[str, Any]) -> None:
        """Take the store, or open it."""
        self.store = _store_in(arguments)
        self._locks = _shared_tier(self.store) if arguments.get("distributed_lock") else None

    def has_lock_timeout(self) -> bool:
        """Whether a creator that takes long may be overtaken by another process's."""
        return self._locks is not None

    def get_mutex(self, key: str) -> CacheMutex | None:
        """Give the lock of all processes for a key; without ``distributed_lock`` none, and dogpile uses one of this process."""
        if self._locks is None:
            return None
        shared, tier = self._locks
        return LeaseMutex(shared, tier.partition, key)

    def get_serialized(self, key: str) -> bytes | NoValue:
        """Give the bytes of a key, or ``NO_VALUE``."""
        return _bytes_of(self.store.get(Value, key))

    def get_serialized_multi(self, keys: Iterable[str]) -> Sequence[bytes | NoValue]:
        """Give the bytes of keys in their positions; one round trip per tier."""
        return [_bytes_of(found) for found in self.store.batch_get(Value, list(keys))]

    def set_serialized(self, key: str, value: bytes) -> None:
        """Keep the bytes of a key."""
        self.store.put(Value(key, value))

    def set_serialized_multi(self, mapping: Mapping[str, bytes]) -> None:
        """Keep the bytes of keys; one round trip per tier."""
        self.store.batch_put([Value(key, value) for key, value in mapping.items()])

    def delete(self, key: str) -> None:
        """Drop a key."""
        self.store.delete(Value, key)

    def delete_multi(self, keys: Iterable[str]) -> None:
        """Drop keys; one round trip per tier."""
        self.store.batch_delete(Value, list(keys))


class LeaseMutex(CacheMutex):
    """A lock of all processes: a lease on a key that holds nothing else. It ends by itself after 10 seconds."""

    timeout: ClassVar = LEASE_SECONDS

    def __init__(self, backend: CoherentBackend, namespace: str, key: str) -> None:
        """Lock nothing yet."""
        self._backend = backend
        self._text = key_text(namespace, "dogpile.lock", (canonical(key),))
        self._token = b""

    def acquire(self, wait: bool = True) -> bool:
        """Take the lock, and say whether that was done; ``wait`` until it is."""
        # A token is never used twice: a lease that one of ours has lost in time would count as this one's.
        token = secrets.token_bytes(16)
        while not self._backend.lease_many({self._text: None}, token, "").granted:
            if not wait:
                return False
            time.sleep(_PAUSE)
        self._token = token
        return True

    def release(self) -> None:
        """Give the lock back, unless it has ended by itself and may be another's now."""
        # The value that takes the lease's place, for a second at the most, keeps others out until it is removed.
        if self._backend.fill_many([(self._text, b"", 1)], self._token):
            self._backend.invalidate_many([self._text])

    def locked(self) -> bool:
        """Whether anybody has the lock."""
        return bool(self._backend.get_many([self._text]))


def _store_in(arguments: Mapping[str, Any]) -> Store:
    if not isinstance(arguments, Mapping):
        raise ConfigurationError(f"the arguments of the backend 'stockstore' are a dict, not {arguments!r}")
    if unknown := [name for name in arguments if name not in _ARGUMENTS]:
        _log.warning("the backend 'stockstore' has no argument %r, and passes over it; it has %s", unknown[0], ", ".join(_ARGUMENTS))
    store, url = arguments.get("store"), arguments.get("url")
    if (store is None) == (url is None):
        raise ConfigurationError("the backend 'stockstore' takes either a store or a url in its arguments, exactly one of them")
    if url is not None:
        store = open_store(*_urls(url))
    if not isinstance(store, Store):
        raise ConfigurationError(f"the argument store of a region is a blocking store, such as RedisStore(url), not {store!r}")
    if not store.holds(Value):
        raise ConfigurationError(f"{store!r} has no cache, which a region's values need; add one, such as memory://")
    return store


def _urls(url: object) -> Iterable[str]:
    if isinstance(url, str):
        return url.split()
    if not isinstance(url, Iterable):
        raise ConfigurationError(f"the argument url of a region is a store's URL, such as 'memory://', or a list of them, not {url!r}")
    return url


def _shared_tier(store: Store) -> tuple[CoherentBackend, Store]:
    last = store.tiers[-1] if isinstance(store, ChainedStore) else store
    backend = last.backend if isinstance(last, BackendStore) else None
    if not isinstance(backend, CoherentBackend):
        raise ConfigurationError(f"distributed_lock needs Redis or memcached as the last tier, not {last!r}")
    return backend, last


def _bytes_of(found: Value | None) -> bytes | NoValue:
    return NO_VALUE if found is None else found.value
