"""Written rows as the database has made them, read before COMMIT, and the lists that they stand in."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import Connection

from stockstore.coherence.protocol import Writes
from stockstore.keys import IndexPlan, ListLookup, Native, keys_of
from stockstore.mapped.reread import is_exact, is_triggered, may_be_skipped, reread
from stockstore.mapped.selecting import Row
from stockstore.mapped.stored import keeps_lists, stored_in_list
from stockstore.stores.snapshots import RowSnapshot
from stockstore_ext.sqlalchemy.collect.lists import indexes_below
from stockstore_ext.sqlalchemy.drivers import goes_on


def exact_rows(connection: Connection, writes: Writes, *, wanted: bool, locks: bool, transactions: set[str]) -> Sequence[RowSnapshot]:
    """Give the rows exactly as they will be, and note the lists that the database has put them into.

    Args:
        connection: The writer's, after its last statement.
        writes: What was written to the tables that its classes are mapped to.
        wanted: Whether the rows are of use; else only those are read whose lists a trigger may have changed, and none is given.
        locks: Whether they can be locked, without which none is read.
        transactions: Takes the id of the connection's transaction, where PostgreSQL has told it along with the rows.
    """
    wanted = wanted and locks
    rows = list(_read(connection, writes, wanted, locks, transactions))
    _note_lists(connection, writes, rows)
    for root in [cls for plan, cls in writes.inserted.items() if plan not in writes.classes]:
        if _may_be_moved(connection, root):
            writes.add_class(root)
    return rows if wanted else []


def _read(connection: Connection, writes: Writes, wanted: bool, locks: bool, transactions: set[str]) -> Iterator[RowSnapshot]:
    if not wanted and not any(_may_be_moved(connection, root) for root in {*writes.roots.values()}):
        return
    # All writers lock the tables in one order.
    for root, keys in sorted(writes.by_root(), key=_name):
        if not wanted and not _may_be_moved(connection, root):
            continue
        found = _reread(connection, root, keys, transactions) if locks and is_exact(connection, root) else None
        yield from (RowSnapshot(plan, state) for plan, state in found or ())
        unread = found is None or (len(found) < len(keys) and may_be_skipped(root))
        if unread and _may_be_moved(connection, root):
            writes.add_class(root)


def _reread(connection: Connection, root: type, keys: Sequence[Any], transactions: set[str]) -> list[Row] | None:
    """Give rows; ``None`` where a value of one cannot be read, of which a writer that left it alone need not know."""
    try:
        return reread(connection, root, keys, transactions)
    except Exception as error:
        if goes_on(connection, error):
            return None
        raise


def _name(group: tuple[type, object]) -> str:
    return group[0].__qualname__


def _may_be_moved(connection: Connection, root: type) -> bool:
    """Whether a trigger may have moved rows of a root to other lists."""
    return bool(indexes_below(root)) and is_triggered(connection, root)


def _note_lists(connection: Connection, writes: Writes, rows: Sequence[RowSnapshot]) -> None:
    """Note the lists that rows have come into, by what the database has made of their values.

    A list that a row has left needs no telling: it is found out by the row itself, which is read anew.
    """
    indexes = {plan: found for plan in {row.plan for row in rows} if (found := keys_of(plan.cls).indexes)}
    for row in rows if indexes else ():
        for plan in indexes.get(row.plan, ()):
            values = row.values(plan.names)
            if values is not None and keeps_lists(plan, connection.dialect) and _may_have_come(connection, writes, row, plan, values):
                writes.add_list(ListLookup(plan, plan.native(values), ()))


def _may_have_come(connection: Connection, writes: Writes, row: RowSnapshot, plan: IndexPlan, values: Sequence[Any]) -> bool:
    identity = keys_of(row.cls).identity
    record: Any = identity, row.native(identity)
    if (record, plan) not in writes.placed:  # written by a statement that sets other columns, or tells its lists itself
        return is_triggered(connection, writes.roots[identity])
    former = writes.placed[record, plan]
    return former is None or _native(connection, plan, former) != plan.native(values)


def _native(connection: Connection, plan: IndexPlan, values: Sequence[Any]) -> Native | None:
    """Give values as the program has them as a key; ``None`` where the database may have others."""
    with suppress(Exception):  # a type may be anybody's class
        return plan.native(stored_in_list(plan, values, connection.dialect))
    return None
