"""The one way by which a session reads rows through the caches."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

from sqlalchemy.orm import Session

from stockstore.coherence.protocol import Writes
from stockstore.coherence.reader import Reader
from stockstore.keys import ListLookup, Lookup, keys_of
from stockstore.mapped import OWN_WRITE, UNLOADED, MappedPlan, plan_of, wrote
from stockstore.stores.base import Store
from stockstore.stores.hiding import identity_in
from stockstore.stores.restoring import restore_all
from stockstore.stores.snapshots import RowSnapshot, Snapshot
from stockstore.stores.tenants import reading_for, reading_for_nobody
from stockstore_ext.sqlalchemy.read_through.absent import Absent
from stockstore_ext.sqlalchemy.read_through.batches import MemoryBatches
from stockstore_ext.sqlalchemy.read_through.classes import Classes
from stockstore_ext.sqlalchemy.read_through.database import Database
from stockstore_ext.sqlalchemy.read_through.exact import are_exact
from stockstore_ext.sqlalchemy.read_through.glance import Glance
from stockstore_ext.sqlalchemy.read_through.lists import ListReading
from stockstore_ext.sqlalchemy.read_through.loading import InexactError, load
from stockstore_ext.sqlalchemy.read_through.quick import Hit, compile_hit, memory_of
from stockstore_ext.sqlalchemy.read_through.seen import UNSEEN, Seen, SeenList
from stockstore_ext.sqlalchemy.shards import is_sharded

Invalidate: TypeAlias = Callable[[Writes], None]
Row: TypeAlias = tuple[MappedPlan, tuple[Any, ...]]


class Serving:
    """Reads rows for sessions: caches first, then the session's own connection, by which the caches are filled.

    Guaranteed: a lease is taken in every tier before the database is asked, so that a fill which a writer has overtaken is refused;
    nothing is filled from a snapshot that may be older than its lease; what the session has written in its open transaction is
    neither read nor filled; what a tenant's session reads is kept for that tenant alone. A hit checks out no connection. Not done here: nothing is flushed before it reads, and what is in the
    identity map is not looked at first; an instance that is there wins, and stays as it is.

    Args:
        store: The store that what is read past the caches is counted on.
        tiers: The caches, from the top down.
        classes: Which classes are served.
        database: The database that sessions read.
        invalidate: Removes records from the caches.
    """

    def __init__(self, store: Store, tiers: Sequence[Any], classes: Classes, database: Database, invalidate: Invalidate) -> None:
        """Read nothing yet."""
        self._store = store
        self._tiers = tuple(tiers)
        self._memory = memory_of(self._tiers)
        self._classes = classes
        self._batches = MemoryBatches(tiers, classes)
        self._database = database
        self._invalidate = invalidate
        self._lists = ListReading(tiers, database, self.states, invalidate)

    def refuses(self, session: Session, cls: type, *, reads: int = 0) -> str:
        """Tell why a session has to read all rows of a mapped class from the database; ``""``: it may be served.

        What is told of the class is what :meth:`Classes.refuses` tells; of the session ``"scope"``, ``"snapshot"``, ``"option"`` or
        ``"own write"``, by which so many reads are counted.
        """
        refused = self._classes.refuses(cls)
        if refused:
            return refused
        reason = self._database.hides(session, cls)
        return self._counted("" if self._database.tenant(session, reason) else reason, cls, reads)

    def refuses_class(self, cls: type) -> str:
        """Tell why no session is served a class; ``""``: sessions are."""
        return self._classes.refuses(cls)

    def find(
        self,
        session: Session,
        cls: type,
        lookups: Sequence[Lookup],
        *,
        refresh: bool = False,
        counted: bool = True,
        seen: Seen = UNSEEN,
    ) -> list[object | None] | None:
        """Give persistent instances of a session, in the positions of lookups, ``None`` where there is no such row.

        Args:
            session: The session.
            cls: A mapped class; what is found is of it or of its subclasses.
            lookups: What ``keys_of(cls).lookup`` gives, of any of its keys, in any number.
            refresh: Whether to read the database and have the caches keep what is there.
            counted: Whether what is to go past the caches is counted, with its reason; not where the statement will ask again.
            seen: What was just read of these very rows in the first tiers.

        Returns:
            ``None`` as a whole where the statement is to be executed as it is: a row may be one that the session has written, the class
            or the session is refused, a key has a value that only the database can compare.
        """
        found = self._read(session, cls, lookups, refresh, counted=counted, seen=seen)
        return None if found is None else restore_all(found, session)

    def states(
        self,
        session: Session,
        cls: type,
        lookups: Sequence[Lookup],
        *,
        refresh: bool = False,
        counted: bool = True,
        seen: Seen = UNSEEN,
    ) -> list[tuple[MappedPlan, tuple[Any, ...]] | None] | None:
        """Do as :meth:`find`, but give each row's plan and column state, ``UNLOADED`` where a column is deferred."""
        goes_long = refresh or seen is not UNSEEN or self._classes.refuses(cls) or is_sharded(session)
        quick = None if goes_long else self._batches.rows(session, cls, lookups)
        if quick is not None:
            return [*quick]
        found = self._read(session, cls, list(lookups), refresh, counted=counted, seen=seen)
        return None if found is None else [None if row is None else (row.plan, row.state) for row in found]

    def lists(
        self, session: Session, cls: type, lookups: Sequence[ListLookup], *, refresh: bool = False, seen: SeenList | None = None
    ) -> list[list[Row]] | None:
        """Give the rows of lists, as :meth:`states` gives rows, each list by the primary key where Python sorts that as the database does.

        Args:
            session: The session.
            cls: A mapped class; rows of its subclasses are there too.
            lookups: What ``keys_of(cls).listed`` gives, all of one index.
            refresh: As for :meth:`find`.
            seen: What was just read of the one list.
        """
        reason = self._lists.bypasses(session, cls) if seen is None else ""
        if self._classes.refuses(cls) or self._counted(reason, cls, len(lookups)):
            return None
        with reading_for(self._database.reader(session, self._database.tenant(session, ""))):
            absent = None if seen is None else seen.absent
            if absent is None:
                found = self._lists.rows(session, cls, lookups, refresh=refresh, seen=seen)
            else:
                found = self._lists.absent(session, lookups[0], absent)
        plans = {plan for rows in found or () for plan, _ in rows}
        if found is None or any(self._classes.refuses(plan.cls) for plan in plans):
            return None
        if any(plan.deferred for plan in plans):
            shown = ([_row(RowSnapshot(*row, shared=False)) for row in rows] for rows in found)
            return [[(row.plan, row.state) for row in rows if row is not None] for rows in shown]
        return found

    def quick_hit(self, cls: type, glance: Glance) -> Hit | None:
        """Give the short way to a hit on a class, ``None`` where the first tier has none."""
        return None if self._memory is None else compile_hit(self._memory, self._classes, glance, cls)

    # -- reading --------------------------------------------------------------------------------

    def _read(
        self,
        session: Session,
        cls: type,
        lookups: Sequence[Lookup],
        refresh: bool,
        *,
        counted: bool = True,
        seen: Seen = UNSEEN,
    ) -> list[RowSnapshot | None] | None:
        if seen.absent is not None:
            return self._read_absent(session, cls, lookups, seen.absent)
        if self._classes.refuses(cls) or not are_exact(cls, lookups):
            return None
        # Of a session for which something was just read its glance was sure.
        reason = "" if seen is not UNSEEN else self._bypasses(session, cls, lookups)
        tenant = self._database.tenant(session, reason)
        if tenant is None and self._counted(reason, cls, len(lookups) if counted else 0):
            return None
        try:
            with reading_for(self._database.reader(session, tenant)):
                if refresh:
                    self._forget(session, cls, lookups, tenant)
                tiers = (*seen.tiers, *self._tiers[len(seen.tiers) :])
                found = Reader(tiers, partial(self._fetch, session)).read(cls, {lookup[:2]: lookup for lookup in lookups})
        except InexactError:
            return None
        rows = [_row(found.get(lookup[:2])) for lookup in lookups]
        return None if self._refuses_any(rows) or _is_torn(cls, lookups, rows) else rows

    def _read_absent(self, session: Session, cls: type, lookups: Sequence[Lookup], absent: Absent) -> list[RowSnapshot | None] | None:
        """Read the one row that the caches lack, and have them keep it; of class, session and key the short way was sure when it leased."""
        try:
            found = self._fetch(session, cls, lookups)
        except InexactError:
            return None
        absent.keep(found[0])
        rows = [_row(found[0])]
        return None if self._refuses_any(rows) else rows

    def _refuses_any(self, rows: Sequence[RowSnapshot | None]) -> bool:
        return any(map(self._classes.refuses, {row.plan.cls for row in rows if row is not None}))

    def _counted(self, reason: str, cls: type, reads: int) -> str:
        if reason:
            self._store._note("bypass", keys_of(cls).identity, reads, reason)  # noqa: SLF001 - as the store itself would
        return reason

    def _bypasses(self, session: Session, cls: type, lookups: Sequence[Lookup]) -> str:
        root = plan_of(cls).root
        # Whether any row of the root was written is asked first: of most sessions none was.
        if wrote(session, root, None) and any(wrote(session, root, identity_in(cls, lookup)) for lookup in lookups):
            return OWN_WRITE
        return self._database.hides(session, cls)  # a subclass may have a bind of its own

    def _forget(self, session: Session, cls: type, lookups: Sequence[Lookup], tenant: str | None) -> None:
        """Remove from the caches what lookups mean, which only the database tells of other keys than the identity."""
        identity, writes = keys_of(cls).identity, Writes(tenant)
        others = [lookup for lookup in lookups if lookup.plan is not identity]
        for row in self._fetch(session, cls, others) if others else ():
            if row is not None:
                writes.add(row.cls, row.key())
        for lookup in lookups:
            if lookup.plan is identity:
                writes.add(cls, lookup)
        self._invalidate(writes)

    def _fetch(self, owner: Session, cls: type, keys: Sequence[Any], *, session: Session | None = None) -> list[RowSnapshot | None]:
        del session  # the tiers were not given it: whether it may be served is decided once for all of them
        with reading_for_nobody():  # the application may listen to what comes now
            connection = self._database.connect(owner, cls)
            # What was begun with the connection may have changed what it reads.
            reason = self._database.hides(owner, cls)
            may_fill = not reason or self._database.tenant(owner, reason) is not None
            if not may_fill and reason != "snapshot":
                raise InexactError
            shared = may_fill and self._database.may_fill(owner, connection)
            return load(connection, cls, list(map(keys_of(cls).lookup, keys)), shared=shared)


def _is_torn(cls: type, lookups: Sequence[Lookup], rows: Sequence[RowSnapshot | None]) -> bool:
    """Whether one row was found by two keys: its key went to another row meanwhile, so that one statement would have found others."""
    identity = keys_of(cls).identity
    if len(lookups) == 1 or getattr(lookups, "plan", None) is identity or all(lookup.plan is identity for lookup in lookups):
        return False
    natives = [row.native(identity) for row in rows if row is not None]
    return len(set(natives)) < len(natives)


def _row(snapshot: Snapshot | None) -> RowSnapshot | None:
    if snapshot is None:
        return None
    assert isinstance(snapshot, RowSnapshot)
    plan = snapshot.plan
    deferred = plan.deferred
    if deferred and any(snapshot.state[at] is not UNLOADED for at in deferred):
        state = tuple([UNLOADED if at in deferred else value for at, value in enumerate(snapshot.state)])
        return RowSnapshot(plan, state, snapshot.lifetime, shared=False)
    return snapshot
