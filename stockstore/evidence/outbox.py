"""The outbox: a table whose rows tell, in the writer's own transaction, what has to leave the caches.

A row commits with the data or not at all.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import uuid4

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    DateTime,
    Engine,
    Identity,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    func,
    insert,
    inspect,
    select,
)
from sqlalchemy.dialects.mysql import LONGTEXT
from sqlalchemy.exc import DBAPIError, IntegrityError

from stockstore.errors import OriginError
from stockstore.evidence.aside import INTERNAL, aside, asking, is_private
from stockstore.mapped.shown import first_line, shown

NAME: Final = "stockstore_outbox"
_IDENTITY: Final = "identity"


class Lag(NamedTuple):
    """How far behind the janitor is: rows, and the age of the oldest in seconds by the database's clock."""

    rows: int
    seconds: float


class Outbox:
    """The table ``stockstore_outbox``.

    Args:
        table: The table, where your own metadata has it (see :meth:`table`); otherwise one of that name in the default schema.

    Attributes:
        definition: The table.
    """

    def __init__(self, table: Table | None = None) -> None:
        """Keep the table; no I/O."""
        self.definition = Outbox.table(MetaData()) if table is None else table
        # Nobody asks for the row's id.
        self._insert = insert(self.definition).inline()

    @staticmethod
    def table(metadata: MetaData, schema: str | None = None) -> Table:
        """Give the table's definition in your metadata, for migrations; the same one each time."""
        known = metadata.tables.get(NAME if schema is None else f"{schema}.{NAME}")
        if known is not None:
            return known
        return Table(
            NAME,
            metadata,
            Column("id", BigInteger().with_variant(Integer(), "sqlite"), Identity(), primary_key=True),
            # Nobody's marker waits for a row without a ticket.
            Column("ticket", String(200), unique=True, nullable=True),
            # Key texts, one a line: triggers write them too. A text has no white space.
            Column("texts", Text().with_variant(LONGTEXT(), "mysql", "mariadb"), nullable=False),
            # For the lag alone. Nothing is decided by it.
            Column("created", DateTime(timezone=True), server_default=func.current_timestamp(), nullable=False),
            schema=schema,
        )

    def create(self, engine: Engine) -> None:
        """Make the table where it is not there.

        Raises:
            OriginError: The database did not answer, or refused.
        """
        try:
            asking(engine, lambda: self._create(engine))
        except OriginError as error:
            raise OriginError(
                f"the table {self.definition.fullname} was not made in {shown(engine.url)}: {first_line(error)}; "
                "check the database, or make the table by a migration, as a user who may"
            ) from error.__cause__

    def _create(self, engine: Engine) -> None:
        # The engine's own connections belong to the application's event loop.
        with aside(engine) if engine.dialect.is_async and not is_private(engine) else engine.connect() as connection:
            try:
                self.definition.create(connection, checkfirst=True)
                connection.commit()
            except DBAPIError:
                connection.rollback()
                if not self.exists(connection):  # or another process was first
                    raise

    def exists(self, connection: Connection) -> bool:
        """Whether the table is there; asks the database's catalogue."""
        return inspect(connection).has_table(self.definition.name, schema=self.definition.schema)

    def write(self, connection: Connection, ticket: bytes | None, texts: Sequence[str]) -> None:
        """Note key texts in the writer's transaction, before anything is marked; errors of the database are the caller's."""
        row = {"ticket": ticket and ticket.decode(), "texts": "\n".join(texts)}
        connection.execute(self._insert, row, execution_options=INTERNAL)

    def waiting(self) -> ColumnElement[bool]:
        """Give the condition of the rows that wait for a janitor."""
        return self.definition.c.ticket.is_distinct_from(_IDENTITY)

    def lag(self, connection: Connection) -> Lag:
        """Tell how many rows wait for a janitor, and for how long."""
        created = self.definition.c.created
        measured = select(func.count(), func.min(created), func.current_timestamp(type_=created.type)).where(self.waiting())
        rows, oldest, now = connection.execute(measured, execution_options=INTERNAL).one()
        return Lag(rows, _seconds(oldest, now))

    def database(self, connection: Connection, *, make: bool = False) -> str | None:
        """Give the id by which tickets name this database: it stands in a row of its own, which can be made here.

        Args:
            connection: One on which each statement is its own transaction.
            make: Whether to make the row where there is none.
        """
        table = self.definition
        wanted = select(table.c.texts).where(table.c.ticket == _IDENTITY)
        found: str | None = connection.execute(wanted).scalar()
        if found is None and make:
            with suppress(IntegrityError):  # another process was first
                connection.execute(insert(table), {"ticket": _IDENTITY, "texts": uuid4().hex})
            found = connection.execute(wanted).scalar()
        return found


def _seconds(oldest: datetime | None, now: Any) -> float:
    return 0.0 if oldest is None else max(0.0, (now - oldest).total_seconds())
