"""What all cache stores share: keys to lookups, lifetimes, verification, counting."""

import sys
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar, cast

from stockstore.errors import CodecError, ConfigurationError, NotKeyedError
from stockstore.keys import (
    ClassKeys,
    Key,
    KeyPlan,
    Lookup,
    Native,
    alias_plans,
    has_other_identities_below,
    keys_of,
    other_identities_below,
)
from stockstore.lifetimes import Lifetime, LifetimeRule, shorter
from stockstore.stores.arguments import keys_in, objects_of, refuse_no_flag, takes
from stockstore.stores.base import Store
from stockstore.stores.hiding import hidden_from
from stockstore.stores.outcome import BeforeCommit, Outcome
from stockstore.stores.restoring import restore_all
from stockstore.stores.snapshots import Snapshot, snapshot_of
from stockstore.stores.tenants import TenantOf, checked, current, namespace_of, reading_for
from stockstore.stores.watching import watch_of

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


T = TypeVar("T")
Namespace: TypeAlias = str | Callable[[], str]
Alias: TypeAlias = tuple[KeyPlan, Native]


class Entry(NamedTuple):
    """One object on its way into a cache: where it stands, and for how long (seconds, ``None`` for no limit)."""

    snapshot: Snapshot
    plan: KeyPlan
    native: Native
    aliases: Sequence[Alias]
    seconds: float | None

    @property
    def stored(self) -> bool:
        """Whether it is kept at all; a lifetime of zero removes what is there."""
        return self.seconds is None or self.seconds > 0


