"""Errors of what a hook asks the database before a COMMIT, or a statement that is one: to the application they are its own.

What it was asked is nothing that the application has sent, and nothing that its listeners could make anything of.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection
from sqlalchemy.engine import ExecutionContext
from sqlalchemy.exc import DBAPIError

from stockstore.evidence.aside import UNHEARD


@contextmanager
def unheard(connection: Connection) -> Iterator[None]:
    """Keep the errors of statements from the application's ``handle_error`` listeners; the COMMIT's is told them."""
    options = connection._execution_options  # noqa: SLF001 - its public setter tells listeners
    connection._execution_options = options.union(UNHEARD)  # noqa: SLF001 - as above
    try:
        yield
    finally:
        connection._execution_options = options  # noqa: SLF001 - as above


@contextmanager
def as_statements(connection: Connection, context: ExecutionContext) -> Iterator[None]:
    """Prepare a statement that commits by itself: raises, and has listeners told, what SQLAlchemy would for the statement's own error."""
    parameters = context.parameters if context.executemany else context.parameters[0]
    try:
        with unheard(connection):
            yield
    except DBAPIError as error:
        own = _drivers(error, connection)
        connection._handle_dbapi_exception(own, context.statement, parameters, context.cursor, context)  # noqa: SLF001 - as above


def raise_as_drivers(connection: Connection, prepare: Callable[[Connection], None]) -> None:
    """Prepare a COMMIT within the dialect's verb: raises the driver's own error, of which SQLAlchemy makes what it makes of a COMMIT's."""
    if (error := _error_of(connection, prepare)) is not None:
        raise error


def raise_as_commits(connection: Connection, prepare: Callable[[Connection], None]) -> None:
    """Prepare a COMMIT where SQLAlchemy does not handle the errors of drivers: raises what it would raise for the COMMIT's."""
    if (error := _error_of(connection, prepare)) is not None:
        connection._handle_dbapi_exception(error, None, None, None, None)  # noqa: SLF001 - what its own verbs call


def _error_of(connection: Connection, prepare: Callable[[Connection], None]) -> BaseException | None:
    try:
        prepare(connection)
    except DBAPIError as error:
        return _drivers(error, connection)
    return None


def _drivers(error: DBAPIError, connection: Connection) -> BaseException:
    if error.orig is None:
        raise error
    if error.connection_invalidated:
        # The driver's connection is gone, by which SQLAlchemy would see it once more.
        connection._is_disconnect = True  # noqa: SLF001 - as in its own handler
    return error.orig
