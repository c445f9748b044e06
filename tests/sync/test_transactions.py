"""How transactions begin and end: the caches hold what was committed, whoever commits it and however that ends."""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest
from sqlalchemy import Connection, Engine, ForeignKey, create_engine, event, select, text, update
from sqlalchemy.exc import IntegrityError, InvalidRequestError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from stockstore import CacheUnreachable, ChainedStore, ProcessMemoryStore, RedisStore, SqlAlchemyStore, Store
from stockstore.mapped.sessions import add_rule, remove_rule
from stockstore_ext.sqlalchemy import SessionSync
from tests.patience import SECONDS, SHORT
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer
from tests.stores.shop import Base, Customer, Place, create_tables
from tests.sync.conftest import ON_POSTGRES, ON_SQLITE, Attach
from tests.sync.customers import rename, seed
from tests.sync.paths import Path

Mode = Literal["conditional_savepoint", "rollback_only", "control_fully", "create_savepoint"]
MODES: list[Mode] = ["conditional_savepoint", "rollback_only", "control_fully", "create_savepoint"]


def ann(path: Path) -> str | None:
    """Give the name that the chain has for the first customer."""
    found = path.read(Customer, 1)
    return None if found is None else str(found["name"])


@pytest.fixture
def seeded(path: Path) -> Path:
    """Two customers, the first of them cached."""
    return seed(path)


# -- a caller's transaction -------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("caller", ["commits", "rolls back"])
def test_joined_to_a_callers_transaction(seeded: Path, mode: Mode, caller: str) -> None:
    """A session's commit within a caller's transaction tells nobody; the caller's does."""
    with seeded.engine.connect() as connection:
        transaction = connection.begin()
        # Without it SQLite would really commit when the session's savepoint is released.
        connection.execute(update(Customer).where(Customer.id == 2).values(name="by the caller"))
        with seeded.maker(bind=connection, join_transaction_mode=mode) as session:
            rename(session, "changed")
            assert ann(seeded) == "ann"
            session.commit()
        if mode != "control_fully":
            assert ann(seeded) == "ann"
            transaction.commit() if caller == "commits" else transaction.rollback()
    seeded.compare((Customer, 1))
    wanted = "changed" if mode == "control_fully" or caller == "commits" else "ann"
    assert ann(seeded) == wanted


@pytest.mark.parametrize("mode", MODES)
def test_joined_session_that_rolls_back(seeded: Path, mode: Mode) -> None:
    """What a joined session rolls back is not in the caches, whatever the caller does."""
    with seeded.engine.connect() as connection:
        transaction = connection.begin()
        connection.execute(update(Customer).where(Customer.id == 2).values(name="by the caller"))
        with seeded.maker(bind=connection, join_transaction_mode=mode) as session:
            rename(session, "changed")
            session.rollback()
        if transaction.is_active:
            transaction.commit()
    seeded.compare((Customer, 1))


def test_joined_within_a_savepoint(seeded: Path) -> None:
    """What was written within a caller's savepoint goes with it."""
    for end, wanted in (("rollback", "ann"), ("commit", "changed")):
        with seeded.engine.begin() as connection:
            connection.execute(update(Customer).where(Customer.id == 2).values(name="by the caller"))
            savepoint = connection.begin_nested()
            with seeded.maker(bind=connection) as session:
                rename(session, "changed")
                session.commit()
            getattr(savepoint, end)()
            assert ann(seeded) == "ann"
        assert ann(seeded) == wanted
        seeded.compare((Customer, 1))


def test_session_that_outlives_its_callers_commit(seeded: Path) -> None:
    """A session goes on in the next transaction of the caller's connection."""
    with seeded.engine.connect() as connection:
        session = seeded.maker(bind=connection, join_transaction_mode="rollback_only", expire_on_commit=False)
        connection.begin()
        for name in ("one", "two"):
            customer = session.get_one(Customer, 1)
            customer.name = name
            session.flush()
            connection.commit()
            assert ann(seeded) == name
            seeded.compare((Customer, 1))
        session.close()


def test_other_session_of_a_callers_transaction_reads_past_the_caches(seeded: Path) -> None:
    """What one session wrote in a caller's transaction, the next one in it reads from the database."""
    with seeded.engine.connect() as connection:
        connection.begin()
        with seeded.maker(bind=connection) as session:
            rename(session, "changed")
            session.commit()
        with seeded.maker(bind=connection) as session:
            session.connection()
            mine = seeded.store.get(Customer, 1, session=session)
            assert mine is not None
            assert mine.name == "changed"
        assert ann(seeded) == "ann"


