"""The contract of chains, and of a store written straight over the abstract methods, alone and in a chain."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from stockstore import ChainedStore, MappingStore, MemcacheStore, NullStore, ProcessMemoryStore, RedisStore, SqlAlchemyStore, Store
from stockstore.testing import StoreContract
from tests.stores.custom import PickleStore, ShoutingRedisStore


class TestMemoryRedisDatabase(StoreContract):
    by_reference = True
    forgets_mapped = False

    @pytest.fixture
    def store(self, redis_url: str, contract_engine: Engine) -> Iterator[Store]:
        """The chain of the quickstart, on SQLite and on PostgreSQL."""
        with ChainedStore([ProcessMemoryStore(), RedisStore(redis_url), SqlAlchemyStore(engine=contract_engine)]) as store:
            yield store


@pytest.mark.sa_agnostic
class TestMemoryMapping(StoreContract):
    by_reference = True

    @pytest.fixture
    def store(self) -> Store:
        """A chain without a database."""
        return ChainedStore([ProcessMemoryStore(), MappingStore({})])


class TestNested(StoreContract):
    forgets_mapped = False

    @pytest.fixture
    def store(self, memcached_address: str, namespace: str, sqlite_contract_engine: Engine) -> Iterator[Store]:
        """Chains in a chain, and a tier that keeps nothing."""
        caches = ChainedStore([NullStore(), ProcessMemoryStore(copy=True), MemcacheStore(memcached_address, namespace=namespace)])
        with ChainedStore([ChainedStore([caches]), ChainedStore([SqlAlchemyStore(engine=sqlite_contract_engine)])]) as store:
            yield store


@pytest.mark.sa_agnostic
class TestCustom(StoreContract):
    attaches = False
    counts = False

    @pytest.fixture
    def store(self) -> Store:
        """A store of a third party, alone."""
        return PickleStore()


@pytest.mark.sa_agnostic
class TestMemoryCustom(StoreContract):
    by_reference = True
    counts = False

    @pytest.fixture
    def store(self) -> Store:
        """A store of a third party as the origin."""
        return ChainedStore([ProcessMemoryStore(), PickleStore()])


class TestCustomDatabase(StoreContract):
    counts = False
    forgets_mapped = False

    @pytest.fixture
    def store(self, sqlite_contract_engine: Engine) -> Store:
        """A store of a third party as the cache."""
        return ChainedStore([PickleStore(), SqlAlchemyStore(engine=sqlite_contract_engine)])


@pytest.mark.sa_agnostic
class TestSubclassInTheMiddle(StoreContract):
    by_reference = True
    forgets_mapped = False

    @pytest.fixture
    def store(self, redis_url: str, sqlite_contract_engine: Engine) -> Iterator[Store]:
        """A tier that overrides a verb of ours."""
        with ChainedStore([ProcessMemoryStore(), ShoutingRedisStore(redis_url), SqlAlchemyStore(engine=sqlite_contract_engine)]) as store:
            yield store
