"""Which evidence a database gives."""

import logging
from collections.abc import Collection
from typing import Final, TypeAlias

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import ProgrammingError

from stockstore.evidence.aside import aside, is_private
from stockstore.evidence.inserting import OutboxEvidence
from stockstore.evidence.outbox import Outbox
from stockstore.evidence.postgresql import FIRST_VERSION, PostgresEvidence

_log: Final = logging.getLogger(__name__)


class BothEvidences:
    """Evidence for two forms of tickets, as processes with different rights write them; new ones are transaction ids."""

    needs_row = False

    def __init__(self, first: PostgresEvidence, second: OutboxEvidence) -> None:
        """Ask the one and the other."""
        self._parts = (first, second)
        self.ticket, self.ask = first.ticket, first.ask
        self.statement_ticket = first.statement_ticket

    def __repr__(self) -> str:
        return f"{self._parts[0]!r} and {self._parts[1]!r}"

    def knows(self, ticket: bytes) -> bool:
        """Whether either knows it."""
        return any(part.knows(ticket) for part in self._parts)

    def decided(self, tickets: Collection[bytes]) -> set[bytes]:
        """Give what either says."""
        return set[bytes]().union(*(part.decided(tickets) for part in self._parts))


AnyEvidence: TypeAlias = PostgresEvidence | OutboxEvidence | BothEvidences


def evidence_of(engine: Engine, *, outbox: Outbox | None = None) -> AnyEvidence | None:
    """Give the evidence that a database has about its writers' transactions: its transaction ids, else the outbox.

    ``None`` says that there is none: no marker may be left in a shared cache then. So it is for a database in the
    process's own memory, of which no other process could ask. Connects to the database.

    Args:
        engine: The writers' database.
        outbox: The outbox, if it is to be used; its table need not be there.
    """
    if is_private(engine):
        return None
    with aside(engine) as connection:
        there = outbox is not None and outbox.exists(connection)
        return evidence_on(connection, engine, outbox if there else None)


def evidence_on(connection: Connection, engine: Engine, outbox: Outbox | None) -> AnyEvidence | None:
    """Give an engine's evidence as :func:`evidence_of`, by a connection beside its own; the table of an outbox that is given is there."""
    by_outbox = None if outbox is None else OutboxEvidence(engine, outbox, connection)
    by_id = _by_id(connection, engine)
    if by_id is None or by_outbox is None:
        return by_id or by_outbox
    return BothEvidences(by_id, by_outbox)


def _by_id(connection: Connection, engine: Engine) -> PostgresEvidence | None:
    if engine.dialect.name != "postgresql" or (engine.dialect.server_version_info or ()) < FIRST_VERSION:
        return None
    try:
        return PostgresEvidence(engine, connection)
    except ProgrammingError as error:
        _log.warning(
            "the database does not tell its identifier, so transaction ids are no evidence; "
            "GRANT EXECUTE ON FUNCTION pg_control_system() TO the application's role, or make the outbox table: %s",
            error.orig,
        )
        return None
