"""What only the driver's connection tells."""

import re
from traceback import clear_frames
from typing import Any, Final

from sqlalchemy import Connection, Engine, TextClause, text
from sqlalchemy.engine import ExecutionContext
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import PoolProxiedConnection

from stockstore.mapped.hydrate import level_on_connect

_IDLE: Final = 0
"""libpq's PQTRANS_IDLE."""
_IN_ERROR: Final = 3
"""libpq's PQTRANS_INERROR."""
_COMMIT: Final = re.compile(r"\bcommit\b|(?:^|[;/\n])\s*(?:end|call|do)\b", re.IGNORECASE)
"""Where a COMMIT may be; procedures may contain one, and comments precede it."""
_COMMITTING_IN_MYSQL: Final = """
alter analyze backup begin cache case change check create drop execute flush for grant if install load lock loop optimize rename repair repeat
reset revoke shutdown start stop truncate uninstall while
"""
_COMMIT_IN_MYSQL: Final = re.compile(
    rf"(?:^|[;:/\n]|/\*m?!\d*|\bfor)\s*(?:{'|'.join(_COMMITTING_IN_MYSQL.split())})\b|\b(?:autocommit|password|default\s+role)\b",
    re.IGNORECASE,
)
"""What MySQL and MariaDB put a COMMIT before, or what may contain such a statement."""
_DML: Final = re.compile(r"\s*(insert|update|delete|replace)\b", re.IGNORECASE)
_LEGACY: Final = -1
_PROBE: Final = text("SELECT 1").execution_options(stockstore_internal=True)


def has_transaction(connection: Connection) -> bool:
    """Whether SQLite's driver has a transaction open, which SQLAlchemy's own ``in_transaction`` does not tell."""
    return bool(getattr(_driver(connection), "in_transaction", True))


def has_open_cursor(connection: Connection) -> bool:
    """Whether a result on SQLite may not have been read to its end, whose snapshot other statements of the connection read from too."""
    try:
        connection.connection.cursor().execute("VACUUM INTO 0")
    except Exception as error:  # noqa: BLE001 - each driver has errors of its own
        if connection.dialect.is_async:
            # SQLAlchemy's frames hold the error that holds them, and so all that called them, until the garbage collector comes.
            clear_frames(error.__traceback__)
        # SQLite looks whether other statements are at work before it looks at the name of the file.
        return "non-text filename" not in str(error)
    return True


def begins_by_a_read(connection: Connection) -> bool:
    """Whether MariaDB has no transaction open, whose snapshot its first read begins; of MySQL, and of no answer, nobody knows."""
    if not getattr(connection.dialect, "is_mariadb", False):
        return False
    cursor = connection.connection.cursor()
    try:
        # It begins none by itself. What the drivers know of it they do not learn from a SELECT.
        cursor.execute("SELECT @@in_transaction")
        return tuple(cursor.fetchone() or ()) == (0,)
    except Exception:  # noqa: BLE001 - each driver has errors of its own; the read that follows tells them
        return False
    finally:
        cursor.close()


def is_aborted(connection: Connection) -> bool:
    """Whether PostgreSQL will answer a COMMIT by a ROLLBACK, since a statement has failed."""
    driver = _driver(connection)
    # What psycopg's ``info`` asks is at hand.
    known = getattr(driver, "pgconn", None) or getattr(driver, "info", None)
    return getattr(known, "transaction_status", None) == _IN_ERROR


def goes_on(connection: Connection, error: Exception) -> bool:
    """Whether the transaction of a statement goes on whose rows were there, and of which Python has no value for one."""
    if isinstance(error, SQLAlchemyError) and not _is_of_value(error):
        return False
    try:
        connection.execute(_PROBE)
    except Exception:  # noqa: BLE001 - it does not, for whatever reason
        return False
    return True


def _is_of_value(error: SQLAlchemyError) -> bool:
    """Whether it is the driver that tells of it, and not the server."""
    orig = getattr(error, "orig", None)
    if type(orig).__module__.startswith("sqlite3"):
        return str(orig).startswith("Could not decode to UTF-8")
    return type(orig).__name__ == "DataError" and getattr(orig, "sqlstate", "") is None  # psycopg's


def commits_at_once(connection: Connection, sql: str) -> bool:
    """Whether a statement that writes would be committed by itself."""
    if connection.dialect.name == "sqlite":
        return not has_transaction(connection) and not _begins(_driver(connection), sql)
    level = connection.get_execution_options().get("isolation_level")
    if level is not None:
        return bool(level == "AUTOCOMMIT")
    return _autocommits(connection.connection.dbapi_connection)


def autocommits(engine: Engine) -> bool:
    """Whether an engine was made for AUTOCOMMIT."""
    return "AUTOCOMMIT" in (engine.get_execution_options().get("isolation_level"), level_on_connect(engine.dialect))


def _autocommits(driver: Any) -> bool:
    # With MySQL's drivers it is a method that sets it.
    ask = getattr(driver, "get_autocommit", None)
    return getattr(driver, "autocommit", False) is True if ask is None else bool(ask())


def may_commit(connection: Connection, sql: str, context: ExecutionContext | None) -> bool:
    """Whether a text may commit what is open, of which the engine does not tell."""
    compiled: Any = getattr(context, "compiled", None)
    if not (compiled is None or isinstance(compiled.statement, TextClause) or getattr(context, "isddl", False)):
        return False
    return _COMMIT.search(sql) is not None or (connection.dialect.name in {"mysql", "mariadb"} and _COMMIT_IN_MYSQL.search(sql) is not None)


def is_over(connection: PoolProxiedConnection) -> bool:
    """Whether a driver says that no transaction is open any more."""
    driver: Any = connection.driver_connection
    try:
        status = getattr(getattr(driver, "info", None), "transaction_status", None)
        if getattr(driver, "is_in_transaction", None) is not None:  # asyncpg's
            return driver.is_in_transaction() is False
        return status == _IDLE or getattr(driver, "in_transaction", True) is False
    except Exception:  # noqa: BLE001 - a closed connection, for which each driver has its own error
        return False


def _begins(driver: Any, sql: str) -> bool:
    """Whether sqlite3 puts a BEGIN before a statement: in its default mode only before those that it knows for writing by their first word."""
    # aiosqlite does not tell it of the connection that it keeps.
    mode = getattr(getattr(driver, "_conn", driver), "autocommit", _LEGACY)
    if mode != _LEGACY:
        return mode is False
    return driver.isolation_level is not None and _DML.match(sql) is not None


def _driver(connection: Connection) -> Any:
    return connection.connection.driver_connection
