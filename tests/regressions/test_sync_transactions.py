"""Transactions of sessions that ended, or went on, past the hook."""

import gc
import weakref
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine, create_engine, text, update
from sqlalchemy.orm import Session

from stockstore import ProcessMemoryStore, RedisStore
from tests.regressions.hooked import Hooked, Person, hook


@pytest.fixture
def hooked(engine: Engine, redis_url: str, namespace: str) -> Iterator[Hooked]:
    """Hooked sessions, with process memory above SQLite and Redis above PostgreSQL."""
    on_sqlite = engine.dialect.name == "sqlite"
    cache = ProcessMemoryStore(max_staleness=None, namespace=namespace) if on_sqlite else RedisStore(redis_url, namespace=namespace)
    with hook(engine, cache) as made:
        yield made


ON_POSTGRESQL = pytest.mark.parametrize("database_url", ["postgres"], indirect=True)


def _flush(session: Session) -> None:
    session.get_one(Person, 1).name = "new"
    session.flush()


@pytest.mark.parametrize("sql", ["COMMIT", "/* done */ END", "-- done\nEND"])
@pytest.mark.parametrize("end", [Session.rollback, Session.close, Session.commit])
def test_commit_as_text(hooked: Hooked, end: Callable[[Session], None], sql: str) -> None:
    """A COMMIT that is executed as text is a commit, at once, however the session ends afterwards."""
    hooked.prove_cached()
    with hooked.maker() as session:
        _flush(session)
        assert hooked.name() == "old"
        session.execute(text(sql))
        assert hooked.name() == hooked.row() == "new"
        end(session)
        assert hooked.name() == "new"


@ON_POSTGRESQL
def test_commit_within_a_script(hooked: Hooked) -> None:
    """So is one among other statements, after which another transaction is open."""
    hooked.prove_cached()
    with hooked.maker() as session:
        session.connection().exec_driver_sql(
            "UPDATE persons SET name = 'new' WHERE id = 1; COMMIT; BEGIN; UPDATE persons SET name = 'newer'"
        )
        assert hooked.name() == hooked.row() == "new"
        session.rollback()
    assert hooked.name() == "new"


@pytest.mark.parametrize("first", ["SELECT 1", "SAVEPOINT one", "PRAGMA busy_timeout"])
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_what_precedes_a_flush_on_sqlite(hooked: Hooked, first: str) -> None:
    """A statement that opens no transaction, or that with which a savepoint does, was taken for one that commits what is flushed later."""
    hooked.prove_cached()
    with hooked.maker() as session:
        session.execute(text(first))
        _flush(session)
        assert hooked.name() == "old"
        session.commit()
    assert hooked.name() == hooked.row() == "new"


def test_a_savepoint_that_is_all_on_sqlite(hooked: Hooked) -> None:
    """What others read before its RELEASE, which commits on SQLite, is the row of before."""
    hooked.prove_cached()
    with hooked.maker() as session:
        with session.begin_nested():
            _flush(session)
            assert hooked.name() == "old"
        session.commit()
    assert hooked.name() == hooked.row() == "new"


def test_text_that_might_have_committed(hooked: Hooked) -> None:
    """A text that names COMMIT and is none ends nothing: what was written is told at the end."""
    hooked.prove_cached()
    with hooked.maker() as session:
        _flush(session)
        session.execute(text("INSERT INTO persons (id, name) VALUES (3, 'commit')"))
        assert hooked.name() == "old"
        session.commit()
    assert hooked.name() == hooked.row() == "new"


def test_commit_of_the_driver(hooked: Hooked) -> None:
    """A commit by the driver's connection is found out when the session ends."""
    hooked.prove_cached()
    with hooked.maker() as session:
        _flush(session)
        session.connection().connection.commit()
        session.rollback()
    assert hooked.name() == hooked.row() == "new"


@pytest.mark.parametrize("commits", [True, False])
def test_transaction_that_goes_on(hooked: Hooked, commits: bool) -> None:
    """What a caller executes after a session has left its transaction is seen to its end, and not beyond it."""
    hooked.prove_cached()
    with hooked.engine.connect() as connection:
        with connection.begin() as transaction:
            with hooked.maker(bind=connection, join_transaction_mode="create_savepoint") as session:
                session.get(Person, 2)
                session.commit()
            connection.execute(update(Person).where(Person.id == 1).values(name="new"))
            if not commits:
                transaction.rollback()
        assert hooked.name() == hooked.row() == ("new" if commits else "old")
        hooked.prove_cached()
        with connection.begin():
            connection.execute(update(Person).where(Person.id == 1).values(name="unseen"))
    assert hooked.name() == ("new" if commits else "old")


def test_engines_that_are_gone(hooked: Hooked) -> None:
    """Nothing keeps an engine that the application has done with, and none adds to what a read does."""
    engines: weakref.WeakSet[Engine] = weakref.WeakSet()
    for number in range(5):
        engine = create_engine(hooked.engine.url)
        engines.add(engine)
        with hooked.maker(bind=engine) as session:
            session.add(Person(id=10 + number))
            session.commit()
        engine.dispose()
        del engine, session
    gc.collect()
    # The first one stays for as long as it is what tells how transactions of its database have ended.
    assert len(engines) <= 1
    assert len(getattr(hooked.store.tiers[0], "resolvers", ())) <= 2
