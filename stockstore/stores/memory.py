"""Process memory: the fastest tier, shared by all threads."""

import time
from collections.abc import Callable, Iterable
from functools import partial
from inspect import signature
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from stockstore.channels.base import Freshness
from stockstore.channels.choice import AUTO, Setting, channel_from
from stockstore.errors import CodecError, ConfigurationError, NotKeyedError
from stockstore.instrumentation import Stats, listening, watch_hooks
from stockstore.keys import ClassKeys, Key, Lookup, keys_of
from stockstore.lifetimes import Lifetime
from stockstore.native import Reads
from stockstore.native.keys import finder_key
from stockstore.stores.arguments import MISSING, keys_in, one_key
from stockstore.stores.cache import CacheStore, Namespace
from stockstore.stores.claimed import ClaimedSpaces
from stockstore.stores.hits import Hits, absent_from, compile_hits, exact_tuples, exact_values
from stockstore.stores.local import LocalStore

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

T = TypeVar("T")

_now = time.monotonic
_OPTIONS: Final = frozenset(signature(CacheStore.get).parameters)


class _Conditions(NamedTuple):
    """Under which ways to hits are learned."""

    expiring: bool
    told: bool
    contact: Freshness | None
    sweeps: int


class ProcessMemoryStore(Reads, LocalStore):
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
        max_staleness: Seconds for which a chain believes what it has read from tiers below that other processes write
            too; ``None`` says that no other process does.
        channel: What tells of the writes of other processes, so that entries live for longer than that, and are passed by where
            nothing was heard for so long: ``"auto"``, in a chain or a ``SessionSync``, that of the nearest tier below that carries
            one, as ``RedisStore`` does; ``None`` for none; the URL of a Redis server on which the writers tell of what they write; or the URL
            of a PostgreSQL database, or an engine on it, which tells where there is no Redis and every process that writes has it.

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
        max_staleness: float | None = 1.0,
        channel: Setting = AUTO,
    ) -> None:
        """Start empty."""
        super().__init__(
            lifetime=lifetime, polymorphic=polymorphic, namespace=namespace, jitter=jitter, copy=copy, max_staleness=max_staleness
        )
        self.channel = channel_from(channel)
        if self.channel is not None and max_staleness is None:
            raise ConfigurationError("max_staleness=None says that no other process writes, and a channel that one does; give seconds")
        self.finds_channel = channel == AUTO
        self._shelves = ClaimedSpaces(maxsize)
        # Per plain class: what finds a batch by a canonical key of one name. What finds one object is in _finders.
        self._batch_hits: dict[type, Callable[[list[Any], list[Any]], None]] = {}
        # In place of them while there is a hook, which has to hear of each hit.
        self._told_hits: dict[type, Callable[[Any], Any]] = {}
        # Not a method: the store would refer to itself, and wait for the garbage collector.
        self._forget_hits = partial(_forget, [self._finders, self._batch_hits, self._told_hits])
        self._shelves.cells.on_expiring = self._shelves.on_sweep = self._forget_hits
        watch_hooks(self)

    @property
    def _spaces(self) -> ClaimedSpaces:
        return self._shelves

    def switch_hooks(self) -> None:
        """Forget the ways to hits: while there is a hook, others are learned."""
        with self._shelves.cells.lock:
            self._forget_hits()

    def listen(self, contact: Freshness) -> None:
        """Be believed from now on only while a channel is heard."""
        with self._shelves.cells.lock:
            super().listen(contact)
            self._forget_hits()

    if TYPE_CHECKING:

        def get(
            self, cls: type[T], key: Key = MISSING, *, session: "Session | None" = None, strict: bool = False, **names: object
        ) -> T | None:
            """Give the object of a key, or ``None``; see ``Store.get``."""

    # The hot path, measured by scripts/bench, is that of Reads: a hit or a miss on a plain class by plain values. Whatever is not exactly that, a
    # record that has expired and bad input included, comes here.
    def _get_longer(self, cls: Any = MISSING, key: Any = MISSING, /, **names: Any) -> Any:
        if names:
            given = () if cls is MISSING else (cls,) if key is MISSING else (cls, key)
            return self._get_by(*given, **names)
        return self._get(cls, one_key(key, names), None)

    def _get_by(
        self, cls: type[T], key: Key = MISSING, *, session: "Session | None" = None, strict: bool = False, **names: object
    ) -> T | None:
        if strict and self.contact is not None:
            return None
        if session is None and key is not MISSING and not names:
            # Not that of a subclass, which may have come here by just this session.
            return ProcessMemoryStore.get(self, cls, key)
        return self._get(cls, one_key(key, names), session)

    def _get(self, cls: type[T], key: Key, session: "Session | None") -> T | None:
        found = self.told_hit(cls, key) if listening else None
        return self._get_any(cls, key, session) if found is None else found

    def told_hit(self, cls: type[T], key: Key) -> T | None:
        """Give an object and tell the hooks, where there is a fast way to it; ``None`` tells nothing and counts nothing."""
        try:
            found: T = self._told_hits[cls](key)
        except (KeyError, AttributeError, TypeError):
            if self._is_quick(cls) and cls not in self._told_hits:
                self._learn(cls)
            return None
        self._tell_reads(cls, 1, 0)
        return found

    def _is_quick(self, cls: type) -> bool:
        return not (keys_of(cls).mapped or self._copy or self._watched)

    def _get_any(self, cls: type[T], key: Key, session: "Session | None") -> T | None:
        if not self._is_quick(cls):
            return self.batch_get(cls, [key], session=session)[0]
        lookup = keys_of(cls).lookup(key)
        if cls not in self._finders and not listening:
            self._learn(cls)
        found = self._find_plain(cls, lookup)
        if found is None:
            self._note_reads(cls, 0, 1)
        else:
            self._tell_reads(cls, 1, 0)
        return found

    def _find_plain(self, cls: type[T], lookup: Lookup) -> T | None:
        if not self.is_fresh():
            return None
        now = _now()
        for cells in self._places(cls, lookup, self._shelves, self._namespace()):
            node = cells.get(lookup.native)
            if node is not None and node.expires <= now:
                self._expire(node)
            elif node is not None:
                obj = node.value
                if isinstance(obj, cls) and self._carries(lookup, obj):
                    node.hits += 1
                    return obj
        return None

    @staticmethod
    def _carries(lookup: Lookup, obj: object) -> bool:
        try:
            return lookup.plan.native_of(obj) == lookup.native
        except (NotKeyedError, CodecError):  # as in _fits
            return False

    def batch_get(self, cls: type[T], keys: Iterable[Key], *, session: "Session | None" = None) -> list[T | None]:
        """Give the objects of these keys, in their positions, ``None`` where there is none."""
        keys = keys_in(keys)
        found: list[T | None] = []
        try:
            self._batch_hits[cls](keys, found)
        except (KeyError, AttributeError, TypeError, IndexError):
            return found + self._batch_get(cls, keys[len(found) :] if found else keys, session)
        return found

    def batch_hits(self, cls: type[T], keys: list[Key], session: "Session | None") -> list[T | None] | None:
        """Give the objects of these keys where all are found in the faster ways; ``None`` tells nothing and counts nothing."""
        found: list[T | None] = []
        try:
            self._batch_hits[cls](keys, found)
        except (KeyError, AttributeError, TypeError, IndexError):
            self._shelves.cells.tally.hits -= len(found)
            if cls not in self._batch_hits and self._is_quick(cls):
                self._learn(cls)
            return self._row_hits(cls, keys, session)
        return found

    def _batch_get(self, cls: type[T], keys: list[Key], session: "Session | None") -> list[T | None]:
        found = self._row_hits(cls, keys, session)
        if found is not None:
            return found
        if keys_of(cls).mapped or self._copy or self._watched or not keys or listening:
            return super().batch_get(cls, keys, session=session)
        return [ProcessMemoryStore.get(self, cls, key) for key in keys]

    def _row_hits(self, cls: type[T], keys: list[Key], session: "Session | None") -> list[T | None] | None:
        compiled = keys_of(cls)
        if not compiled.mapped or self._watched or compiled.canonical is not compiled.identity or not self.is_fresh():
            return None
        found = self._rows(cls, compiled, keys, session)
        if found is not None:
            self._tell_reads(cls, len(found), 0)
        return found

    def _rows(self, cls: type, compiled: ClassKeys, keys: list[Key], session: "Session | None") -> list[Any] | None:
        from stockstore.stores.row_hits import rows

        plan = compiled.identity
        try:
            values = exact_tuples(plan.names, compiled.order, keys) if len(plan.names) > 1 else exact_values(plan.names[0], keys)
            return rows(cls, self._shelves.found(self._namespace(), plan, alias=False), values, session)
        except KeyError:
            return None

    batch_fetch = CacheStore.batch_fetch

    def _learn(self, cls: type) -> None:
        if callable(self._namespace_setting):
            return
        conditions = self._conditions()
        hits = self._compile(keys_of(cls), conditions)
        # A reader waits for no writer: a later look-up learns them then, and also where a first expiry came since.
        lock = self._shelves.cells.lock
        if lock.acquire(blocking=False):
            try:
                # Nor where a hook or a channel came or went since, or dictionaries went.
                if self._conditions() == conditions:
                    self._keep_learned(cls, hits, told=conditions.told)
            finally:
                lock.release()

    def _conditions(self) -> _Conditions:
        return _Conditions(self._shelves.cells.expiring, bool(listening), self.contact, self._shelves.sweeps)

    def _compile(self, keys: ClassKeys, conditions: _Conditions) -> Hits:
        shelves, namespace, own = self._shelves, self._namespace(), keys.identity
        canonical = finder_key(own.declared, shelves.records(namespace, own), _OPTIONS)
        alternates = [finder_key(plan.declared, shelves.aliases(namespace, plan), _OPTIONS) for plan in keys.alternates]
        return compile_hits(
            (canonical, *alternates),
            shelves.cells.tally,
            _leave if conditions.told else absent_from(shelves.aliases(namespace, own), keys, self._counters.miss),
            expiring=conditions.expiring,
            contact=conditions.contact,
        )

    def _keep_learned(self, cls: type, hits: Hits, *, told: bool) -> None:
        if told:
            self._told_hits[cls] = hits.finder.one
        else:
            self._finders[cls] = hits.finder
            self._batch_hits[cls] = hits.batch

    def _note_reads(self, cls: type, hits: int, misses: int) -> None:
        # Hits are counted on the entries.
        self._counters.add(misses=misses)
        self._tell_reads(cls, hits, misses)

    def stats(self) -> Stats:
        """Give an immutable snapshot of the store's counts; hits are counted on the entries, so it visits each."""
        return self._counters.snapshot(repr(self), hits=self._shelves.cells.hits())

    def __repr__(self) -> str:
        """Name the store."""
        return f"{type(self).__name__}(maxsize={self._shelves.cells.maxsize})"


def _leave(key: object) -> None:
    """Have a miss go the longer way, which tells of it."""
    raise KeyError(key)


def _forget(learned: list[dict[Any, Any]]) -> None:
    for hits in learned:
        hits.clear()
