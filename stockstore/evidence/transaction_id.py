"""The id of a transaction on PostgreSQL, asked for on its own connection."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection

_QUESTION: Final = "SELECT CAST(pg_current_xact_id_if_assigned() AS text)"
_SENT: Final = _QUESTION.encode()
_IN_TRANSACTION: Final = 2
"""libpq's PQTRANS_INTRANS."""
_TUPLES: Final = 2
"""libpq's PGRES_TUPLES_OK."""


def ask_transaction(connection: Connection) -> Callable[[], str | None]:
    """Ask for the id of a connection's transaction.

    By the driver itself, which takes less than half the time; psycopg is sent the question at once, and its server is at work on it until
    the answer is waited for.

    Returns:
        What gives the answer, ``None`` for a transaction that has no id. It has to be called before anything else is executed on the connection.
    """
    driver = _psycopg_of(connection)
    return partial(_by_cursor, connection) if driver is None or not _is_sent(driver) else partial(_received, connection, driver)


def _psycopg_of(connection: Connection) -> Any | None:
    """Give the connection of psycopg, where that blocks."""
    if connection.dialect.driver != "psycopg" or connection.dialect.is_async:
        return None
    return connection.connection.driver_connection


def _is_sent(driver: Any) -> bool:
    try:
        # What is no public part of psycopg may go: a cursor asks then.
        from psycopg.generators import execute  # noqa: F401

        server = driver.pgconn
        if server.transaction_status != _IN_TRANSACTION or server.pipeline_status:
            return False
        server.send_query(_SENT)
    except Exception:  # noqa: BLE001 - asked by a cursor, it is told what this means
        return False
    return True


def _received(connection: Connection, driver: Any) -> str | None:
    """Wait as a cursor of psycopg's does, without what it does for parameters and rows: that takes several times as long."""
    from psycopg.errors import error_from_result
    from psycopg.generators import execute

    try:
        with driver.lock:
            (answer,) = driver.wait(execute(driver.pgconn))
        if answer.status != _TUPLES:
            raise error_from_result(answer)  # noqa: TRY301 - it is the driver's, as of its own cursors
        found: bytes | None = answer.get_value(0, 0)
    except Exception as error:  # noqa: BLE001 - as below
        connection._handle_dbapi_exception(error, _QUESTION, None, None, None)  # noqa: SLF001 - what SQLAlchemy's own statements call
    return None if found is None else found.decode()


def _by_cursor(connection: Connection) -> str | None:
    driven, cursor = connection.connection, None
    try:
        cursor = driven.cursor()
        cursor.execute(_QUESTION)
        found: str | None = cursor.fetchone()[0]  # type: ignore[index]
        cursor.close()
    except Exception as error:  # noqa: BLE001 - of any driver; asked once more, it would tell what follows from this, and no longer what it was
        connection._handle_dbapi_exception(error, _QUESTION, None, cursor, None)  # noqa: SLF001 - what SQLAlchemy's own statements call
    return found
