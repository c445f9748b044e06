"""NOTIFY in the same message as the COMMIT of the transaction that it belongs to: as if it were one statement more."""

import sys
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from stockstore.channels import postgresql_telling
from stockstore.evidence.along import Along, goes_along
from tests.channels.test_postgresql_stores import Sides, two_sides
from tests.stores.shop import Customer


@pytest.fixture
def sides(db: Engine, namespace: str) -> Iterator[Sides]:
    """Two sides."""
    with two_sides(db, namespace) as both:
        yield both


@pytest.fixture
def other(db: Engine) -> Engine:
    """Another engine on the same database."""
    return create_engine(db.url, poolclass=NullPool)


def pid_of(session: Session | Connection) -> int:
    """Give the id of the server's process."""
    return int(session.execute(text("SELECT pg_backend_pid()")).scalar_one())


def last_message(other: Engine, pid: int) -> str:
    """Give what a process of the server was sent last."""
    with other.connect() as connection:
        return str(connection.execute(text("SELECT query FROM pg_stat_activity WHERE pid = :pid"), {"pid": pid}).scalar_one())


def wrap_commit(session: Session, _: pytest.MonkeyPatch) -> None:
    """Have somebody else take part in the COMMIT of the driver's connection."""
    driver = session.connection().connection.driver_connection
    assert driver is not None
    driver.commit = lambda: psycopg.Connection.commit(driver)


def wrap_verb(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have somebody else take part in the dialect's verb."""
    verbs = session.connection().dialect.__dict__["do_commit"].__self__._original
    monkeypatch.setitem(verbs, "do_commit", lambda connection: connection.commit())


def lack_parts(_: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be without a part of psycopg that is not public."""
    monkeypatch.setitem(sys.modules, "psycopg.generators", None)


def nothing(_: Session, __: pytest.MonkeyPatch) -> None:
    """Be as usual."""


@pytest.mark.parametrize("arrange", [nothing, wrap_commit, wrap_verb, lack_parts])
def test_one_message_commits_and_tells_where_nobody_else_commits(
    sides: Sides, other: Engine, arrange: Callable[[Session, pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the COMMIT is whoever's it was; the others hear of it in either case."""
    mine, theirs = sides
    with theirs.maker() as session:
        session.get_one(Customer, 1).name = "new"
        pid = pid_of(session)
        with monkeypatch.context() as patch:
            arrange(session, patch)
            session.commit()
        sent = last_message(other, pid)
        session.connection().invalidate()
    assert sent.endswith(";COMMIT") == sent.startswith("NOTIFY stockstore, '") == (arrange is nothing)
    mine.caught_up()
    assert (mine.kept(1), mine.name(1), mine.kept(2), theirs.kept(1)) == (None, "new", "old", "new")


def test_a_commit_that_is_refused_tells_nobody(sides: Sides, other: Engine) -> None:
    """By a constraint that is looked at then; the connection is as good as before."""
    mine, theirs = sides
    with theirs.engine.begin() as connection:
        connection.execute(text("CREATE TABLE late (id integer UNIQUE DEFERRABLE INITIALLY DEFERRED)"))
    mine.caught_up()
    assert (mine.name(1), mine.kept(1)) == ("old", "old")
    with theirs.maker() as session:
        session.get_one(Customer, 1).name = "undone"
        pid = pid_of(session)
        session.connection().exec_driver_sql("INSERT INTO late VALUES (1), (1)")
        with pytest.raises(IntegrityError):
            session.commit()
        assert last_message(other, pid).endswith(";COMMIT")
        session.rollback()
        mine.caught_up()
        assert (mine.kept(1), theirs.name(1)) == ("old", "old")
        session.get_one(Customer, 1).name = "new"
        assert pid_of(session) == pid
        session.commit()
    mine.caught_up()
    assert (mine.kept(1), mine.name(1)) == (None, "new")
    with other.begin() as connection:
        connection.execute(text("DROP TABLE late"))


def test_a_connection_that_is_lost_with_both_has_done_neither(sides: Sides, other: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the server has not taken in is not committed; the application is told as of any lost connection."""
    mine, theirs = sides

    def cut(connection: Connection, statement: str) -> bool:
        driver = connection.connection.driver_connection
        assert driver is not None
        with other.connect() as killing:
            killing.execute(text("SELECT pg_terminate_backend(:pid, 60000)"), {"pid": driver.info.backend_pid})
        return goes_along(connection, statement)

    with theirs.maker() as session:
        session.get_one(Customer, 1).name = "undone"
        with monkeypatch.context() as patch:
            patch.setattr(postgresql_telling, "goes_along", cut)
            with pytest.raises(OperationalError) as raised:
                session.commit()
        assert raised.value.connection_invalidated
        session.rollback()
    mine.caught_up()
    assert (mine.kept(1), theirs.name(1)) == ("old", "old")


def test_a_statement_that_fails_ends_in_a_rollback(other: Engine) -> None:
    """And what is given while no COMMIT is prepared does not wait for one."""
    with other.connect() as connection:
        assert not goes_along(connection, "SELECT 1")
        connection.execute(text("CREATE TABLE undone (id integer)"))
        with Along(connection.connection, other.dialect.do_commit) as along:
            assert goes_along(connection, "SELECT 1/0")
        assert not goes_along(connection, "SELECT 1")
        with pytest.raises(psycopg.errors.DivisionByZero):
            along.commit()
        driver = connection.connection.driver_connection
        assert driver is not None
        assert driver.pgconn.transaction_status == TransactionStatus.INERROR
        connection.rollback()
        assert connection.execute(text("SELECT to_regclass('undone')")).scalar_one() is None


def test_a_transaction_that_has_ended_meanwhile_is_none_that_tells(other: Engine) -> None:
    """What waits is executed by itself then."""
    with other.connect() as connection:
        connection.execute(text("SELECT 1"))
        with Along(connection.connection, other.dialect.do_commit) as along:
            assert goes_along(connection, "CREATE TABLE made (id integer)")
        connection.connection.commit()
        along.commit()
        connection.rollback()
        assert connection.execute(text("SELECT to_regclass('made')")).scalar_one() is not None
        connection.execute(text("DROP TABLE made"))
        connection.commit()
