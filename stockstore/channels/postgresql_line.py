"""A connection of psycopg's that listens."""

import os
import select
from collections.abc import Iterator
from typing import Any, Final, cast

from psycopg import Connection, OperationalError, pq
from sqlalchemy import Engine

from stockstore.channels.base import Garbled, Heard, Proof
from stockstore.channels.notices import read_payload
from stockstore.channels.postgresql_telling import CHANNEL
from stockstore.errors import ConfigurationError

_BEAT: Final = b"SELECT 1 FROM pg_listening_channels()"

_WHO: Final = "SELECT pg_backend_pid(), set_config('application_name', 'stockstore channel', false)"


class PostgresLine:
    """A subscription.

    PostgreSQL signals the listeners before it answers a writer's COMMIT, and a listener's connection passes on what it was signalled
    before it answers a query. So the answer to a query proves that whatever was acknowledged before the query has been received. A
    NOTIFY to oneself would prove it too, but takes a transaction id and wakes every other listener.

    Args:
        engine: Opens the connection, which waits for the server as long as its settings say.

    Raises:
        ConfigurationError: Something between here and the server hands connections from one client to another.
        psycopg.Error: It cannot connect.
    """

    def __init__(self, engine: Engine) -> None:
        """Connect and subscribe."""
        self._driver = _own_connection(engine)
        self._pg = self._driver.pgconn
        self._pid = os.getpid()
        self._beats = 0
        try:
            self._listen()
        except BaseException:
            self.close()
            raise

    def _listen(self) -> None:
        self._driver.autocommit = True
        self._driver.execute(f"LISTEN {CHANNEL}")
        row = self._driver.execute(_WHO).fetchone()
        if row is None or row[0] != self._pg.backend_pid:
            raise ConfigurationError(
                f"the channel to {self._driver.info.host!r} goes through a pooler, by which LISTEN does not last; "
                "give channel= the address of the database itself"
            )

    def fileno(self) -> int:
        """Give the socket."""
        return self._pg.socket

    def beat(self) -> None:
        """Ask the server, or note to ask it when it has answered."""
        self._beats += 1
        if self._beats == 1:
            self._ask()

    def _ask(self) -> None:
        self._pg.send_query(_BEAT)
        while self._pg.flush():
            select.select((), (self,), (), 1.0)

    def receive(self) -> Iterator[Heard | Garbled | Proof]:
        """Give what was told, and then the proof of it where the server has answered.

        Raises:
            psycopg.OperationalError: The connection is lost, or listens no more.
        """
        self._pg.consume_input()
        answered = self._beats > 0 and self._is_answered()
        while (notify := self._pg.notifies()) is not None:
            notice = read_payload(notify.extra)
            yield Garbled(notify.extra) if notice is None else Heard(notice.texts, notice.ticket)
        if answered:
            self._beats -= 1
            if self._beats:
                self._ask()
            yield Proof()

    def _is_answered(self) -> bool:
        while not self._pg.is_busy():
            result = self._pg.get_result()
            if result is None:
                return True
            if result.status != pq.ExecStatus.TUPLES_OK or result.ntuples != 1:
                told = result.error_message.decode("utf-8", "replace").strip()
                raise OperationalError(told or "the connection listens no more")
        return False

    def close(self) -> None:
        """Hang up, but in a forked process, whose parent goes on."""
        if self._pid == os.getpid():
            self._driver.close()


def _own_connection(engine: Engine) -> "Connection[Any]":
    """Open a connection that is nobody else's, just as the engine opens its own."""
    pooled = engine.raw_connection()
    driver = pooled.driver_connection
    pooled.detach()
    return cast("Connection[Any]", driver)
