"""The contract of the stores on servers: Redis, a cluster, memcached, unix sockets."""

import contextlib
from collections.abc import Iterator

import pytest
from redis import RedisCluster

from stockstore import MemcacheStore, RedisStore
from stockstore.testing import CacheStoreContract
from stockstore.testing.cache_store_contract import MakeStore
from tests.servers.memcached import running_memcached


class TestRedis(CacheStoreContract):
    @pytest.fixture
    def make_store(self, redis_url: str) -> MakeStore:
        """By a URL."""
        return lambda **options: RedisStore(redis_url, **options)


@pytest.mark.sa_agnostic
class TestRedisByUnixSocket(CacheStoreContract):
    @pytest.fixture
    def make_store(self, redis_unix_url: str) -> MakeStore:
        """By a unix socket."""
        return lambda **options: RedisStore(redis_unix_url, **options)


@pytest.mark.sa_agnostic
class TestRedisCluster(CacheStoreContract):
    @pytest.fixture
    def make_store(self, redis_cluster_url: str) -> Iterator[MakeStore]:
        """By a cluster's client."""
        with contextlib.closing(RedisCluster.from_url(redis_cluster_url)) as client:
            yield lambda **options: RedisStore(client=client, **options)


class TestMemcache(CacheStoreContract):
    @pytest.fixture
    def make_store(self, memcached_address: str, namespace: str) -> MakeStore:
        """On one server, in a namespace of the test's own."""
        return lambda **options: MemcacheStore(memcached_address, **{"namespace": namespace, **options})


@pytest.mark.sa_agnostic
class TestMemcacheByUnixSocket(CacheStoreContract):
    @pytest.fixture
    def make_store(self, memcached_unix_path: str, namespace: str) -> MakeStore:
        """By a unix socket."""
        return lambda **options: MemcacheStore(memcached_unix_path, **{"namespace": namespace, **options})


@pytest.fixture(scope="module")
def three_addresses() -> Iterator[list[str]]:
    """Three servers for this file."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(running_memcached()).address for _ in range(3)]


@pytest.mark.sa_agnostic
class TestThreeMemcacheds(CacheStoreContract):
    @pytest.fixture
    def make_store(self, three_addresses: list[str], namespace: str) -> MakeStore:
        """On three servers."""
        return lambda **options: MemcacheStore(three_addresses, **{"namespace": namespace, **options})
