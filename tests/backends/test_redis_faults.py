"""Redis servers that die, freeze, restart, refuse; Sentinel; forked processes."""

import contextlib
from collections.abc import Callable, Iterator

import pytest
from redis import Redis

from stockstore.backends import RedisBackend
from stockstore.errors import CacheUnreachable
from tests.backends.faults import ITEM, KEY, OPERATIONS, TIMEOUT, Faults, Operation
from tests.servers.redis import RedisServer
from tests.servers.redis_sentinel import SentinelServer
from tests.servers.server import folder

pytestmark = pytest.mark.sa_agnostic

STEPS: dict[str, Callable[[RedisBackend], object]] = {
    "lease": lambda backend: backend.lease_many({KEY: None}, bytes(16), "n:C:"),
    "fill": lambda backend: backend.fill_many([ITEM], bytes(16)),
    "put": lambda backend: backend.put_many([ITEM]),
    "mark": lambda backend: backend.mark_many([KEY], b"t"),
    "release": lambda backend: backend.release_many([KEY], b"t", committed=True),
}


class TestRedisFaults(Faults):
    @pytest.fixture(params=[*OPERATIONS.values(), *STEPS.values()], ids=[*OPERATIONS, *STEPS])
    def operation(self, request: pytest.FixtureRequest) -> Operation:
        """Each operation and each step in turn."""
        operation: Operation = request.param
        return operation

    @pytest.fixture
    def server(self, start_redis: Callable[..., RedisServer]) -> RedisServer:
        """A server to hurt."""
        return start_redis()

    @pytest.fixture
    def backend(self, server: RedisServer) -> Iterator[RedisBackend]:
        """A backend on it."""
        with contextlib.closing(RedisBackend(server.url, connect_timeout=TIMEOUT, read_timeout=TIMEOUT)) as backend:
            yield backend

    @pytest.fixture
    def connections(self, server: RedisServer) -> Iterator[Callable[[], int]]:
        """How many connections the server ever got."""
        with Redis.from_url(server.url) as observer:
            yield lambda: int(observer.info("stats")["total_connections_received"])


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
def test_a_wrong_password_is_unreachable_and_not_shown(start_redis: Callable[..., RedisServer], operation: Callable[..., object]) -> None:
    """A refused login is an error without the password in it."""
    server = start_redis("--requirepass", "right")
    for credentials in (":s3cret@", ""):
        with contextlib.closing(RedisBackend(f"redis://{credentials}{server.address}")) as backend:
            with pytest.raises(CacheUnreachable, match=server.address) as caught:
                operation(backend)
            assert "s3cret" not in str(caught.value)


def test_the_right_password_works(start_redis: Callable[..., RedisServer]) -> None:
    """Credentials in the URL are used."""
    server = start_redis("--requirepass", "right")
    with contextlib.closing(RedisBackend(f"redis://:right@{server.address}")) as backend:
        backend.set_many([ITEM])
        assert backend.get_many([KEY]) == {KEY: b"value"}


def test_a_full_server_is_unreachable(start_redis: Callable[..., RedisServer]) -> None:
    """A write that Redis refuses for want of memory is an error that says so, and reads go on."""
    server = start_redis("--maxmemory", "1", "--maxmemory-policy", "noeviction")
    with contextlib.closing(RedisBackend(server.url)) as backend:
        with pytest.raises(CacheUnreachable, match="maxmemory"):
            backend.set_many([ITEM])
        assert backend.get_many([KEY]) == {}


def test_a_replica_refuses_writes(start_redis: Callable[..., RedisServer]) -> None:
    """A write to a read-only server is an error, never lost in silence."""
    primary = start_redis()
    replica = start_redis("--replicaof", "127.0.0.1", str(primary.port))
    with contextlib.closing(RedisBackend(replica.url)) as backend, pytest.raises(CacheUnreachable):
        backend.set_many([ITEM])


def test_a_server_that_is_no_redis_is_unreachable(memcached_address: str) -> None:
    """Nonsense for an answer is an error of the cache."""
    with contextlib.closing(RedisBackend(f"redis://{memcached_address}", read_timeout=TIMEOUT)) as backend, pytest.raises(CacheUnreachable):
        backend.get_many([KEY])


def test_flushed_values_are_absent(redis_url: str) -> None:
    """After a flush nothing is there, and writing goes on."""
    with Redis.from_url(redis_url) as other, contextlib.closing(RedisBackend(redis_url)) as backend:
        backend.set_many([ITEM])
        other.flushall()
        assert backend.get_many([KEY]) == {}
        backend.set_many([ITEM])
        assert backend.get_many([KEY]) == {KEY: b"value"}


def test_a_sentinels_primary_works(start_redis: Callable[..., RedisServer]) -> None:
    """A client that asks Sentinel for its server keeps values there, and is described by the service."""
    primary = start_redis()
    with folder() as directory, SentinelServer(directory, primary).running() as sentinel, sentinel.client() as client:
        backend = RedisBackend(client=client)
        backend.set_many([ITEM])
        assert backend.get_many([KEY]) == {KEY: b"value"}
        assert repr(backend) == """RedisBackend("Sentinel's caches")"""
        primary.stop()
        with pytest.raises(CacheUnreachable, match="Sentinel's caches"):
            backend.get_many([KEY])
