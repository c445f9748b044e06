"""The shop's tables by each async driver, and caches that do not block."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Engine, inspect
from sqlalchemy.ext.asyncio import AsyncEngine

from stockstore import MemcacheStore, ProcessMemoryStore, RedisStore, Store
from stockstore.evidence import Outbox
from tests.aio.databases import async_engine
from tests.stores.shop import Customer, create_tables, empty
from tests.sync.conftest import MEMCACHED

CACHES = ["memory", "redis", MEMCACHED]


@pytest.fixture(params=["aiosqlite", "asyncpg", "psycopg_async"])
def driver(request: pytest.FixtureRequest) -> str:
    """Each async driver in turn."""
    return str(request.param)


@pytest.fixture
def plain(driver: str, request: pytest.FixtureRequest) -> Engine:
    """A blocking engine on the driver's database, in which the shop's tables are empty, with the outbox; nobody watches it."""
    engine: Engine = request.getfixturevalue("sqlite_engine" if driver == "aiosqlite" else "postgres_engine")
    if not inspect(engine).has_table(Customer.__tablename__):
        create_tables(engine)
    Outbox().create(engine)
    empty(engine)
    return engine


@pytest.fixture
async def db(plain: Engine, driver: str) -> AsyncIterator[AsyncEngine]:
    """The async engine on it."""
    engine = async_engine(plain.url, driver)
    yield engine
    await engine.dispose()


@pytest.fixture
def cache(request: pytest.FixtureRequest, namespace: str, driver: str) -> Store:
    """A cache that does not block: process memory above SQLite, Redis above PostgreSQL, or the one that a test names."""
    kind = getattr(request, "param", "memory" if driver == "aiosqlite" else "redis")
    if kind == "memory":
        return ProcessMemoryStore(max_staleness=None, namespace=namespace)
    if kind == "redis":
        url = request.getfixturevalue("redis_url")
        return RedisStore(url.replace("://", "+asyncio://", 1), namespace=namespace)
    return MemcacheStore([request.getfixturevalue("memcached_address")], namespace=namespace)
