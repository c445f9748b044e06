"""Exact rows, read by the writer itself on its own connection before it commits."""

import time
from collections.abc import Sequence
from typing import Final
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, text

from stockstore.keys import keys_of
from stockstore.mapped.selecting import Hierarchy, Row, hierarchy_of

_CHECKED_SECONDS: Final = 60.0
_now = time.monotonic


def reread(connection: Connection, root: type, keys: Sequence[tuple[object, ...]]) -> list[Row]:
    """Give the rows of a hierarchy as the database will have them when the connection's transaction commits.

    To be called after the last statement, where :func:`is_exact` holds. The rows are locked in all tables of the hierarchy, in the
    order of their keys: by one SELECT, and one more for each subclass found that has a table of its own (each per some thousands of
    keys). Rows that are gone are missing. No session is involved, and no event of one.

    Args:
        connection: The writer's.
        root: The root class, as ``Writes.by_root`` gives it.
        keys: The key values, as ``Writes.by_root`` gives them: in the order of the identity plan's ``names``.
    """
    return [row for row in _hierarchy_of(root).read(connection, keys) if row is not None]


def _hierarchy_of(root: type) -> Hierarchy:
    return hierarchy_of(root, keys_of(root).identity.names, locked=True)


# -- whether a row before COMMIT is the row after it ------------------------------------------------

_checked: Final[WeakKeyDictionary[Engine, dict[tuple[str, ...], tuple[float, bool]]]] = WeakKeyDictionary()
_CHECK: Final = text("""
    SELECT count(*) = :size FROM pg_class WHERE oid = ANY (SELECT to_regclass(name) FROM unnest(CAST(:names AS text[])) AS name)
    AND relkind IN ('r', 'p') AND has_table_privilege(oid, 'SELECT') AND has_any_column_privilege(oid, 'UPDATE')
    AND NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = pg_class.oid AND tgdeferrable AND NOT tgisinternal)
    """)


def is_exact(connection: Connection, root: type) -> bool:
    """Whether a row that :func:`reread` gives before COMMIT is the row after it.

    It is not where a table of the hierarchy has a deferrable trigger, is a view or cannot be locked by this user (all of that looked
    up once a minute), nor where a class is mapped to a query, or told by something else than a column.
    """
    hierarchy = _hierarchy_of(root)
    if not hierarchy.is_plain:
        return False
    if connection.dialect.name != "postgresql":
        return True
    preparer = connection.dialect.identifier_preparer
    tables = dict.fromkeys(table for mapper in hierarchy.below for table in mapper.tables)
    return _is_plain_in_postgresql(connection, tuple([preparer.format_table(table) for table in tables]))


def _is_plain_in_postgresql(connection: Connection, names: tuple[str, ...]) -> bool:
    known = _checked.setdefault(connection.engine, {})
    until, answer = known.get(names, (0.0, False))
    if until < _now():
        answer = bool(connection.execute(_CHECK, {"size": len(names), "names": list(names)}).scalar_one())
        known[names] = _now() + _CHECKED_SECONDS, answer
    return answer
