"""Any mapping as a backend."""

from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager

from stockstore.backends.base import Backend
from stockstore.errors import CacheUnreachable
from stockstore.locks import fork_safe_lock


class MappingBackend(Backend):
    """Keeps bytes in a ``MutableMapping[str, bytes]``: a dict, a shelf, a cache of another library.

    Lifetimes are not kept: the exact expiry stands in the value, and who reads it drops what has
    expired. Threads may share a backend, since it is alone with the mapping in each operation.

    >>> backend = MappingBackend({})
    >>> backend.set_many([("shop:User:id:i1", b"Ann", 60)])
    >>> backend.get_many(["shop:User:id:i1", "shop:User:id:i2"])
    {'shop:User:id:i1': b'Ann'}
    """

    def __init__(self, mapping: MutableMapping[str, bytes]) -> None:
        self._mapping = mapping
        self._lock = fork_safe_lock()

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Give the values of those keys that are present."""
        with self._alone() as mapping:
            found = {key: mapping.get(key) for key in keys}
            for key, value in found.items():
                if not isinstance(value, (bytes, type(None))):
                    raise TypeError(f"{key!r} holds a value of type {type(value).__name__}, not bytes")
        return {key: value for key, value in found.items() if value is not None}

    def set_many(self, items: Sequence[tuple[str, bytes, int]]) -> None:
        """Keep values, whatever their lifetimes."""
        with self._alone() as mapping:
            for key, value, _ in items:
                mapping[key] = value

    def delete_many(self, keys: Sequence[str]) -> int:
        """Drop keys and tell how many of them were there."""
        with self._alone() as mapping:
            return sum(mapping.pop(key, None) is not None for key in keys)

    def clear(self, prefix: str) -> None:
        """Drop every key that starts with a prefix; looks at all keys."""
        with self._alone() as mapping:
            for key in [key for key in mapping if _text(key).startswith(prefix)]:
                mapping.pop(key, None)

    def close(self) -> None:
        """Do nothing: the mapping belongs to who made it."""

    @contextmanager
    def _alone(self) -> Iterator[MutableMapping[str, bytes]]:
        try:
            with self._lock:
                yield self._mapping
        except Exception as exc:  # any mapping may stand here, with errors of its own
            kind = type(self._mapping).__name__
            raise CacheUnreachable(f"the mapping ({kind}) failed: {exc!r}; check what it stores to") from exc


def _text(key: object) -> str:
    """Give a key as text: files of ``dbm`` list theirs as bytes, and a mapping may hold others that are neither."""
    return key.decode("latin-1") if isinstance(key, bytes) else str(key)
