"""What a session has done, and where it works, decides whether it is served."""

import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
from sqlalchemy import Engine, create_engine, event, insert, text, update
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import Session, sessionmaker

from stockstore import ChainedStore, ConfigurationError, ProcessMemoryStore, RedisStore, SqlAlchemyStore
from stockstore.stores.sql_sessions import ORIGIN_MARK
from stockstore_ext.sqlalchemy import SessionSync
from tests.read_through.served import Served
from tests.servers.redis import RedisServer
from tests.stores.shop import Base, Car, Customer, Note, Order, Tag, Vehicle
from tests.sync.conftest import ON_MEMORY, ON_SQLITE, Attach

UNSEEN = "out of band"
Test = TypeVar("Test", bound=Callable[..., None])


def ON_POSTGRES(test: Test) -> Test:
    """Run a test above PostgreSQL, with process memory, which has a shorter way to a hit, and with Redis."""
    caches = pytest.mark.parametrize("cache", ["memory", "redis"], indirect=True)
    return pytest.mark.parametrize("database_url", ["postgres"], indirect=True)(caches(test))  # type: ignore[no-any-return]


@pytest.fixture
def rows(served: Served) -> Served:
    """Two customers and a vehicle, of which the caches know the first and the last."""
    return _cached(served)


def _cached(served: Served) -> Served:
    served.seed(Customer(id=1, email="1@x"), Customer(id=2, email="2@x"), Car(id=1, plate="car", doors=4))
    served.hits(lambda session: session.get(Customer, 1))
    served.hits(lambda session: session.get(Vehicle, 1))
    return served


def status(session: Session, **options: Any) -> str:
    """Give what a session is given of the first customer."""
    return session.get_one(Customer, 1, **options).status


def _unsee(session: Session) -> None:
    session.expunge_all()


# -- own writes -------------------------------------------------------------------------------------


def test_own_write(rows: Served) -> None:
    """What a session has flushed it reads from the database, also when the object is gone from its identity map, until it commits."""
    with rows.session() as session:
        session.get_one(Customer, 1).name = "bob"
        session.flush()
        _unsee(session)
        gc.collect()
        assert session.get_one(Customer, 1).name == "bob"
        with rows.session() as another:
            assert another.get_one(Customer, 1).name == "ann"
        session.commit()
    with rows.changed(Customer, 1), rows.session() as session:
        assert (session.get_one(Customer, 1).name, status(session)) == ("bob", "new")


def test_a_statement_flushes_once(served: Served) -> None:
    """What one flush leaves to the next, as the deletion of an object that comes into a collection, is left here too."""
    served.seed(Customer(id=1, email="1@x"), Customer(id=2, email="2@x"))
    served.seed(Note(id=2, text="x", customer_id=2))

    def run(session: Session) -> list[int]:
        customer, note = session.get_one(Customer, 1), session.get_one(Note, 2)
        customer.notes.append(note)
        session.delete(note)
        assert session.get(Vehicle, 99) is None
        return [each.id for each in session.deleted]

    assert served.same(run) == [2]


def test_rolled_back_write(rows: Served) -> None:
    """After a rollback the caches have what they had."""
    with rows.session() as session:
        session.get_one(Customer, 1).name = "bob"
        session.flush()
        session.rollback()
        _unsee(session)
        with rows.changed(Customer, 1):
            assert (session.get_one(Customer, 1).name, status(session)) == ("ann", "new")


def test_savepoint(rows: Served) -> None:
    """What was written in a savepoint is read from the database, also after that was rolled back."""
    with rows.session() as session:
        with session.begin_nested() as savepoint:
            session.get_one(Customer, 1).name = "bob"
            session.flush()
            _unsee(session)
            assert session.get_one(Customer, 1).name == "bob"
            savepoint.rollback()
        _unsee(session)
        assert session.get_one(Customer, 1).name == "ann"


@ON_POSTGRES
def test_served_in_a_savepoint(rows: Served) -> None:
    """A savepoint itself hides nothing."""
    with rows.changed(Customer, 1), rows.session() as session, session.begin_nested():
        session.execute(text("SELECT 1"))
        assert status(session) == "new"


@pytest.mark.parametrize("statement", [update(Customer).values(name="bob"), text("UPDATE customers SET name = 'bob'")], ids=["orm", "text"])
def test_statement(rows: Served, statement: Any) -> None:
    """What a statement may have written is read from the database."""
    with rows.session() as session:
        session.execute(statement, execution_options={"synchronize_session": False})
        assert session.get_one(Customer, 1).name == "bob"
        session.commit()
        assert session.get_one(Customer, 1).name == "bob"


