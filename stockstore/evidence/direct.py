"""Statements of the protocol's own, by the driver itself: what has no parameters takes less than half the time so."""

from typing import Any, Final

from sqlalchemy import Connection

IN_TRANSACTION: Final = 2
"""libpq's PQTRANS_INTRANS."""
_DONE: Final = frozenset({1, 2})
"""libpq's PGRES_COMMAND_OK and PGRES_TUPLES_OK."""


def send(connection: Connection, statement: str) -> Any | None:
    """Send a statement to the server within a transaction, which is at work on it until the answer is waited for by :func:`receive`.

    Returns:
        The connection of psycopg, where that blocks; ``None`` where nothing was sent.
    """
    if connection.dialect.driver != "psycopg" or connection.dialect.is_async:
        return None
    driver = connection.connection.driver_connection
    return driver if _is_sent(driver, statement) else None


def _is_sent(driver: Any, statement: str) -> bool:
    try:
        # What is no public part of psycopg may go: a cursor does it then.
        from psycopg.generators import execute  # noqa: F401

        server = driver.pgconn
        if server.transaction_status != IN_TRANSACTION or server.pipeline_status:
            return False
        server.send_query(statement.encode("ascii"))
    except Exception:  # noqa: BLE001 - done by a cursor, it is told what this means
        return False
    return True


def receive(connection: Connection, driver: Any, statement: str) -> Any:
    """Give libpq's answer. Waits as a cursor of psycopg's does, without what it does for parameters and rows: that takes several times as long."""
    from psycopg.generators import execute

    try:
        with driver.lock:
            (answer,) = checked(driver.wait(execute(driver.pgconn)))
    except Exception as error:  # noqa: BLE001 - as below
        connection._handle_dbapi_exception(error, statement, None, None, None)  # noqa: SLF001 - what SQLAlchemy's own statements call
    return answer


def checked(answers: list[Any]) -> list[Any]:
    """Give libpq's answers; raises psycopg's error, as its own cursors, where one of them is none."""
    from psycopg.errors import error_from_result

    for answer in answers:
        if answer.status not in _DONE:
            raise error_from_result(answer)
    return answers
