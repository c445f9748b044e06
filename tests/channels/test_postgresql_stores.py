"""Two processes' memories without a Redis: each is told of the other's commits by PostgreSQL, exactly of those."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, insert, text, update
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import NullPool

from stockstore import AsyncStore, ChainedStore, MemcacheStore, ProcessMemoryStore, SqlAlchemyStore, Store
from stockstore.channels.postgresql import PostgresChannel
from stockstore.evidence import Outbox
from stockstore.keys import keys_of
from stockstore.stores.tiers import tier_of
from stockstore.stores.tiers.local import LocalTier
from stockstore_ext.sqlalchemy import SessionSync, triggers
from stockstore_ext.sqlalchemy.janitor import Janitor
from tests.channels.sides import Deaf, hear_all, unseen
from tests.channels.test_postgresql import listeners
from tests.stores.shop import Customer, Order, Place

URL = "postgres_schema_url"


class Side:
    """One process's memory above the database, and its hooked sessions."""

    def __init__(self, engine: Engine, namespace: str, *below: Store, **options: Any) -> None:
        self.engine = engine
        self.memory = ProcessMemoryStore(namespace=namespace, channel=engine, max_staleness=30)
        self.chain = ChainedStore([self.memory, *below, SqlAlchemyStore(engine=engine)])
        self.sync = SessionSync(self.chain, **options)
        self.maker: sessionmaker[Session] = sessionmaker(engine, class_=type("Hooked", (Session,), {}))
        self.sync.attach(self.maker)

    def close(self) -> None:
        """Forget all."""
        self.sync.detach()
        self.chain.close()

    def name(self, key: int = 1) -> str | None:
        """Read a customer's name through the chain."""
        customer = self.chain.get(Customer, key)
        return None if customer is None else customer.name

    def kept(self, key: int = 1) -> str | None:
        """Give the name that stands in memory."""
        customer = self.memory.get(Customer, key)
        return None if customer is None else customer.name

    def caught_up(self) -> None:
        """Wait until all that was committed by now has been heard."""
        hear_all(PostgresChannel(self.engine))


Sides = tuple[Side, Side]


@contextmanager
def two_sides(engine: Engine, namespace: str, *below: Store, **options: Any) -> Iterator[Sides]:
    """Give two sides; the memory of the first holds the customers 1 and 2, named "old"."""
    with Session(engine) as session:
        session.add_all([Customer(id=1, email="a", name="old"), Customer(id=2, email="b", name="old", tenant=8)])
        session.commit()
    mine, theirs = Side(engine, namespace, *below), Side(engine, namespace, *below, **options)
    try:
        # Triggers may tell of the rows to whom listens already.
        mine.caught_up()
        assert [mine.name(1), mine.name(2), mine.kept(1), mine.kept(2)] == ["old"] * 4
        yield mine, theirs
    finally:
        mine.close()
        theirs.close()


@pytest.fixture
def sides(db: Engine, namespace: str) -> Iterator[Sides]:
    """Two sides."""
    with two_sides(db, namespace) as both:
        yield both


def by_chain(side: Side) -> None:
    """Write through the chain."""
    side.chain.put(Customer(id=1, email="a", name="new"))


def by_session(side: Side) -> None:
    """Write by a session."""
    with side.maker() as session:
        session.get_one(Customer, 1).name = "new"
        session.commit()


def by_core(side: Side) -> None:
    """Write by Core, so that the whole class is told."""
    with side.maker() as session:
        session.execute(text("UPDATE customers SET name = 'new' WHERE id = 1"))
        session.commit()


def by_two_phases(side: Side) -> None:
    """Write by a transaction of two phases."""
    with side.maker(twophase=True) as session:
        session.get_one(Customer, 1).name = "new"
        session.prepare()
        session.commit()


def by_autocommit(side: Side) -> None:
    """Write by a connection that commits each statement by itself."""
    with side.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection, side.maker(bind=connection) as session:
        session.execute(update(Customer).where(Customer.id == 1).values(name="new"))
        session.close()


def by_autocommit_chain(side: Side) -> None:
    """Write through a chain whose engine commits each statement by itself."""
    engine = create_engine(side.engine.url, isolation_level="AUTOCOMMIT")
    ChainedStore([side.memory, SqlAlchemyStore(engine=engine)]).put(Customer(id=1, email="a", name="new"))
    engine.dispose()


def by_savepoint(side: Side) -> None:
    """Write in a savepoint that is kept, and the other customer in one that is not."""
    with side.maker() as session:
        with session.begin_nested():
            session.get_one(Customer, 1).name = "new"
        with session.begin_nested() as savepoint:
            session.get_one(Customer, 2).name = "undone"
            session.flush()
            savepoint.rollback()
        session.commit()


def by_joining(side: Side) -> None:
    """Write in a caller's transaction, which the caller commits."""
    with side.engine.begin() as connection, side.maker(bind=connection) as session:
        session.get_one(Customer, 1).name = "new"
        session.commit()