class CacheStore(Store):
    """A store that may forget: lookups go to records by their identity, or by hints that are checked."""

    def __init__(
        self, *, lifetime: Lifetime = None, polymorphic: bool = False, namespace: Namespace = "stockstore", jitter: float = 0.0
    ) -> None:
        """Keep the settings that all cache stores take."""
        super().__init__()
        refuse_no_flag("polymorphic", polymorphic)
        self._rule = LifetimeRule(lifetime, jitter)
        self._polymorphic = polymorphic
        self._namespace_setting = namespace
        _check_namespace(namespace)
        if "sqlalchemy.orm" in sys.modules:
            # From here on sessions are watched, so that one that has written is known before it first asks.
            import_module("stockstore.mapped")
        self._shapes: dict[type, tuple[ClassKeys, tuple[KeyPlan, ...]]] = {}
        self.tenant_rules: list[TenantOf] = []
        """How hooks name the tenants of their sessions."""

    def holds(self, cls: type) -> bool:
        """Whether a class lets caches keep its objects."""
        return keys_of(cls).cached

    def finds(self, kind: type, plan: KeyPlan) -> bool:
        """Whether a key is one of the class, or of a base by which its objects are found."""
        keys, aliases = self._shape(kind)
        return plan is keys.identity or plan in aliases

    # -- what a kind of cache implements --------------------------------------------------------

    @abstractmethod
    def _read(self, cls: type, lookups: Sequence[Lookup]) -> list[Snapshot | None]:
        """Give what stands at each lookup; each snapshot has been checked against its lookup."""

    def _peek(self, cls: type, lookups: Sequence[Lookup]) -> list[Snapshot | None]:
        """As ``_read``, for a look that is no use of the record."""
        return self._read(cls, lookups)

    @abstractmethod
    def _write(self, entries: Sequence[Entry]) -> None:
        """Store entries, in order; remove where an entry is not to be stored."""

    @abstractmethod
    def _remove(self, records: Sequence[Alias]) -> int:
        """Remove records by their identities, and give how many there were."""

    # -- the batch verbs ------------------------------------------------------------------------

    def batch_fetch(self, cls: type, keys: Sequence[Key], *, session: "Session | None" = None) -> list[Snapshot | None]:
        """Give snapshots with what is left of their lifetimes, in the positions of the keys."""
        compiled = keys_of(cls)
        lookups = [compiled.lookup(key) for key in keys]
        if not lookups:
            return []
        if session is not None and compiled.mapped:
            return self._read_for(session, cls, lookups)
        return self._read_counted(cls, lookups)

    def _read_counted(self, cls: type, lookups: Sequence[Lookup]) -> list[Snapshot | None]:
        found = self._read(cls, lookups)
        self._count(cls, found)
        return found

    def _count(self, cls: type, found: Sequence[Snapshot | None]) -> None:
        misses = found.count(None)
        self._note_reads(cls, len(found) - misses, misses)

    def _read_for(self, session: "Session", cls: type, lookups: Sequence[Lookup]) -> list[Snapshot | None]:
        hidden = hidden_from(session, cls, lookups, self.tenant_of)
        self._note_hidden(cls, hidden)
        with reading_for(session):
            found = iter(self._read_counted(cls, [lookup for lookup, hide in zip(lookups, hidden, strict=True) if not hide]))
        return [None if hide else next(found) for hide in hidden]

    def batch_get(self, cls: type[T], keys: Iterable[Key], *, session: "Session | None" = None) -> list[T | None]:
        """Give the objects of these keys, in their positions, ``None`` where there is none."""
        found = self._fetched(cls, keys_in(keys), session)
        if session is None:
            return cast("list[T | None]", [None if snapshot is None else snapshot.restore() for snapshot in found])
        return cast("list[T | None]", restore_all(found, session))

    def batch_put(self, objects: Iterable[object]) -> None:
        """Store objects under all of their keys."""
        self._stored(objects_of(objects))

    def batch_store(self, objects: Sequence[object], before_commit: BeforeCommit | None = None) -> Outcome:
        """Store objects and give them as they are now stored, with the lifetimes they got."""
        snapshots = [snapshot_of(obj) for obj in objects]
        if self._watched and (watch := watch_of(self)):
            for obj, snapshot in zip(objects, snapshots, strict=True):
                snapshot.lifetime = watch.lifetimes.get(id(obj))
        if before_commit is not None:
            before_commit(None, Outcome(len(snapshots), snapshots, [], frozenset()))
        for snapshot, entry in zip(snapshots, self._store(snapshots), strict=True):
            snapshot.lifetime = entry.seconds
        return Outcome(len(snapshots), snapshots, [], frozenset())

    def batch_fill(self, snapshots: Sequence[Snapshot]) -> None:
        """Store snapshots, for no longer than they still lived where they came from."""
        self._store(snapshots)

    def _store(self, snapshots: Sequence[Snapshot]) -> list[Entry]:
        entries = self._entries(snapshots)
        moved = [place for entry in entries for place in self._former(entry.snapshot) if place != (entry.plan, entry.native)]
        if moved:
            self._remove(moved)
        if entries:
            self._write(entries)
            self._counters.add(puts=sum(entry.stored for entry in entries))
        return entries

    def batch_delete(self, targets: Iterable[object] | type, keys: Iterable[Key] | None = None) -> int:
        """Delete objects, or a class's objects by their keys, and give how many there were."""
        records = self._records_by_key(targets, keys) if isinstance(targets, type) else self._records_of(objects_of(targets, keys))
        deleted = self._remove(list(dict.fromkeys(records))) if records else 0
        self._counters.add(deletes=deleted)
        return deleted

    def known(self, cls: type, lookups: Sequence[Lookup]) -> list[Snapshot]:
        """Give what is there, for a look that is no use of it; a server that does not answer raises."""
        return super().known(cls, lookups) if self._watched else [row for row in self._peek(cls, lookups) if row is not None]

    def check(self, snapshots: Sequence[Snapshot]) -> None:
        """Raise what filling with these snapshots would raise for their own sake."""
        self._namespace()
        self._entries(snapshots)

    # -- keys -----------------------------------------------------------------------------------

    def _entries(self, snapshots: Sequence[Snapshot]) -> list[Entry]:
        rule = self._rule
        if not rule.varies:
            seconds = rule.seconds(None)
            return [self._entry(snapshot, seconds) for snapshot in snapshots]
        return [self._entry(snapshot, rule.seconds(snapshot.restore() if rule.needs_object else None)) for snapshot in snapshots]

    def _entry(self, snapshot: Snapshot, seconds: float | None) -> Entry:
        keys, plans = self._shape(snapshot.cls)
        native = self._identity(keys, snapshot)
        aliases = [(plan, value) for plan in plans if (value := snapshot.native(plan)) is not None and not plan.has_none(value)]
        return Entry(snapshot, keys.identity, native, aliases, shorter(seconds, snapshot.lifetime))

    @staticmethod
    def _identity(keys: ClassKeys, snapshot: Snapshot) -> Native:
        native = snapshot.native(keys.identity)
        if native is None or (keys.mapped and keys.identity.has_none(native)):
            raise NotKeyedError(
                f"a {keys.name} has no value for its primary key {keys.identity.describe()} yet; put it through a store that has the database"
            )
        return native

    def _shape(self, cls: type) -> tuple[ClassKeys, tuple[KeyPlan, ...]]:
        """Give the keys of a class, and those that are aliases of its records in this store."""
        shape = self._shapes.get(cls)
        if shape is None:
            shape = self._shapes[cls] = (keys_of(cls), alias_plans(cls, polymorphic=self._polymorphic))
        return shape

    def _records_of(self, objects: Sequence[object]) -> list[Alias]:
        records = []
        for snapshot in map(snapshot_of, objects):
            keys = keys_of(snapshot.cls)
            records.append((keys.identity, self._identity(keys, snapshot)))
            records.extend(self._former(snapshot))
        return records

    @staticmethod
    def _former(snapshot: Snapshot) -> list[Alias]:
        """Give the place of the row before its primary key was changed."""
        if snapshot.former is None:
            return []
        lookup = keys_of(snapshot.cls).lookup(snapshot.former)
        return [(lookup.plan, lookup.native)]

    def _records_by_key(self, cls: type, keys: Iterable[Key] | None) -> list[Alias]:
        compiled = keys_of(cls)
        lookups = [compiled.lookup(key) for key in keys_in(keys)]
        asked = [x for x in lookups if x.plan is not compiled.identity or self._may_be_pointed_at(cls)]
        found = self._peek(cls, asked) if asked else []
        direct = [(x.plan, x.native) for x in lookups if x.plan is compiled.identity]
        return direct + [(k.identity, self._identity(k, s)) for s in found if s is not None for k in (keys_of(s.cls),)]

    def _may_be_pointed_at(self, cls: type) -> bool:
        """Whether an object of a subclass, kept under an identity of its own, may be found by a class's."""
        return has_other_identities_below(cls) if keys_of(cls).mapped else self._polymorphic

    def _fits(self, cls: type, lookup: Lookup, snapshot: Snapshot) -> bool:
        """Whether what was found is of the class asked for and carries the value asked for."""
        try:
            return issubclass(snapshot.cls, cls) and snapshot.native(lookup.plan) == lookup.native
        except (NotKeyedError, CodecError):  # a shared object that has lost the key since it was put
            return False

    def _cleared_with(self, cls: type) -> Iterator[KeyPlan]:
        """Give the identities under which objects of a class are kept."""
        return (keys_of(kind).identity for kind in self._kinds_of(cls))

    def _kinds_of(self, cls: type) -> Iterator[type]:
        """Give a class, and those with identities of their own whose objects are found by it."""
        yield cls
        if keys_of(cls).mapped:
            yield from other_identities_below(cls)
        elif self._polymorphic:
            yield from subclasses_of(cls)

    @property
    def partition(self) -> str:
        """The namespace that this caller reads and writes."""
        return self._namespace()

    def tenant_of(self, session: "Session") -> str | None:
        """Give the tenant of a session, in whose own namespace its rows are kept."""
        return next((name for rule in self.tenant_rules if (name := rule(session)) is not None), None)

    def _namespace(self, tenant: str | None = None) -> str:
        setting = self._namespace_setting
        name = _valid_namespace(setting()) if callable(setting) else setting
        return namespace_of(name, tenant or self._current_tenant())

    def _current_tenant(self) -> str | None:
        reader = current.get()
        return reader if reader is None or isinstance(reader, str) else self.tenant_of(reader)


def subclasses_of(cls: type) -> Iterator[type]:
    """Give all classes below a class."""
    below: list[type] = cls.__subclasses__()
    for kind in below:
        yield kind
        yield from subclasses_of(kind)


def _check_namespace(setting: object) -> None:
    if not callable(setting):
        _valid_namespace(setting)
    elif not takes(setting):
        raise ConfigurationError(f"a namespace's callable is called with nothing, and {setting!r} takes arguments")


def _valid_namespace(namespace: object) -> str:
    if not isinstance(namespace, str) or not namespace:
        raise ConfigurationError(f"a namespace is a text that is not empty, or a callable that gives one, not {namespace!r}")
    return checked(namespace)
