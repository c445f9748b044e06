"""The database as a store: the origin, from which caches are filled."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, TypeVar, cast
from weakref import WeakSet

from sqlalchemy import Engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import SingletonThreadPool, StaticPool

from stockstore.backends.base import IO
from stockstore.errors import ConfigurationError, NotKeyedError
from stockstore.keys import ClassKeys, Key, KeyPlan, ListLookup, Lookup, alias_plans, class_name, keys_of, mapper_of
from stockstore.mapped import TENANT, has_written, is_clean, plan_of
from stockstore.mapped.shown import shown
from stockstore.mapped.stored import keeps_list
from stockstore.stores.arguments import keys_in, objects_of
from stockstore.stores.base import Store
from stockstore.stores.hiding import hidden_from, identity_in, written_by
from stockstore.stores.members import Keys, Members
from stockstore.stores.outcome import NOTHING, BeforeCommit, Outcome
from stockstore.stores.restoring import restore_all
from stockstore.stores.snapshots import RowSnapshot, Snapshot, snapshot_of
from stockstore.stores.sql_engines import engine_of
from stockstore.stores.sql_reads import load, load_lists, load_members
from stockstore.stores.sql_sessions import ORIGIN_MARK, OwnSessions
from stockstore.stores.sql_writes import erase, store
from stockstore.stores.tenants import reading_for_nobody

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")
_Load: TypeAlias = Callable[[type, Sequence[Lookup]], list[Snapshot | None]]
_stores: "WeakSet[SqlAlchemyStore]" = WeakSet()


class SqlAlchemyStore(OwnSessions, Store):
    """Mapped objects in their database.

    Each call has a short session of its own, so threads may share the store. ``put`` adds or merges a copy
    and commits; the values that the database generated come back to an object that belongs to no session.
    What is read is detached, and independent of every session.

    On an ``AsyncEngine``, or a URL with an async driver (``postgresql+asyncpg://``, ``postgresql+psycopg_async://``,
    ``sqlite+aiosqlite://``), it is for ``AsyncStore``.

    Args:
        url: A database URL of SQLAlchemy; or
        engine: an engine, which stays open when the store is closed.

    Raises:
        ConfigurationError: Not exactly one of them, or a URL that does not fit; and by every call of blocking code on an async engine.
    """

    def __init__(self, url: str | None = None, *, engine: "Engine | AsyncEngine | None" = None) -> None:
        """Keep the engine; opens no connection."""
        super().__init__()
        if (url is None) == (engine is None):
            raise ConfigurationError("SqlAlchemyStore takes exactly one of url and engine, e.g. SqlAlchemyStore('sqlite:///shop.db')")
        given = getattr(engine, "sync_engine", engine)
        if given is not None and not isinstance(given, Engine):
            raise ConfigurationError(f"engine is a sqlalchemy.Engine, or an AsyncEngine, not {type(given).__name__}")
        self._owned = given is None
        self._engine = engine_of(cast("str", url)) if given is None else given
        self._alone = self._turn()
        _stores.add(self)

    def start_in_child(self) -> None:
        """Leave the connections to the process that was forked; of an engine that was given, that is its owner's part."""
        self._alone = self._turn()
        if self._owned and not isinstance(self._engine.pool, StaticPool):
            self._engine.dispose(close=False)

    @property
    def engine(self) -> Engine:
        """The engine of the database; of an ``AsyncEngine`` its ``sync_engine``."""
        return self._engine

    @property
    def is_origin(self) -> bool:
        """Whether this store is the truth itself: yes."""
        return True

    @property
    def io(self) -> IO:
        """How the engine's driver waits for the database."""
        return "awaited" if self._awaited else "blocking"

    def holds(self, cls: type) -> bool:
        """Whether a class is mapped."""
        return mapper_of(cls) is not None

    def finds(self, kind: type, plan: KeyPlan) -> bool:
        """Whether a key is one of the class, or of a base that loads its rows."""
        return plan is keys_of(kind).identity or plan in alias_plans(kind, polymorphic=False)

    # -- reading --------------------------------------------------------------------------------

    def batch_get(self, cls: type[T], keys: Iterable[Key], *, session: Session | None = None) -> list[T | None]:
        """Give the objects of these keys, in their positions, ``None`` where there is no row; one statement per sort of key."""
        return cast("list[T | None]", restore_all(self._fetched(cls, keys_in(keys), session), session))

    def batch_fetch(self, cls: type, keys: Sequence[Key], *, session: Session | None = None) -> list[Snapshot | None]:
        """Give rows as the database has them; those that the session itself has changed as the session sees them."""
        compiled = self._keys(cls)
        lookups = [compiled.lookup(key) for key in keys]
        with reading_for_nobody():
            rows = self._load_own(cls, lookups) if session is None else self._load_for(session, cls, lookups)
        self._note_reads(cls, len(rows) - rows.count(None), rows.count(None))
        return rows

    def batch_list(self, cls: type, lookups: Sequence[ListLookup], *, session: Session | None = None) -> list[list[Snapshot]]:
        """Give the rows of some lists, each ordered by its primary keys, as the session sees them where it has written any; one statement for each index."""
        self._keys(cls)
        if session is not None and self._reads_itself(session, cls):
            found = self._lists_from(session, cls, lookups, shared=False)
        else:
            found = self._again(lambda: self._own_lists(cls, lookups)) if lookups else []
        self._note_reads(cls, len(found), 0)
        return found

    def _own_lists(self, cls: type, lookups: Sequence[ListLookup]) -> list[list[Snapshot]]:
        with self._session() as session:
            return self._lists_from(session, cls, lookups, shared=True)

    def _lists_from(self, session: Session, cls: type, lookups: Sequence[ListLookup], *, shared: bool) -> list[list[Snapshot]]:
        with self._mapped_errors():
            return [[_snapshot(row, shared=shared) for row in rows] for rows in load_lists(session, cls, lookups)]

    def batch_members(self, cls: type, keys: Sequence[ListLookup], *, session: Session | None = None) -> list[Members | None]:
        """Give the primary keys of lists that :meth:`keeps_list` says caches may keep, in the order of the database."""
        private = session is not None and self._reads_itself(session, cls)
        with self._mapped_errors():
            found = load_members(session, keys) if private and session is not None else self._again(lambda: self._own_members(keys))
        return [Members(lookup, members, shared=not private) for lookup, members in zip(keys, found, strict=True)]

    def _own_members(self, lookups: Sequence[ListLookup]) -> list[Keys]:
        with self._session() as session:
            return load_members(session, lookups)

    def keeps_list(self, lookup: ListLookup) -> bool:
        """Whether caches may keep a list: its values are told apart by the database as they are by Python."""
        return keeps_list(lookup.plan, lookup.values, self._engine.dialect)

    def _reads_itself(self, session: Session, cls: type) -> bool:
        """Whether a session has to read lists on its own connection."""
        return bool(written_by(session, cls, None)) or self._shares_connection(session, cls)

    def _load_for(self, session: Session, cls: type, lookups: Sequence[Lookup]) -> list[Snapshot | None]:
        rows: list[Snapshot | None] = [None] * len(lookups)
        for load_part, places in self._ways(session, cls, lookups).items():
            for at, row in zip(places, load_part(cls, [lookups[at] for at in places]), strict=True):
                rows[at] = self._as_written(session, row)
        return rows

    def _ways(self, session: Session, cls: type, lookups: Sequence[Lookup]) -> dict[_Load, list[int]]:
        """Tell for each lookup how a session is given its row: of what others may see, of its tenant's rows, or as it has them itself."""
        ways: dict[str, _Load] = {"": self._load_own, TENANT: partial(self._load_tenant, session)}
        private: _Load = partial(self._load_from, session, shared=False)
        # What is no session is refused by the first of these.
        hidden, shares = hidden_from(session, cls, lookups), self._shares_connection(session, cls)
        found: dict[_Load, list[int]] = {}
        for at, why in enumerate(hidden):
            found.setdefault(private if shares else ways.get(why, private), []).append(at)
        return found

    def _as_written(self, session: Session, row: Snapshot | None) -> Snapshot | None:
        """Give a row that was found by a key equal by the database's rules alone as the session, which wrote it, sees it."""
        if row is None or not row.shared:
            return row
        lookup = keys_of(row.cls).lookup(row.key())
        if not has_written(session, plan_of(row.cls).root, identity_in(row.cls, lookup)):
            return row
        return self._load_from(session, row.cls, [lookup], shared=False)[0]

    def _shares_connection(self, session: Session, cls: type) -> bool:
        """Whether a session in a transaction uses the only connection that there is, as with an in-memory database."""
        single = isinstance(self._engine.pool, (StaticPool, SingletonThreadPool))
        return single and session.in_transaction() and session.get_bind(mapper_of(cls)).engine is self._engine

    def _load_own(self, cls: type, lookups: Sequence[Lookup]) -> list[Snapshot | None]:
        return self._again(lambda: self._load_once(cls, lookups)) if lookups else []

    def _load_once(self, cls: type, lookups: Sequence[Lookup]) -> list[Snapshot | None]:
        with self._session() as session:
            return self._load_from(session, cls, lookups, shared=True)

    def _load_tenant(self, session: Session, cls: type, lookups: Sequence[Lookup]) -> list[Snapshot | None]:
        """Load what a tenant's session finds on its connection, without its own changes; others may see it where it can have made none."""
        with self._mapped_errors():
            connection = session.connection(bind_arguments={"mapper": mapper_of(cls)})
            reader = Session(connection, autoflush=False, join_transaction_mode="rollback_only", info={ORIGIN_MARK: True})
        with reader:
            return self._load_from(reader, cls, lookups, shared=is_clean(session))

    def _load_from(self, session: Session, cls: type, lookups: Sequence[Lookup], *, shared: bool) -> list[Snapshot | None]:
        with self._mapped_errors():
            rows = load(session, cls, lookups)
        return [None if row is None else _snapshot(row, shared=shared) for row in rows]

    # -- writing --------------------------------------------------------------------------------

    def batch_put(self, objects: Iterable[object]) -> None:
        """Add or merge objects, and commit; where one is refused, nothing is written."""
        self._stored(objects_of(objects))

    def batch_store(self, objects: Sequence[object], before_commit: BeforeCommit | None = None) -> Outcome:
        """Add or merge objects, commit, and give the rows as the database has them now."""
        for obj in objects:
            self._keys(type(obj))
        if not objects:
            return NOTHING
        outcome = self._unit(lambda: self._store(objects, before_commit))
        self._counters.add(puts=len(objects))
        return outcome

    def _store(self, objects: Sequence[object], before_commit: BeforeCommit | None) -> Outcome:
        with self._session() as session, self._mapped_errors():
            return store(session, objects, before_commit)

    def batch_delete(self, targets: Iterable[object] | type, keys: Iterable[Key] | None = None) -> int:
        """Delete rows with all that the mapping's cascades delete, and commit; where one is refused, nothing is deleted."""
        return self._erased(targets, keys)

    def batch_erase(
        self, targets: Iterable[object] | type, keys: Iterable[Key] | None = None, before_commit: BeforeCommit | None = None
    ) -> Outcome:
        """Delete rows, commit, and give what was deleted and changed; ``before_commit`` is called where there are any."""
        wanted = self._targets(targets, keys)
        outcome = self._unit(lambda: self._erase(wanted, before_commit))
        self._counters.add(deletes=outcome.count)
        return outcome

    def _erase(self, wanted: Mapping[type, Sequence[Lookup]], before_commit: BeforeCommit | None) -> Outcome:
        with self._session() as session, self._mapped_errors():
            rows = [row for cls, lookups in wanted.items() for row in load(session, cls, lookups) if row is not None]
            return erase(session, rows, before_commit) if rows else NOTHING

    def _targets(self, targets: Iterable[object] | type, keys: Iterable[Key] | None) -> dict[type, list[Lookup]]:
        if isinstance(targets, type):
            compiled = self._keys(targets)
            return {targets: [compiled.lookup(key) for key in keys_in(keys)]}
        wanted: dict[type, list[Lookup]] = {}
        for obj in objects_of(targets, keys):
            compiled = self._keys(type(obj))
            wanted.setdefault(type(obj), []).append(compiled.lookup(snapshot_of(obj).former_keys()[-1]))
        return wanted

    def clear(self, cls: type | None = None) -> None:
        """Do nothing: rows are the truth, no cache of it."""
        if cls is not None:
            keys_of(cls)  # refuses what every other store refuses

    def _keys(self, cls: type) -> ClassKeys:
        compiled = keys_of(cls)
        if not compiled.mapped:
            raise NotKeyedError(
                f"{class_name(cls)} is not mapped by SQLAlchemy, so {self!r} cannot hold it; a plain object needs a cache store, alone or in the chain"
            )
        return compiled

    def close(self) -> None:
        """Close the connections of an engine that the store made; may be called twice."""
        if self._owned:
            self._refuse_blocking()
            self._engine.dispose()

    def __repr__(self) -> str:
        """Name the database, without the password."""
        return f"{type(self).__name__}({shown(self._engine.url)!r})"


def _snapshot(row: object, *, shared: bool) -> RowSnapshot:
    plan = plan_of(type(row))
    return RowSnapshot(plan, plan.dehydrate(row), shared=shared)


def _start_in_child() -> None:
    for database in list(_stores):
        database.start_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_in_child)
