"""Sessions that read through the caches, on the shop's tables."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from stockstore import ChainedStore, ProcessMemoryStore, RedisStore, SqlAlchemyStore
from stockstore_ext.sqlalchemy import SessionSync
from tests.read_through.served import Served
from tests.stores.shop import empty
from tests.sync.conftest import Attach, attach, cache, db, other, other_engine, shop_tables
from tests.sync.paths import Path

__all__ = ["attach", "cache", "db", "other", "other_engine", "served", "shared", "shop_tables"]


@pytest.fixture
def served(attach: Attach) -> Served:
    """A database, a chain above it, and sessions that read through it."""
    return Served(attach(read_through=True))


@pytest.fixture(scope="module")
def shared(shop_tables: Engine, other_engine: Engine, request: pytest.FixtureRequest) -> Iterator[Served]:
    """The same, for all tests of a module, which write nothing then."""
    empty(shop_tables)
    lite = shop_tables.dialect.name == "sqlite"
    cache = ProcessMemoryStore(max_staleness=None) if lite else RedisStore(request.getfixturevalue("redis_url"), namespace="shared reads")
    store = ChainedStore([cache, SqlAlchemyStore(engine=shop_tables)])
    maker: sessionmaker[Session] = sessionmaker(shop_tables, class_=type("Watched", (Session,), {}))
    sync = SessionSync(store, read_through=True).attach(maker)
    store.clear()
    yield Served(Path(shop_tables, other_engine, store, maker, sync))
    sync.detach()
    store.close()
