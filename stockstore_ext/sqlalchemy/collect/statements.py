"""What every other statement on a connection writes: Core tables, bulk methods, text."""

from sqlalchemy.engine import ExecutionContext

from stockstore.coherence.protocol import Writes
from stockstore_ext.sqlalchemy.collect.settings import Collecting


def may_write(context: ExecutionContext | None) -> bool:
    """Whether :func:`statement` has to look at a statement; cheap, for it is asked for every one."""
    raise NotImplementedError


def statement(context: ExecutionContext | None, sql: str, writes: Writes, collecting: Collecting = Collecting()) -> None:  # noqa: B008
    """Note the classes whose tables a statement writes, if nothing else tells about it.

    To be called in ``before_cursor_execute`` of the engine, with the ``Writes`` of the connection.

    Args:
        context: As the event has it.
        sql: The statement as the event has it.
        writes: Those of the connection.
        collecting: The settings.

    Raises:
        StockstoreError: Under the policy ``"raise"``, for raw SQL that does not tell what it writes.
    """
    raise NotImplementedError
