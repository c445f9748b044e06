"""The nodes of memcached: which of them has a key, and work on several at once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias, TypeVar, cast

from stockstore.aio.bridge import in_greenlet
from stockstore.aio.threads import in_thread
from stockstore.backends.coherent import Item
from stockstore.backends.columns import Values, grouped, keys_of
from stockstore.backends.memcache_connection import Connection, Pool
from stockstore.backends.memcache_exchange import Job, Steps, run
from stockstore.backends.memcache_lives import Lives
from stockstore.backends.memcache_servers import Server
from stockstore.backends.rendezvous import router
from stockstore.errors import CacheUnreachable

_Result = TypeVar("_Result")
_Part = TypeVar("_Part")


class Node:
    """One server: its connections, the tokens last seen on it, and what is known of its life."""

    def __init__(self, server: Server) -> None:
        self.pool = Pool(server)
        self.tokens: dict[str, bytes] = {}
        self.lives: Lives = {}


Work: TypeAlias = Mapping[Node, Callable[[Connection], Steps[_Result]]]


class Nodes:
    """The nodes of a list of servers, and those of another list that other processes go by while it is changed.

    Attributes:
        listed: Those of the list, in its order.
        all: These and those of the other list.
    """

    def __init__(self, servers: Sequence[Server], others: Sequence[Server]) -> None:
        """Take servers, which have no connections yet."""
        self.listed = [Node(server) for server in servers]
        self.all = self.listed
        self.route = router([server.name for server in servers])
        self._beside = self._routed_beside(others) if others else None

    def _routed_beside(self, others: Sequence[Server]) -> Callable[[str], Node]:
        """Take the servers of another list along, and give the function from keys to their nodes by that list."""
        known = {node.pool.server.name: node for node in self.listed}
        nodes = [known.get(server.name) or Node(server) for server in others]
        self.all = [*self.listed, *(node for node in nodes if node not in self.listed)]
        route = router([server.name for server in others])
        return lambda key: nodes[route([key])[0]]

    def by_node_beside(self, keys: Sequence[str]) -> dict[Node, list[str]]:
        """Give those nodes of the other list that are not the keys' own, with the keys that they have."""
        groups: dict[Node, list[str]] = {}
        if self._beside is not None:
            for key, position in zip(keys, self.route(keys), strict=True):
                node = self._beside(key)
                if node is not self.listed[position]:
                    groups.setdefault(node, []).append(key)
        return groups

    def by_node(self, parts: Sequence[_Part], keys: Sequence[str]) -> dict[Node, Sequence[_Part]]:
        """Split a batch of parts, which belong to the keys one by one."""
        if len(self.listed) == 1 or not parts:
            return {self.listed[0]: parts} if parts else {}
        return self._with_any(grouped(parts, self.route(keys), len(self.listed)))

    def keys_by_node(self, keys: Iterable[str]) -> dict[Node, Sequence[str]]:
        """Split keys, each taken once."""
        once = list(dict.fromkeys(keys))
        return self.by_node(once, once)

    def items_by_node(self, items: Sequence[Item]) -> dict[Node, Sequence[Item]]:
        """Split items, each of which begins with its key."""
        if len(self.listed) == 1:
            return self.by_node(items, ())
        if isinstance(items, Values):
            return self._with_any(items.grouped(self.route(items.keys), len(self.listed)))
        return self.by_node(list(items), keys_of(items))

    def _with_any(self, groups: Sequence[Sequence[_Part]]) -> dict[Node, Sequence[_Part]]:
        return {node: group for node, group in zip(self.listed, groups, strict=True) if group}

    def run(self, work: Work[_Result], preferred: Mapping[Node, Connection] | None = None, *, whole: bool = True) -> list[_Result]:
        """Give what the nodes answered, one by one; CacheUnreachable when one did not, after the others have done their part."""
        jobs = self.done(work, preferred, whole=whole)
        for job in jobs:
            if job.error:
                raise CacheUnreachable(complaint(job)) from job.error
        return [cast("_Result", job.result) for job in jobs]

    def done(self, work: Work[_Result], preferred: Mapping[Node, Connection] | None = None, *, whole: bool = True) -> list[Job[_Result]]:
        """Give the jobs of the nodes, each of which has a result or an error; ``preferred`` are connections to be used if they are free."""
        wanted = preferred or {}
        jobs = [Job(node.pool, steps, wanted.get(node)) for node, steps in work.items()]
        if in_greenlet():
            in_thread(partial(run, jobs), whole=whole)
        else:
            run(jobs)
        return jobs


def complaint(job: Job[Any]) -> str:
    """Say what a node did not do."""
    return f"memcached at {job.pool.server.name} did not do what was asked: {job.error}; check the server"