@pytest.mark.parametrize("begun", [True, False])
def test_what_the_caller_wrote_itself(seeded: Path, begun: bool) -> None:
    """A session that was given a connection reads what the caller has written there, also before it has begun, as a batch and by any key."""
    with seeded.engine.connect() as connection:
        connection.execute(update(Customer).where(Customer.id == 1).values(name="by the caller", email="new"))
        with seeded.maker(bind=connection) as session:
            if begun:
                session.connection()
            found = seeded.store.batch_get(Customer, [1, {"email": "new"}, {"email": "a"}, 2], session=session)
            assert [row and row.name for row in found] == ["by the caller", "by the caller", None, "bob"]
        assert ann(seeded) == "ann"
        connection.rollback()
    seeded.compare((Customer, 1))


def test_rules_are_asked_once_for_a_batch(seeded: Path) -> None:
    """Whether a session may read caches is found out per call, not per key."""
    asked: list[type] = []

    def rule(_session: Session, root: type) -> str:
        asked.append(root)
        return ""

    counts = []
    add_rule(rule)
    try:
        with seeded.maker() as session:
            for keys in ([1], [1, 2, *range(100, 200)]):
                asked.clear()
                seeded.store.batch_get(Customer, keys, session=session)
                counts.append(len(asked))
    finally:
        remove_rule(rule)
    assert 0 < counts[1] <= counts[0] + 3


# -- own writes -------------------------------------------------------------------------------------


WRITES: dict[str, Callable[[Session], object]] = {
    "flush": lambda session: rename(session, "mine"),
    "connection": lambda session: session.connection().execute(update(Customer).where(Customer.id == 1).values(name="mine")),
    "text on the connection": lambda session: session.connection().execute(text("UPDATE customers SET name = 'mine' WHERE id = 1")),
    "driver's SQL": lambda session: session.connection().exec_driver_sql("UPDATE customers SET name = 'mine' WHERE id = 1"),
}


@pytest.mark.parametrize("write", WRITES)
def test_own_writes_are_read_by_the_session_alone(seeded: Path, write: str) -> None:
    """What a session has written it reads back from the database; nobody else does before its commit; all do after it."""
    with seeded.maker() as session:
        WRITES[write](session)
        session.expire_all()
        mine = seeded.store.get(Customer, 1, session=session)
        assert mine is not None
        assert mine.name == "mine"
        assert ann(seeded) == "ann"
        session.commit()
        assert ann(seeded) == "mine"
    seeded.compare((Customer, 1), (Customer, 2))


# -- other handlers ---------------------------------------------------------------------------------


def test_after_commit_of_others_sees_fresh_caches(seeded: Path) -> None:
    """The application's own after_commit handlers find the committed row in the caches, also such as were there before."""
    seen: list[str | None] = []
    with seeded.maker() as session:
        event.listen(session, "after_commit", lambda _session: seen.append(ann(seeded)))
        rename(session, "changed")
        session.commit()
    assert seen == ["changed"]


def test_after_commit_of_others_that_raises(seeded: Path) -> None:
    """An exception there comes after the caches were told."""

    def fail(_session: Session) -> None:
        raise ValueError("handler")

    with seeded.maker() as session:
        event.listen(session, "after_commit", fail)
        rename(session, "changed")
        with pytest.raises(ValueError, match="handler"):
            session.commit()
    assert ann(seeded) == "changed"
    seeded.compare((Customer, 1))


def test_flush_of_a_before_commit_handler(seeded: Path) -> None:
    """What a before_commit handler changes is told too."""
    with seeded.maker() as session:

        def change(session: Session) -> None:
            session.get_one(Customer, 1).name = "late"

        event.listen(session, "before_commit", change)
        session.get_one(Customer, 2).name = "early"
        session.commit()
    assert ann(seeded) == "late"
    seeded.compare((Customer, 1), (Customer, 2))


# -- commits that fail ------------------------------------------------------------------------------


class Deferred(DeclarativeBase):
    pass