def test_deleted(rows: Served) -> None:
    """A row deleted by another session is not served any more."""
    with rows.session() as session:
        session.delete(session.get_one(Customer, 1))
        session.flush()
        _unsee(session)
        assert session.get(Customer, 1) is None
        session.commit()
        assert session.get(Customer, 1) is None
    with rows.session() as session:
        assert session.get(Customer, 1) is None


@ON_POSTGRES
def test_changed_subclass(rows: Served) -> None:
    """A base class and its subclasses are one as to what was written."""
    with rows.session() as session:
        session.get_one(Car, 1).doors = 2
        session.flush()
        _unsee(session)
        found = session.get_one(Vehicle, 1)
        assert isinstance(found, Car)
        assert found.doors == 2


# -- isolation --------------------------------------------------------------------------------------


@ON_POSTGRES
@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_snapshot_respected(rows: Served, level: str) -> None:
    """A transaction with a snapshot of its own reads from it as soon as it has one, and fills nothing."""
    with rows.session() as session:
        session.connection(execution_options={"isolation_level": level})
        session.execute(text("SELECT 1"))
        with rows.path.other.begin() as connection:
            connection.execute(update(Customer.__table__).values(status=UNSEEN))  # type: ignore[arg-type]
        rows.path.sync.invalidate(Customer)
        assert status(session) == session.get_one(Customer, 2).status == "new"
        assert rows.path.store.stats().bypasses["snapshot"] >= 2
    with rows.session() as session:
        assert status(session) == session.get_one(Customer, 2).status == UNSEEN


@ON_POSTGRES
def test_latest(attach: Attach) -> None:
    """With snapshot="latest" it is given what is newer, and still fills nothing."""
    served = _cached(Served(attach(read_through=True, snapshot="latest")))
    with served.session() as session:
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        session.execute(text("SELECT count(*) FROM customers"))
        with served.path.other.begin() as connection:
            connection.execute(update(Customer.__table__).values(status=UNSEEN))  # type: ignore[arg-type]
        assert session.get_one(Customer, 2).status == "new"  # read from the snapshot
        assert status(session) == "new"  # from the cache
    with served.session() as session:
        assert session.get_one(Customer, 2).status == UNSEEN


@ON_POSTGRES
def test_level_that_nobody_told(rows: Served) -> None:
    """An isolation level that was set on the driver's connection itself is seen by the statement that reads."""
    with rows.session() as session:
        assert session.get_one(Customer, 2).status == "new"
    rows.path.store.clear(Customer)
    with rows.session() as session:
        cursor = session.connection().connection.cursor()
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SELECT count(*) FROM customers")
        with rows.path.other.begin() as connection:
            connection.execute(update(Customer.__table__).values(status=UNSEEN))  # type: ignore[arg-type]
        assert session.get_one(Customer, 2).status == "new"
    with rows.session() as session:
        assert session.get_one(Customer, 2).status == UNSEEN


@ON_POSTGRES
def test_level_of_the_connection(attach: Attach, db: Engine) -> None:
    """A level that text has set for the connection counts for its later transactions too."""
    engine = create_engine(db.url, pool_size=1, max_overflow=0)
    served = _cached(Served(attach(engine=engine, read_through=True)))
    for level, seen in (("REPEATABLE READ", UNSEEN), ("READ COMMITTED", "new")):
        with served.session() as session:
            session.execute(text(f"SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL {level}"))
            session.commit()
        with served.changed(Customer, 1), served.session() as session:
            session.execute(text("SELECT count(*) FROM customers"))
            assert status(session) == seen
    engine.dispose()


@ON_POSTGRES
def test_level_asked_once(rows: Served) -> None:
    """The isolation level of a connection is not asked for in each transaction, nor where a hit needs no connection."""
    with rows.session() as session:
        session.execute(text("SELECT 1"))
        status(session)
    with rows.statements() as seen, rows.session() as session:
        for _ in range(3):
            session.execute(text("SELECT 1"))
            assert status(session) == "new"
            session.rollback()
            _unsee(session)
    assert seen == ["SELECT 1"] * 3


@ON_SQLITE
def test_transaction_of_sqlite(rows: Served) -> None:
    """Where SQLite's driver has a transaction open, the session reads from it, and fills nothing."""
    with rows.session() as session:
        session.execute(insert(Tag).values(name="a", code="a"))
        before = rows.path.store.stats().bypasses.get("snapshot", 0)
        assert session.get_one(Car, 1).doors == 4
        assert rows.path.store.stats().bypasses["snapshot"] == before + 1


