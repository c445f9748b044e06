"""What a database is asked."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, event


class Statements(list[str]):
    """The SQL that reached the database since the last `take`."""

    def take(self) -> list[str]:
        """Give them and forget them."""
        taken = list(self)
        self.clear()
        return taken


@contextmanager
def recorded(database: Engine | Connection) -> Iterator[Statements]:
    """Give the SQL that an engine, or one connection, executes meanwhile."""
    sent = Statements()

    def record(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        sent.append(statement)

    event.listen(database, "before_cursor_execute", record)
    try:
        yield sent
    finally:
        event.remove(database, "before_cursor_execute", record)
