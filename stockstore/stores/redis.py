"""Redis as a cache store."""

from typing import TYPE_CHECKING, Union

from stockstore.backends.redis import RedisBackend
from stockstore.codecs import Codec
from stockstore.lifetimes import Lifetime
from stockstore.stores.backed import BackendStore, OnError
from stockstore.stores.cache import Namespace

if TYPE_CHECKING:
    from redis import Redis
    from redis.asyncio import Redis as AsyncRedis
    from redis.asyncio import RedisCluster as AsyncRedisCluster
    from redis.cluster import RedisCluster


class RedisStore(BackendStore):
    """Objects on a Redis server, a Sentinel's primary, or a cluster.

    Args:
        url: ``redis://``, ``rediss://`` (TLS) or ``unix://``, and for ``AsyncStore`` ``redis+asyncio://`` and so on; or
        client: a ready client of redis-py, for ``AsyncStore`` one of ``redis.asyncio``, which stays open when the store is closed.
        lifetime: How long an entry lives: ``None`` (evictable, 7 days at the most), seconds, a timedelta, an
            aware datetime, or a callable of the object.
        polymorphic: Whether plain objects are also found by their keyed base classes.
        namespace: The first part of every key, or a callable that gives it (a tenant).
        jitter: The fraction by which lifetimes are shortened at random, against mass expiry.
        codec: How plain objects become bytes; msgpack by default.
        on_error: Whether a read that the server does not answer is a miss (counted as an error) or raises.
        connect_timeout: Seconds to wait for a connection.
        read_timeout: Seconds to wait for each answer.

    Raises:
        ConfigurationError: Not exactly one of url and client, or one that does not fit.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        client: Union["Redis", "RedisCluster", "AsyncRedis", "AsyncRedisCluster", None] = None,
        lifetime: Lifetime = None,
        polymorphic: bool = False,
        namespace: Namespace = "stockstore",
        jitter: float = 0.0,
        codec: Codec | None = None,
        on_error: OnError = "miss",
        connect_timeout: float = 1.0,
        read_timeout: float = 1.0,
    ) -> None:
        """Keep the settings; opens no connection."""
        backend = RedisBackend(url, client=client, connect_timeout=connect_timeout, read_timeout=read_timeout)
        super().__init__(
            backend, lifetime=lifetime, polymorphic=polymorphic, namespace=namespace, jitter=jitter, codec=codec, on_error=on_error
        )
