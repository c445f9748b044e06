"""The store interface: one-item verbs, written once over the batch verbs that a store implements."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from stockstore.backends.base import IO
from stockstore.errors import CacheUnreachable, ConfigurationError, UnknownKeyError
from stockstore.instrumentation import Counters, Kind, Stats, emit, listening, unasked
from stockstore.keys import Key, KeyPlan, ListLookup, Lookup, keys_of
from stockstore.stores.arguments import MISSING, call_loader, one_key
from stockstore.stores.hiding import hidden_from
from stockstore.stores.outages import Outages
from stockstore.stores.outcome import NOTHING, BeforeCommit, Outcome
from stockstore.stores.restoring import restore_all
from stockstore.stores.snapshots import Snapshot, snapshot_of
from stockstore.stores.watching import Watch, watch_of, watching

if TYPE_CHECKING:
    from sqlalchemy.orm import Session
    from typing_extensions import Self

T = TypeVar("T")
_log: Final = logging.getLogger(__name__)


class Store(ABC):
    """Objects by their declared keys.

    A store of your own implements the four ``batch_*`` and ``clear`` methods that are abstract here;
    ``stockstore.testing.StoreContract`` is its test suite. The other public methods are written
    over them; override ``batch_fetch``, ``batch_fill`` and ``batch_store`` too where the store
    knows how long its entries still live, or changes objects as it stores them.
    """

    _watched = False
    """Whether a subclass overrides a verb of a store that knows a faster way."""

    def __init__(self) -> None:
        """Start with zero counts."""
        self._counters = Counters()
        self._outages = Outages()

    def __init_subclass__(cls, **options: Any) -> None:
        """Let a chain see the overridden verbs of a subclass, not the faster ways around them."""
        super().__init_subclass__(**options)
        for way, verb in _WAYS_AROUND.items():
            if getattr(cls, way) is not getattr(Store, way) and _place_of(verb, cls) < _place_of(way, cls):
                setattr(cls, way, getattr(Store, way))
                cls._watched = True

    # -- the batch verbs ------------------------------------------------------------------------

    @abstractmethod
    def batch_put(self, objects: Iterable[object]) -> None:
        """Store objects, all or none where the store can; later ones win over earlier ones of the same key."""

    @abstractmethod
    def batch_get(self, cls: type[T], keys: Iterable[Key], *, session: "Session | None" = None) -> list[T | None]:
        """Give the objects of these keys, in their positions, ``None`` where there is none.

        Args:
            cls: The class, or a base class of the objects.
            keys: Dicts, or bare values of the canonical key; they may repeat and mix keys.
            session: Give mapped objects as persistent ones of this session.

        Raises:
            UnknownKeyError: A key is not declared, or incomplete.
        """

    @abstractmethod
    def batch_delete(self, targets: Iterable[object] | type, keys: Iterable[Key] | None = None) -> int:
        """Delete objects, or a class's objects by their keys, and give how many there were."""

    @abstractmethod
    def clear(self, cls: type | None = None) -> None:
        """Drop everything this store caches in its namespace, or all of one class. An origin's rows stay."""

    def close(self) -> None:  # noqa: B027 - a store without resources has nothing to close
        """Release what the store opened itself; may be called twice."""

    # -- what chains use ------------------------------------------------------------------------

    def holds(self, cls: type) -> bool:
        """Whether objects of this class can be in this store at all."""
        del cls
        return True

    def finds(self, kind: type, plan: KeyPlan) -> bool:
        """Whether an object of exactly this class is found by a key, which may be one of a base; nobody knows of a store of your own."""
        del kind, plan
        return True

    @property
    def is_origin(self) -> bool:
        """Whether this store is the truth itself rather than a cache of it."""
        return False

    @property
    def io(self) -> IO:
        """How its driver waits for a server: ``"blocking"`` the thread, ``"awaited"`` by an event loop, or ``"either"``."""
        return "either"

    @property
    def partition(self) -> str:
        """What separates this caller's entries from others', such as a tenant's namespace."""
        return ""

    def raises(self, error: Exception) -> bool:  # noqa: ARG002 - a cache may have been told
        """Whether an error of a cache is one that it was told to raise where it could do without."""
        return False

    def check(self, snapshots: Sequence[Snapshot]) -> None:  # noqa: B027 - a store may accept everything
        """Raise what filling with these snapshots would raise for their own sake; a chain asks before it writes."""

    def batch_fetch(self, cls: type, keys: Sequence[Key], *, session: "Session | None" = None) -> list[Snapshot | None]:
        """As ``batch_get``, but give snapshots, which know how long they may still be kept.

        With ``session``, rows that it has changed in its open transaction are not answered from a cache.
        """
        if session is not None and not self._watched:
            return self._fetch_for(session, cls, keys)
        with watching(Watch(self)) as watch:
            found: list[object | None] = self.batch_get(cls, keys, session=session) if session is not None else self.batch_get(cls, keys)
        known = {_place(snapshot): snapshot for snapshot in watch.found}
        return [None if obj is None else _as_found(snapshot_of(obj), known, session) for obj in found]

    def batch_list(self, cls: type, lookups: Sequence[ListLookup], *, session: "Session | None" = None) -> list[list[Snapshot]]:
        """Give the rows of some lists, each ordered by its primary keys.

        Raises:
            ConfigurationError: The store is a cache, which does not know all the objects there are.
        """
        del lookups, session
        raise ConfigurationError(
            f"{self!r} cannot know all the objects of {keys_of(cls).name}, as a cache may forget; get_all() needs a database that holds the class, "
            "alone or at the end of a chain, e.g. ChainedStore([ProcessMemoryStore(), SqlAlchemyStore(url)])"
        )

    def known(self, cls: type, lookups: Sequence[Lookup]) -> list[Snapshot]:
        """Give what is there under some keys, without counting that as reads."""
        with unasked():
            return [row for row in self.batch_fetch(cls, lookups) if row is not None]

    def _fetch_for(self, session: "Session", cls: type, keys: Sequence[Key]) -> list[Snapshot | None]:
        compiled = keys_of(cls)
        hidden = hidden_from(session, cls, [compiled.lookup(key) for key in keys]) if compiled.mapped else [""] * len(keys)
        self._note_hidden(cls, hidden)
        asked = [key for key, hide in zip(keys, hidden, strict=True) if not hide]
        found = iter(self.batch_fetch(cls, asked) if asked else [])
        return [None if hide else next(found) for hide in hidden]

    def batch_fill(self, snapshots: Sequence[Snapshot]) -> None:
        """Store what another tier gave; what has no lifetime left is deleted."""
        lasting = [snapshot for snapshot in snapshots if snapshot.lifetime is None or snapshot.lifetime > 0]
        for snapshot in snapshots:
            gone = [key for key in snapshot.former_keys() if snapshot not in lasting or key != snapshot.key()]
            if gone:
                self.batch_delete(snapshot.cls, gone)
        kept = [snapshot.restore() for snapshot in lasting]
        if kept:
            with watching(Watch(self, lifetimes={id(obj): row.lifetime for obj, row in zip(kept, lasting, strict=True)})):
                self.batch_put(kept)

    def batch_store(self, objects: Sequence[object], before_commit: BeforeCommit | None = None) -> Outcome:
        """Store objects and tell what is now stored.

        Args:
            objects: What to store.
            before_commit: Called before anything becomes visible; what it raises undoes the write.
        """
        if before_commit is not None and not self._watched:
            before_commit(None, Outcome(len(objects), [snapshot_of(obj) for obj in objects], [], frozenset()))
        with watching(Watch(self, before_commit)) as watch:
            self.batch_put(objects)
        return watch.outcome(len(objects), [watch.stored.get(id(obj)) or snapshot_of(obj) for obj in objects])

    def batch_erase(
        self, targets: Iterable[object] | type, keys: Iterable[Key] | None = None, before_commit: BeforeCommit | None = None
    ) -> Outcome:
        """Delete as ``batch_delete`` does, and tell what else was changed by it; ``before_commit`` as for :meth:`batch_store`."""
        if before_commit is not None and not self._watched:
            before_commit(None, NOTHING)
        with watching(Watch(self, before_commit)) as watch:
            count = self.batch_delete(targets, keys)
        return watch.outcome(count, [])

    # -- what the verbs of our stores call: the faster way of the store, not a subclass's verb again ---------

    def _fetched(self, cls: type, keys: Sequence[Key], session: "Session | None") -> list[Snapshot | None]:
        if not self._watched:
            return self.batch_fetch(cls, keys, session=session)
        found: list[Snapshot | None] = self._own_way("batch_fetch")(self, cls, keys, session=session)
        if watch := watch_of(self):
            watch.note_found(found)
        return found

    def _stored(self, objects: Sequence[object]) -> None:
        if not self._watched:
            self.batch_store(objects)
            return
        watch = watch_of(self)
        outcome = self._own_way("batch_store")(self, objects, watch.before_commit if watch else None)
        if watch:
            watch.note_stored(objects, outcome)

    def _erased(self, targets: Iterable[object] | type, keys: Iterable[Key] | None) -> int:
        if not self._watched:
            return self.batch_erase(targets, keys).count
        watch = watch_of(self)
        outcome: Outcome = self._own_way("batch_erase")(self, targets, keys, watch.before_commit if watch else None)
        if watch:
            watch.outcomes.append(outcome)
        return outcome.count

    def _own_way(self, way: str) -> Callable[..., Any]:
        ways: Iterator[Callable[..., Any] | None] = (kind.__dict__.get(way) for kind in type(self).__mro__)
        return next(own for own in ways if own is not None and own is not getattr(Store, way))

    # -- the one-item verbs ---------------------------------------------------------------------

    def put(self, obj: object) -> None:
        """Store one object under all of its keys.

        Raises:
            NotKeyedError: Its class declares no keys, or it has no value for the canonical one.
            CodecError: It cannot be encoded.
            TypeError, ValueError: Its lifetime is malformed.
        """
        self.batch_put([obj])

    def get(self, cls: type[T], key: Key = MISSING, *, session: "Session | None" = None, strict: bool = False, **names: object) -> T | None:
        """Give the object of a key, or ``None``.

        Args:
            cls: The class, or a base class of the object.
            key: A dict of names, or the bare value (a tuple, for several names) of the canonical key.
            session: Give a mapped object as a persistent one of this session.
            strict: Take no answer of a cache in this process that may be as old as its ``max_staleness``, but ask the tiers below it.
            **names: The key as keywords instead.

        Raises:
            UnknownKeyError: The key is not declared, or incomplete.
            NotKeyedError: The class declares no keys.
        """
        asked = self.strictly(cls) if strict else self
        return asked.batch_get(cls, [one_key(key, names)], session=session)[0]

    def strictly(self, cls: type) -> "Store":
        """Give the store whose answers for a class are none of a cache in this process that may be old: most are that themselves."""
        del cls
        return self

    def get_all(
        self, cls: type[T], key: Key = MISSING, *, session: "Session | None" = None, strict: bool = False, **names: object
    ) -> list[T]:
        """Give all objects with these values of an index, ordered by their primary keys; an empty list where there are none.

        Each object carries the values, and each that carries them is there: caches keep such lists as true as objects.

        Args:
            cls: The class, or a base class of the objects; it has ``__indexes__``.
            key: A dict of an index's names, or the bare value where the class has one index alone.
            session: Give the objects as persistent ones of this session.
            strict: As for ``get``.
            **names: The values as keywords instead.

        Raises:
            UnknownKeyError: The names are no declared index, or values are missing.
            ConfigurationError: There is no database that holds the class: a cache alone does not know all the objects.
        """
        asked = self.strictly(cls) if strict else self
        (rows,) = asked.batch_list(cls, [keys_of(cls).listed(one_key(key, names))], session=session)
        return cast("list[T]", restore_all(rows, session))

    def delete(self, target: object, key: Key = MISSING, **names: object) -> bool:
        """Delete an object, or a class's object by a key, and give whether there was one."""
        if isinstance(target, type):
            return self.batch_delete(target, [one_key(key, names)]) > 0
        if key is not MISSING or names:
            raise UnknownKeyError(f"delete takes an object, or a class and a key; it was given the object {target!r} and a key as well")
        return self.batch_delete([target]) > 0

    def contains(self, cls: type, key: Key = MISSING, **names: object) -> bool:
        """Whether a ``get`` of this key would find an object."""
        return self.get(cls, one_key(key, names)) is not None

    def get_or_load(self, cls: type[T], key: Key, loader: Callable[..., T | None], *, session: "Session | None" = None) -> T | None:
        """Give the object of a key; where no tier has it, store and give what the loader returns.

        Where a cache with ``on_error="miss"`` is out of reach, what was loaded is given and not kept.

        Args:
            cls: The class of the object.
            key: As for ``get``.
            loader: Called with the key as given, or with nothing if it takes no argument; ``None`` is not stored.
            session: As for ``get``; what is loaded for one that works on a tenant's rows, or elsewhere, is given and not stored.

        Raises:
            UnknownKeyError: The loaded object does not carry the key.
            ConfigurationError: It is of a subclass that look-ups of the class do not find.
        """
        found = self.get(cls, key, session=session)
        if found is not None:
            return found
        loaded = call_loader(loader, key)
        if loaded is None:
            return None
        if session is not None and self._works_elsewhere(session, cls):
            return loaded
        try:
            self._keep_loaded(cls, key, loaded)
        except CacheUnreachable as error:
            if session is not None or self.raises(error):
                raise
            self._outages.warn(_log, "%r does not keep what was loaded: %s", self, error)
        return loaded if session is None else self.get(cls, key, session=session)

    @staticmethod
    def _works_elsewhere(session: "Session", cls: type) -> bool:
        """Whether what is loaded for a session is of no use to others, such as a tenant's row."""
        if not keys_of(cls).mapped:
            return False
        from stockstore.mapped import ELSEWHERE, TENANT, hides, plan_of

        return hides(session, plan_of(cls).root) in (ELSEWHERE, TENANT)

    def _keep_loaded(self, cls: type, key: Key, loaded: object) -> None:
        asked = keys_of(cls).lookup(key)
        if not isinstance(loaded, cls) or snapshot_of(loaded).native(asked.plan) != asked.native:
            raise UnknownKeyError(f"the loader for {keys_of(cls).name} {key!r} gave {loaded!r}, which does not carry this key")
        kind = type(loaded)
        if not self.finds(kind, asked.plan):
            way = "" if keys_of(kind).mapped else ", or make the caches with polymorphic=True"
            raise ConfigurationError(
                f"the loader for {keys_of(cls).name} {key!r} gave a {keys_of(kind).name}, which look-ups of that class do not find, so that "
                f"it would be loaded each time; ask for the {kind.__name__}{way}"
            )
        self.batch_put([loaded])

    # -- housekeeping ---------------------------------------------------------------------------

    def scope(self) -> "AbstractContextManager[Self]":
        """Give a context manager for one request, around which what is kept for that alone starts and ends empty.

        It concerns the :class:`~stockstore.ThreadLocalStore`, alone or as a tier; nothing else changes.
        """
        return nullcontext(self)

    def _note(self, kind: Kind, plan: KeyPlan, count: int, reason: str = "") -> None:
        """Count what happened to objects that are kept under an identity, and tell the hooks."""
        if count:
            self._counters.note(kind, count, reason)
            if listening:
                emit(kind, self, plan.label, count, reason)

    def _note_reads(self, cls: type, hits: int, misses: int) -> None:
        self._counters.add(hits=hits, misses=misses)
        self._tell_reads(cls, hits, misses)

    def _tell_reads(self, cls: type, hits: int, misses: int) -> None:
        if listening:
            label = keys_of(cls).identity.label
            if hits:
                emit("hit", self, label, hits)
            if misses:
                emit("miss", self, label, misses)

    def _note_hidden(self, cls: type, hidden: Sequence[str]) -> None:
        """Note the reads that a session had to go past this store for, by the reasons; an empty one is none."""
        for reason in {*hidden} - {""}:
            self._note("bypass", keys_of(cls).identity, hidden.count(reason), reason)

    def stats(self) -> Stats:
        """Give an immutable snapshot of the store's counts."""
        return self._counters.snapshot(repr(self))

    def __enter__(self) -> "Self":
        """Give the store itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the store."""
        self.close()

    def __repr__(self) -> str:
        """Name the store, without passwords."""
        return f"{type(self).__name__}()"


def _place_of(name: str, cls: type) -> int:
    """Tell how far up its bases, a mixin included, a class finds a method."""
    return next(place for place, kind in enumerate(cls.__mro__) if name in kind.__dict__)


_WAYS_AROUND: Final = {"batch_fetch": "batch_get", "batch_fill": "batch_put", "batch_store": "batch_put", "batch_erase": "batch_delete"}


def _place(snapshot: Snapshot) -> tuple[type, object]:
    return snapshot.cls, snapshot.native(keys_of(snapshot.cls).identity)


def _as_found(snapshot: Snapshot, known: Mapping[tuple[type, object], Snapshot], session: object) -> Snapshot:
    """Give an object as a subclass's verb gave it; with a session, which may have changed it, as it was found."""
    found = known.get(_place(snapshot))
    if found is None or session is not None:
        return found or snapshot
    snapshot.lifetime = found.lifetime
    return snapshot
