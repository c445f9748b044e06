"""What a writer tells by NOTIFY, past SQLAlchemy and the cursors of psycopg: as any other statement of the transaction."""

import sys
from collections.abc import Iterator

import pytest
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import InternalError, OperationalError

from tests.channels.test_postgresql import Heard

pytestmark = pytest.mark.sa_agnostic
TOLD = ["n:C:id:i1"]


@pytest.fixture
def engine(postgres_url: str) -> Iterator[Engine]:
    """A writer's engine."""
    engine = create_engine(postgres_url)
    yield engine
    engine.dispose()


@pytest.fixture
def statements(engine: Engine) -> list[str]:
    """What an engine executes by cursors."""
    found: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda _connection, _cursor, statement, *_: found.append(statement))
    return found


@pytest.fixture
def heard(engine: Engine) -> Iterator[Heard]:
    """A channel on the writer's database."""
    from stockstore.channels.postgresql import PostgresChannel

    found = Heard(PostgresChannel(engine.url.render_as_string(hide_password=False)))
    yield found
    found.contact.leave()


def begin(connection: Connection) -> int:
    """Begin a transaction, and give the id of the server's process."""
    return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())


def test_it_takes_no_cursor_within_a_transaction(heard: Heard, engine: Engine, statements: list[str]) -> None:
    """And leaves the connection to the statements that follow; before the transaction has begun it is a statement that begins it."""
    with engine.begin() as connection:
        begin(connection)
        assert heard.channel.within(connection, TOLD, b"t1")  # which asks first which database it is
        assert connection.execute(text("SELECT 2")).scalar_one() == 2
        assert heard.channel.within(connection, TOLD, b"t2")
    with engine.begin() as connection:
        assert heard.channel.within(connection, TOLD, b"t3")
    assert [heard.ear.next() for _ in range(3)] == [(TOLD, b"t1"), (TOLD, b"t2"), (TOLD, b"t3")]
    assert [statement for statement in statements if "NOTIFY" in statement] == [f"NOTIFY stockstore, 't3\n{TOLD[0]}'"]


def test_a_psycopg_that_cannot_do_that_takes_a_cursor(
    heard: Heard, engine: Engine, statements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a pipeline, and where a part is gone that is not public."""
    with engine.begin() as connection:
        begin(connection)
        assert heard.channel.within(connection, TOLD, b"t0")
        driver = connection.connection.driver_connection
        assert driver is not None
        with driver.pipeline():
            assert heard.channel.within(connection, TOLD, b"t1")
        monkeypatch.setitem(sys.modules, "psycopg.generators", None)
        assert heard.channel.within(connection, TOLD, b"t2")
    assert [heard.ear.next() for _ in range(3)] == [(TOLD, b"t0"), (TOLD, b"t1"), (TOLD, b"t2")]
    assert len([statement for statement in statements if "NOTIFY" in statement]) == 2


def test_what_the_server_refuses_is_sqlalchemys_error(heard: Heard, engine: Engine) -> None:
    """Of a statement before it, in a transaction that can only be rolled back, and of a session that the server has ended."""
    with engine.connect() as connection:
        begin(connection)
        assert heard.channel.within(connection, TOLD, b"")
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.pgconn.exec_(b"SELECT nothing")
        with pytest.raises(InternalError):
            heard.channel.within(connection, TOLD, b"")
        connection.rollback()
        assert driver.pgconn.transaction_status == TransactionStatus.IDLE
    with engine.connect() as connection, engine.connect() as other:
        other.execute(text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": begin(connection)})
        with pytest.raises(OperationalError):
            heard.channel.within(connection, TOLD, b"")
        assert connection.invalidated
