"""Whether the servers that the user has named answer: found out before anything is started."""

import socket
from contextlib import closing

from redis import Redis
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from bench.load.options import Options

_PATIENCE = 3


def reach(options: Options) -> None:
    """Connect to each.

    Raises:
        OSError: A memcached does not answer.
        RedisError: The Redis does not.
        SQLAlchemyError: The database does not.
    """
    if options.redis:
        with closing(Redis.from_url(options.redis, socket_connect_timeout=_PATIENCE, socket_timeout=_PATIENCE)) as client:
            client.ping()
    for address in options.memcached or ():
        _reach_memcached(address)
    if options.database:
        create_engine(options.database, poolclass=NullPool, connect_args={"connect_timeout": _PATIENCE}).connect().close()


def _reach_memcached(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), _PATIENCE) as connection:
            connection.sendall(b"version\r\n")
            answer = connection.recv(100)
    except OSError as error:
        raise OSError(f"memcached {address}: {error}") from None
    if not answer.startswith(b"VERSION"):
        raise OSError(f"memcached {address}: it does not speak memcached's protocol")