@ON_SQLITE
def test_unread_result(rows: Served) -> None:
    """While a result is not read to its end, SQLite reads from its snapshot: what is read then is not kept."""
    with rows.path.other.begin() as connection:
        connection.execute(text("PRAGMA journal_mode=WAL"))
    with rows.session() as session:
        result = session.connection().execute(text("SELECT id FROM customers"))
        result.fetchone()
        with rows.path.other.begin() as connection:
            connection.execute(update(Customer.__table__).values(status=UNSEEN))  # type: ignore[arg-type]
        assert session.get_one(Customer, 2).status == "new"
        assert result.fetchall() == [(2,)]
    with rows.session() as session:
        assert session.get_one(Customer, 2).status == UNSEEN


@ON_POSTGRES
def test_autocommit(attach: Attach, db: Engine) -> None:
    """Each statement of an AUTOCOMMIT session is a transaction: hits and fills are as in others, and its own writes are not served old."""
    served = _cached(Served(attach(engine=db.execution_options(isolation_level="AUTOCOMMIT"), read_through=True)))
    with served.changed(Customer, 1), served.session() as session:
        assert status(session) == "new"
    with served.session() as session:
        session.get_one(Customer, 1).name = "bob"
        session.flush()
        _unsee(session)
        assert session.get_one(Customer, 1).name == "bob"
    with served.session() as session:
        assert session.get_one(Customer, 1).name == "bob"


# -- elsewhere --------------------------------------------------------------------------------------


@ON_MEMORY
def test_several_binds(attach: Attach, db: Engine, tmp_path: Any) -> None:
    """A class of another database is read there, and fills nothing; the others are served."""
    served = _cached(Served(attach(read_through=True)))
    elsewhere = create_engine(f"sqlite:///{tmp_path / 'other.db'}")
    Base.metadata.create_all(elsewhere)
    with Session(elsewhere) as session:
        session.add_all([Customer(id=1, status="elsewhere", email="e"), Customer(id=3, status="elsewhere")])
        session.commit()
    with served.path.maker(binds={Customer: elsewhere, Vehicle: db}) as session:
        assert status(session) == session.get_one(Customer, 3).status == "elsewhere"
        with served.statements() as seen:
            assert session.get(Vehicle, 1) is not None
        assert seen == []
    with served.session() as session:
        assert (status(session), session.get(Customer, 3)) == ("new", None)
    elsewhere.dispose()


@ON_SQLITE
@ON_MEMORY
def test_sharded(rows: Served) -> None:
    """Of a sharded session only the application knows where a row is."""
    maker = sessionmaker(
        class_=ShardedSession,
        shards={"one": rows.path.engine},
        shard_chooser=lambda *_: "one",
        identity_chooser=lambda *_, **__: ["one"],
        execute_chooser=lambda *_: ["one"],
    )
    sync = SessionSync(rows.path.store, read_through=True).attach(maker)
    with rows.changed(Customer, 1), maker() as session:
        assert status(session) == UNSEEN
        assert status(session) == UNSEEN
    sync.detach()


def test_sessions_of_stores(rows: Served) -> None:
    """A store's own session writes the database itself, and so reads it."""
    with rows.changed(Customer, 1), rows.path.maker(info={ORIGIN_MARK: True}) as session:
        assert status(session) == UNSEEN
        _unsee(session)
        assert status(session) == UNSEEN


def test_connection_given(rows: Served) -> None:
    """A session on a connection with a transaction of its caller reads what that has written."""
    with rows.path.engine.connect() as connection:
        connection.execute(update(Customer.__table__).values(name="bob"))  # type: ignore[arg-type]
        with rows.path.maker(bind=connection) as session:
            assert session.get_one(Customer, 1).name == "bob"
        connection.rollback()
    with rows.session() as session:
        assert session.get_one(Customer, 1).name == "ann"


@pytest.mark.parametrize("options", [{"stockstore": False}, {"schema_translate_map": {"none": None}}], ids=str)
def test_options(rows: Served, options: dict[str, Any]) -> None:
    """An engine or a connection can say that what reads with it is not served."""
    with rows.changed(Customer, 1):
        with rows.path.maker(bind=rows.path.engine.execution_options(**options)) as session:
            assert status(session) == UNSEEN
        with rows.session() as session:
            session.connection(execution_options=options)
            assert status(session) == UNSEEN
        with rows.session() as session:
            assert status(session) == "new"


