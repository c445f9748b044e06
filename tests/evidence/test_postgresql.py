import contextlib
import threading
from collections.abc import Callable, Iterator

import pytest
from psycopg.errors import AdminShutdown
from sqlalchemy import Connection, Engine, create_engine, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from stockstore.errors import ConfigurationError, OriginError
from stockstore.evidence import BothEvidences, Outbox, OutboxEvidence, PostgresEvidence, evidence_of
from tests.servers.postgres import PostgresServer


@pytest.fixture
def things(postgres_engine: Engine) -> Iterator[Engine]:
    """An engine whose database has a table to write to."""
    with postgres_engine.begin() as connection:
        connection.execute(text("CREATE TABLE things (id integer PRIMARY KEY, owner integer UNIQUE DEFERRABLE INITIALLY DEFERRED)"))
    yield postgres_engine
    with postgres_engine.begin() as connection:
        connection.execute(text("DROP TABLE things"))


@pytest.fixture
def evidence(things: Engine) -> PostgresEvidence:
    """The evidence of that database."""
    return PostgresEvidence(things)


def ticket_of(evidence: PostgresEvidence, connection: Connection, number: int) -> bytes:
    """Write a row, and give the ticket of the open transaction."""
    connection.execute(text("INSERT INTO things (id) VALUES (:id)"), {"id": number})
    ticket = evidence.ticket(connection)
    assert ticket is not None
    return ticket


def kill(engine: Engine, connection: Connection) -> None:
    """Have the server end a connection, which does not know it yet."""
    number = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    with engine.connect() as other:
        # It waits until it is gone.
        assert other.execute(text("SELECT pg_terminate_backend(:number, 20000)"), {"number": number}).scalar_one()


def test_a_transaction_that_wrote_nothing_has_no_ticket(things: Engine, evidence: PostgresEvidence) -> None:
    """Reading, and a statement that matches no row, are no reason to mark anything."""
    with things.begin() as connection:
        connection.execute(text("SELECT * FROM things"))
        connection.execute(text("UPDATE things SET owner = 1 WHERE id = 99"))
        assert evidence.ticket(connection) is None


def test_a_ticket_names_the_transaction_in_a_markers_alphabet(things: Engine, evidence: PostgresEvidence) -> None:
    """It holds the cluster's identifier and the id of the top-level transaction, also within a savepoint, and no bar."""
    with things.connect() as connection:
        with connection.begin_nested():
            ticket = ticket_of(evidence, connection, 1)
        number = connection.execute(text("SELECT pg_current_xact_id()::text")).scalar_one()
        cluster = connection.execute(text("SELECT system_identifier::text FROM pg_control_system()")).scalar_one()
    assert ticket.decode().split(".")[:2] == [cluster, number]
    assert b"|" not in ticket
    assert ticket.isascii()


def test_an_error_is_told_as_what_it_was(things: Engine, evidence: PostgresEvidence) -> None:
    """Not as what the next statement would say, and by SQLAlchemy's class for it; the connection is given up."""
    with things.connect() as connection:
        connection.execute(text("INSERT INTO things (id) VALUES (1)"))
        kill(things, connection)
        with pytest.raises(OperationalError, match="terminating connection due to administrator command") as raised:
            evidence.ticket(connection)
        assert (type(raised.value.orig), raised.value.connection_invalidated) == (AdminShutdown, True)
        assert connection.invalidated


def test_open_transactions_are_not_decided_and_ended_ones_are(things: Engine, evidence: PostgresEvidence) -> None:
    """Committed and rolled back are both an end; each ticket is answered on its own in one batch."""
    with things.connect() as first, things.connect() as second, things.connect() as third:
        tickets = [ticket_of(evidence, connection, number) for number, connection in enumerate((first, second, third))]
        assert evidence.decided(tickets) == set()
        first.commit()
        second.rollback()
        assert evidence.decided(tickets) == set(tickets[:2])
    assert evidence.decided(tickets) == set(tickets)


def test_a_failed_commit_is_an_end(things: Engine, evidence: PostgresEvidence) -> None:
    """A deferred constraint that fails at COMMIT leaves a decided ticket."""
    with things.connect() as connection:
        connection.execute(text("INSERT INTO things VALUES (1, 1), (2, 1)"))
        ticket = evidence.ticket(connection)
        assert ticket is not None
        assert evidence.decided([ticket]) == set()
        with pytest.raises(Exception, match="duplicate key"):
            connection.commit()
        assert evidence.decided([ticket]) == {ticket}