class Part(Deferred):
    __tablename__ = "deferred_parts"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    of_id: Mapped[int | None] = mapped_column(ForeignKey("deferred_parts.id", deferrable=True, initially="DEFERRED"))


def test_deferred_constraint(path: Path) -> None:
    """A commit that is refused leaves the old row in the caches, unmarked."""
    Deferred.metadata.drop_all(path.engine)
    Deferred.metadata.create_all(path.engine)
    path.seed(Part(id=1, name="old"))
    assert path.store.get(Part, 1).name == "old"  # type: ignore[union-attr]
    with path.maker() as session:
        part = session.get_one(Part, 1)
        part.name, part.of_id = "new", 404
        with pytest.raises(IntegrityError):
            session.commit()
    with path.other.begin() as connection:
        connection.execute(update(Part).values(name="unseen"))
    for _ in range(2):
        assert path.store.get(Part, 1).name == "unseen"  # type: ignore[union-attr]
    with path.other.begin() as connection:
        connection.execute(update(Part).values(name="cached"))
    assert path.store.get(Part, 1).name == "unseen"  # type: ignore[union-attr]


@pytest.mark.parametrize("done", [True, False], ids=["committed", "not committed"])
def test_interrupted_commit(seeded: Path, monkeypatch: pytest.MonkeyPatch, done: bool) -> None:
    """An interrupt in COMMIT leaves nothing stale, whether it was done or not."""
    with seeded.maker() as session:
        rename(session, "ann")
    verbs = seeded.engine.dialect.__dict__["do_commit"].__self__._original
    original = verbs["do_commit"]

    def interrupted(connection: Any) -> None:
        if done:
            original(connection)
        raise KeyboardInterrupt

    with seeded.maker() as session:
        rename(session, "changed")
        with monkeypatch.context() as patched:
            patched.setitem(verbs, "do_commit", interrupted)
            with pytest.raises(KeyboardInterrupt):
                session.commit()
    seeded.compare((Customer, 1))
    assert ann(seeded) == ("changed" if done else "ann")


