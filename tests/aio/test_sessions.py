"""The hook on AsyncSessions: the strict protocol through async drivers, whose sessions it hears, and what it refuses."""

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import Engine, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_scoped_session, async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import NullPool

from stockstore import AsyncStore, ChainedStore, ConfigurationError, ProcessMemoryStore, RedisStore, SqlAlchemyStore, Store
from stockstore.evidence import Outbox
from stockstore_ext.sqlalchemy import SessionSync
from tests.aio.conftest import CACHES
from tests.aio.databases import async_engine
from tests.stores.shop import Customer, Order

Maker = async_sessionmaker[AsyncSession]
CROSSED = pytest.mark.parametrize("cache", CACHES, indirect=True)


@pytest.fixture
async def store(cache: Store, db: AsyncEngine) -> AsyncIterator[AsyncStore]:
    """A chain of a cache and the database."""
    async with AsyncStore(ChainedStore([cache, SqlAlchemyStore(engine=db)])) as store:
        yield store


@pytest.fixture
async def maker(store: AsyncStore, db: AsyncEngine) -> AsyncIterator[Maker]:
    """Makes sessions that a hook is attached to."""
    maker = async_sessionmaker(db, expire_on_commit=False)
    sync = SessionSync(store.store).attach(maker)
    yield maker
    sync.detach()


def out_of_band(plain: Engine, **values: object) -> None:
    """Change the customer past everything."""
    with plain.begin() as connection:
        connection.execute(update(Customer.__table__).values(**values))  # type: ignore[arg-type]


async def cached(store: AsyncStore, plain: Engine) -> Customer:
    """Read the customer, and prove that it is cached."""
    await store.get(Customer, 1)
    out_of_band(plain, status="out of band")
    found = await store.get(Customer, 1)
    assert found is not None
    assert found.status != "out of band"
    return found


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("driver", ["asyncpg"])
@pytest.mark.parametrize("options", [{}, {"consistency": "fast"}], ids=str)
def test_commits_in_loops_that_are_closed_after_each(
    plain: Engine, driver: str, redis_url: str, namespace: str, options: dict[str, Any]
) -> None:
    """Each is told to the cache, although nobody has closed the store before its first loop ended: others see no old row."""
    engine = async_engine(plain.url, driver, poolclass=NullPool)
    cache = RedisStore(redis_url.replace("://", "+asyncio://", 1), namespace=namespace)
    store, maker = AsyncStore(ChainedStore([cache, SqlAlchemyStore(engine=engine)])), async_sessionmaker(engine)
    others = ChainedStore([RedisStore(redis_url, namespace=namespace), SqlAlchemyStore(engine=plain)])
    sync = SessionSync(store.store, **options).attach(maker)
    asyncio.run(store.put(Customer(id=1, email="a")))

    async def rename(name: str) -> None:
        async with maker() as session:
            await session.execute(update(Customer).values(name=name))
            await session.commit()

    for name in ("ann", "bob"):
        others.get(Customer, 1)
        asyncio.run(rename(name))
        found = others.get(Customer, 1)
        assert found is not None
        assert found.name == name
    asyncio.run(store.close())
    sync.detach()
    others.close()
    gc.collect()  # what nobody has closed is told of here


@CROSSED
async def test_a_commit_is_written_through(store: AsyncStore, maker: Maker, plain: Engine) -> None:
    """What an AsyncSession commits is what the cache has afterwards, without a read; what it rolls back is not."""
    async with maker() as session:
        session.add(Customer(id=1, email="a", status="one", orders=[Order(id=1, number="o")]))
        await session.commit()
    await cached(store, plain)
    async with maker() as session:
        customer = await session.get_one(Customer, 1)
        customer.name = "undone"
        await session.flush()
        await session.rollback()
        customer = await session.get_one(Customer, 1)
        customer.name, customer.status = "bob", "two"
        await session.commit()
    out_of_band(plain, status="out of band")
    found = await store.get(Customer, 1)
    assert found is not None
    assert (found.name, found.status) == ("bob", "two")
    async with maker() as session:
        await session.execute(update(Customer).values(name="bulk"))
        await session.commit()
    found = await store.get(Customer, 1)
    assert found is not None
    assert (found.name, found.status) == ("bulk", "out of band")
    async with maker() as session:
        await session.delete(await session.get_one(Customer, 1, options=[]))
        await session.commit()
    assert await store.get(Customer, 1) is None
    assert await store.get(Order, 1) is None


@pytest.mark.parametrize("cache", ["redis"], indirect=True)
async def test_the_outbox_is_created(store: AsyncStore, db: AsyncEngine, plain: Engine) -> None:
    """By an AsyncEngine beside a running loop, twice too; what an AsyncSession commits has its row there then."""
    Outbox().definition.drop(plain)
    maker = async_sessionmaker(db)
    sync = SessionSync(store.store, outbox=True)
    sync.create_outbox(db)
    sync.create_outbox(db)
    sync.attach(maker)
    async with maker() as session:
        session.add(Customer(id=1, email="a"))
        await session.commit()
    sync.detach()
    with plain.connect() as connection:
        assert any("Customer:id:i1" in texts for texts in connection.scalars(select(Outbox().definition.c.texts)))
    await cached(store, plain)


async def test_the_guarantee_is_strict(store: AsyncStore, db: AsyncEngine, plain: Engine) -> None:
    """Attached beside a running loop, and without any, it is what a blocking set-up has."""
    sync = SessionSync(store.store, require="strict")
    sync.attach(async_sessionmaker(db))
    assert {tier.level for tier in sync.guarantee.tiers} == {"strict"}
    sync.detach()
    assert (await asyncio.to_thread(lambda: sync.guarantee)).is_strict


