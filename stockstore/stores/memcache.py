"""memcached as a cache store."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Union

from stockstore.backends.memcache import MemcacheBackend
from stockstore.codecs import Codec
from stockstore.lifetimes import Lifetime
from stockstore.stores.backed import BackendStore, OnError
from stockstore.stores.cache import Namespace

if TYPE_CHECKING:
    from pymemcache.client.base import Client, PooledClient
    from pymemcache.client.hash import HashClient


class MemcacheStore(BackendStore):
    """Objects on one memcached server, or on several by rendezvous hashing.

    Args:
        servers: ``"host:port"``, a unix path, or a list of them; or
        client: a client of pymemcache, which says where the servers are and is itself left alone.
        alongside: The list of servers that other processes go by at the same time, while it is being changed: what is written is marked and
            invalidated there as well.
        lifetime: How long an entry lives: ``None`` (evictable, 7 days at the most), seconds, a timedelta, an
            aware datetime, or a callable of the object.
        polymorphic: Whether plain objects are also found by their keyed base classes.
        namespace: The first part of every key, or a callable that gives it (a tenant).
        jitter: The fraction by which lifetimes are shortened at random, against mass expiry.
        codec: How plain objects become bytes; msgpack by default.
        on_error: Whether a read that a server does not answer is a miss (counted as an error) or raises.
        connect_timeout: Seconds to wait for a connection.
        timeout: Seconds to wait for each part of an answer.

    Raises:
        ConfigurationError: Not exactly one of servers and client, or one that does not fit.
    """

    def __init__(
        self,
        servers: str | Sequence[str] | None = None,
        *,
        alongside: str | Sequence[str] | None = None,
        client: Union["Client", "PooledClient", "HashClient", None] = None,
        lifetime: Lifetime = None,
        polymorphic: bool = False,
        namespace: Namespace = "stockstore",
        jitter: float = 0.0,
        codec: Codec | None = None,
        on_error: OnError = "miss",
        connect_timeout: float = 1.0,
        timeout: float = 1.0,
    ) -> None:
        """Keep the settings; opens no connection."""
        backend = MemcacheBackend(servers, alongside=alongside, client=client, connect_timeout=connect_timeout, timeout=timeout)
        super().__init__(
            backend, lifetime=lifetime, polymorphic=polymorphic, namespace=namespace, jitter=jitter, codec=codec, on_error=on_error
        )
