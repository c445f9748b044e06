"""The contract of backends on Redis: by TCP, by a unix socket, by a ready client, on a cluster."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio import Redis as AwaitedRedis

from stockstore.backends import RedisBackend
from stockstore.errors import ConfigurationError
from stockstore.testing import CoherentBackendContract
from tests.backends.relay import relayed
from tests.servers.redis import RedisServer

pytestmark = pytest.mark.sa_agnostic


class TestRedis(CoherentBackendContract):
    @pytest.fixture
    def backend(self, redis_url: str) -> Iterator[RedisBackend]:
        """By a URL."""
        with contextlib.closing(RedisBackend(redis_url)) as backend:
            yield backend

    @pytest.fixture
    def other(self, redis_url: str) -> Iterator[RedisBackend]:
        """With connections of its own."""
        with contextlib.closing(RedisBackend(redis_url)) as backend:
            yield backend


class TestRedisByUnixSocket(CoherentBackendContract):
    @pytest.fixture
    def backend(self, redis_unix_url: str) -> Iterator[RedisBackend]:
        """By a unix socket."""
        with contextlib.closing(RedisBackend(redis_unix_url)) as backend:
            yield backend


class TestRedisClient(CoherentBackendContract):
    @pytest.fixture
    def backend(self, redis_url: str) -> Iterator[RedisBackend]:
        """By a ready client."""
        with Redis.from_url(redis_url) as client:
            yield RedisBackend(client=client)

    @pytest.fixture
    def other(self, backend: RedisBackend, redis_url: str) -> Iterator[RedisBackend]:
        """By a pool of two connections, to which threads wait, in the later protocol."""
        pool = BlockingConnectionPool.from_url(redis_url, max_connections=2, protocol=3)
        with Redis.from_pool(pool) as client:
            yield RedisBackend(client=client)


class TestRedisCluster(CoherentBackendContract):
    @pytest.fixture
    def backend(self, redis_cluster_url: str) -> Iterator[RedisBackend]:
        """On a cluster."""
        with contextlib.closing(RedisCluster.from_url(redis_cluster_url)) as client:
            yield RedisBackend(client=client)

    @pytest.fixture
    def other(self, redis_cluster_url: str) -> Iterator[RedisBackend]:
        """With connections of its own."""
        with contextlib.closing(RedisCluster.from_url(redis_cluster_url)) as client:
            yield RedisBackend(client=client)


@pytest.mark.parametrize(
    "url",
    [
        "localhost",
        "http://localhost",
        "redis://host:port",
        "redis://host:99999",
        "redis://host?colour=red",
        "redis://host?socket_timeout=soon",
        "",
    ],
)
def test_a_bad_url_is_refused_at_construction(url: str) -> None:
    """A URL that cannot work is refused before any operation, and the message shows it and the forms that work."""
    with pytest.raises(ConfigurationError, match=r"is no Redis URL that can be used; write redis://") as caught:
        RedisBackend(url)
    assert url.replace("port", "***") in str(caught.value)


@pytest.mark.parametrize(
    "url", ["redis://host/shop", "rediss://host/1/2", "unix://", "unix://run/redis.sock", "redis://[::1/0", "redis://host:0/1"]
)
def test_what_redis_py_would_pass_over_is_refused(url: str) -> None:
    """A database that is no number, a socket without a path, or port 0, never ends in another database than the URL names."""
    with pytest.raises(ConfigurationError, match=r"write redis://"):
        RedisBackend(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:pa/s3cret@host:1x",
        "redis://me:s3cret@host?colour=red",
        "unix:///s?password=s3cret&colour=red",
        "redis:/me:s3cret@host",
        "me:s3cret@host:6379",
    ],
)
def test_a_bad_url_is_shown_without_its_password(url: str) -> None:
    """Neither the message nor the chain of errors has the password."""
    with pytest.raises(ConfigurationError) as caught:
        RedisBackend(url)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_exactly_one_of_url_and_client_is_wanted() -> None:
    """Neither and both are refused."""
    with pytest.raises(ConfigurationError, match="either a url or a client"):
        RedisBackend()
    with Redis() as client, pytest.raises(ConfigurationError, match="either a url or a client"):
        RedisBackend("redis://localhost", client=client)


def test_a_client_that_decodes_is_refused() -> None:
    """A client that gives text for bytes is refused with the fix, by URL as well."""
    with Redis(decode_responses=True) as client, pytest.raises(ConfigurationError, match="made without decode_responses"):
        RedisBackend(client=client)
    with pytest.raises(ConfigurationError, match="made without decode_responses"):
        RedisBackend("redis://localhost?decode_responses=True")


@pytest.mark.parametrize("client", [object(), "redis://localhost", Redis, Redis().connection_pool])
def test_what_is_no_client_is_refused(client: Any) -> None:
    """Anything but a client of redis-py is named, with those that fit."""
    with pytest.raises(ConfigurationError, match=r"a client of type \w+ is none that can be used; give redis-py's Redis, RedisCluster or"):
        RedisBackend(client=client)


@pytest.mark.parametrize("kind", [Redis, AwaitedRedis])
def test_a_pipeline_is_refused(kind: Any) -> None:
    """A pipeline, which answers nothing before it is executed, is a client by its class only."""
    with pytest.raises(ConfigurationError, match="give the client that it was made by"):
        RedisBackend(client=kind().pipeline())


def test_construction_opens_no_connection(start_redis: Callable[..., RedisServer]) -> None:
    """Only the first operation connects."""
    server = start_redis()
    with Redis.from_url(server.url) as observer, contextlib.closing(RedisBackend(server.url)) as backend:
        before = _connections(observer)
        repr(backend)
        backend.get_many([])
        assert _connections(observer) == before
        backend.get_many(["n:C:id:i1"])
        assert _connections(observer) == before + 1


def test_a_given_client_stays_open(redis_url: str) -> None:
    """Closing the backend leaves the client and its connections alone."""
    with Redis.from_url(redis_url) as client:
        identity = client.client_id()
        RedisBackend(client=client).close()
        assert client.client_id() == identity


def test_the_repr_tells_the_server_and_no_password() -> None:
    """The repr has host and port, not the credentials."""
    assert repr(RedisBackend("redis://me:s3cret@cache.example:6380/1")) == "RedisBackend('cache.example:6380')"


TOKEN, HOUR = bytes(range(16)), 3600
STEPS: dict[str, Callable[[RedisBackend, list[str]], object]] = {
    "get": lambda backend, keys: backend.get_many(keys),
    "follow": lambda backend, keys: backend.follow_many(keys),
    "look": lambda backend, keys: backend.look(keys),
    "look follow": lambda backend, keys: backend.look(keys, follow=True),
    "lease": lambda backend, keys: backend.lease_many(dict.fromkeys(keys), TOKEN, "n:C:"),
    "fill": lambda backend, keys: backend.fill_many([(key, b"body", HOUR) for key in keys], TOKEN, [("n:A:id:i1", b"A", HOUR)]),
    "put": lambda backend, keys: backend.put_many([(key, b"body", HOUR) for key in keys], [("n:A:id:i1", b"A", HOUR)]),
    "mark": lambda backend, keys: backend.mark_many(keys, b"t", ["n:S:"], ["n:C:"]),
    "release": lambda backend, keys: backend.release_many(keys, b"t", committed=True, values=[(keys[0], b"body", HOUR)]),
    "invalidate": lambda backend, keys: backend.invalidate_many(keys),
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS.keys())
@pytest.mark.parametrize("client", ["url", "client"])
@pytest.mark.parametrize("size", [1, 100, 900])
def test_each_batch_is_one_round_trip(redis_url: str, client: str, size: int, step: Callable[[RedisBackend, list[str]], object]) -> None:
    """A batch is asked for once and answered once at the socket, whatever its size, once the connection and its scripts are there."""
    keys = [f"n:C:id:i{number}" for number in range(size)]
    with relayed(redis_url) as (url, trips), Redis.from_url(url) as given:
        backend = RedisBackend(url) if client == "url" else RedisBackend(client=given)
        step(backend, keys)
        for _ in range(3):
            before = trips()
            step(backend, keys)
            assert trips() == before + 1
        backend.close()


def test_a_new_connection_costs_one_round_trip_more(redis_url: str) -> None:
    """The server is asked once which it is, whichever backends share the connection."""
    with relayed(redis_url) as (url, trips), Redis.from_url(url) as client:
        client.get("n:C:id:i1")
        before = trips()
        for _ in range(2):
            RedisBackend(client=client).get_many(["n:C:id:i1"])
        assert trips() == before + 3


def test_the_server_gets_the_lifetime(redis_url: str) -> None:
    """Every value has its own time to live on the server."""
    with Redis.from_url(redis_url) as observer, contextlib.closing(RedisBackend(redis_url)) as backend:
        backend.put_many([("n:C:id:i1", b"", 100), ("n:C:id:i2", b"", 40 * 86400)])
        assert 95 < observer.ttl("n:C:id:i1") <= 100
        assert 40 * 86400 - 5 < observer.ttl("n:C:id:i2") <= 40 * 86400


def test_scripts_are_loaded_again_when_the_server_forgot_them(redis_url: str) -> None:
    """A server without the scripts gets them once more, unseen by the caller."""
    with Redis.from_url(redis_url) as observer, contextlib.closing(RedisBackend(redis_url)) as backend:
        for _ in range(2):
            observer.script_flush()
            backend.put_many([("n:C:id:i1", b"body", 100)])
            assert [cell[9:] for cell in backend.follow_many(["n:C:id:i1"]).values()] == [b"body"]


def test_another_kind_of_value_is_absent(redis_url: str) -> None:
    """A list that others keep under a key is no value of ours."""
    with Redis.from_url(redis_url) as other, contextlib.closing(RedisBackend(redis_url)) as backend:
        other.rpush("n:C:id:i1", "x")
        assert backend.get_many(["n:C:id:i1"]) == {}
        assert backend.follow_many(["n:C:id:i1"]) == {}


def _connections(observer: Redis) -> int:
    return int(observer.info("stats")["total_connections_received"])


def test_a_backend_is_closed_while_a_connection_is_in_use(redis_url: str) -> None:
    """Its user reads the answer to the end, and it is closed when it is given back; those that are opened later stay open."""
    backend = RedisBackend(redis_url)
    pool: Any = backend.client.connection_pool
    used, idle = pool.get_connection(), pool.get_connection()
    pool.release(idle)
    used.send_command("PING")
    backend.close()
    backend.close()
    assert (used.is_connected, idle.is_connected) == (True, False)
    assert used.read_response() == b"PONG"
    pool.release(used)
    assert not used.is_connected
    assert backend.get_many(["absent"]) == {}
    assert [connection.is_connected for connection in pool._kept] == [True]
    backend.close()
