"""Reads lists of rows for sessions: caches first, then the session's own connection."""

import datetime as dt
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeAlias

from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

from stockstore.coherence.protocol import Record, Writes
from stockstore.coherence.reader import Reader
from stockstore.errors import CodecError
from stockstore.keys import IndexPlan, Key, ListLookup, Lookup, Native, has_other_identities_below, keys_of
from stockstore.mapped import OWN_WRITE, MappedPlan, plan_of, wrote
from stockstore.mapped.levels import PINNING
from stockstore.mapped.selecting import hierarchy_of
from stockstore.mapped.stored import keeps_list
from stockstore.stores.lists import all_carry
from stockstore.stores.members import Members
from stockstore.stores.snapshots import RowSnapshot
from stockstore.stores.tenants import reading_for_nobody
from stockstore_ext.sqlalchemy.read_through.absent import Absent
from stockstore_ext.sqlalchemy.read_through.database import Database
from stockstore_ext.sqlalchemy.read_through.loading import InexactError
from stockstore_ext.sqlalchemy.read_through.seen import UNSEEN, Seen, SeenList

Row: TypeAlias = tuple[MappedPlan, tuple[Any, ...]]
ReadRows: TypeAlias = Callable[..., "list[Row | None] | None"]
Invalidate: TypeAlias = Callable[[Writes], None]
Rows: TypeAlias = dict[Record, list[Row]]
_ORDERED: Final = frozenset((int, dt.date, bytes, uuid.UUID))
"""Types of primary keys whose order in Python is that of every database."""
_LEVEL: Final = text("SELECT upper(current_setting('transaction_isolation'))")


class ListReading:
    """Reads lists for sessions, as :class:`Serving` reads rows, of which it is a part.

    A list that no cache has takes the one SELECT that the statement itself would, and is kept then; its rows along with it by one Redis server and by
    memory above that, by other caches with the next read.

    Args:
        tiers: The caches, from the top down.
        database: The database that they are of.
        read: Reads rows by their primary keys, as :class:`Serving` does.
        invalidate: Removes lists from the caches.
    """

    def __init__(
        self,
        tiers: Sequence[Any],
        database: Database,
        read: ReadRows,
        invalidate: Invalidate,
    ) -> None:
        """Look which tiers keep lists."""
        self._tiers = [lists for tier in tiers if (lists := getattr(tier, "lists", None)) is not None]
        self._database = database
        self._read = read
        self._invalidate = invalidate

    def rows(
        self, session: Session, cls: type, lookups: Sequence[ListLookup], *, refresh: bool = False, seen: SeenList | None = None
    ) -> list[list[Row]] | None:
        """Give the rows of lists, in the positions of lookups of one index; ``None`` where the statement is to be executed as it is.

        That the session does not bypass them, its caller has asked.
        """
        lists = {_record(lookup): lookup for lookup in lookups}
        if not lists or not self._may_serve(session, cls, lookups):
            return None
        if refresh:
            self._forget(session, cls, lists)
        try:
            found = self._found(session, lookups[0].plan.owner, lists, seen)
        except (InexactError, CodecError):
            return None
        if found is None:
            return None
        if cls is lookups[0].plan.owner:
            return [found[_record(lookup)] for lookup in lookups]
        return [[row for row in found[_record(lookup)] if issubclass(row[0].cls, cls)] for lookup in lookups]

    def absent(self, session: Session, lookup: ListLookup, absent: Absent) -> list[list[Row]] | None:
        """Give the rows of the one list that the caches lack, and have them keep both; ``None`` as for :meth:`rows`."""
        fresh: Rows = {}
        try:
            (members,) = self._fetch(session, fresh, lookup.plan.owner, [lookup])
        except (InexactError, CodecError):
            return None
        if members is not None:
            absent.keep_list(members)
        return [*fresh.values()]

    def bypasses(self, session: Session, cls: type) -> str:
        """Tell why a session reads all lists of a class from the database; ``""``: it need not."""
        return OWN_WRITE if wrote(session, plan_of(cls).root, None) else self._database.hides(session, cls)

    def _may_serve(self, session: Session, cls: type, lookups: Sequence[ListLookup]) -> bool:
        if not self._tiers or has_other_identities_below(cls):
            return False
        dialect = self._database.dialect(session, cls)
        return all(keeps_list(lookup.plan, lookup.values, dialect) for lookup in lookups)

    def _found(self, session: Session, owner: type, lists: Mapping[Record, ListLookup], seen: SeenList | None) -> Rows | None:
        """Give the rows of lists by their places; ``None`` where a list was overtaken by a writer."""
        fresh: Rows = {}
        keys: Mapping[Record, Key] = lists
        first = () if seen is None else seen.lists
        tiers = [*first, *self._tiers[len(first) :]]
        members = Reader(tiers, partial(self._fetch, session, fresh)).read(owner, keys)
        known = {record: kept for record, kept in members.items() if record not in fresh}
        wanted = list(dict.fromkeys(key for kept in known.values() for key in kept.keys))
        plan = keys_of(owner).identity
        lookups = [Lookup(plan, plan.native(key), key) for key in wanted]
        rows = self._read(session, owner, lookups, seen=UNSEEN if seen is None else Seen(None, seen.tiers)) if wanted else []
        if rows is None:
            return None
        by_key = dict(zip(wanted, rows, strict=True))
        for record, kept in known.items():
            found = [row for key in kept.keys if (row := by_key[key]) is not None]
            if len(found) < len(kept.keys) or not all_carry(found, kept.lookup):
                self._drop(session, [kept.lookup])
                return None
            fresh[record] = found
        return fresh

    def _fetch(
        self, owner: Session, fresh: Rows, cls: type, keys: Sequence[Any], *, session: Session | None = None
    ) -> list[Members | None]:
        """Read lists with their rows, and leave these in ``fresh``."""
        del session  # as where rows are read
        lookups: Sequence[ListLookup] = keys
        with reading_for_nobody():  # the application may listen to what comes now
            connection = self._database.connect(owner, cls)
            reason = self.bypasses(owner, cls)
            if reason and reason != "snapshot":
                raise InexactError
            may_fill = not reason and self._database.may_fill(owner, connection)
            levels = set[str]()
            by_native = _by_native(connection, cls, lookups, levels)
            if may_fill and not levels and connection.dialect.name == "postgresql":
                levels.add(str(connection.execute(_LEVEL).scalar_one()))
        shared = may_fill and levels.isdisjoint(PINNING)
        fresh.update((_record(lookup), [(row.plan, row.state) for row in by_native[lookup.native].rows]) for lookup in lookups)
        return [_members(lookup, by_native[lookup.native], shared=shared) for lookup in lookups]

    def _forget(self, session: Session, cls: type, lists: Mapping[Record, ListLookup]) -> None:
        """Remove from the caches lists and the rows that they have by now."""
        connection, writes = self._database.connect(session, cls), self._writes(session)
        for lookup in lists.values():
            writes.add_list(lookup)
        for rows in _by_native(connection, lookup.plan.owner, list(lists.values()), set()).values():
            for row in rows.rows:
                writes.add(row.cls, row.key())
        self._invalidate(writes)

    def _drop(self, session: Session, lookups: Sequence[ListLookup]) -> None:
        writes = self._writes(session)
        for lookup in lookups:
            writes.add_list(lookup)
        self._invalidate(writes)

    def _writes(self, session: Session) -> Writes:
        return Writes(self._database.tenant(session, ""))


