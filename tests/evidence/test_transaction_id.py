import sys

import pytest
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from stockstore.coherence.commit import Commit
from stockstore.coherence.protocol import Writes
from stockstore.coherence.writer import Located, WriteThrough
from stockstore.evidence import PostgresEvidence
from stockstore.evidence.transaction_id import ask_transaction
from stockstore.stores.snapshots import Snapshot


def begin(connection: Connection) -> str:
    """Give the id of a transaction that has begun to write."""
    return str(connection.execute(text("SELECT CAST(pg_current_xact_id() AS text)")).scalar_one())


def test_what_has_written_nothing_has_no_id(postgres_engine: Engine) -> None:
    """Neither within a transaction nor before it."""
    with postgres_engine.connect() as connection:
        assert ask_transaction(connection)() is None
        connection.execute(text("SELECT 1"))
        assert ask_transaction(connection)() is None
        begun = begin(connection)
        assert ask_transaction(connection)() == begun
        assert connection.execute(text("SELECT 2")).scalar_one() == 2


def test_a_driver_that_cannot_be_asked_at_once_is_asked_later(postgres_engine: Engine) -> None:
    """A pipeline of psycopg's takes the question as any other statement."""
    with postgres_engine.connect() as connection:
        begun, driver = begin(connection), connection.connection.driver_connection
        assert driver is not None
        with driver.pipeline():
            assert ask_transaction(connection)() == begun
        assert ask_transaction(connection)() == begun


def test_a_psycopg_without_the_parts_that_are_not_public_is_asked_by_a_cursor(
    postgres_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the question stays on the connection."""
    with postgres_engine.connect() as connection:
        begun = begin(connection)
        monkeypatch.setitem(sys.modules, "psycopg.generators", None)
        assert ask_transaction(connection)() == begun
        assert connection.execute(text("SELECT 2")).scalar_one() == 2


def test_what_the_server_refuses_is_sqlalchemys_error(postgres_engine: Engine) -> None:
    """A server that has ended the session says so as to any statement, also where it does so between question and answer."""
    with postgres_engine.connect() as connection, postgres_engine.connect() as other:
        begin(connection)
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        other.execute(text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": pid})
        asked = ask_transaction(connection)
        with pytest.raises(OperationalError):
            asked()
        assert connection.invalidated


class _Broken(WriteThrough[Snapshot]):
    """Caches that cannot find their keys."""

    def locate(self, writes: Writes) -> Located[Snapshot]:
        """Fail."""
        raise ValueError("no places")


def test_a_commit_that_fails_beside_the_question_leaves_a_connection_that_can_go_on(postgres_engine: Engine) -> None:
    """The answer is taken all the same: the next statement is given its own."""
    writes = Writes()
    with postgres_engine.connect() as connection:
        begin(connection)
        evidence = PostgresEvidence(postgres_engine)
        commit: Commit[Located[Snapshot], Snapshot] = Commit(_Broken([]), evidence, None, on_unreachable="commit", always=False)
        writes.add_class(Thing)
        with pytest.raises(ValueError, match="no places"):
            commit.prepare(connection, writes)
        driver = connection.connection.driver_connection
        assert driver is not None
        assert driver.pgconn.transaction_status == TransactionStatus.INTRANS
        assert connection.execute(text("SELECT 2")).scalar_one() == 2


class Thing:
    """A class with a key."""

    __keys__ = ("id",)
    id: int