def test_a_killed_session_is_an_end(things: Engine, evidence: PostgresEvidence) -> None:
    """The server rolls back what a session leaves that goes away without a word."""
    with things.connect() as connection:
        ticket = ticket_of(evidence, connection, 1)
        assert evidence.decided([ticket]) == set()
        with things.connect() as other:
            pid = connection.execute(text("SELECT pg_backend_pid()")).scalar()
            other.execute(text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": pid})
        assert evidence.decided([ticket]) == {ticket}
        connection.invalidate()


def test_a_prepared_transaction_is_open_until_it_is_resolved(start_postgres: Callable[..., PostgresServer]) -> None:
    """Between PREPARE TRANSACTION and COMMIT PREPARED nobody knows how it ends."""
    server = start_postgres()
    engine = create_engine(server.url, poolclass=NullPool)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ALTER SYSTEM SET max_prepared_transactions = 2"))
        connection.execute(text("CREATE TABLE things (id integer)"))
    server.restart()
    evidence = PostgresEvidence(engine)
    with engine.connect() as connection:
        transaction = connection.begin_twophase("stockstore-test")
        ticket = ticket_of(evidence, connection, 1)
        transaction.prepare()
        assert evidence.decided([ticket]) == set()
        transaction.commit()
    assert evidence.decided([ticket]) == {ticket}


def test_ids_not_given_out_yet_are_not_decided(evidence: PostgresEvidence, things: Engine) -> None:
    """A ticket from beyond the end, as the loss of a primary leaves it, is no error and no end; a very old one has ended."""
    with things.connect() as connection:
        ticket = ticket_of(evidence, connection, 1)
    cluster, number, rest = ticket.split(b".", 2)
    future = b".".join((cluster, b"%d" % (int(number) + 1000), rest))
    ancient = b".".join((cluster, b"3", rest))
    assert evidence.decided([future, ticket, ancient]) == {ticket, ancient}


@pytest.mark.parametrize(
    "ticket",
    [
        b"",
        b"7",
        b"outbox.00000000000000000000000000000000.00000000000000000000000000000000.1",
        b"1.2.00000000000000000000000000000000.1",
        b"1.b2/20260101000000000000.00000000000000000000000000000000.1",
        b"1.2'; DROP TABLE things; --.00000000000000000000000000000000.1",
        b"\xff\xfe",
    ],
)
def test_foreign_and_malformed_tickets_are_never_decided(evidence: PostgresEvidence, ticket: bytes) -> None:
    """What another database wrote, or nobody, is not known here."""
    assert not evidence.knows(ticket)
    assert evidence.decided([ticket]) == set()


def test_an_id_of_this_cluster_beyond_any_number_is_refused(evidence: PostgresEvidence, things: Engine) -> None:
    """Twenty digits need not fit PostgreSQL's type; such a ticket breaks no batch."""
    with things.connect() as connection:
        ticket = ticket_of(evidence, connection, 1)
    cluster, _, rest = ticket.split(b".", 2)
    for name in (b"99999999999999999999", b"b999999999/20260101000000000000", b"b0/00000000000000000000"):
        odd = b".".join((cluster, name, rest))
        assert ticket in evidence.decided([odd, ticket])


def test_asking_leaves_the_callers_pool_and_transaction_alone(things: Engine) -> None:
    """An engine with one connection, which is in a transaction, can be asked about that very transaction."""
    engine = create_engine(things.url, pool_size=1, max_overflow=0, pool_timeout=0.1)
    evidence = PostgresEvidence(engine)
    with engine.connect() as connection:
        ticket = ticket_of(evidence, connection, 1)
        assert evidence.decided([ticket]) == set()
        connection.commit()
        assert evidence.decided([ticket]) == {ticket}
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    engine.dispose()


def test_an_autocommit_statement_is_decided_with_its_session(things: Engine, evidence: PostgresEvidence) -> None:
    """There the server process is what lives and dies."""
    engine = create_engine(things.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        ticket = evidence.statement_ticket(connection)
        assert evidence.statement_ticket(connection) != ticket
        assert ticket is not None
        assert evidence.knows(ticket)
        assert evidence.decided([ticket]) == set()
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar()
    with things.connect() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": pid})
    assert evidence.decided([ticket]) == {ticket}


def test_another_session_with_the_same_pid_is_another(things: Engine, evidence: PostgresEvidence) -> None:
    """A pid that was given out again does not keep an old marker alive."""
    with things.connect() as connection:
        ticket = evidence.statement_ticket(connection)
        assert ticket is not None
        head, started = ticket.split(b"/")
        former = head + b"/" + b"19990101000000000000" + started[20:]
        assert evidence.decided([former, ticket]) == {former}


def test_a_role_that_may_not_see_a_session_does_not_take_it_for_dead(things: Engine, postgres_url: str) -> None:
    """The pid alone is shown to everybody; a session that has ended is over for every role."""
    with plain_role(postgres_url) as url:
        asked = PostgresEvidence(create_engine(url, poolclass=NullPool))
        engine = create_engine(things.url, poolclass=NullPool)
        with engine.connect() as connection:
            ticket = PostgresEvidence(engine).statement_ticket(connection)
            assert ticket is not None
            assert asked.decided([ticket]) == set()
            pid = connection.execute(text("SELECT pg_backend_pid()")).scalar()
        with things.connect() as connection:
            connection.execute(text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": pid})
        assert asked.decided([ticket]) == {ticket}


@contextlib.contextmanager
def plain_role(postgres_url: str) -> Iterator[str]:
    """A login without any rights, and the URL by which it comes in."""
    engine = create_engine(postgres_url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("CREATE ROLE stockstore_plain LOGIN"))
    try:
        yield make_url(postgres_url).set(username="stockstore_plain").render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.execute(text("DROP OWNED BY stockstore_plain"))
            connection.execute(text("DROP ROLE stockstore_plain"))


def test_without_the_right_to_the_identifier_the_outbox_is_the_evidence(
    start_postgres: Callable[..., PostgresServer], caplog: pytest.LogCaptureFixture
) -> None:
    """A database that does not tell its identifier says which right is missing; the outbox stands in where it is there."""
    server = start_postgres()
    owner = create_engine(server.url, poolclass=NullPool)
    outbox = Outbox()
    outbox.create(owner)
    with owner.begin() as connection:
        connection.execute(text("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC"))
        connection.execute(text("CREATE ROLE plain LOGIN"))
        connection.execute(text("GRANT ALL ON stockstore_outbox TO plain"))
    engine = create_engine(make_url(server.url).set(username="plain"), poolclass=NullPool)
    assert evidence_of(engine) is None
    assert "GRANT EXECUTE ON FUNCTION pg_control_system()" in caplog.text
    assert type(evidence_of(engine, outbox=outbox)) is OutboxEvidence


def test_processes_with_different_rights_resolve_each_others_tickets(postgres_engine: Engine) -> None:
    """One that writes transaction ids knows the tickets of the outbox too."""
    outbox = Outbox()
    outbox.create(postgres_engine)
    both, other = evidence_of(postgres_engine, outbox=outbox), OutboxEvidence(postgres_engine, outbox)
    assert type(both) is BothEvidences
    with postgres_engine.connect() as connection:
        old = other.ticket(connection)
        assert old is not None
        outbox.write(connection, old, ["a:b:"])
        new = both.ticket(connection)
        assert new is not None
        assert both.knows(old)
        assert both.knows(new)
        assert both.decided([old, new]) == set()
    assert both.decided([old, new]) == {old, new}
    outbox.definition.drop(postgres_engine)


def test_a_frozen_database_is_an_error_and_no_answer(start_postgres: Callable[..., PostgresServer]) -> None:
    """What cannot be asked is not decided."""
    server = start_postgres()
    engine = create_engine(server.url, poolclass=NullPool)
    evidence = PostgresEvidence(engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE things (id integer)"))
        ticket = ticket_of(evidence, connection, 1)
    server.stop()
    with pytest.raises(OriginError, match=r"^postgresql.* could not be asked: .*; check that it is up"):
        evidence.decided([ticket])
    server.start()
    assert evidence.decided([ticket]) == {ticket}


def test_another_database_takes_no_transaction_ids(sqlite_engine: Engine) -> None:
    """The error names what to use."""
    with pytest.raises(ConfigurationError, match="not on sqlite; use the outbox"):
        PostgresEvidence(sqlite_engine)


def test_threads_may_ask_at_once(things: Engine, evidence: PostgresEvidence) -> None:
    """Each asks on a connection of its own."""
    with things.begin() as connection:
        ticket = ticket_of(evidence, connection, 1)
    answers: list[set[bytes]] = []
    threads = [threading.Thread(target=lambda: answers.append(evidence.decided([ticket]))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [{ticket}] * 8
