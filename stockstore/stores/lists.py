"""Lists of rows through the caches above a database."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from stockstore.coherence.protocol import Record, Tier, Writes
from stockstore.coherence.reader import Reader
from stockstore.coherence.writer import WriteThrough
from stockstore.errors import CodecError
from stockstore.keys import Key, ListLookup, Lookup, has_other_identities_below, keys_of
from stockstore.stores.base import Store
from stockstore.stores.hiding import written_by
from stockstore.stores.members import Members
from stockstore.stores.snapshots import RowSnapshot, Snapshot

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from stockstore.mapped import MappedPlan

Fetch: TypeAlias = Callable[..., Sequence[Snapshot | None]]
"""Asks for rows of a class by their keys, as ``Store.batch_fetch`` does."""
_log: Final = logging.getLogger(__name__)


class ListReading:
    """Reads lists through tiers.

    A tier keeps of a list the primary keys alone; the rows come from where rows come from. A list of which a row is gone, or carries
    other values by now, is one that a writer has overtaken: it is read from the database then, as a whole.

    Args:
        tiers: The tiers, from the top down; those that keep no lists are passed by.
        store: The database.
        through: What takes a list away that was found to be old.
    """

    def __init__(self, tiers: Sequence[Tier[Snapshot]], store: Store, through: WriteThrough[Snapshot]) -> None:
        """Look which tiers keep lists."""
        self._store = cast("Any", store)
        self._through = through
        kept = [lists for tier in tiers if (lists := getattr(tier, "lists", None)) is not None]
        known = hasattr(store, "batch_members") and not store._watched  # noqa: SLF001 - who overrides a verb of the database wants it called
        self._reader: Reader[Members] | None = Reader(kept, self._store.batch_members) if known and kept else None

    def read(self, cls: type, lookups: Sequence[ListLookup], fetch: Fetch, *, session: "Session | None" = None) -> list[list[Snapshot]]:
        """Give the rows of lists, each in the order of its primary keys.

        Args:
            cls: The class of the rows.
            lookups: The lists.
            fetch: Gives rows by their keys.
            session: Whose own writes are seen.
        """
        distinct = {_record(lookup): lookup for lookup in lookups}
        found = self._cached(cls, self._keepable(cls, distinct, session), fetch, session)
        others = [lookup for record, lookup in distinct.items() if record not in found]
        if others:
            rows = self._store.batch_list(cls, others, session=session)
            found.update(zip(map(_record, others), rows, strict=True))
        return [found[_record(lookup)] for lookup in lookups]

    def _keepable(self, cls: type, lookups: Mapping[Record, ListLookup], session: "Session | None") -> dict[Record, ListLookup]:
        """Give the lists that may be read from caches."""
        if self._reader is None or has_other_identities_below(cls) or (session is not None and written_by(session, cls, None)):
            return {}
        return {record: lookup for record, lookup in lookups.items() if self._store.keeps_list(lookup)}

    def _cached(
        self, cls: type, lookups: Mapping[Record, ListLookup], fetch: Fetch, session: "Session | None"
    ) -> dict[Record, list[Snapshot]]:
        """Give the rows of lists that are found whole."""
        found: dict[Record, list[Snapshot]] = {}
        if self._reader is None or not lookups:
            return found
        # A list belongs to the topmost class that has its index; rows of its other subclasses are left out at the end.
        for owner, group in _by_owner(lookups).items():
            lists: Mapping[Record, Key] = group
            members = self._reader.read(owner, lists, session=session)
            rows = self._rows(owner, members.values(), fetch, session)
            for record, kept in members.items():
                whole = _whole(kept, rows)
                if whole is not None:
                    found[record] = [row for row in whole if issubclass(row.cls, cls)]
                elif kept.shared:
                    self._drop(kept.lookup)
        return found

    @staticmethod
    def _rows(owner: type, lists: Iterable[Members], fetch: Fetch, session: "Session | None") -> dict[tuple[object, ...], Snapshot | None]:
        keys = list(dict.fromkeys(key for members in lists for key in members.keys))
        return dict(zip(keys, fetch(owner, _lookups(owner, keys), session=session), strict=True)) if keys else {}

    def _drop(self, lookup: ListLookup) -> None:
        writes = Writes()
        writes.add_list(lookup)
        try:
            self._through.invalidate(writes)
        except Exception as error:  # noqa: BLE001 - what is read is right without it
            _log.warning("an old list could not be removed: %s", error)


def _record(lookup: ListLookup) -> Record:
    return keys_of(lookup.plan.owner).identity, lookup.place


def _by_owner(lookups: Mapping[Record, ListLookup]) -> dict[type, dict[Record, ListLookup]]:
    groups: dict[type, dict[Record, ListLookup]] = {}
    for record, lookup in lookups.items():
        groups.setdefault(lookup.plan.owner, {})[record] = lookup
    return groups


def _lookups(owner: type, keys: Sequence[tuple[object, ...]]) -> list[Lookup]:
    plan = keys_of(owner).identity
    return [Lookup(plan, plan.native(key), key) for key in keys]


def _whole(members: Members, rows: Mapping[tuple[object, ...], Snapshot | None]) -> list[Snapshot] | None:
    """Give the rows of a list, ``None`` where one is gone or does not belong there any more."""
    found = [row for key in members.keys if isinstance(row := rows[key], RowSnapshot)]
    whole = len(found) == len(members.keys) and all_carry(((row.plan, row.state) for row in found), members.lookup)
    return [*found] if whole else None


def all_carry(rows: "Iterable[tuple[MappedPlan, tuple[object, ...]]]", lookup: ListLookup) -> bool:
    """Whether rows, given by their plans and column states, have the values of an index."""
    places: dict[MappedPlan, list[int] | None] = {}
    for plan, state in rows:
        if plan not in places:
            listed = issubclass(plan.cls, lookup.plan.owner) and set(plan.attrs).issuperset(lookup.plan.names)
            places[plan] = [plan.attrs.index(name) for name in lookup.plan.names] if listed else None
        at = places[plan]
        if at is None or not _carries(tuple([state[place] for place in at]), lookup):
            return False
    return True


def _carries(values: tuple[object, ...], lookup: ListLookup) -> bool:
    # Most are the very values that were asked for.
    if values == lookup.values:
        return True
    try:
        return lookup.plan.native(values) == lookup.native
    except CodecError:
        return False
