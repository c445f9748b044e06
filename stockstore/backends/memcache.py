"""memcached as a backend."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, TypeVar, Union

from stockstore.backends.base import PartlyUnreachable, checked_timeouts, target_of
from stockstore.backends.coherent import CoherentBackend, Item, Leased
from stockstore.backends.columns import keys_of
from stockstore.errors import CacheUnreachable, ConfigurationError

try:
    import pymemcache as _driver  # noqa: F401 - tells here that it is missing
except ModuleNotFoundError as exc:
    raise ConfigurationError('memcached needs its driver, which is missing: pip install "pymemcache>=4"') from exc

from stockstore.backends.memcache_leases import Held, Leases, fill_steps, lease_steps, withdraw_steps
from stockstore.backends.memcache_looks import get_steps
from stockstore.backends.memcache_marks import invalidate_steps, loss_steps, mark_steps, release_steps
from stockstore.backends.memcache_nodes import Node, Nodes, complaint
from stockstore.backends.memcache_puts import clear_steps, put_steps, set_steps
from stockstore.backends.memcache_servers import servers_of, servers_of_client
from stockstore.cells import ALIAS, NO_GENERATION, VALUE, generation_of

if TYPE_CHECKING:
    from pymemcache.client.base import Client, PooledClient
    from pymemcache.client.hash import HashClient

_Result = TypeVar("_Result")
_ByNode: TypeAlias = Mapping[Node, Sequence[str]]
_MANY_LEASES = 1000


class MemcacheBackend(CoherentBackend):
    """Keeps cells on one memcached server or several; memcached 1.6.10 or later.

    Args:
        servers: ``"host:port"``, ``"host"`` (port 11211), ``"unix:/path"``, ``"/path"``, or a list of them.
        alongside: the list that other processes go by at the same time, while it is changed: what is written is marked and invalidated on the
            servers of that list as well.
        client: instead of servers: a pymemcache ``Client``, ``PooledClient`` or ``HashClient``, which says
            where the servers are, with which time-outs and TLS context. Connections are opened anew, so that
            threads may share the backend and every write is acknowledged; the client itself is left alone.
        connect_timeout: seconds to wait for a connection.
        timeout: seconds to wait for each part of an answer.

    Raises:
        ConfigurationError: not exactly one of servers and client, or one that does not fit.

    No connection is opened before the first operation. Threads and forked processes may share a backend.
    Each key has its server by rendezvous hashing; a server that is down keeps its keys, and operations on
    them raise, when the other servers have done their part. Under ``AsyncStore`` a few threads serve the sockets. :meth:`clear` replaces a token that every cell depends on (see ``generations``): a process
    that writes elsewise into the same keys is not seen. What a server held before a restart is absent.
    """

    def __init__(
        self,
        servers: str | Sequence[str] | None = None,
        *,
        alongside: str | Sequence[str] | None = None,
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
        others = [] if alongside is None else servers_of(alongside, connect_timeout, timeout)
        self._nodes = Nodes(listed, others)
        self._held: dict[bytes, dict[Node, Held]] = {}

    def __repr__(self) -> str:
        return f"MemcacheBackend({[node.pool.server.name for node in self._nodes.listed]!r})"

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Give the cells of those keys that are present; one round trip, to all nodes at once.

        Raises:
            PartlyUnreachable: Some nodes did not answer; it has what the others gave.
        """
        found, error = self._look(keys)
        if error is not None:
            raise error
        return found

    def follow_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Give cells and follow aliases; two round trips where there are any."""
        found, error = self._look(keys)
        targets = {key: target_of(cell) for key, cell in found.items() if cell.startswith(ALIAS)}
        records, other = self._look(list(dict.fromkeys(filter(None, targets.values()))))
        values = {key: records.get(target, b"") for key, target in targets.items()}
        found |= {key: cell for key, cell in values.items() if cell.startswith(VALUE)}
        for each in filter(None, (error, other)):
            lost = {key for key in keys if key in each.lost or targets.get(key) in each.lost}
            raise PartlyUnreachable(str(each), found, lost | (error.lost if error else set())) from each.__cause__
        return found

    def _look(self, keys: Sequence[str]) -> tuple[dict[str, bytes], PartlyUnreachable | None]:
        """Give what the nodes have that answer, and the error that tells of the others."""
        groups = self._nodes.by_node(keys, keys)
        jobs = self._nodes.done(
            {node: partial(get_steps, keys=group, known=node.tokens, lives=node.lives) for node, group in groups.items()}, whole=False
        )
        found: dict[str, bytes] = {}
        for job in jobs:
            found |= job.result or {}
        failed = [job for job in jobs if job.error]
        if not failed:
            return found, None
        lost = [key for job, group in zip(jobs, groups.values(), strict=True) if job.error for key in group]
        error = PartlyUnreachable(complaint(failed[0]), found, lost)
        error.__cause__ = failed[0].error
        return found, error

    def lease_many(self, seen: Mapping[str, bytes | None], token: bytes, generation: str) -> Leased:
        """Take leases and ask for the generation in one round trip, to all nodes at once.

        What was seen, or is of an earlier life of the server, takes one round trip more.
        """
        if not seen:
            return Leased({}, frozenset(), NO_GENERATION)
        asked = self._leases(seen, token, generation)
        held = self._nodes.run({node: partial(lease_steps, leases=leases, known=node.tokens) for node, leases in asked.items()})
        cells = {key: cell for leases in asked.values() for key, cell in leases.cells.items()}
        granted = frozenset(key for leases in asked.values() for key in leases.grants)
        known = (
            generation_of(next((leases.generation for leases in asked.values() if leases.generation), None))
            if generation
            else NO_GENERATION
        )
        if known is None:
            self._withdraw(granted, token)
            return Leased(cells, frozenset(), None)
        self._hold(token, dict(zip(asked, held, strict=True)))
        return Leased(cells, granted, known)

    def fill_many(self, items: Sequence[Item], token: bytes, aliases: Sequence[Item] = ()) -> int:
        """Fill leases, to all nodes at once: one round trip where the connections that took them are free, else two."""
        held = self._held.pop(token, {})
        values, pointers = self._nodes.items_by_node(items), self._nodes.items_by_node(aliases)
        work = {
            node: partial(
                fill_steps,
                items=values.get(node, ()),
                token=token,
                aliases=pointers.get(node, ()),
                held=held.get(node),
                known=node.tokens,
            )
            for node in values | pointers
        }
        return sum(self._nodes.run(work, {node: leases.connection for node, leases in held.items()}))

    def put_many(self, items: Sequence[Item], aliases: Sequence[Item] = ()) -> None:
        """Put values and aliases in one round trip, to all nodes at once, where this process put a value last, read it since or finds it absent.

        What it did not see yet takes two, and what others changed since it did three. The first put to a node takes one
        more, and so do the first write to a class on it and the first one after :meth:`clear` by another process. A value
        that a server refuses, being too large, is an error, and its key is absent then.
        """
        values, pointers = self._nodes.items_by_node(items), self._nodes.items_by_node(aliases)
        work = {
            node: partial(put_steps, items=values[node], aliases=pointers.get(node, ()), known=node.tokens, lives=node.lives)
            if node in values
            else partial(set_steps, items=pointers[node], known=node.tokens)
            for node in values | pointers
        }
        # Those who go by the other list may overwrite it here and not there.
        self._on_both(partial(self._nodes.run, work), keys_of(items), self._invalidate)

    def mark_many(
        self, keys: Sequence[str], ticket: bytes, shared: Sequence[str] = (), generations: Sequence[str] = ()
    ) -> dict[str, bytes]:
        """Mark keys in one round trip, shared ones in two, to all nodes at once.

        On several nodes generations take one more, since they are to be looked at after every mark.
        """
        both = partial(self._mark_own, keys, ticket, shared, generations)
        mark = partial(self._mark_beside, ticket=ticket, shared=frozenset(shared))
        return self._on_both(both, [*keys, *shared], mark)

    def _mark_beside(self, groups: _ByNode, ticket: bytes, shared: Collection[str]) -> None:
        own = {node: [key for key in group if key not in shared] for node, group in groups.items()}
        joint = {node: [key for key in group if key in shared] for node, group in groups.items()}
        self._mark(ticket, own, joint, {})

    def _mark_own(self, keys: Sequence[str], ticket: bytes, shared: Sequence[str], generations: Sequence[str]) -> dict[str, bytes]:
        own, joint = self._nodes.keys_by_node(keys), self._nodes.keys_by_node(shared)
        homes, nodes = self._nodes.keys_by_node(generations), own | joint
        at_once = homes if nodes.keys() == homes.keys() and len(nodes) == 1 else {}
        found = self._mark(ticket, own, joint, at_once)
        return found if at_once else self._mark(ticket, {}, {}, homes)

    def _mark(self, ticket: bytes, own: _ByNode, joint: _ByNode, homes: _ByNode) -> dict[str, bytes]:
        work = {
            node: partial(
                mark_steps,
                keys=own.get(node, ()),
                ticket=ticket,
                shared=joint.get(node, ()),
                generations=homes.get(node, ()),
                known=node.tokens,
            )
            for node in {**own, **joint, **homes}
        }
        return {key: token for part in self._nodes.run(work) for key, token in part.items()}

    def release_many(
        self,
        keys: Sequence[str],
        ticket: bytes,
        *,
        committed: bool,
        values: Sequence[Item] = (),
        aliases: Sequence[Item] = (),
        renews: bool = True,  # noqa: ARG002 - none is left here
    ) -> int:
        """Release in two round trips, to all nodes at once; more where others change the same cells."""
        release = partial(self._release, self._nodes.keys_by_node(keys), ticket, committed, values, aliases)
        return self._on_both(release, keys, lambda groups: self._release(groups, ticket, committed, (), ()))

    def _release(self, own: _ByNode, ticket: bytes, committed: bool, values: Sequence[Item], aliases: Sequence[Item]) -> int:
        bodies, pointers = self._nodes.items_by_node(values), self._nodes.items_by_node(aliases if committed else ())
        work = {
            node: partial(
                release_steps,
                keys=own.get(node, ()),
                ticket=ticket,
                values=bodies.get(node, ()) if committed else None,
                aliases=pointers.get(node, ()),
                known=node.tokens,
            )
            for node in {**own, **pointers}
        }
        return sum(self._nodes.run(work))

    def invalidate_many(self, keys: Sequence[str]) -> int:
        """Invalidate in two round trips, to all nodes at once; more where others change the same cells."""
        return self._on_both(partial(self._invalidate, self._nodes.keys_by_node(keys)), keys, self._invalidate)

    def _invalidate(self, groups: _ByNode) -> int:
        return sum(self._nodes.run({node: partial(invalidate_steps, keys=group, known=node.tokens) for node, group in groups.items()}))

    def clear(self, prefix: str) -> None:
        """Make every cell under ``"namespace:"`` or ``"namespace:class label:"`` absent, but markers, which no value follows.

        The servers drop the cells themselves when they need the room.
        """
        self._nodes.run({node: partial(clear_steps, prefix=prefix, known=node.tokens) for node in self._nodes.all})

    def marker_loss(self) -> str | None:
        """Say whether a server evicts markers, or may come back from a restart unnoticed; all are asked."""
        try:
            losses = self._nodes.run(dict.fromkeys(self._nodes.all, loss_steps))
        except CacheUnreachable:
            return None
        return next(filter(None, losses), None)

    def close(self) -> None:
        """Close the idle connections."""
        for node in self._nodes.all:
            node.pool.close()

    def _on_both(self, own: Callable[[], _Result], keys: Sequence[str], beside: Callable[[_ByNode], object]) -> _Result:
        """Do on the servers of the other list, where these are others, what is done on our own; both also where one of them fails."""
        try:
            return own()
        finally:
            groups = self._nodes.by_node_beside(keys)
            if groups:
                beside(groups)

    def _leases(self, seen: Mapping[str, bytes | None], token: bytes, generation: str) -> dict[Node, Leases]:
        groups = self._nodes.keys_by_node(seen)
        homes = self._nodes.keys_by_node([generation] if generation else [])
        return {
            node: Leases({key: seen[key] for key in groups.get(node, ())}, token, generation if node in homes else "")
            for node in groups | homes
        }

    def _withdraw(self, keys: Collection[str], token: bytes) -> None:
        groups = self._nodes.keys_by_node(keys)
        self._nodes.run({node: partial(withdraw_steps, keys=group, token=token) for node, group in groups.items()})

    def _hold(self, token: bytes, held: dict[Node, Held]) -> None:
        if len(self._held) >= _MANY_LEASES:
            self._held.clear()  # to look again costs a fill one round trip
        self._held[token] = held
