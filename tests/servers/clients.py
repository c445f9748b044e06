"""Clients' connections, whose time-outs count where a test has frozen the server."""

from dataclasses import replace
from typing import Any

import redis.asyncio.connection
import redis.connection

from stockstore.backends import memcache_connection
from stockstore.backends.memcache_servers import Server
from tests.servers import frozen


def be_patient_with_what_runs() -> None:
    """Have a time-out that a test gave count for a server that it has frozen: another one may stand still by itself."""
    _be_patient_with_memcached()
    for kind in (redis.connection.Connection, redis.asyncio.connection.Connection):
        _be_patient_with_redis(kind)


def _be_patient_with_memcached() -> None:
    kind: Any = memcache_connection.Connection
    make = kind.__init__

    def made(connection: Any, server: Server) -> None:
        port = 0 if isinstance(server.address, str) else server.address[1]
        make(connection, replace(server, timeout=frozen.seconds_for(port, server.timeout)))
        frozen.add(connection, port, server.timeout, _memcached_timeout)

    kind.__init__ = made


def _memcached_timeout(connection: Any, seconds: float) -> None:
    if connection._socket.fileno() >= 0:
        connection._socket.settimeout(seconds)
        connection._patience = seconds * 1000


def _be_patient_with_redis(kind: Any) -> None:
    make = kind.__init__

    def made(connection: Any, *arguments: Any, **options: Any) -> None:
        make(connection, *arguments, **options)
        if connection.socket_timeout is not None:
            frozen.add(connection, connection.port, connection.socket_timeout, _redis_timeout)

    kind.__init__ = made


def _redis_timeout(connection: Any, seconds: float) -> None:
    connection.socket_timeout = seconds
    if isinstance(connection, redis.connection.Connection):
        connection.update_current_socket_timeout(seconds)
