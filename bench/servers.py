"""The servers that are measured against: given ones, or some of our own, started when first asked for."""

from contextlib import ExitStack
from functools import cached_property

from sqlalchemy import URL
from typing_extensions import Self

from tests.servers.memcached import running_memcached
from tests.servers.postgres import fresh_schema, running_postgres
from tests.servers.redis import running_redis
from tests.servers.redis_cluster import running_redis_nodes


class Servers:
    """Args: a Redis URL, ``host:port`` of three memcacheds, a PostgreSQL URL; None for servers of our own."""

    def __init__(self, redis: str | None = None, memcached: list[str] | None = None, database: str | None = None) -> None:
        self._redis, self._memcached, self._database = redis, memcached, database
        self._started = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._started.close()

    @cached_property
    def redis(self) -> str:
        return self._redis or self._started.enter_context(running_redis()).url

    def redis_cluster(self, nodes: int) -> str:
        """Give the URL of a cluster of so many nodes, of our own."""
        return self._started.enter_context(running_redis_nodes(nodes)).url

    @cached_property
    def memcached(self) -> list[str]:
        return self._memcached or [self._started.enter_context(running_memcached()).address for _ in range(3)]

    def empty_database(self) -> URL:
        """Give a new schema, dropped at the end, so that no subject finds another's rows."""
        return self._started.enter_context(fresh_schema(self._postgres))

    @cached_property
    def _postgres(self) -> str:
        return self._database or self._started.enter_context(running_postgres()).url
