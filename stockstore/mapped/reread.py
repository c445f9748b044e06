"""Exact rows, read by the writer itself on its own connection before it commits."""

import time
from collections.abc import Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, TextClause, bindparam, text

from stockstore.keys import keys_of
from stockstore.mapped.selecting import Hierarchy, Row, hierarchy_of

_CHECKED_SECONDS: Final = 60.0
_now = time.monotonic


def reread(connection: Connection, root: type, keys: Sequence[tuple[object, ...]], transactions: set[str] | None = None) -> list[Row]:
    """Give the rows of a hierarchy as the database will have them when the connection's transaction commits.

    To be called after the last statement, where :func:`is_exact` holds. The rows are locked in all tables of the hierarchy, in the
    order of their keys: by one SELECT, and one more for each subclass found that has a table of its own (each per some thousands of
    keys). Rows that are gone are missing, and those that stand in several tables of which another transaction has locked one, where the
    database can leave them out: that one's COMMIT may wait for this one. No session is involved, and no event of one.

    Args:
        connection: The writer's.
        root: The root class, as ``Writes.by_root`` gives it.
        keys: The key values, as ``Writes.by_root`` gives them: in the order of the identity plan's ``names``.
        transactions: Takes the id of the connection's transaction, where PostgreSQL has told it along with the rows.
    """
    return [row for row in _hierarchy_of(root).read(connection, keys, transactions) if row is not None]


def may_be_skipped(root: type) -> bool:
    """Whether a row that :func:`reread` does not give may be there all the same."""
    return _hierarchy_of(root).is_joined


def _among(question: str) -> TextClause:
    return text(question).bindparams(bindparam("names", expanding=True))


def _hierarchy_of(root: type) -> Hierarchy:
    return hierarchy_of(root, keys_of(root).identity.names, locked=True)


# -- whether a row before COMMIT is the row after it ------------------------------------------------

_checked: Final[WeakKeyDictionary[Engine, dict[tuple[Any, ...], tuple[float, bool]]]] = WeakKeyDictionary()
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
    names = _names(connection, hierarchy)
    return _asked(connection, _CHECK, {"size": len(names), "names": names})


def _names(connection: Connection, hierarchy: Hierarchy) -> tuple[str, ...]:
    preparer = connection.dialect.identifier_preparer
    return tuple([preparer.format_table(table) for table in _tables(hierarchy)])


def _tables(hierarchy: Hierarchy) -> list[Any]:
    return list(dict.fromkeys(table for mapper in hierarchy.below for table in mapper.tables))


def _asked(connection: Connection, question: TextClause, parameters: dict[str, Any]) -> bool:
    """Give what the database answers, for a minute."""
    known = _checked.setdefault(connection.engine, {})
    place = question, *parameters.values()
    until, answer = known.get(place, (0.0, False))
    if until < _now():
        sent = {name: list(value) if isinstance(value, tuple) else value for name, value in parameters.items()}
        answer = bool(connection.execute(question, sent).scalar_one())
        known[place] = _now() + _CHECKED_SECONDS, answer
    return answer


# -- whether the database makes something else of a row ---------------------------------------------

_POSTGRESQL: Final = text(r"""
    SELECT EXISTS (SELECT FROM pg_trigger WHERE NOT tgisinternal AND tgname NOT LIKE 'stockstore\_outbox\_%'
    AND tgrelid IN (SELECT to_regclass(name) FROM unnest(CAST(:names AS text[])) AS name))
    """)
_MYSQL: Final = _among(
    "SELECT count(*) FROM information_schema.triggers WHERE event_object_schema = database() AND event_object_table IN :names"
)
_QUESTIONS: Final = {
    "mariadb": _MYSQL,
    "mysql": _MYSQL,
    "sqlite": _among("""
        SELECT count(*) FROM (SELECT type, tbl_name FROM sqlite_master UNION ALL SELECT type, tbl_name FROM sqlite_temp_master)
        WHERE type = 'trigger' AND tbl_name COLLATE NOCASE IN :names
        """),
}


def is_triggered(connection: Connection, root: type) -> bool:
    """Whether a trigger may have made something else of a written row of a hierarchy; looked up once a minute.

    The library's own triggers, which tell lists themselves, do not count.
    """
    hierarchy, dialect = _hierarchy_of(root), connection.dialect.name
    if dialect == "postgresql":
        return _asked(connection, _POSTGRESQL, {"names": _names(connection, hierarchy)})
    tables = _tables(hierarchy)
    if dialect not in _QUESTIONS or any(getattr(table, "schema", None) for table in tables):
        return True
    return _asked(connection, _QUESTIONS[dialect], {"names": tuple([table.name for table in tables])})
