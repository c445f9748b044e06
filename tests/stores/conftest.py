"""The contract's and the shop's tables in each database, empty, and the chain of the quickstart on them."""

import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import time_machine
from sqlalchemy import Engine
from time_machine import Traveller

from stockstore import ChainedStore, ProcessMemoryStore, RedisStore, SqlAlchemyStore
from stockstore.testing import metadata
from tests.statements import recorded
from tests.stores.shop import columns_of, create_tables, empty


@pytest.fixture(scope="module")
def contract_tables(engine: Engine) -> Iterator[Engine]:
    """The engine of a database that has the contract's tables, SQLite and PostgreSQL in turn."""
    metadata.create_all(engine)
    yield engine
    metadata.drop_all(engine)


@pytest.fixture
def contract_engine(contract_tables: Engine) -> Engine:
    """The engine of a database in which the contract's tables are empty."""
    empty(contract_tables, metadata)
    return contract_tables


@pytest.fixture
def sqlite_contract_engine(sqlite_engine: Engine) -> Engine:
    """The engine of an SQLite database in which the contract's tables are empty."""
    metadata.create_all(sqlite_engine)
    empty(sqlite_engine, metadata)
    return sqlite_engine


@pytest.fixture(scope="module")
def shop_tables(engine: Engine) -> Engine:
    """The engine of a database that has the shop's tables, SQLite and PostgreSQL in turn."""
    create_tables(engine)
    return engine


@pytest.fixture
def db(shop_tables: Engine) -> Engine:
    """The engine of a database in which the shop's tables are empty."""
    empty(shop_tables)
    return shop_tables


@pytest.fixture(scope="module")
def _sqlite_shop(sqlite_engine: Engine) -> Engine:
    create_tables(sqlite_engine)
    return sqlite_engine


@pytest.fixture
def lite(_sqlite_shop: Engine) -> Engine:
    """The engine of an SQLite database in which the shop's tables are empty."""
    empty(_sqlite_shop)
    return _sqlite_shop


class Shop(NamedTuple):
    """A chain and its tiers."""

    chain: ChainedStore
    memory: ProcessMemoryStore
    redis: RedisStore
    database: SqlAlchemyStore
    engine: Engine

    def readings(self, cls: type[Any], key: object) -> list[dict[str, object] | None]:
        """Give what each tier by itself, and the chain, has of a key."""
        found = [store.get(cls, key) for store in (self.memory, self.redis, self.database, self.chain)]
        return [None if obj is None else columns_of(obj) for obj in found]


@pytest.fixture
def shop(db: Engine, redis_url: str) -> Iterator[Shop]:
    """Process memory, Redis and the database."""
    tiers = (ProcessMemoryStore(max_staleness=None), RedisStore(redis_url), SqlAlchemyStore(engine=db))
    with ChainedStore(tiers) as chain:
        yield Shop(chain, *tiers, db)


@pytest.fixture
def statements(db: Engine) -> Iterator[list[str]]:
    """The statements sent to the database from now on."""
    with recorded(db) as sent:
        yield sent


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Traveller]:
    """Clocks, the monotonic one too, that stand until the test moves them."""
    with time_machine.travel(time.time(), tick=False) as traveller:
        follow_wall_clock(monkeypatch)
        yield traveller


def follow_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make what counts on the monotonic clock count on the other one, which tests can move."""
    for name, module in list(sys.modules.items()):
        if name.startswith("stockstore.") and hasattr(module, "_now"):
            monkeypatch.setattr(module, "_now", time.time)
