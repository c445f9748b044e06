"""The database by its async drivers: what is refused, and one connection for many tasks."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import StaticPool

from stockstore import AsyncStore, ChainedStore, ConfigurationError, OriginError, ProcessMemoryStore, SqlAlchemyStore, Store
from stockstore.aio.bridge import TaskLock, greenlet_spawn
from stockstore.testing import metadata
from stockstore.testing.samples import MappedUser
from stockstore_ext.sqlalchemy.janitor import Janitor

UNREACHABLE = "postgresql+asyncpg://nobody@localhost:1/nothing"


@pytest.fixture
async def memory() -> AsyncIterator[AsyncEngine]:
    """A database in memory, on one connection, with the contract's tables."""
    engine = create_async_engine("sqlite+aiosqlite://")
    assert isinstance(engine.pool, StaticPool)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    yield engine
    await engine.dispose()


BLOCKING: list[Callable[[Store], object]] = [
    lambda store: store.get(MappedUser, 1),
    lambda store: store.batch_get(MappedUser, [1]),
    lambda store: store.put(MappedUser(id=1)),
    lambda store: store.delete(MappedUser, 1),
    lambda store: store.delete(MappedUser(id=1)),
    lambda store: store.contains(MappedUser, 1),
    lambda store: store.get_or_load(MappedUser, 1, lambda: MappedUser(id=1)),
    lambda store: store.close(),
]


@pytest.mark.parametrize("verb", BLOCKING)
def test_a_blocking_call_is_refused_before_any_io(verb: Callable[[Store], object]) -> None:
    """On an async engine every verb of the store itself, and of a chain above it, says what to do instead."""
    database = SqlAlchemyStore(UNREACHABLE)
    for store in (database, ChainedStore([ProcessMemoryStore(), database])):
        with pytest.raises(ConfigurationError, match=r"called by blocking code; await AsyncStore\(store\) instead"):
            verb(store)


def test_a_blocking_engine_is_refused() -> None:
    """AsyncStore takes no store on an engine that blocks, and a chain no mixture."""
    blocking, awaited = SqlAlchemyStore("sqlite://"), SqlAlchemyStore(UNREACHABLE)
    with pytest.raises(ConfigurationError, match=r"SqlAlchemyStore\('sqlite://'\) would block the event loop; give AsyncStore"):
        AsyncStore(blocking)
    with pytest.raises(ConfigurationError, match=r"SqlAlchemyStore\('sqlite://'\) would block the event loop that"):
        ChainedStore([blocking, awaited])


def test_a_url_names_an_async_driver() -> None:
    """The engine is made as create_async_engine makes it; what is neither kind of engine is refused."""
    for url, async_ in (("sqlite+aiosqlite:///x.db", True), ("postgresql+psycopg_async://localhost/x", True), ("sqlite:///x.db", False)):
        assert SqlAlchemyStore(url).engine.dialect.is_async is async_
    with pytest.raises(ConfigurationError, match=r"engine is a sqlalchemy\.Engine, or an AsyncEngine, not str"):
        SqlAlchemyStore(engine="sqlite://")  # type: ignore[arg-type]


async def test_one_connection_serves_many_tasks_in_turn(memory: AsyncEngine) -> None:
    """With a database in memory no task sees, or ends, what another is about to write."""
    store = AsyncStore(SqlAlchemyStore(engine=memory))
    await asyncio.gather(*(store.put(MappedUser(id=number, email=f"{number}@x")) for number in range(20)))
    found = await asyncio.gather(*(store.get(MappedUser, number) for number in range(20)))
    assert [user and user.email for user in found] == [f"{number}@x" for number in range(20)]


async def test_another_sessions_transaction_is_not_ended(memory: AsyncEngine) -> None:
    """While a session has the one connection, with changes, the store says so."""
    store = AsyncStore(SqlAlchemyStore(engine=memory))
    async with AsyncSession(memory) as session:
        session.add(MappedUser(id=1, email="open"))
        await session.flush()
        with pytest.raises(OriginError, match="has an open transaction of another session; commit it first"):
            await store.get(MappedUser, 1)
        await session.commit()
    found = await store.get(MappedUser, 1)
    assert found is not None
    assert found.email == "open"


async def test_a_lock_of_tasks_lets_its_own_task_in_again() -> None:
    """Others wait, and one that is cancelled while it waits leaves it free."""
    lock, order = TaskLock(), list[str]()
    inside, go_on = asyncio.Event(), asyncio.Event()

    def first() -> None:
        from stockstore.aio.bridge import await_only

        with lock, lock:
            inside.set()
            await_only(go_on.wait())
            order.append("first")

    def then(name: str) -> None:
        with lock:
            order.append(name)

    holder = asyncio.ensure_future(greenlet_spawn(first))
    await inside.wait()
    second, third = (asyncio.ensure_future(greenlet_spawn(then, name)) for name in ("second", "third"))
    await asyncio.sleep(0)
    second.cancel()
    go_on.set()
    await asyncio.gather(holder, second, third, return_exceptions=True)
    assert order == ["first", "third"]


def test_a_janitor_is_blocking() -> None:
    """It has threads' engines and clients, and says so."""
    with pytest.raises(ConfigurationError, match="a janitor blocks"):
        Janitor(SqlAlchemyStore(UNREACHABLE).engine, [ProcessMemoryStore()])