def test_search_path(rows: Served) -> None:
    """A session that has turned to other tables of the same names reads there."""
    with rows.changed(Customer, 1), rows.session() as session:
        session.execute(text("CREATE TEMPORARY TABLE customers AS SELECT * FROM customers"))
        session.execute(text("UPDATE customers SET status = 'temporary'"))
        session.commit()
        assert status(session) == "temporary"
        session.execute(text("DROP TABLE customers"))
        session.commit()
    # The pool's connection is not believed any more.
    rows.path.engine.dispose()


def test_tenants(attach: Attach) -> None:
    """A tenant's sessions are served what is kept for him alone."""
    served = _cached(Served(attach(read_through=True, scope=lambda session: session.info.get("tenant"))))

    def seen(tenant: str | None, **options: Any) -> str:
        with served.path.maker(info={"tenant": tenant}) as session:
            return status(session, **options)

    assert seen("a") == "new"
    with served.changed(Customer, 1):
        assert (seen(None), seen("a"), seen("b")) == ("new", "new", UNSEEN)
    assert (seen("a"), seen("b"), seen("b")) == ("new", UNSEEN, UNSEEN)
    assert seen("b", execution_options={"stockstore_refresh": True}) == seen("b") == "new"
    with served.path.maker(info={"tenant": "a"}) as session:
        session.get_one(Customer, 1).status = "old"
        session.commit()
    assert (seen(None), seen("a")) == ("old", "old")


# -- fills ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cache", ["memory", "redis", "memcached"], indirect=True)
@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_writer_between_lease_and_select(rows: Served) -> None:
    """A row that a writer has overtaken while it was read is not kept: the next read gives the new one."""
    path, waiting, written = rows.path, threading.Event(), threading.Event()
    path.store.clear()
    found: list[str] = []

    def pause(*_: object) -> None:
        waiting.set()
        written.wait(20)

    def reading() -> None:
        with path.maker() as session:
            event.listen(session, "after_begin", pause)
            found.append(session.get_one(Customer, 1).name)

    reader = threading.Thread(target=reading)
    before = path.store.stats().refused_fills

    def write() -> None:
        with path.maker() as session:
            session.execute(update(Customer).where(Customer.id == 1).values(name="bob"))
            session.commit()

    reader.start()
    assert waiting.wait(20)
    write()
    written.set()
    reader.join(20)
    assert found == ["bob"]
    assert path.store.stats().refused_fills > before
    with path.maker() as session:
        assert session.get_one(Customer, 1).name == "bob"


def test_refresh(rows: Served) -> None:
    """With stockstore_refresh the database is read, and the caches keep what it has."""
    with rows.changed(Customer, 1) as value:
        with rows.session() as session:
            assert status(session, execution_options={"stockstore_refresh": True}) == value
        with rows.statements() as seen, rows.session() as session:
            assert status(session) == value
        assert seen == []


def test_bypass_fills_nothing(rows: Served) -> None:
    """With stockstore=False the caches keep what they have."""
    with rows.changed(Customer, 1), rows.session() as session:
        assert status(session, execution_options={"stockstore": False}) == UNSEEN
        _unsee(session)
        assert status(session) == "new"


@ON_POSTGRES
def test_counts(rows: Served) -> None:
    """Hits, misses and fills are counted, and what went past the caches with its reason."""
    before = rows.path.store.stats()
    with rows.session() as session:
        customer = session.get_one(Customer, 1)
        session.get(Customer, 2)
        customer.name = "bob"
        session.flush()
        _unsee(session)
        session.get(Customer, 1)
    after = rows.path.store.stats()
    assert (after.hits - before.hits, after.tiers[0].misses - before.tiers[0].misses, after.fills - before.fills) == (1, 1, 1)
    assert after.bypasses.get("own write", 0) == before.bypasses.get("own write", 0) + 1


def test_cache_out_of_reach(db: Engine, start_redis: Any, namespace: str) -> None:
    """A cache that does not answer is a miss, and no error."""
    server: RedisServer = start_redis()
    store = ChainedStore([RedisStore(server.url, namespace=namespace), SqlAlchemyStore(engine=db)])
    maker = sessionmaker(db)
    sync = SessionSync(store, read_through=True).attach(maker)
    with Session(db) as session:
        session.add(Customer(id=1, email="1"))
        session.commit()
    with maker() as session:
        assert status(session) == "new"
    server.stop()
    with maker() as session:
        assert status(session) == "new"
    sync.detach()
    store.close()


