import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, MetaData, create_engine, delete, event, select, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.pool import NullPool, StaticPool

from stockstore.errors import ConfigurationError, OriginError
from stockstore.evidence import Outbox, OutboxEvidence, PostgresEvidence, evidence_of
from tests.subprocesses import ending


def begun(evidence: OutboxEvidence, connection: object = None) -> bytes:
    """Give a new ticket."""
    ticket = evidence.ticket(connection)  # type: ignore[arg-type]
    assert ticket is not None
    return ticket


def test_the_table_is_found_once_it_is_made(any_engine: Engine) -> None:
    """Making it twice is no error, and migrations have its definition."""
    outbox = Outbox()
    with any_engine.connect() as connection:
        assert not outbox.exists(connection)
    outbox.create(any_engine)
    outbox.create(any_engine)
    with any_engine.connect() as connection:
        assert outbox.exists(connection)
    metadata = MetaData()
    assert Outbox(Outbox.table(metadata)).definition is metadata.tables["stockstore_outbox"]
    metadata.drop_all(any_engine)


def test_processes_that_make_the_table_at_once(any_engine: Engine) -> None:
    """A worker that finds no table, and then comes second, goes on with the other's."""
    outbox, other = Outbox(), create_engine(any_engine.url)
    first: list[str] = []

    @event.listens_for(any_engine, "before_cursor_execute")
    def overtake(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if "CREATE TABLE" in statement and not first:
            first.append(statement)
            Outbox().create(other)

    try:
        outbox.create(any_engine)
    finally:
        event.remove(any_engine, "before_cursor_execute", overtake)
    with any_engine.connect() as connection:
        assert outbox.exists(connection)
    assert first
    outbox.definition.drop(any_engine)
    other.dispose()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sqlite:////nowhere/shop.db", "sqlite:////nowhere/shop.db: unable to open database file"),
        ("postgresql+psycopg://ann:s3cret@localhost:1/shop", "postgresql+psycopg://ann:***@localhost:1/shop: connection failed: "),
        ("postgresql+asyncpg://ann:s3cret@localhost:1/shop", "postgresql+asyncpg://ann:***@localhost:1/shop: "),
    ],
)
def test_a_table_that_cannot_be_made_is_told(url: str, told: str) -> None:
    """What the database, or its driver, refuses is an OriginError that says which database and why, and no password."""
    engine = create_engine(url)
    with pytest.raises(OriginError, match="^" + re.escape(f"the table stockstore_outbox was not made in {told}")) as caught:
        Outbox().create(engine)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is not None
    engine.dispose()


def test_a_row_commits_with_the_data_or_not_at_all(any_engine: Engine, outbox: Outbox) -> None:
    """Texts and ticket stand there after the commit, and nothing does after a rollback; rows without a ticket may be many."""
    with any_engine.connect() as connection:
        outbox.write(connection, b"lost", ["a:b:"])
        connection.rollback()
        outbox.write(connection, b"kept", ["a:b:", "a:b:id:i1"])
        outbox.write(connection, None, ["a:c:"])
        outbox.write(connection, None, ["a:d:"])
        connection.commit()
        rows = connection.execute(select(outbox.definition.c.ticket, outbox.definition.c.texts).order_by("id")).all()
    assert [tuple(row) for row in rows] == [("kept", "a:b:\na:b:id:i1"), (None, "a:c:"), (None, "a:d:")]


def test_a_row_holds_the_keys_of_a_large_transaction(any_engine: Engine, outbox: Outbox) -> None:
    """Ten thousand keys of the greatest length, 2.5 megabytes, are one row."""
    texts = [f"a:b:id:s{number:0242}" for number in range(10_000)]
    with any_engine.begin() as connection:
        outbox.write(connection, b"large", texts)
        assert connection.execute(select(outbox.definition.c.texts)).scalar_one().split("\n") == texts


def test_the_lag_counts_rows_and_their_age(any_engine: Engine, outbox: Outbox) -> None:
    """The database's own identity is no row that waits; the age is by the database's clock."""
    OutboxEvidence(any_engine, outbox)
    with any_engine.connect() as connection:
        assert outbox.lag(connection) == (0, 0.0)
        outbox.write(connection, b"one", ["a:b:"])
        outbox.write(connection, None, ["a:b:"])
        connection.execute(outbox.definition.update().values(created=text(HOUR_AGO[any_engine.dialect.name])))
        rows, seconds = outbox.lag(connection)
    assert rows == 2
    assert 3599 <= seconds < 3700


HOUR_AGO = {
    "sqlite": "datetime('now', '-1 hour')",
    "postgresql": "now() - interval '1 hour'",
    "mariadb": "current_timestamp() - interval 1 hour",
}


def test_open_transactions_are_not_decided_and_ended_ones_are(any_engine: Engine, outbox: Outbox) -> None:
    """Committed, rolled back, and committed and drained since by a janitor: each is an end."""
    evidence = OutboxEvidence(any_engine, outbox)
    committed, lost = begun(evidence), begun(evidence)
    with any_engine.connect() as connection:
        outbox.write(connection, committed, ["a:b:"])
        assert evidence.decided([committed]) == set()
        connection.commit()
        assert evidence.decided([committed]) == {committed}
        outbox.write(connection, lost, ["a:b:"])
        assert evidence.decided([lost]) == set()
        connection.rollback()
        connection.execute(delete(outbox.definition).where(outbox.definition.c.ticket == committed.decode()))
        connection.commit()
    assert evidence.decided([committed, lost]) == {committed, lost}


