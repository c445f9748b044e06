"""Making and describing redis-py clients."""

import os
import re
import sys
import threading
from collections import deque
from contextlib import suppress
from typing import Any, Union
from urllib.parse import urlsplit

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AwaitedRetry
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.retry import Retry

from stockstore.errors import ConfigurationError
from stockstore.redacting import redacted

_NO_LIMIT = 2**31
_MAY_MOVE = hasattr(redis.Connection, "should_reconnect")  # not in older versions of redis-py
_FORMS = "redis://[user:password@]host[:port][/db], rediss://..., or unix:///path/to.sock, special characters percent-encoded"
AWAITED = "+asyncio"
"""What follows the scheme of a URL for an asyncio client."""
CLUSTER_CHANNEL = b"stockstore"
AnyCluster = RedisCluster | redis.asyncio.RedisCluster
CONNECTIONS = 32
"""Connections of an asyncio client: so many commands may be under way, further ones wait."""


class _Pool(redis.ConnectionPool):
    """A pool to which no connection comes back with an answer still to be read, and which a busy process may fork, or close.

    redis-py gives a connection back whatever ended its use. After the exception of a signal between a command
    and its answer, the next command would be given that answer.

    A connection that was given back is kept at hand, and redis-py takes it for one in use all the while: its own book-keeping takes
    longer than a command.
    """

    def reset(self) -> None:
        """Start anew, as in a forked process: there a lock that another thread held would never be let go."""
        self._lock = threading.RLock()
        self._kept: deque[Any] = deque()
        self._disconnects = 0
        super().reset()

    def get_connection(self, *arguments: Any, **options: Any) -> Any:
        """Give a connection, and remember which exception its user is handling already."""
        connection: Any = self._taken() or super().get_connection(*arguments, **options)
        connection.handled = id(sys.exc_info()[1])
        connection.disconnects = self._disconnects
        return connection

    def release(self, connection: Any) -> None:
        """Take a connection back; one whose use was interrupted is closed, and opened anew when it is needed."""
        error = sys.exc_info()[1]
        if getattr(connection, "disconnects", None) != self._disconnects:
            connection.disconnect()
        elif error is None or id(error) == getattr(connection, "handled", None):
            if connection.pid == self.pid and not (_MAY_MOVE and connection.should_reconnect()):
                self._kept.append(connection)
                return
        elif not isinstance(error, redis.RedisError):
            connection.disconnect()
        super().release(connection)

    def disconnect(self, *arguments: Any, **options: Any) -> None:
        """Close connections, those at hand as idle ones, and those in use when they are given back.

        The number of a socket that is closed under another thread may be that of a new one, whose answers this thread would read.
        """
        del arguments, options
        self._disconnects += 1
        while self._kept:
            with suppress(IndexError):  # another thread may have taken it
                super().release(self._kept.pop())
        super().disconnect(inuse_connections=False)

    def _taken(self) -> Any | None:
        """Take a connection that is at hand, ``None`` where there is none that can be used as it is."""
        try:
            connection = self._kept.pop() if self.pid == os.getpid() else None
        except IndexError:
            return None
        if connection is None or _is_silent(connection):
            return connection
        # redis-py makes it anew.
        super().release(connection)
        return None


def _is_silent(connection: Any) -> bool:
    """Whether a connection is open, and nothing is to be read from it."""
    try:
        return not connection.can_read()
    except (redis.RedisError, OSError):
        return False


def open_client(url: str, connect_timeout: float, read_timeout: float) -> "redis.Redis | redis.asyncio.Redis":
    """Give a client for a URL, without connecting.

    A connection that broke is made anew once, at once; a time-out is not tried again, so an operation
    takes at most the two time-outs together. The pool of an asyncio client is bounded; who uses it has to wait for room in it.

    Raises:
        ConfigurationError: The URL does not fit; its password is not shown.
    """
    scheme, separator, rest = str(url).partition("://")
    plain = scheme.removesuffix(AWAITED) + separator + rest
    _refuse_ignored(plain)
    options: dict[str, Any] = {
        "socket_connect_timeout": connect_timeout,
        "socket_timeout": read_timeout,
        "retry_on_error": [redis.ConnectionError],
    }
    try:
        client = _awaited(plain, options) if scheme.endswith(AWAITED) else _blocking(plain, options)
        _try_options(client)
    except (TypeError, ValueError, AttributeError, redis.RedisError):
        # The driver's error quotes parts of the URL, which may be parts of the password.
        raise ConfigurationError(
            f"{redacted(url)!r} is no Redis URL that can be used; write {_FORMS}, with redis-py's options only"
        ) from None
    return client


