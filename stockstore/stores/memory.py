"""Process memory: the fastest tier, shared by all threads."""

import time
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from stockstore.instrumentation import Stats
from stockstore.keys import Key, keys_of
from stockstore.lifetimes import Lifetime
from stockstore.stores.base import MISSING
from stockstore.stores.cache import CacheStore, Namespace
from stockstore.stores.local import LocalSpaces, LocalStore
from stockstore.stores.snapshots import Snapshot

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

T = TypeVar("T")

_now = time.monotonic


class _Quick(NamedTuple):
    """What a hit by a plain class's canonical key of one name needs, found by the class alone."""

    name: str
    value_of: Callable[[Any], object]
    # The value is whatever object the class's shelf holds.
    node_of: Callable[[object], Any]


class ProcessMemoryStore(LocalStore):
    """Objects in the memory of this process, bounded, for all threads; reads take no lock.

    Plain objects are kept by reference: ``get`` gives the very object that was put, and what one
    reader changes in it the others see, unless ``copy=True``. Mapped objects are kept as column
    state, and every reader gets its own instance.

    Args:
        maxsize: Objects kept at the most; which go first is decided by S3-FIFO.
        lifetime: How long an entry lives: ``None`` (no limit), seconds, a timedelta, an aware datetime, or a
            callable of the object.
        polymorphic: Whether plain objects are also found by their keyed base classes.
        copy: Whether plain objects are deep-copied at put and get.
        namespace: A name, or a callable that gives one (a tenant): what one puts no other sees.
        jitter: The fraction by which lifetimes are shortened at random, against mass expiry.

    >>> class Colour:
    ...     __keys__ = ["name"]
    ...     def __init__(self, name): self.name = name
    >>> store = ProcessMemoryStore(maxsize=1000)
    >>> red = Colour("red")
    >>> store.put(red)
    >>> store.get(Colour, "red") is red
    True
    """

    def __init__(
        self,
        *,
        maxsize: int = 100_000,
        lifetime: Lifetime = None,
        polymorphic: bool = False,
        copy: bool = False,
        namespace: Namespace = "stockstore",
        jitter: float = 0.0,
    ) -> None:
        """Start empty."""
        super().__init__(lifetime=lifetime, polymorphic=polymorphic, namespace=namespace, jitter=jitter, copy=copy)
        self._shelves = LocalSpaces(maxsize, self._counters)
        self._quick: dict[type, _Quick] = {}

    @property
    def _spaces(self) -> LocalSpaces:
        return self._shelves

    def get(self, cls: type[T], key: Key = MISSING, *, session: "Session | None" = None, **names: object) -> T | None:
        """Give the object of a key, or ``None``; see ``Store.get``."""
        # The hot path, measured by scripts/bench: a hit by the canonical key of a plain class. Whatever is
        # not exactly that, a miss and bad input included, raises here and goes the long way.
        try:
            name, value_of, node_of = self._quick[cls]
            value = key[name] if type(key) is dict and len(key) == 1 else key
            if (type(value) is int or type(value) is str) and not names:
                node = node_of(value)
                obj: T = node.value
                if value_of(obj) == value and (node.expires is None or node.expires > _now()):
                    node.hits += 1
                    return obj
        except (KeyError, AttributeError):
            pass
        return super().get(cls, key, session=session, **names)

    def batch_get(self, cls: type[T], keys: Iterable[Key], *, session: "Session | None" = None) -> list[T | None]:
        """Give the objects of these keys, in their positions, ``None`` where there is none."""
        quick = self._quick.get(cls)
        keys = keys if isinstance(keys, list) else list(keys)
        if quick is None:
            self._learn(cls)
            return super().batch_get(cls, keys, session=session)
        found = self._quick_batch(quick, keys)
        missing = [position for position, obj in enumerate(found) if obj is None] if None in found else ()
        if missing:
            rest = super().batch_get(cls, [keys[position] for position in missing], session=session)
            for position, obj in zip(missing, rest, strict=True):
                found[position] = obj
        return found

    @staticmethod
    def _quick_batch(quick: _Quick, keys: list[Key]) -> list[Any]:
        name, value_of, node_of = quick
        now, found = _now(), []
        for key in keys:
            value = key.get(name) if type(key) is dict and len(key) == 1 else key
            node = node_of(value) if type(value) is int or type(value) is str else None
            obj = None
            if node is not None and (node.expires is None or node.expires > now):
                obj = node.value
                if obj is not None and value_of(obj) == value:
                    node.hits += 1
                else:
                    obj = None
            found.append(obj)
        return found

    batch_fetch = CacheStore.batch_fetch

    def _learn(self, cls: type) -> None:
        keys = keys_of(cls)
        if not keys.mapped and len(keys.identity.names) == 1 and not self._copy and not callable(self._namespace_setting):
            (name,) = keys.identity.names
            # The dictionary's keys are canonical values; get takes any and finds nothing then.
            node_of: Callable[[Any], Any] = self._shelves.records(self._namespace(), keys.identity).get
            self._quick[cls] = _Quick(name, attrgetter(name), node_of)

    def _count(self, found: Sequence[Snapshot | None]) -> None:
        self._counters.add(misses=found.count(None))

    def stats(self) -> Stats:
        """Give an immutable snapshot of the store's counts; hits are counted on the entries, so it visits each."""
        return self._counters.snapshot(repr(self), hits=self._shelves.cells.hits())

    def __repr__(self) -> str:
        """Name the store."""
        return f"{type(self).__name__}(maxsize={self._shelves.cells.maxsize})"
