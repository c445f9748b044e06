"""Redis on several servers, as those see it who disturb it: a cluster, or a primary that Sentinels may replace."""

import contextlib
import random
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import redis.asyncio
from redis import Redis, RedisError
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisClusterException
from redis.sentinel import Sentinel

from tests.race.caches import CacheServer
from tests.servers.redis_cluster import ClusterServers
from tests.servers.redis_sentinel import SentinelServers
from tests.servers.server import Server, wait_until

_SECONDS = 1.0


def url_of(scheme: str, servers: Sequence[Server]) -> str:
    """Give the URL by which a race names several servers."""
    return f"{scheme}://{','.join(server.address for server in servers)}"


def client_of(url: str) -> Any:
    """Give redis-py's client for ``cluster://host:port,..`` or ``sentinel://host:port,../service``; ``None`` for another URL."""
    parts = urlsplit(url)
    places = [(host, int(port)) for host, _, port in (place.rpartition(":") for place in parts.netloc.split(","))]
    times: dict[str, Any] = {"socket_timeout": _SECONDS, "socket_connect_timeout": _SECONDS}
    if parts.scheme == "cluster":
        return _opened([ClusterNode(*place) for place in places], times)  # type: ignore[no-untyped-call]
    if parts.scheme == "sentinel":
        return Sentinel(places, **times).master_for(parts.path.strip("/"), **times)  # type: ignore[no-untyped-call]
    return None


def awaited_cluster_of(url: str) -> "redis.asyncio.RedisCluster":
    """Give redis-py's asyncio client for ``cluster://host:port,..``; it asks the cluster when it is first used."""
    places = [place.rpartition(":") for place in urlsplit(url).netloc.split(",")]
    nodes = [redis.asyncio.cluster.ClusterNode(host, int(port)) for host, _, port in places]
    return redis.asyncio.RedisCluster(startup_nodes=nodes, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS)


def _opened(nodes: list[ClusterNode], times: dict[str, Any]) -> RedisCluster:
    """Give a cluster's client, which asks it when it is made: that may be in the middle of a fail-over."""
    made: list[RedisCluster] = []

    def make() -> bool:
        with contextlib.suppress(RedisError, RedisClusterException):
            made.append(RedisCluster(startup_nodes=nodes, **times))
        return bool(made)

    wait_until(make, "the cluster")
    return made[0]


class _Scattered(CacheServer):
    """What both have."""

    def __init__(self, url: str) -> None:
        """Connect at the first use."""
        super().__init__(url)
        self._client = client_of(url)

    def _each(self) -> list[Any]:
        """Give a client for each server."""
        raise NotImplementedError

    def flush(self) -> None:
        """FLUSHALL on each primary."""
        for client in self._each():
            client.flushall()

    def evictions(self) -> int:
        """Ask none: nothing here makes them evict."""
        return 0

    def crowd(self, number: int) -> None:
        """Do nothing."""

    def drop(self) -> bool:
        """CLIENT KILL on each."""
        for client in self._each():
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        return True

    def cut(self) -> int:
        """CLIENT KILL of the subscribers on each."""
        return sum(int(client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")) for client in self._each())


class ClusterOf(_Scattered):
    """A cluster."""

    def __init__(self, url: str, servers: ClusterServers | None = None) -> None:
        """Keep its servers, where they were started for the race."""
        super().__init__(url)
        self._servers = servers

    def _each(self) -> list[Any]:
        return [self._client.get_redis_connection(node) for node in self._client.get_primaries()]

    def fail_over(self, chance: random.Random) -> bool:
        """Cut a replica off, let some writes go on, and kill its primary."""
        servers = self._servers
        if servers is None:
            return False
        servers.primary_by(servers.replica()).client.execute_command("CLIENT", "KILL", "TYPE", "replica")
        time.sleep(chance.random() * 0.05)
        servers.fail_over()
        wait_until(servers.is_whole, "the cluster")
        return True

    def reshard(self, chance: random.Random) -> bool:
        """Move a slot that has keys, a few at a time."""
        servers = self._servers
        if servers is None:
            return False
        source = chance.choice([node for node in servers.nodes if node.is_primary])
        key = source.client.randomkey()
        if key is None:
            return True
        slot = source.client.execute_command("CLUSTER KEYSLOT", key)
        to = chance.choice([node for node in servers.nodes if node.is_primary and node is not source])
        servers.begin_move(slot, to)
        try:
            while servers.move_keys(slot, source, to, 1):
                time.sleep(chance.random() * 0.03)
        finally:
            servers.end_move(slot, source, to)
        return True


class SentinelOf(_Scattered):
    """A primary, its replica, and Sentinels."""

    def __init__(self, url: str, servers: SentinelServers | None = None) -> None:
        """Keep its servers, where they were started for the race."""
        super().__init__(url)
        self._servers = servers

    def _each(self) -> list[Any]:
        return [self._client]

    def fail_over(self, chance: random.Random) -> bool:
        """Cut the replica off, let some writes go on, and kill the primary."""
        servers = self._servers
        if servers is None:
            return False
        primary: Redis = servers.client_of(servers.primary())
        try:
            primary.execute_command("CLIENT", "KILL", "TYPE", "replica")  # type: ignore[no-untyped-call]
        except RedisError:
            return True
        time.sleep(chance.random() * 0.05)
        servers.fail_over()
        wait_until(servers.is_whole, "the Sentinels")
        return True