def _record(lookup: ListLookup) -> Record:
    return keys_of(lookup.plan.owner).identity, lookup.place


class _Listed(NamedTuple):
    """The rows of one list, and their primary keys in the order of the table; whether they are in the order of these."""

    rows: list[RowSnapshot]
    keys: list[tuple[Any, ...]]
    ordered: bool


def _by_native(connection: Connection, cls: type, lookups: Sequence[ListLookup], levels: set[str]) -> dict[Native, _Listed]:
    plan, found = lookups[0].plan, {lookup.native: list[RowSnapshot]() for lookup in lookups}
    exact = [lookup.values for lookup in lookups]
    if any(None in values for values in exact):
        raise InexactError
    rows = hierarchy_of(cls, plan.names, locked=False).read(connection, exact, levels)
    if (alone := _alone(rows, lookups)) is not None:
        return {lookups[0].native: alone}
    for row in rows:
        snapshot = None if row is None else RowSnapshot(*row, shared=False)
        native = None if snapshot is None else snapshot.native(plan)
        if snapshot is None or native not in found:
            raise InexactError
        found[native].append(snapshot)
    return {native: _sorted(rows) for native, rows in found.items()}


def _alone(rows: Sequence[Row | None], lookups: Sequence[ListLookup]) -> _Listed | None:
    """Do as :func:`_sorted` in few passes with the rows of one list, where these are of one class, by numbers; else ``None``."""
    plans = {None if row is None else row[0] for row in rows}
    plan = plans.pop() if len(plans) == len(lookups) == 1 else None
    if plan is None or len(lookups[0].values) > 1:
        return None
    names, (value,), states = keys_of(plan.cls).identity.declared, lookups[0].values, [row[1] for row in rows if row is not None]
    at, by = plan.attrs.index(lookups[0].plan.names[0]), plan.attrs.index(names[0])
    if len(names) > 1 or type(value) is not int or any([state[at] != value or type(state[by]) is not int for state in states]):  # noqa: C419 - twice as fast as a generator
        return None
    states.sort(key=itemgetter(by))
    return _Listed([RowSnapshot(plan, state, shared=False) for state in states], [(state[by],) for state in states], ordered=True)


def _sorted(rows: list[RowSnapshot]) -> _Listed:
    """Sort rows by their primary keys where Python does it as the database would."""
    keyed = [(tuple(row.values(keys_of(row.cls).identity.declared) or ()), row) for row in rows]
    ordered = len(rows) < 2 or {type(value) for key, _ in keyed for value in key} <= _ORDERED  # noqa: PLR2004 - one row is in order
    if ordered:
        keyed.sort(key=itemgetter(0))
    return _Listed([row for _, row in keyed], [key for key, _ in keyed], ordered)


def _members(lookup: ListLookup, rows: _Listed, *, shared: bool) -> Members:
    plan = keys_of(lookup.plan.owner).identity
    places = [plan.declared.index(name) for name in plan.names]
    keys = tuple(rows.keys if len(places) == 1 else [tuple([key[place] for place in places]) for key in rows.keys if key])
    return Members(lookup, keys, rows=rows.rows, shared=shared and rows.ordered and all(rows.keys))


def lists_of(plan: IndexPlan, lookups: Sequence[Lookup]) -> list[ListLookup]:
    """Give lookups of an index as those of lists."""
    return [ListLookup(plan, native, values) for _, native, values in lookups]
