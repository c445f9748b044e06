"""The contract of sharded stores: over caches and over databases, alone and in chains."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine

from stockstore import ChainedStore, ProcessMemoryStore, RedisStore, ShardedStore, SqlAlchemyStore, Store
from stockstore.testing import StoreContract, metadata
from tests.stores.shop import empty


@pytest.fixture(scope="module")
def made_engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Engine]]:
    """Two databases."""
    made = [create_engine(f"sqlite:///{tmp_path_factory.mktemp('shards') / name}.db") for name in ("a", "b")]
    for engine in made:
        metadata.create_all(engine)
    yield made
    for engine in made:
        engine.dispose()


@pytest.fixture
def engines(made_engines: list[Engine]) -> list[Engine]:
    """Two databases without rows."""
    for engine in made_engines:
        empty(engine, metadata)
    return made_engines


@pytest.mark.sa_agnostic
class TestMemory(StoreContract):
    by_reference = True

    @pytest.fixture
    def store(self) -> Store:
        """Three shards."""
        return ShardedStore({name: ProcessMemoryStore() for name in ("red", "green", "blue")})


class TestDatabases(StoreContract):
    holds_plain_objects = False
    forgets_mapped = False

    @pytest.fixture
    def store(self, engines: list[Engine]) -> Store:
        """Two databases."""
        return ShardedStore([SqlAlchemyStore(engine=engine) for engine in engines])


class TestChainOverDatabases(StoreContract):
    by_reference = True
    forgets_mapped = False

    @pytest.fixture
    def store(self, redis_url: str, engines: list[Engine]) -> Iterator[Store]:
        """The origin of a chain is sharded."""
        database = ShardedStore([SqlAlchemyStore(engine=engine) for engine in engines])
        with ChainedStore([ProcessMemoryStore(), RedisStore(redis_url), database]) as store:
            yield store


class TestChainOfShards(StoreContract):
    forgets_mapped = False

    @pytest.fixture
    def store(self, redis_url: str, engines: list[Engine]) -> Iterator[Store]:
        """The caches are sharded, and the databases too, otherwise."""
        caches = ShardedStore([RedisStore(redis_url, namespace=name) for name in ("one", "two", "three")])
        with ChainedStore([caches, ShardedStore([SqlAlchemyStore(engine=engine) for engine in engines])]) as store:
            yield store
