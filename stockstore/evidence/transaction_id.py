"""The id of a transaction on PostgreSQL, asked for on its own connection."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection

from stockstore.evidence.direct import receive, send

_QUESTION: Final = "SELECT CAST(pg_current_xact_id_if_assigned() AS text)"


def ask_transaction(connection: Connection) -> Callable[[], str | None]:
    """Ask for the id of a connection's transaction.

    By the driver itself, which takes less than half the time; psycopg is sent the question at once, and its server is at work on it until
    the answer is waited for.

    Returns:
        What gives the answer, ``None`` for a transaction that has no id. It has to be called before anything else is executed on the connection.
    """
    driver = send(connection, _QUESTION)
    return partial(_by_cursor, connection) if driver is None else partial(_received, connection, driver)


def _received(connection: Connection, driver: Any) -> str | None:
    found: bytes | None = receive(connection, driver, _QUESTION).get_value(0, 0)
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
