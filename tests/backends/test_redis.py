"""The contract of backends on Redis: by TCP, by a unix socket, by a ready client, on a cluster."""

import contextlib
from collections.abc import Callable, Iterator

import pytest
from redis import Redis, RedisCluster

from stockstore.backends import RedisBackend
from stockstore.errors import ConfigurationError
from stockstore.testing.backend_contract import BackendContract
from tests.servers.redis import RedisServer


class TestRedis(BackendContract):
    @pytest.fixture
    def backend(self, redis_url: str) -> Iterator[RedisBackend]:
        """By a URL."""
        with contextlib.closing(RedisBackend(redis_url)) as backend:
            yield backend


class TestRedisByUnixSocket(BackendContract):
    @pytest.fixture
    def backend(self, redis_unix_url: str) -> Iterator[RedisBackend]:
        """By a unix socket."""
        with contextlib.closing(RedisBackend(redis_unix_url)) as backend:
            yield backend


class TestRedisClient(BackendContract):
    @pytest.fixture
    def backend(self, redis_url: str) -> Iterator[RedisBackend]:
        """By a ready client."""
        with Redis.from_url(redis_url) as client:
            yield RedisBackend(client=client)


class TestRedisCluster(BackendContract):
    @pytest.fixture
    def backend(self, redis_cluster_url: str) -> Iterator[RedisBackend]:
        """On a cluster."""
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
    assert url in str(caught.value)


@pytest.mark.parametrize("url", ["redis://host/shop", "rediss://host/1/2", "unix://", "redis://[::1/0"])
def test_what_redis_py_would_pass_over_is_refused(url: str) -> None:
    """A database that is no number, or a socket without a path, never ends in another database than the URL names."""
    with pytest.raises(ConfigurationError, match=r"write redis://"):
        RedisBackend(url)


@pytest.mark.parametrize("url", ["redis://:pa/s3cret@host:1x", "redis://me:s3cret@host?colour=red", "unix:///s?password=s3cret&colour=red"])
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


def test_each_batch_is_one_command(start_redis: Callable[..., RedisServer]) -> None:
    """A batch of a hundred is one command of the connection, whatever the operation, once the scripts are loaded."""
    server = start_redis()
    keys = [f"n:C:id:i{number}" for number in range(100)]
    with Redis.from_url(server.url) as observer, contextlib.closing(RedisBackend(server.url)) as backend:
        backend.set_many([(key, b"V", 60) for key in keys])
        backend.follow_many(keys)
        observer.config_resetstat()
        backend.set_many([(key, b"V", 60) for key in keys])
        backend.get_many(keys)
        backend.follow_many(keys)
        backend.delete_many(keys)
        calls = {name: entry["calls"] for name, entry in observer.info("commandstats").items()}
    assert calls["cmdstat_evalsha"] == 2
    # One of the two is inside the script that follows.
    assert calls["cmdstat_mget"] == 2
    assert calls["cmdstat_unlink"] == 1
    assert calls["cmdstat_setex"] == 100


def test_the_server_gets_the_lifetime(redis_url: str) -> None:
    """Every value has its own time to live on the server."""
    with Redis.from_url(redis_url) as observer, contextlib.closing(RedisBackend(redis_url)) as backend:
        backend.set_many([("n:C:id:i1", b"V", 100), ("n:C:id:i2", b"V", 40 * 86400)])
        assert 95 < observer.ttl("n:C:id:i1") <= 100
        assert 40 * 86400 - 5 < observer.ttl("n:C:id:i2") <= 40 * 86400


def test_scripts_are_loaded_again_when_the_server_forgot_them(redis_url: str) -> None:
    """A server without the scripts gets them once more, unseen by the caller."""
    with Redis.from_url(redis_url) as observer, contextlib.closing(RedisBackend(redis_url)) as backend:
        for _ in range(2):
            observer.script_flush()
            backend.set_many([("n:C:id:i1", b"V", 100)])
            assert backend.follow_many(["n:C:id:i1"]) == {"n:C:id:i1": b"V"}


def test_another_kind_of_value_is_absent(redis_url: str) -> None:
    """A list that others keep under a key is no value of ours."""
    with Redis.from_url(redis_url) as other, contextlib.closing(RedisBackend(redis_url)) as backend:
        other.rpush("n:C:id:i1", "x")
        assert backend.get_many(["n:C:id:i1"]) == {}
        assert backend.follow_many(["n:C:id:i1"]) == {}


def _connections(observer: Redis) -> int:
    return int(observer.info("stats")["total_connections_received"])
