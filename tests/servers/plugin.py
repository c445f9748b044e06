"""The fixtures that give tests real servers.

Shared ones, for the whole run: `redis_url`, `redis_unix_url`, `redis_cluster_url`, `memcached_address`, `memcached_unix_path`,
`postgres_url`, `mariadb_url`. A test of its own, to be stopped and frozen: `start_redis`, `start_memcached`, `start_postgres`,
`start_mariadb`.
"""

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator

import pytest
from redis import Redis, RedisCluster

from tests.servers.ending import interrupt_on_sigterm
from tests.servers.mariadb import MariadbServer, running_mariadb
from tests.servers.memcached import MemcachedServer, running_memcached
from tests.servers.postgres import PostgresServer, running_postgres
from tests.servers.redis import RedisServer, running_redis
from tests.servers.redis_cluster import running_redis_nodes


def pytest_configure() -> None:
    """Let the fixtures be taken down also where the run is ended from outside."""
    interrupt_on_sigterm()


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """The Redis that all tests share; no test may stop it."""
    with running_redis() as server:
        yield server


@pytest.fixture(scope="session")
def redis_url(request: pytest.FixtureRequest) -> str:
    """The URL of a Redis database that is empty at the start of each test that names this fixture."""
    return os.environ.get("STOCKSTORE_TEST_REDIS_URL") or str(request.getfixturevalue("shared_redis").url)


@pytest.fixture(scope="session")
def redis_unix_url(shared_redis: RedisServer) -> str:
    """The URL, by a unix socket, of a Redis database that is empty at the start of each test that names this fixture."""
    return shared_redis.unix_url


@pytest.fixture(scope="session")
def redis_cluster_url() -> Iterator[str]:
    """The URL of a Redis Cluster of three nodes, empty at the start of each test that names this fixture."""
    with running_redis_nodes() as cluster:
        yield cluster.url


@pytest.fixture(scope="session")
def _cleaners() -> Iterator[dict[str, Redis]]:
    """The clients that empty each Redis."""
    clients: dict[str, Redis] = {}
    yield clients
    for client in clients.values():
        client.close()


@pytest.fixture(autouse=True)
def _clean_redis(request: pytest.FixtureRequest, _cleaners: dict[str, Redis]) -> None:
    for name in {"redis_url", "redis_unix_url"} & set(request.fixturenames):
        url = request.getfixturevalue(name)
        if url not in _cleaners:
            _cleaners[url] = Redis.from_url(url)
        _cleaners[url].flushdb()
    if "redis_cluster_url" in request.fixturenames:
        with contextlib.closing(RedisCluster.from_url(request.getfixturevalue("redis_cluster_url"))) as cluster:
            cluster.flushdb()


@pytest.fixture(scope="session")
def memcached_address() -> Iterator[str]:
    """The `host:port` of a memcached that all tests share: keep to your `namespace`, and never flush it."""
    if address := os.environ.get("STOCKSTORE_TEST_MEMCACHED"):
        yield address
    else:
        with running_memcached() as server:
            yield server.address


@pytest.fixture(scope="session")
def memcached_unix_path() -> Iterator[str]:
    """The path of a unix socket of a memcached that all tests share."""
    with running_memcached(unix=True) as server:
        yield str(server.unix_path)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL (`postgresql+psycopg://`) of a database that all tests share: `postgres_engine` gives a schema of its own."""
    if url := os.environ.get("STOCKSTORE_TEST_POSTGRES_URL"):
        yield url
    else:
        with running_postgres() as server:
            yield server.url


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test uses."""
    return uuid.uuid4().hex


@pytest.fixture
def start_redis() -> Iterator[Callable[..., RedisServer]]:
    """A function of more redis-server options that starts a Redis of the test's own."""
    with contextlib.ExitStack() as stack:
        yield lambda *options: stack.enter_context(running_redis(*options))


@pytest.fixture
def start_memcached() -> Iterator[Callable[..., MemcachedServer]]:
    """A function of more memcached options, and `unix=True`, that starts a memcached of the test's own."""
    with contextlib.ExitStack() as stack:
        yield lambda *options, unix=False: stack.enter_context(running_memcached(*options, unix=unix))


@pytest.fixture
def memcached_cluster(start_memcached: Callable[..., MemcachedServer]) -> Callable[[int], list[MemcachedServer]]:
    """A function of a number that starts so many memcacheds of the test's own."""
    return lambda count: [start_memcached() for _ in range(count)]


@pytest.fixture
def start_postgres() -> Iterator[Callable[[], PostgresServer]]:
    """A function that starts a PostgreSQL of the test's own, in about two seconds."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(running_postgres())


@pytest.fixture(scope="session")
def mariadb_url() -> Iterator[str]:
    """The URL (`mariadb+pymysql://`) of a database that all tests share: `mariadb_engine` gives one of the module's own."""
    if url := os.environ.get("STOCKSTORE_TEST_MARIADB_URL"):
        yield url
    else:
        with running_mariadb() as server:
            yield server.url


@pytest.fixture
def start_mariadb() -> Iterator[Callable[[], MariadbServer]]:
    """A function that starts a MariaDB of the test's own, in about three seconds."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(running_mariadb())
