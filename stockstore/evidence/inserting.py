"""Evidence by the outbox: a ticket stands in a row that its writer inserted before it marked anything.

Until the writer's transaction has ended the unique ticket is locked. So who can insert it, or is told that it is there,
knows of the end. That a janitor has deleted the row changes nothing: it saw the row after the end.
"""

import re
import time
from collections.abc import Callable, Collection
from contextlib import nullcontext
from functools import partial
from typing import Final
from uuid import uuid4

from sqlalchemy import Connection, Engine, insert, text
from sqlalchemy.exc import IntegrityError, OperationalError

from stockstore.errors import ConfigurationError
from stockstore.evidence.aside import aside, asking
from stockstore.evidence.outbox import Outbox

_TICKET: Final = re.compile(rb"outbox\.([0-9a-f]{32})\.[0-9a-f]{32}\.\d{1,20}").fullmatch
_IMPATIENT: Final = {
    # Here 0 would be no limit at all.
    "postgresql": "SET LOCAL lock_timeout = '1ms'",
    "mysql": "SET innodb_lock_wait_timeout = 0",
    "mariadb": "SET innodb_lock_wait_timeout = 0",
    "sqlite": "PRAGMA busy_timeout = 0",
}


class OutboxEvidence:
    """Evidence for any database that has the outbox table; it is asked on connections of its own.

    Args:
        engine: The writers' database.
        outbox: The table.
        connection: One beside the engine's to ask by, where there is one.

    Raises:
        ConfigurationError: The table is not there, or it is not known of this kind of database how it tells a locked row.
    """

    needs_row = True
    """Whether the writer's ticket has to be in the outbox."""

    def __init__(self, engine: Engine, outbox: Outbox, connection: Connection | None = None) -> None:
        """Learn the database's id, and make it at first."""
        if engine.dialect.name not in _IMPATIENT:
            raise ConfigurationError(f"the outbox is no evidence on {engine.dialect.name}; it is on {', '.join(_IMPATIENT)}")
        self._engine = engine
        self._outbox = outbox
        with aside(engine) if connection is None else nullcontext(connection) as asked:
            if not outbox.exists(asked):
                raise ConfigurationError(f"the database has no table {outbox.definition.fullname}; make it with Outbox().create(engine)")
            self._id = str(outbox.database(asked, make=True)).encode()

    def __repr__(self) -> str:
        return f"OutboxEvidence({self._id.decode()})"

    def ticket(self, connection: Connection, transaction: str | None = None) -> bytes | None:  # noqa: ARG002 - for other evidence
        """Name the open transaction, which has to insert the ticket into the outbox before it marks anything; no I/O."""
        return b"outbox.%b.%b.%d" % (self._id, uuid4().hex.encode(), time.time() * 1000)

    def ask(self, connection: Connection, transaction: str | None = None) -> Callable[[], bytes | None]:
        """Give what does as :meth:`ticket`."""
        return partial(self.ticket, connection, transaction)

    def statement_ticket(self, connection: Connection) -> bytes | None:  # noqa: ARG002 - other evidence asks it
        """Give ``None``: on an AUTOCOMMIT connection the row would be committed before the statement."""
        return None

    def knows(self, ticket: bytes) -> bool:
        """Whether a ticket names this database."""
        found = _TICKET(ticket)
        return found is not None and found[1] == self._id

    def decided(self, tickets: Collection[bytes]) -> set[bytes]:
        """Give those tickets whose transactions have ended."""
        known = [ticket for ticket in tickets if self.knows(ticket)]
        if not known:
            return set()
        return asking(self._engine, lambda: self._decided(known))

    def _decided(self, known: Collection[bytes]) -> set[bytes]:
        if self._engine.dialect.name == "sqlite":
            return set(known) if self._has_no_writer() else set()
        # Another level could show a row of a transaction that is still open, or hide what has come since.
        with aside(self._engine, "READ COMMITTED") as connection:
            return {ticket for ticket in known if self._is_decided(connection, ticket)}

    def _has_no_writer(self) -> bool:
        """Whether no transaction that has written is open: SQLite lets one at a time write."""
        with aside(self._engine) as connection:
            connection.execute(text(_IMPATIENT["sqlite"]))
            try:
                connection.execute(text("BEGIN IMMEDIATE"))
            except OperationalError:
                return False
            connection.execute(text("ROLLBACK"))
            return True

    def _is_decided(self, connection: Connection, ticket: bytes) -> bool:
        transaction = connection.begin()
        try:
            connection.execute(text(_IMPATIENT[self._engine.dialect.name]))
            connection.execute(insert(self._outbox.definition), {"ticket": ticket.decode(), "texts": ""})
        except IntegrityError:
            return True
        except OperationalError as error:
            if error.connection_invalidated:
                raise
            return False
        finally:
            transaction.rollback()
        return True
