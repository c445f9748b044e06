"""The stores' contract by AsyncStore."""

import asyncio
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import StaticPool

from stockstore import ChainedStore, MappingStore, MemcacheStore, ProcessMemoryStore, RedisStore, SqlAlchemyStore, Store, ThreadLocalStore
from stockstore.testing import CacheStoreContract, StoreContract, metadata
from stockstore.testing.cache_store_contract import MakeStore
from tests.aio.databases import async_engine
from tests.aio.driven import Driven, driving
from tests.stores.shop import empty

Drive = Callable[[Store], Driven]


@pytest.fixture
def drive() -> Iterator[Drive]:
    """What drives stores on an event loop."""
    with driving(asyncio.new_event_loop) as drive:
        yield drive


@pytest.mark.sa_agnostic
class TestProcessMemory(CacheStoreContract):
    by_reference = True
    shares_storage = False

    @pytest.fixture
    def make_store(self, drive: Drive) -> MakeStore:
        """Of its own."""
        return lambda **options: drive(ProcessMemoryStore(**options))


@pytest.mark.sa_agnostic
class TestMemoryMapping(StoreContract):
    by_reference = True

    @pytest.fixture
    def store(self, drive: Drive) -> Store:
        """A chain without I/O."""
        return drive(ChainedStore([ProcessMemoryStore(), MappingStore({})]))


@pytest.mark.sa_agnostic
class TestThreadLocalMapping(StoreContract):
    @pytest.fixture
    def store(self, drive: Drive) -> Store:
        """A chain whose first tier knows each call's task: none finds what another has put there."""
        return drive(ChainedStore([ThreadLocalStore(), MappingStore({})]))


@pytest.fixture(params=["aiosqlite", "psycopg_async"])
def contract_engine(request: pytest.FixtureRequest) -> AsyncEngine:
    """An engine, by one driver and another, of a database in which the contract's tables are empty."""
    engine: Engine = request.getfixturevalue("sqlite_engine" if request.param == "aiosqlite" else "postgres_engine")
    metadata.create_all(engine)
    empty(engine, metadata)
    return async_engine(engine.url, request.param)


class TestDatabase(StoreContract):
    holds_plain_objects = False
    forgets_mapped = False

    @pytest.fixture
    def store(self, contract_engine: AsyncEngine, drive: Drive) -> Iterator[Store]:
        """On an engine."""
        store = drive(SqlAlchemyStore(engine=contract_engine))
        yield store
        store.run(contract_engine.dispose())


class TestDatabaseInMemory(StoreContract):
    holds_plain_objects = False
    forgets_mapped = False

    @pytest.fixture
    def store(self, drive: Drive) -> Iterator[Store]:
        """On one connection for all."""
        engine = create_async_engine("sqlite+aiosqlite://")
        assert isinstance(engine.pool, StaticPool)
        store = drive(SqlAlchemyStore(engine=engine))
        store.run(_make_tables(engine))
        yield store
        store.run(engine.dispose())


@pytest.mark.parametrize("contract_engine", ["asyncpg"], indirect=True)
class TestMemoryDatabase(StoreContract):
    by_reference = True
    forgets_mapped = False

    @pytest.fixture
    def store(self, contract_engine: AsyncEngine, drive: Drive) -> Iterator[Store]:
        """A chain, with strict writes."""
        store = drive(ChainedStore([ProcessMemoryStore(), MappingStore({}), SqlAlchemyStore(engine=contract_engine)]))
        yield store
        store.run(contract_engine.dispose())


async def _make_tables(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)


@pytest.mark.sa_agnostic
class TestRedis(CacheStoreContract):
    @pytest.fixture
    def make_store(self, redis_url: str, drive: Drive) -> MakeStore:
        """By a URL."""
        return lambda **options: drive(RedisStore(redis_url.replace("://", "+asyncio://", 1), **options))


@pytest.mark.sa_agnostic
class TestMemcache(CacheStoreContract):
    @pytest.fixture
    def make_store(self, memcached_address: str, namespace: str, drive: Drive) -> MakeStore:
        """On one server, whose sockets threads serve."""
        return lambda **options: drive(MemcacheStore(memcached_address, **{"namespace": namespace, **options}))
