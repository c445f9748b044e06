"""Statements that go along with a COMMIT, so that its server is asked once for both."""

from collections.abc import Callable, Generator
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.pool import PoolProxiedConnection
from typing_extensions import Self

from stockstore.evidence.direct import IN_TRANSACTION, checked

_KEY: Final = "stockstore.along"


class Along:
    """One COMMIT: while it is entered, the statements of :func:`goes_along` wait for it.

    On psycopg's own blocking connections alone, whose COMMIT is a simple query as this is, and where nobody else takes part in it.

    Args:
        driven: The connection that commits.
        commit: What the dialect does then.
    """

    def __init__(self, driven: PoolProxiedConnection, commit: Callable[[PoolProxiedConnection], object]) -> None:
        """Hold nothing yet."""
        self._driven, self._commit = driven, commit
        self.statements: list[str] = []

    def __enter__(self) -> Self:
        """Take statements from now on, where they can go along."""
        if getattr(self._commit, "__func__", None) is DefaultDialect.do_commit and _is_plain(self._driven.driver_connection):
            self._driven.info[_KEY] = self
        return self

    def __exit__(self, *_: object) -> None:
        """Take no more."""
        self._driven.info.pop(_KEY, None)

    def commit(self) -> None:
        """Execute the statements, and COMMIT; raises the driver's own errors. Where a statement fails nothing is committed."""
        driver: Any = self._driven.driver_connection
        if self.statements and _is_plain(driver):
            with driver.lock:
                checked(driver.wait(_sent(driver.pgconn, ";".join([*self.statements, "COMMIT"]))))
            return
        for statement in self.statements:
            self._driven.cursor().execute(statement)
        self._commit(self._driven)


def goes_along(connection: Connection, statement: str) -> bool:
    """Leave a statement, in ASCII, to the COMMIT that a connection prepares; ``False`` where it has to be executed now."""
    along: Along | None = connection.info.get(_KEY)
    if along is not None:
        along.statements.append(statement)
    return along is not None


def _is_plain(driver: Any) -> bool:
    """Whether a connection's COMMIT is psycopg's own, in a transaction that nothing of psycopg's has a part in."""
    if type(driver).__module__ != "psycopg":
        return False
    try:
        # What is no public part of psycopg may go: the dialect commits then.
        from psycopg import Connection as Plain
        from psycopg.generators import execute  # noqa: F401

        server, has_part = driver.pgconn, driver._num_transactions or driver._tpc  # noqa: SLF001 - as its own commit
        if type(driver) is not Plain or driver.commit.__module__ != "psycopg.connection" or has_part:
            return False
        return bool(server.transaction_status == IN_TRANSACTION and not server.pipeline_status)
    except (ImportError, AttributeError):
        return False


def _sent(server: Any, statements: str) -> "Generator[Any, Any, list[Any]]":
    """Send within what psycopg waits for, which cancels it where it is interrupted."""
    from psycopg.generators import execute

    server.send_query(statements.encode("ascii"))
    answers: list[Any] = yield from execute(server)
    return answers