def _blocking(url: str, options: dict[str, Any]) -> "redis.Redis":
    retry = Retry(NoBackoff(), 1, (redis.ConnectionError,))
    return redis.Redis.from_pool(_Pool.from_url(url, max_connections=_NO_LIMIT, retry=retry, **options))


def _awaited(url: str, options: dict[str, Any]) -> "redis.asyncio.Redis":
    retry = AwaitedRetry(NoBackoff(), 1, (redis.ConnectionError,))
    pool = redis.asyncio.ConnectionPool.from_url(url, max_connections=CONNECTIONS, retry=retry, **options)
    return redis.asyncio.Redis.from_pool(pool)


def _refuse_ignored(url: str) -> None:
    """Refuse what redis-py would pass over: the data would go to another database, or server, than the URL names."""
    try:
        parts = urlsplit(str(url))
    except ValueError:
        raise ConfigurationError(f"{redacted(url)!r} is no URL; write {_FORMS}") from None
    if parts.fragment:
        raise ConfigurationError(f"{redacted(url)!r} has a '#', after which nothing is read; write {_FORMS}")
    if parts.scheme in ("redis", "rediss") and not re.fullmatch(r"/?\d*", parts.path):
        raise ConfigurationError(f"{redacted(url)!r} names a database that is no number; write {_FORMS}")
    if re.search(r":0+$", parts.netloc):
        raise ConfigurationError(f"{redacted(url)!r} names port 0, on which no server listens; write {_FORMS}")
    if parts.scheme == "unix" and not parts.path.strip("/"):
        raise ConfigurationError(f"{redacted(url)!r} names no socket; write {_FORMS}")
    if parts.scheme == "unix" and parts.netloc.rpartition("@")[2]:
        raise ConfigurationError(f"{redacted(url)!r} has a host, and a socket has a path alone; write {_FORMS}")


def _try_options(client: "redis.Redis | redis.asyncio.Redis") -> None:
    """Build a connection, which does not connect yet, so that wrong options show now."""
    pool = client.connection_pool
    pool.connection_class(**pool.connection_kwargs)


def refuse_text(client: "redis.Redis") -> None:
    """Refuse a client that would give text for bytes.

    Raises:
        ConfigurationError: The client was made with ``decode_responses=True``.
    """
    if client.get_encoder().decode_responses:
        raise ConfigurationError(
            "this Redis client decodes answers to text (decode_responses=True), and cached values are bytes; "
            "give the store a client of its own, made without decode_responses"
        )


def drop_idle_connections(client: Union["redis.Redis", RedisCluster]) -> None:
    """Close the connections that a client is not using now; it opens others."""
    if isinstance(client, RedisCluster):
        clients = [node.redis_connection for node in list(client.nodes_manager.nodes_cache.values())]
    else:
        clients = [client]
    for each in clients:
        if each is not None:
            each.connection_pool.disconnect(inuse_connections=False)


def nodes_of(client: AnyCluster) -> list[Any]:
    """Give the nodes of a cluster that a client knows; an asyncio client asks for them only when it is first used."""
    nodes: Any = client.nodes_manager
    return list((nodes.nodes_cache or nodes.startup_nodes).values())


def address_of(client: "redis.Redis | AnyCluster") -> str:
    """Give host and port, socket path or service name of a client's server, never a password."""
    if isinstance(client, AnyCluster):
        return ",".join(sorted(node.name for node in nodes_of(client)))
    pool = client.connection_pool
    if service := getattr(pool, "service_name", None):
        return f"Sentinel's {service}"
    options = pool.connection_kwargs
    return str(options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")


def channel_name(client: object) -> bytes:
    """Give the name of the channel of a client's database, which is that of a key too; on a cluster there is no such key.

    No other key is without a colon.
    """
    pool = getattr(client, "connection_pool", None)
    return (
        CLUSTER_CHANNEL if pool is None or isinstance(client, AnyCluster) else b"stockstore~%d" % int(pool.connection_kwargs.get("db") or 0)
    )
