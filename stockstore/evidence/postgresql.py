"""Evidence by PostgreSQL's transaction ids: nothing has to be written for it."""

import re
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import nullcontext
from typing import Final
from uuid import uuid4

from sqlalchemy import Connection, Engine, text

from stockstore.errors import ConfigurationError
from stockstore.evidence.aside import INTERNAL, aside, asking
from stockstore.evidence.transaction_id import ask_transaction

FIRST_VERSION: Final = (13,)
_DATABASE: Final = text("SELECT CAST(system_identifier AS text) FROM pg_control_system()")
_BACKEND: Final = text(
    "SELECT pid || '/' || to_char(backend_start AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISSUS')"
    " FROM pg_stat_activity WHERE pid = pg_backend_pid()"
)
# Whether a transaction is over is asked of a snapshot, as readers see it. pg_xact_status looks into the commit log, where some minor
# releases have a transaction as committed a moment before snapshots do: what is read and cached in that moment would stay stale.
# A role without rights on other roles' sessions sees their pid and no more: such a backend may be the one that is meant.
_DECIDED: Final = text(
    """
    SELECT name FROM unnest(string_to_array(:names, ',')) AS name
    WHERE NOT pg_is_in_recovery()
    AND :database = (SELECT CAST(system_identifier AS text) FROM pg_control_system())
    AND CASE
        WHEN name LIKE 'b%' THEN NOT EXISTS (
            SELECT FROM pg_stat_activity
            WHERE pid = CAST(substr(split_part(name, '/', 1), 2) AS integer)
            AND coalesce(to_char(backend_start AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISSUS') = split_part(name, '/', 2), true))
        ELSE pg_visible_in_snapshot(CAST(name AS xid8), pg_current_snapshot())
    END
    """
)
_TICKET: Final = re.compile(rb"(\d{1,20})\.(\d{1,19}|b\d{1,9}/\d{20})\.[0-9a-f]{32}\.\d{1,20}").fullmatch


class PostgresEvidence:
    """Evidence on PostgreSQL 13 and later; asked on connections of its own, on the primary alone.

    It needs the right to call ``pg_control_system()``, which everybody has unless it was taken away.

    Args:
        engine: The writers' database.
        connection: One beside the engine's to ask by, where there is one.

    Raises:
        ConfigurationError: It is no PostgreSQL, or an older one.
        DBAPIError: It cannot be asked for its identifier.
    """

    needs_row = False
    """Whether the writer's ticket has to be in the outbox."""

    def __init__(self, engine: Engine, connection: Connection | None = None) -> None:
        """Learn which database cluster it is."""
        if engine.dialect.name != "postgresql":
            raise ConfigurationError(f"transaction ids are evidence on PostgreSQL, not on {engine.dialect.name}; use the outbox")
        self._engine = engine
        with aside(engine) if connection is None else nullcontext(connection) as asked:
            version = engine.dialect.server_version_info or ()
            if version < FIRST_VERSION:
                raise ConfigurationError(f"transaction ids are evidence from PostgreSQL 13 on, and this is {version}; use the outbox")
            self._database = str(asked.execute(_DATABASE).scalar_one())

    def __repr__(self) -> str:
        return f"PostgresEvidence({self._database})"

    def ticket(self, connection: Connection, transaction: str | None = None) -> bytes | None:
        """Name the open transaction, by its id if that is known; ``None`` where it has written nothing. Otherwise one query."""
        return self.ask(connection, transaction)()

    def ask(self, connection: Connection, transaction: str | None = None) -> Callable[[], bytes | None]:
        """Give what does as :meth:`ticket`; the database is at work on it until then, where the driver can do that."""
        asked = ask_transaction(connection) if transaction is None else lambda: transaction

        def named() -> bytes | None:
            found = asked()
            return None if found is None else self._name(found)

        return named

    def statement_ticket(self, connection: Connection) -> bytes | None:
        """Name the statement that an AUTOCOMMIT connection is to execute next, by its server process; one query per connection."""
        backend: str | None = connection.info.get(__name__)
        if backend is None:
            backend = connection.info[__name__] = str(connection.execute(_BACKEND, execution_options=INTERNAL).scalar_one())
        return self._name("b" + backend)

    def _name(self, who: str) -> bytes:
        return f"{self._database}.{who}.{uuid4().hex}.{int(time.time() * 1000)}".encode()

    def knows(self, ticket: bytes) -> bool:
        """Whether a ticket names this database."""
        found = _TICKET(ticket)
        return found is not None and found[1].decode() == self._database

    def decided(self, tickets: Collection[bytes]) -> set[bytes]:
        """Give those tickets whose transactions have ended; one query for all."""
        names: dict[str, list[bytes]] = {}
        for ticket in tickets:
            found = _TICKET(ticket)
            if found is not None and found[1].decode() == self._database:
                names.setdefault(found[2].decode(), []).append(ticket)
        if not names:
            return set()
        return {ticket for name in asking(self._engine, lambda: self._over(names)) for ticket in names[name]}

    def _over(self, names: Iterable[str]) -> list[str]:
        with aside(self._engine) as connection:
            return list(connection.execute(_DECIDED, {"names": ",".join(names), "database": self._database}).scalars())
