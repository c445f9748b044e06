"""The channel of a Redis server, on which every script that outdates a key says so."""

from collections.abc import Hashable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.retry import Retry

from stockstore.backends.redis_clients import address_of, channel_name
from stockstore.backends.redis_scripts import BEAT, LIFE
from stockstore.channels.base import Channel, Garbled, Heard, Proof
from stockstore.channels.redis_hearing import Hearing

TIMEOUT: Final = 1.0
"""Seconds to wait for an answer, where the client waits for longer or for ever."""
_TIMEOUTS: Final = ("socket_timeout", "socket_connect_timeout")
_KEPT: Final = ("host", "port", "path", "db", "username", "password", "credential_provider", "client_name")
_KEPT_ALSO: Final = ("ssl", "socket_keepalive", "socket_type")


class RedisChannel(Channel):
    """The messages of the server, or Sentinel's primary, that a client is for, by blocking connections of its own.

    Args:
        client: Of whichever kind, but for a cluster, which has a :class:`~stockstore.channels.redis_cluster.ClusterChannel`.
    """

    def __init__(self, client: Any) -> None:
        """Keep how the client connects; opens no connection."""
        self._name = channel_name(client)
        self._pool = client.connection_pool
        self._shown = address_of(client)
        self._sentinels: Any = None

    def __repr__(self) -> str:
        """Name the server, without passwords."""
        return f"RedisChannel({self._shown!r})"

    @property
    def address(self) -> Hashable:
        """The server, the database and who asks."""
        options = self._pool.connection_kwargs
        return RedisChannel, self._shown, self._name, options.get("username"), options.get("password")

    def open(self) -> "RedisLine":
        """Connect and subscribe."""
        where = self._primary()
        options = {**options_of(self._pool.connection_kwargs), **where}
        kind = kind_of(options, self._pool.connection_class)
        asking, hearing = kind(**options), kind(**options)
        try:
            return RedisLine(asking, hearing, self._name, lambda: self._primary() == where)
        except BaseException:
            asking.disconnect()
            hearing.disconnect()
            raise

    def _primary(self) -> dict[str, Any]:
        """Give where the primary is by now, where a Sentinel is to be asked for it."""
        sentinels = getattr(self._pool, "sentinel_manager", None)
        if sentinels is None:
            return {}
        if self._sentinels is None:
            self._sentinels = _blocking(sentinels)
        host, port = self._sentinels.discover_master(self._pool.service_name)
        return {"host": host, "port": port}


class RedisLine:
    """Two connections to one server: one that hears, and can say nothing else meanwhile, and one that asks."""

    def __init__(self, asking: Any, hearing: Any, name: bytes, is_primary: Any) -> None:
        """Connect, and wait until the subscription is confirmed; raises any error of the driver."""
        self._asking, self._name, self._is_primary = asking, name, is_primary
        if self._ask(asking, "EVAL", LIFE.text, "0") != self._ask(hearing, "EVAL", LIFE.text, "0"):
            raise ConnectionError("two connections to it reach two servers")
        self._life: Any = None
        self._look()
        self._hearing = Hearing(hearing)
        self._hearing.subscribe(name)
        self._numbers: list[int | None] = []

    def fileno(self) -> int:
        """Give the socket that hears."""
        return self._hearing.fileno()

    def beat(self) -> None:
        """Ask for the number of the last message, then for an answer that comes after it."""
        if not self._is_primary():
            raise ConnectionError("another server is the primary now")
        self._numbers.append(self._look())
        self._hearing.ping()

    def receive(self) -> "Iterator[Heard | Garbled | Proof]":
        """Give what has come."""
        for kind, *rest in self._hearing.receive():
            if kind == b"pong":
                yield Proof(self._numbers.pop(0))
            elif kind == b"message":
                yield message_of(rest[1])

    def close(self) -> None:
        """Hang up."""
        with suppress(Exception):
            self._asking.disconnect()
        with suppress(Exception):
            self._hearing.close()

    def _look(self) -> int | None:
        """Give the number of the last message, and see to it that the server is still the primary that it was."""
        number, *life = self._ask(self._asking, "EVALSHA", BEAT.digest, "1", self._name)
        self._life = self._life or life
        if life != self._life or life[0] != b"master":
            raise ConnectionError("it is not the primary any more that it was")
        return int(number) if number else None

    @staticmethod
    def _ask(connection: Any, *command: "str | bytes") -> Any:
        connection.send_command(*command, check_health=False)
        try:
            return connection.read_response()
        except redis.exceptions.NoScriptError:
            return RedisLine._ask(connection, "EVAL", BEAT.text, *command[2:])


def message_of(data: bytes) -> Heard | Garbled:
    r"""Give what a message tells.

    >>> message_of(b"7\nt1\nshop:User:id:i1 shop:User:id:i2"), message_of(b"hello")
    (Heard(texts=['shop:User:id:i1', 'shop:User:id:i2'], ticket=b't1', number=7), Garbled(said=b'hello'))
    """
    try:
        number, ticket, texts = data.split(b"\n", 2)
        return Heard(texts.decode("ascii").split(" "), ticket, int(number))
    except ValueError:  # too few lines, no number, or no ASCII
        return Garbled(data)


def options_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Give what a connection of our own needs of a client's options, which may be those of an asyncio client."""
    options = {name: value for name, value in given.items() if name in _KEPT or name.startswith(_KEPT_ALSO)}
    waits = {name: min(given.get(name) or TIMEOUT, TIMEOUT) for name in _TIMEOUTS}
    return {**options, **waits, "protocol": 2, "retry": Retry(NoBackoff(), 0)}


def kind_of(options: Mapping[str, Any], kind: type = Connection) -> Any:
    """Give the kind of blocking connection for options, and for the kind that a client has."""
    if "path" in options:
        return UnixDomainSocketConnection
    return SSLConnection if "SSL" in kind.__name__ or any(name.startswith("ssl") for name in options) else Connection


def _blocking(sentinels: Any) -> Any:
    """Give Sentinels that block, for those of an asyncio client."""
    from redis.sentinel import Sentinel

    if isinstance(sentinels, Sentinel):
        return sentinels
    asked = [client.connection_pool.connection_kwargs for client in sentinels.sentinels]
    made: Any = Sentinel([], min_other_sentinels=sentinels.min_other_sentinels)  # type: ignore[no-untyped-call]
    made.sentinels = [redis.Redis.from_pool(redis.ConnectionPool(**options_of(options))) for options in asked]
    return made