def test_asking_is_no_error_of_the_applications(any_engine: Engine, outbox: Outbox) -> None:
    """The answer is an error of the database: a lock that is held, or a row that is there."""
    evidence, heard = OutboxEvidence(any_engine, outbox), list[ExceptionContext]()
    note = heard.append
    event.listen(any_engine, "handle_error", note)
    try:
        with any_engine.connect() as connection:
            ticket = begun(evidence, connection)
            outbox.write(connection, ticket, ["a:b:"])
            assert evidence.decided([ticket]) == set()
            connection.commit()
        assert evidence.decided([ticket]) == {ticket}
    finally:
        event.remove(any_engine, "handle_error", note)
    assert heard == []


def test_asking_leaves_no_row_and_no_lock(any_engine: Engine, outbox: Outbox) -> None:
    """What was inserted to ask is gone, and the writer commits unhindered."""
    evidence = OutboxEvidence(any_engine, outbox)
    open_one, ended = begun(evidence), begun(evidence)
    with any_engine.connect() as connection:
        outbox.write(connection, open_one, ["a:b:"])
        evidence.decided([open_one, ended])
        connection.commit()
        assert connection.execute(select(outbox.definition.c.texts).where(outbox.waiting())).scalars().all() == ["a:b:"]


def test_tickets_of_another_database_are_never_decided(any_engine: Engine, outbox: Outbox) -> None:
    """Here they could be inserted, and that would say nothing."""
    evidence = OutboxEvidence(any_engine, outbox)
    foreign = begun(evidence).replace(b"outbox.", b"outbox.0", 1)
    other = b"outbox." + b"0" * 32 + begun(evidence)[39:]
    assert not evidence.knows(foreign)
    assert not evidence.knows(other)
    assert evidence.decided([foreign, other, b"", b"outbox", b"\xff"]) == set()


def test_a_database_keeps_its_id(any_engine: Engine, outbox: Outbox) -> None:
    """Every process names it alike."""
    first, second = OutboxEvidence(any_engine, outbox), OutboxEvidence(any_engine, Outbox())
    assert repr(first) == repr(second)
    assert second.knows(begun(first))


def test_an_autocommit_statement_has_no_ticket(any_engine: Engine, outbox: Outbox) -> None:
    """The row would be committed before the statement, and so would be decided too soon."""
    with any_engine.connect() as connection:
        assert OutboxEvidence(any_engine, outbox).statement_ticket(connection) is None


def test_without_its_table_there_is_no_evidence(any_engine: Engine) -> None:
    """The error says how to make it; the choice falls on transaction ids, or on none."""
    with pytest.raises(ConfigurationError, match=r"no table stockstore_outbox; make it with Outbox\(\)\.create\(engine\)"):
        OutboxEvidence(any_engine, Outbox())
    found = evidence_of(any_engine, outbox=Outbox())
    assert type(found) is (PostgresEvidence if any_engine.dialect.name == "postgresql" else type(None))
    assert evidence_of(any_engine) is None or any_engine.dialect.name == "postgresql"


def test_a_database_in_memory_has_no_evidence() -> None:
    """Nobody else could ask it."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    outbox = Outbox()
    outbox.create(engine)
    assert evidence_of(engine, outbox=outbox) is None
    engine.dispose()


WRITER = """
import sys
from sqlalchemy import create_engine
from stockstore.evidence import Outbox, evidence_of
engine = create_engine(sys.argv[1])
outbox = Outbox()
evidence = evidence_of(engine, outbox=outbox)
connection = engine.connect()
ticket = None
if evidence.needs_row:
    ticket = evidence.ticket(connection)
outbox.write(connection, ticket, ["a:b:"])
ticket = ticket or evidence.ticket(connection)
if sys.argv[2] == "committed":
    connection.commit()
print(ticket.decode(), flush=True)
sys.stdin.read()
"""


@pytest.mark.sa_agnostic
@pytest.mark.parametrize("end", ["open", "committed"])
def test_a_killed_writer_is_decided(any_engine: Engine, outbox: Outbox, end: str, eventually: Callable[..., None]) -> None:
    """While the process lives in its transaction it is not; after SIGKILL it is."""
    evidence = evidence_of(any_engine, outbox=outbox)
    assert evidence is not None
    url = any_engine.url.render_as_string(hide_password=False)
    with ending(subprocess.Popen([sys.executable, "-c", WRITER, url, end], stdout=subprocess.PIPE, stdin=subprocess.PIPE)) as writer:
        assert writer.stdout is not None
        ticket = writer.stdout.readline().strip()
        assert evidence.knows(ticket)
        assert evidence.decided([ticket]) == (set() if end == "open" else {ticket})
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
    # The database's server notices the end of the connection when it does.
    eventually(lambda: evidence.decided([ticket]) == {ticket})
    engine = create_engine(any_engine.url, poolclass=NullPool)
    with engine.connect() as connection:
        assert outbox.lag(connection).rows == (1 if end == "committed" else 0)
