"""The origin of what sessions read through: one SELECT of plain columns on a connection of theirs."""

from collections.abc import Sequence

from sqlalchemy import Connection

from stockstore.keys import KeyPlan, Lookup, Native
from stockstore.mapped.levels import PINNING
from stockstore.mapped.selecting import hierarchy_of
from stockstore.stores.snapshots import RowSnapshot


class InexactError(Exception):
    """The rows found do not tell what the application's own statement would give."""


def load(connection: Connection, cls: type, lookups: Sequence[Lookup], *, shared: bool) -> list[RowSnapshot | None]:
    """Give the rows of lookups, in their positions, by one SELECT for each key that they are of.

    Raises:
        InexactError: A row was found that carries none of the values asked for, or two carry the same, or one does not tell its class.
    """
    found: dict[tuple[KeyPlan, Native], RowSnapshot] = {}
    by_plan: dict[KeyPlan, dict[Native, tuple[object, ...]]] = {}
    for plan, native, values in lookups:
        by_plan.setdefault(plan, {})[native] = values
    for plan, asked in by_plan.items():
        levels = set[str]()
        for row in hierarchy_of(cls, plan.names, locked=False).read(connection, list(asked.values()), levels):
            snapshot = None if row is None else RowSnapshot(*row, shared=shared and levels.isdisjoint(PINNING))
            carried = None if snapshot is None else snapshot.native(plan)
            if snapshot is None or carried is None or carried not in asked or (plan, carried) in found:
                raise InexactError
            found[plan, carried] = snapshot
    return [found.get(lookup[:2]) for lookup in lookups]