async def test_sessions_read_through(store: AsyncStore, db: AsyncEngine, plain: Engine) -> None:
    """With read_through=True an AsyncSession is given what the cache has."""
    maker = async_sessionmaker(db)
    sync = SessionSync(store.store, read_through=True).attach(maker)
    async with maker() as session:
        session.add(Customer(id=1, email="a", status="one"))
        await session.commit()
    await cached(store, plain)
    async with maker() as session:
        customer = await session.get_one(Customer, 1)
        assert customer.status == "one"
        assert customer in session
    async with maker() as session:
        found = await session.scalars(select(Customer).where(Customer.email == "a"))
        assert [customer.status for customer in found] == ["one"]
    sync.detach()


async def test_only_the_sessions_of_the_target_are_heard(store: AsyncStore, db: AsyncEngine, plain: Engine) -> None:
    """A maker's sessions alone, also one's with a class of its own for sync sessions; those of a class; those of a registry."""

    class Routed(Session):
        pass

    class Own(AsyncSession):
        pass

    other: Maker = async_sessionmaker(db)
    makers: list[Any] = [async_sessionmaker(db, sync_session_class=Routed), async_sessionmaker(db, class_=Own)]
    scoped = async_scoped_session(async_sessionmaker(db), scopefunc=asyncio.current_task)
    targets = [makers[0], Own, scoped]
    async with other() as session:
        session.add(Customer(id=1, email="a", status="0"))
        await session.commit()
    for number, (target, makes) in enumerate(zip(targets, [*makers, scoped], strict=True), 1):
        sync = SessionSync(store.store).attach(target)
        await store.get(Customer, 1)
        async with other() as session:
            assert type(session.sync_session) is Session
            (await session.get_one(Customer, 1)).status = f"unheard {number}"
            await session.commit()
        assert (await _status(store)) != f"unheard {number}"
        async with makes() as session:
            assert isinstance(session.sync_session, Routed if number == 1 else Session)
            (await session.get_one(Customer, 1)).status = f"heard {number}"
            await session.commit()
        assert await _status(store) == f"heard {number}"
        with pytest.raises(ConfigurationError, match="another SessionSync of this store is attached"):
            SessionSync(store.store).attach(target)
        sync.detach()
        SessionSync(store.store).attach(target).detach()
    await scoped.remove()


async def _status(store: AsyncStore) -> str:
    found = await store.get(Customer, 1)
    assert found is not None
    return found.status


@pytest.mark.parametrize("driver", ["aiosqlite"], indirect=True)
async def test_what_does_not_fit_is_refused(db: AsyncEngine, plain: Engine, redis_url: str) -> None:
    """A cache that would block async sessions, and one for asyncio under blocking sessions, before any I/O."""
    blocking, awaited = RedisStore("redis://localhost:1"), RedisStore("redis+asyncio://localhost:1")
    with pytest.raises(ConfigurationError, match=r"RedisStore\(.*\) would block the event loop of async_sessionmaker"):
        SessionSync(ChainedStore([ProcessMemoryStore(), blocking])).attach(async_sessionmaker(db))
    for target in (sessionmaker(plain), None):
        with pytest.raises(ConfigurationError, match=r"is for asyncio, and .* makes sessions that block"):
            SessionSync(awaited).attach(target)
    with pytest.raises(ConfigurationError, match=r"is for asyncio, and was called by blocking code; await sync.async_invalidate"):
        SessionSync(awaited).invalidate(Customer)
    with pytest.raises(ConfigurationError, match="attach takes a Session class, a sessionmaker"):
        SessionSync(awaited).attach(AsyncStore)  # type: ignore[arg-type]


@CROSSED
async def test_what_others_wrote_is_invalidated(store: AsyncStore, maker: Maker, plain: Engine) -> None:
    """By keys of any sort, and by the class."""
    sync = SessionSync(store.store)
    async with maker() as session:
        session.add(Customer(id=1, email="a", status="one"))
        await session.commit()
    for number, keys in enumerate(([1], [{"email": "a"}], None)):
        await cached(store, plain)
        out_of_band(plain, status=f"told {number}")
        await sync.async_invalidate(Customer, keys)
        assert await _status(store) == f"told {number}"


async def test_a_failed_transaction_ends_as_without_the_hook(maker: Maker, store: AsyncStore, plain: Engine) -> None:
    """A statement that failed, and a COMMIT after it, leave the row and its cell as they were."""
    async with maker() as session:
        session.add_all([Customer(id=1, email="a", status="one", name="x"), Customer(id=2, email="b", name="y")])
        await session.commit()
    await cached(store, plain)
    async with maker() as session:
        (await session.get_one(Customer, 1)).email = "b"
        with pytest.raises(Exception, match=r"(?i)unique"):
            await session.commit()
        await session.rollback()
    found = await store.get(Customer, 1)
    assert found is not None
    assert found.email == "a"


@pytest.mark.parametrize("driver", ["aiosqlite"], indirect=True)
async def test_what_a_session_has_read_needs_no_garbage_collector(store: AsyncStore, db: AsyncEngine, plain: Engine) -> None:
    """It asks SQLite what the driver does not tell, and gets an error for an answer, which would hold all frames around it."""
    with Session(plain) as session:
        session.add_all([Customer(id=number, email=str(number)) for number in (1, 2)])
        session.commit()
    maker = async_sessionmaker(db)
    sync = SessionSync(store.store, read_through=True).attach(maker)
    gc.disable()
    try:
        async with maker() as session:
            for _ in range(2):
                await session.run_sync(lambda below: len(below.scalars(select(Customer).where(Customer.id.in_([1, 2]))).all()))
                assert not session.sync_session.identity_map.keys()
                await sync.async_invalidate(Customer)
    finally:
        gc.enable()
        sync.detach()