@ON_POSTGRES
def test_connection_killed_in_commit(seeded: Path) -> None:
    """A commit whose connection was lost leaves nothing stale."""
    with seeded.maker() as session:
        rename(session, "changed")
        process = session.scalar(text("SELECT pg_backend_pid()"))

        def kill(_connection: Connection) -> None:
            with seeded.other.connect() as other:
                assert other.scalar(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": process})

        event.listen(seeded.engine, "commit", kill)
        try:
            with pytest.raises(OperationalError):
                session.commit()
        finally:
            event.remove(seeded.engine, "commit", kill)
    seeded.compare((Customer, 1))
    assert ann(seeded) == "ann"


# -- AUTOCOMMIT -------------------------------------------------------------------------------------


def _delete(session: Session) -> None:
    session.delete(session.get_one(Customer, 1))
    session.flush()


def _insert(session: Session) -> None:
    session.add(Customer(id=3, email="c", name="cleo"))
    session.flush()


AUTOCOMMITTED: dict[str, Callable[[Session], object]] = {
    **WRITES,
    "delete": _delete,
    "orm update": lambda session: session.execute(update(Customer).where(Customer.id == 1).values(name="mine")),
    "insert": _insert,
}


@pytest.mark.parametrize("write", AUTOCOMMITTED)
def test_autocommit(attach: Attach, db: Engine, write: str) -> None:
    """On an AUTOCOMMIT connection the caches are told with each statement, whatever the session does then."""
    _autocommit(attach, db, write, "rollback")


@pytest.mark.parametrize("write", ["delete", "insert"])
@pytest.mark.parametrize("end", ["commit", "close"])
def test_autocommit_ended_otherwise(attach: Attach, db: Engine, write: str, end: str) -> None:
    """So they are whatever the end is."""
    _autocommit(attach, db, write, end)


def _autocommit(attach: Attach, db: Engine, write: str, end: str) -> None:
    path = seed(attach(engine=db.execution_options(isolation_level="AUTOCOMMIT")))
    path.prove_cached((Customer, 1))
    with path.maker() as session:
        AUTOCOMMITTED[write](session)
        path.compare((Customer, 1), (Customer, 2), (Customer, 3))
        getattr(session, end)()
    path.compare((Customer, 1), (Customer, 2), (Customer, 3))


@ON_SQLITE
def test_statement_that_sqlite_commits_at_once(seeded: Path) -> None:
    """The driver begins a transaction before INSERT, UPDATE and DELETE alone: a statement that begins otherwise is committed by itself."""
    with seeded.maker() as session:
        session.connection().exec_driver_sql(
            "WITH one AS (SELECT 1 AS id) UPDATE customers SET name = 'mine' WHERE id IN (SELECT id FROM one)"
        )
        assert (seeded.row(Customer, 1) or {})["name"] == "mine"
        assert ann(seeded) == "mine"
        session.rollback()
    seeded.compare((Customer, 1))


@ON_SQLITE
def test_savepoint_that_sqlite_commits(seeded: Path) -> None:
    """In the driver's default mode the release of an outermost savepoint commits; a rollback of the session comes too late."""
    with seeded.maker() as session:
        with session.begin_nested():
            rename(session, "changed")
        assert ann(seeded) == "changed"
        seeded.compare((Customer, 1))
        rename(session, "dropped")
        session.rollback()
    assert ann(seeded) == "changed"
    seeded.compare((Customer, 1))


# -- several databases, two phases ------------------------------------------------------------------


def test_several_engines(db: Engine, other: Engine, cache: Store, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Each database of a session is committed by itself; what the second one refuses is told of it alone."""
    second = create_engine(f"sqlite:///{tmp_path_factory.mktemp('second') / 'second.db'}")
    Base.metadata.create_all(second)
    store = ChainedStore([cache, SqlAlchemyStore(engine=db)])
    maker = sessionmaker(binds={Customer: db, Place: second})
    sync = SessionSync(store)
    sync.attach(maker)
    path = seed(Path(db, other, store, maker, sync))
    with maker() as session:
        rename(session, "changed")
        session.add(Place(row="A", number=1))
        session.commit()
    path.compare((Customer, 1))
    assert ann(path) == "changed"
    sync.detach()
    second.dispose()
    store.close()


@pytest.fixture(scope="module")
def two_phase_engine() -> Iterator[Engine]:
    """An engine of a PostgreSQL that lets transactions be prepared."""
    from tests.servers.postgres import running_postgres

    with running_postgres() as server:
        engine = create_engine(server.url)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("ALTER SYSTEM SET max_prepared_transactions = 10"))
        engine.dispose()
        _restart(server)
        create_tables(engine)
        yield engine
        engine.dispose()


def _restart(server: PostgresServer) -> None:
    server.stop()
    server.start()


@ON_POSTGRES
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_two_phases(two_phase_engine: Engine, cache: Store, end: str) -> None:
    """A session of two phases tells when the second one is done."""
    store = ChainedStore([cache, SqlAlchemyStore(engine=two_phase_engine)])
    maker: sessionmaker[Session] = sessionmaker(two_phase_engine, twophase=True)
    sync = SessionSync(store)
    sync.attach(maker)
    other = create_engine(two_phase_engine.url)
    path = Path(two_phase_engine, other, store, maker, sync)
    with other.begin() as connection:
        connection.execute(text("DELETE FROM customers"))
    seed(path)
    with maker() as session:
        rename(session, "changed")
        session.prepare()
        getattr(session, end)()
    path.compare((Customer, 1))
    assert ann(path) == ("changed" if end == "commit" else "ann")
    path.prove_cached((Customer, 1))
    sync.detach()
    other.dispose()
    store.close()


@ON_POSTGRES
def test_two_phases_beneath_read_through(two_phase_engine: Engine, cache: Store) -> None:
    """A session of two phases is served; others read the old row until its second phase is done, and then the new one."""
    store = ChainedStore([cache, SqlAlchemyStore(engine=two_phase_engine)])
    maker: sessionmaker[Session] = sessionmaker(two_phase_engine, twophase=True, class_=type("Phased", (Session,), {}))
    sync = SessionSync(store, read_through=True).attach(maker)
    with two_phase_engine.begin() as connection:
        connection.execute(text("DELETE FROM customers"))
        connection.execute(text("INSERT INTO customers (id, name, tenant, balance) VALUES (1, 'ann', 7, 0)"))

    def name() -> str:
        with maker() as session:
            return session.get_one(Customer, 1).name

    assert name() == "ann"
    with two_phase_engine.begin() as connection:
        connection.execute(text("UPDATE customers SET name = 'unseen'"))
    assert name() == "ann"
    with maker() as session:
        rename(session, "changed")
        session.prepare()
        assert name() == "unseen"
        session.commit()
    assert name() == "changed"
    with two_phase_engine.begin() as connection:
        connection.execute(text("UPDATE customers SET name = 'unseen'"))
    assert name() == "changed"
    sync.detach()
    store.close()


@ON_POSTGRES
@pytest.mark.parametrize("cache", ["redis", "memory"], indirect=True)
@pytest.mark.parametrize("read_before", [1, 2], ids=["a hit before", "a miss before"])
def test_read_between_two_phases(two_phase_engine: Engine, cache: Store, read_before: int) -> None:
    """It is refused as without the hook, whatever the caches have, and the second phase is done all the same."""
    store = ChainedStore([cache, SqlAlchemyStore(engine=two_phase_engine)])
    maker: sessionmaker[Session] = sessionmaker(two_phase_engine, twophase=True, class_=type("Phased", (Session,), {}))
    sync = SessionSync(store, read_through=True).attach(maker)
    with two_phase_engine.begin() as connection:
        connection.execute(text("DELETE FROM customers"))
        connection.execute(text("INSERT INTO customers (id, name, tenant, balance) VALUES (1, 'ann', 7, 0), (2, 'bob', 7, 0)"))
        connection.execute(text("DELETE FROM places"))
    store.get(Customer, 1)
    with maker() as session:
        session.get_one(Customer, read_before)
        session.add(Place(row="a", number=1))
        session.flush()
        session.prepare()
        session.expunge_all()
        with pytest.raises(InvalidRequestError, match="prepared"):
            session.get(Customer, 1)
        with pytest.raises(InvalidRequestError, match="prepared"):
            session.scalars(select(Customer).where(Customer.id == 1)).one()
        session.commit()
    with two_phase_engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM places")) == 1
    sync.detach()
    store.close()


# -- caches out of reach ----------------------------------------------------------------------------


def test_abort(db: Engine, other: Engine, start_redis: Callable[..., RedisServer]) -> None:
    """With on_unreachable="abort" nothing is committed while a cache cannot be told, and nothing of it later."""
    server = start_redis()
    store = ChainedStore([RedisStore(server.url), SqlAlchemyStore(engine=db)])
    maker = sessionmaker(db)
    sync = SessionSync(store, on_unreachable="abort")
    sync.create_outbox(db)
    sync.attach(maker)
    path = seed(Path(db, other, store, maker, sync))
    server.stop()
    with maker() as session:
        rename(session, "changed")
        with pytest.raises(CacheUnreachable):
            session.commit()
    with maker() as session:
        assert session.scalar(select(Customer.name).where(Customer.id == 1)) == "ann"
    server.start()
    path.compare((Customer, 1))
    sync.detach()
    store.close()


@pytest.mark.parametrize("options", [{"on_unreachable": "commit"}, {"on_unreachable": "outbox"}, {"consistency": "fast"}], ids=str)
def test_cache_out_of_reach(db: Engine, other: Engine, start_redis: Callable[..., RedisServer], options: dict[str, Any]) -> None:
    """A commit goes on while a cache is frozen; nothing old is read from it afterwards."""
    server = start_redis()
    patient, store = (
        ChainedStore([RedisStore(server.url, read_timeout=seconds), SqlAlchemyStore(engine=db)]) for seconds in (SECONDS, SHORT)
    )
    maker = sessionmaker(db)
    sync = SessionSync(store, **options)
    sync.create_outbox(db)
    sync.attach(maker)
    seed(Path(db, other, patient, maker, sync))
    path = Path(db, other, store, maker, sync)
    server.freeze()
    with maker() as session:
        rename(session, "changed")
        session.commit()
    assert ann(path) == "changed"
    server.thaw()
    assert ann(path) == "changed"
    path.compare((Customer, 1))
    sync.detach()
    store.close()
    patient.close()


def test_memory_needs_no_evidence(db: Engine, other: Engine) -> None:
    """Over process memory alone SQLite is strict without an outbox."""
    memory = ProcessMemoryStore(max_staleness=None)
    sync = SessionSync(ChainedStore([memory, SqlAlchemyStore(engine=db)]), require="strict")
    sync.attach(sessionmaker(db))
    assert sync.guarantee.is_strict
    sync.detach()
