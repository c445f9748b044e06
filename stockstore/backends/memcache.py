"""memcached as a backend."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar, Union, cast

from stockstore.backends.base import Backend, checked_timeouts
from stockstore.errors import CacheUnreachable, ConfigurationError

try:
    import pymemcache as _driver  # noqa: F401 - tells here that it is missing
except ModuleNotFoundError as exc:
    raise ConfigurationError('memcached needs its driver, which is missing: pip install "pymemcache>=4"') from exc

from stockstore.backends.memcache_connection import Connection, Pool
from stockstore.backends.memcache_exchange import Job, run
from stockstore.backends.memcache_requests import Steps, clear_steps, delete_steps, get_steps, set_steps
from stockstore.backends.memcache_servers import Server, servers_of, servers_of_client
from stockstore.backends.rendezvous import router

if TYPE_CHECKING:
    from pymemcache.client.base import Client, PooledClient
    from pymemcache.client.hash import HashClient

_Result = TypeVar("_Result")
_Part = TypeVar("_Part")


class Node:
    """One server: its connections, and the tokens last seen on it."""

    def __init__(self, server: Server) -> None:
        self.pool = Pool(server)
        self.tokens: dict[str, bytes] = {}


class MemcacheBackend(Backend):
    """Keeps bytes on one memcached server or several.

    Args:
        servers: ``"host:port"``, ``"host"`` (port 11211), ``"unix:/path"``, ``"/path"``, or a list of them.
        client: instead of servers: a pymemcache ``Client``, ``PooledClient`` or ``HashClient``, which says
            where the servers are, with which time-outs and TLS context. Connections are opened anew, so that
            threads may share the backend and every write is acknowledged; the client itself is left alone.
        connect_timeout: seconds to wait for a connection.
        timeout: seconds to wait for each part of an answer.

    Raises:
        ConfigurationError: not exactly one of servers and client, or one that does not fit.

    No connection is opened before the first operation. Threads and forked processes may share a backend.
    Each key has its server by rendezvous hashing; a server that is down keeps its keys, and operations on
    them raise. :meth:`clear` replaces a token that every value carries (see ``generations``): a process
    that writes elsewise into the same keys is not seen.
    """

    def __init__(
        self,
        servers: str | Sequence[str] | None = None,
        *,
        client: Union["Client", "PooledClient", "HashClient", None] = None,
        connect_timeout: float = 1.0,
        timeout: float = 1.0,
    ) -> None:
        if (servers is None) == (client is None):
            raise ConfigurationError("MemcacheBackend takes either servers or a client, exactly one of them")
        checked_timeouts(connect_timeout=connect_timeout, timeout=timeout)
        if servers is not None:
            listed = servers_of(servers, connect_timeout, timeout)
        else:
            listed = servers_of_client(client, connect_timeout, timeout)
        self._nodes = [Node(server) for server in listed]
        self._route = router([server.name for server in listed])

    def __repr__(self) -> str:
        return f"MemcacheBackend({[node.pool.server.name for node in self._nodes]!r})"

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Give the values of those keys that are present; one round trip, to all nodes at once."""
        groups = self._by_node(keys, keys)
        found: dict[str, bytes] = {}
        for part in self._run({node: partial(get_steps, keys=group) for node, group in groups.items()}):
            found |= part
        return found

    def set_many(self, items: Sequence[tuple[str, bytes, int]]) -> None:
        """Keep values; one round trip, to all nodes at once.

        The first write to a class on a node, and the first one after :meth:`clear` by another process, takes
        two round trips more. A value that a server refuses, being too large, is an error, and its key is
        absent then.
        """
        groups = self._by_node(items, [key for key, _, _ in items])
        self._run({node: partial(set_steps, items=group, known=node.tokens) for node, group in groups.items()})

    def delete_many(self, keys: Sequence[str]) -> int:
        """Drop keys and tell how many of them were there; one round trip, to all nodes at once."""
        groups = self._by_node(keys, keys)
        return sum(self._run({node: partial(delete_steps, keys=group) for node, group in groups.items()}))

    def clear(self, prefix: str) -> None:
        """Make every key that starts with ``"namespace:"`` or ``"namespace:class label:"`` absent.

        The servers drop the values themselves when they need the room.
        """
        self._run({node: partial(clear_steps, prefix=prefix, known=node.tokens) for node in self._nodes})

    def close(self) -> None:
        """Close the idle connections."""
        for node in self._nodes:
            node.pool.close()

    def _by_node(self, parts: Sequence[_Part], keys: Sequence[str]) -> dict[Node, Sequence[_Part]]:
        """Split a batch of parts, which belong to the keys one by one."""
        if len(self._nodes) == 1:
            return {self._nodes[0]: parts} if parts else {}
        groups: list[list[_Part]] = [[] for _ in self._nodes]
        for part, position in zip(parts, self._route(keys), strict=True):
            groups[position].append(part)
        return {node: group for node, group in zip(self._nodes, groups, strict=True) if group}

    def _run(self, work: Mapping[Node, Callable[[Connection], Steps[_Result]]]) -> list[_Result]:
        jobs = [Job(node.pool, steps) for node, steps in work.items()]
        run(jobs)
        for job in jobs:
            if job.error:
                where = job.pool.server.name
                raise CacheUnreachable(f"memcached at {where} did not do what was asked: {job.error}; check the server") from job.error
        return [cast("_Result", job.result) for job in jobs]