def by_another_program(side: Side) -> None:
    """Write unseen, and say so."""
    unseen(side.engine, "new")
    side.sync.invalidate(Customer, [1])


WAYS = [by_chain, by_session, by_core, by_autocommit, by_autocommit_chain, by_savepoint, by_joining, by_another_program]


@pytest.mark.parametrize("write", WAYS)
def test_a_commit_is_heard(sides: Sides, write: Callable[[Side], None]) -> None:
    """The memory of the other drops what was written by whichever way, and keeps what was not."""
    mine, theirs = sides
    write(theirs)
    mine.caught_up()
    assert (mine.kept(1), mine.name(1), mine.kept(1)) == (None, "new", "new")
    # Of a text, and of an UPDATE that commits by itself, nobody knows the rows.
    assert mine.kept(2) == (None if write in {by_core, by_autocommit} else "old")


def test_a_rollback_is_not_heard(sides: Sides) -> None:
    """What was never committed, by a savepoint's or the whole end, stays where it is."""
    mine, theirs = sides
    with theirs.maker() as session:
        session.get_one(Customer, 1).name = "undone"
        session.flush()
        session.rollback()
    with theirs.maker() as session:
        session.get_one(Customer, 2).name = "undone"
        event.listen(session.connection(), "commit", lambda _connection: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            session.commit()
    mine.caught_up()
    assert (mine.kept(1), mine.kept(2)) == ("old", "old")


def test_two_phases_are_heard_at_the_end_of_the_second(start_postgres: Callable[[], Any], namespace: str) -> None:
    """PostgreSQL would not prepare what has told anybody; what is rolled back then nobody hears."""
    server = start_postgres()
    with create_engine(server.url, isolation_level="AUTOCOMMIT", poolclass=NullPool).connect() as connection:
        connection.execute(text("ALTER SYSTEM SET max_prepared_transactions = 5"))
    server.restart()
    engine = create_engine(server.url)
    from tests.stores.shop import create_tables

    create_tables(engine)
    with two_sides(engine, namespace) as (mine, theirs):
        with theirs.maker(twophase=True) as session:
            session.get_one(Customer, 2).name = "undone"
            session.prepare()
            session.rollback()
        by_two_phases(theirs)
        mine.caught_up()
        assert (mine.kept(1), mine.name(1), mine.kept(2)) == (None, "new", "old")
    engine.dispose()


def test_a_commit_is_one_message_and_its_writer_keeps_its_value(sides: Sides) -> None:
    """Whatever it has written, of any class; and who has written it need not read it again."""
    mine, theirs = sides
    assert theirs.name() == "old"
    told: list[list[str]] = []
    ear = Deaf()
    ear.heard = lambda texts, _ticket: told.append(sorted(texts))  # type: ignore[method-assign, assignment]
    contact = PostgresChannel(mine.engine).join(ear, 1.0)
    contact.begin()
    assert contact.settled.wait(20)
    with theirs.maker() as session:
        session.get_one(Customer, 1).name = "new"
        session.flush()
        session.get_one(Customer, 2).name = "new"
        session.add(Place(row="a", number=1, label="x"))
        session.commit()
    mine.caught_up()
    contact.leave()
    (texts,) = told
    assert [text.partition(":")[2] for text in texts] == [
        "tests.stores.shop.Customer:id:i1",
        "tests.stores.shop.Customer:id:i2",
        "tests.stores.shop.Place:number,row:i1:sa",
    ]
    unseen(mine.engine, "unseen")
    assert (theirs.kept(1), theirs.kept(2), theirs.name(1), mine.kept(1)) == ("new", "new", "new", None)


@pytest.mark.parametrize("consistency", ["strict", "fast"])
@pytest.mark.parametrize("write", [by_chain, by_session, by_core])
def test_above_memcached(db: Engine, namespace: str, memcached_address: str, consistency: str, write: Callable[[Side], None]) -> None:
    """Who hears of a write never finds the old value in memcached, and fills from it."""
    with two_sides(db, namespace, MemcacheStore([memcached_address], namespace=namespace), consistency=consistency) as (mine, theirs):
        write(theirs)
        mine.caught_up()
        assert (mine.kept(1), mine.name(1), mine.name(1)) == (None, "new", "new")


def test_the_janitor_tells_memory_too(db: Engine, namespace: str, memcached_address: str) -> None:
    """What triggers have noted is dropped from memory when the shared cache has been told of it."""
    with two_sides(db, namespace, MemcacheStore([memcached_address], namespace=namespace)) as (mine, _):
        Outbox().create(db)
        assert (mine.name(1), mine.kept(1)) == ("old", "old")
        note = insert(Outbox().definition).values(texts=keys_of(Customer).identity.record_text(namespace, 1))
        with db.begin() as connection:
            connection.execute(update(Customer).where(Customer.id == 1).values(name="unseen"))
            connection.execute(note)
        mine.caught_up()
        assert mine.name(1) == "old"
        assert Janitor(db, [mine.chain]).run_once() == 1
        mine.caught_up()
        assert (mine.kept(1), mine.name(1)) == (None, "unseen")


@pytest.mark.parametrize("note", [False, True])
def test_triggers_tell_memory(db: Engine, namespace: str, note: bool) -> None:
    """What nobody here has written is heard exactly if it commits; of a list that is too long for a payload, its class."""
    outbox = Outbox()
    outbox.create(db)
    with db.begin() as connection:
        triggers.install(connection, ["customers"], namespaces=[namespace], note=note, notify=True)
    try:
        with two_sides(db, namespace) as (mine, _):
            with db.connect() as connection:
                connection.execute(text("UPDATE customers SET name = 'lost' WHERE id = 1"))
                connection.rollback()
            mine.caught_up()
            assert [mine.kept(1), mine.kept(2)] == ["old", "old"]
            with db.begin() as connection:
                connection.execute(text("UPDATE customers SET name = 'told' WHERE id = 1"))
            mine.caught_up()
            assert [mine.kept(1), mine.kept(2), mine.name(1)] == [None, "old", "told"]
            with db.begin() as connection:
                values = "SELECT n, 'e' || n, 'x', 1, 's', 0 FROM generate_series(100, 600) AS n"
                connection.execute(text(f"INSERT INTO customers (id, email, name, tenant, status, balance) {values}"))
            mine.caught_up()
            assert [mine.kept(1), mine.kept(2)] == [None, None]
            with db.connect() as connection:
                assert (outbox.lag(connection).rows > 0) is note
    finally:
        with db.begin() as connection:
            triggers.remove(connection, ["customers"])
        outbox.definition.drop(db)


def test_a_process_that_uses_nothing_does_not_listen(db: Engine, namespace: str) -> None:
    """It begins to with its first read or write."""
    before = listeners()
    side = Side(db, namespace)
    assert set(listeners()) <= set(before)
    side.chain.put(Customer(id=1, email="a", name="new"))
    assert listeners() != []
    side.close()


async def test_under_asyncio(db: Engine, namespace: str) -> None:
    """An event loop's writers tell in their transactions, and what is told after one is told by a thread."""
    from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

    with two_sides(db, namespace) as (mine, _):
        for driver in ("asyncpg", "psycopg_async"):
            options = {"server_settings": {"search_path": str(db.url.query["options"]).partition("=")[2]}} if driver == "asyncpg" else {}
            url = db.url.set(drivername=f"postgresql+{driver}", query={} if options else db.url.query)
            engine = create_async_engine(url, connect_args=options)
            memory = ProcessMemoryStore(namespace=namespace, channel=db, max_staleness=30)
            chain = ChainedStore([memory, SqlAlchemyStore(engine=engine)])
            async with AsyncStore(chain) as store:
                await store.put(Customer(id=1, email="a", name=driver))
                mine.caught_up()
                assert (mine.kept(), mine.name(), mine.kept()) == (None, driver, driver)
                maker: async_sessionmaker[AsyncSession] = async_sessionmaker(engine, class_=type("Hooked", (AsyncSession,), {}))
                sync = SessionSync(chain).attach(maker)
                async with maker() as session:
                    (await session.get_one(Customer, 1)).name = "new"
                    await session.commit()
                mine.caught_up()
                assert (mine.kept(), mine.name()) == (None, "new")
                unseen(db, driver)
                await sync.async_invalidate(Customer, [1])
                mine.caught_up()
                assert mine.name() == driver
                sync.detach()
            await engine.dispose()


def test_lists_are_told(db: Engine, namespace: str) -> None:
    """Other keys of a row are checked by its own; that one came into a list is told of the list."""
    with two_sides(db, namespace) as (mine, theirs):
        assert mine.chain.get(Customer, {"tenant": 8, "name": "old"}) is not None
        with theirs.maker() as session:
            session.add(Order(id=5, number="n", customer_id=1))
            session.get_one(Customer, 2).tenant = 9
            session.commit()
        mine.caught_up()
        assert mine.chain.get(Customer, {"tenant": 8, "name": "old"}) is None
        assert mine.chain.get(Order, 5) is not None


def test_an_own_ticket_is_forgotten_with_all_else(sides: Sides) -> None:
    """A forked process has its parent's, and has to be told of what the parent commits then."""
    mine, _ = sides
    tier = tier_of(mine.memory)
    assert isinstance(tier, LocalTier)
    (ear,) = tier.hearing._ears.values()
    tier.hearing.own.add(b"ticket")
    ear.flush("start")
    assert (mine.name(), mine.kept()) == ("old", "old")
    ear.heard([keys_of(Customer).identity.record_text(mine.memory._namespace(), 1)], b"ticket")
    assert mine.kept() is None


def test_the_guarantee_names_the_channel(sides: Sides) -> None:
    """It says for how long memory may be behind, and by what it is told."""
    (memory,) = sides[0].sync.guarantee.tiers
    assert memory.level == "bounded 30 s"
    assert "PostgresChannel(" in memory.reasons[0]