# -- attaching --------------------------------------------------------------------------------------


@pytest.fixture
def memory(db: Engine) -> Iterator[ChainedStore]:
    """A chain above SQLite."""
    with Session(db) as session:
        session.add(Customer(id=1, email="1"))
        session.commit()
    with ChainedStore([ProcessMemoryStore(max_staleness=None), SqlAlchemyStore(engine=db)]) as store:
        yield store


@pytest.mark.parametrize(
    "option", [1, 0, None, "Customer", Customer, [1], [int], ["Customer"], [Customer, None], {Customer: True}], ids=repr
)
def test_refused_options(option: Any) -> None:
    """Anything but True, False and a list of mapped classes is refused."""
    with pytest.raises(ConfigurationError, match="read_through is True, False, or a list of mapped classes"):
        SessionSync(ProcessMemoryStore(), read_through=option)


def _methods(cls: type) -> set[str]:
    return {"get", "_get_impl", "_identity_lookup"} & set(vars(cls))


@ON_SQLITE
def test_put_and_taken_off(memory: ChainedStore, db: Engine) -> None:
    """A sessionmaker's own class gets the methods, and loses them; Session has what it had."""
    before = {name: vars(Session)[name] for name in ("get", "_get_impl", "_identity_lookup")}
    maker, other = sessionmaker(db), sessionmaker(db)
    sync = SessionSync(memory, read_through=True).attach(maker)
    assert _methods(maker.class_)
    assert not _methods(other.class_)
    sync.detach()
    assert not _methods(maker.class_)
    everywhere = SessionSync(memory, read_through=True).attach()
    assert vars(Session)["_identity_lookup"] is not before["_identity_lookup"]
    with other() as session:
        status(session)
    everywhere.detach()
    assert {name: vars(Session)[name] for name in before} == before


@ON_SQLITE
def test_several_hooks(memory: ChainedStore, db: Engine) -> None:
    """Hooks of several stores, also on nested classes, leave each other alone, in whatever order they go."""

    class Own(Session):
        def get(self, *args: Any, **options: Any) -> Any:
            """Count, as an application's own class may do."""
            self.info["asked"] = self.info.get("asked", 0) + 1
            return super().get(*args, **options)

    maker = sessionmaker(db, class_=Own)
    stores = [ChainedStore([ProcessMemoryStore(max_staleness=None), SqlAlchemyStore(engine=db)]) for _ in range(3)]
    targets: list[Any] = [Own, maker, Own]
    for order in ((0, 1, 2), (2, 0, 1)):
        syncs = [SessionSync(store, read_through=True).attach(target) for store, target in zip(stores, targets, strict=True)]
        for number in order:
            with maker() as session:
                assert status(session) == "new"
                assert session.info["asked"] == 1
            syncs[number].detach()
        assert (_methods(Own), _methods(maker.class_)) == ({"get"}, set())
        with maker() as session:
            assert status(session) == "new"
    for store in stores:
        store.close()


@ON_SQLITE
def test_replaced_meanwhile(memory: ChainedStore, db: Engine) -> None:
    """What somebody else has put in a method's place stays, and goes on working when the hook has left."""
    maker = sessionmaker(db)
    sync = SessionSync(memory, read_through=True).attach(maker)
    ours, calls = maker.class_._identity_lookup, []

    def theirs(self: Session, *args: Any, **options: Any) -> Any:
        calls.append(args)
        return ours(self, *args, **options)

    maker.class_._identity_lookup = theirs  # type: ignore[method-assign]
    with maker() as session:
        assert status(session) == "new"
    sync.detach()
    assert vars(maker.class_)["_identity_lookup"] is theirs
    with maker() as session:
        assert status(session) == "new"
    assert len(calls) == 2
    again = SessionSync(memory, read_through=True).attach(maker)
    with maker() as session:
        assert status(session) == "new"
    del maker.class_._identity_lookup
    again.detach()
    with maker() as session:
        assert status(session) == "new"


@ON_SQLITE
def test_unhooked(memory: ChainedStore, db: Engine) -> None:
    """After a detach, and for a store's own sessions, nothing is served."""
    maker = sessionmaker(db)
    sync = SessionSync(memory, read_through=True).attach(maker)
    with maker() as session:
        status(session)
    sync.detach()
    with Session(db) as session:
        session.execute(update(Customer.__table__).values(status=UNSEEN))  # type: ignore[arg-type]
        session.commit()
    with maker() as session:
        assert status(session) == UNSEEN
        assert session.get(Order, 1) is None
