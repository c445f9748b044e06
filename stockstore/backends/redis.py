"""Redis as a backend."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, Union, cast

from stockstore.backends.base import checked_timeouts, target_of
from stockstore.backends.coherent import LEASE_SECONDS, CoherentBackend, Followed, Item, Leased
from stockstore.backends.columns import keys_in
from stockstore.cells import ALIAS, GENERATION_SIZE, LEASE, NO_GENERATION, VALUE, generation_of
from stockstore.errors import CacheUnreachable, ConfigurationError

try:
    import redis
except ModuleNotFoundError as exc:
    raise ConfigurationError('Redis needs its driver, which is missing: pip install "redis[hiredis]>=5"') from exc

from stockstore.backends.redis_advice import worst_policy
from stockstore.backends.redis_arguments import (
    GENERATION_SECONDS,
    bare_items,
    cell_arguments,
    fresh_tokens,
    life_alone,
    literally,
    looked_at,
    put_arguments,
)
from stockstore.backends.redis_awaited import OnAwaitedServer
from stockstore.backends.redis_awaited_cluster import OnAwaitedCluster
from stockstore.backends.redis_clients import AnyCluster, address_of, channel_name, open_client, refuse_text
from stockstore.backends.redis_cluster import OnCluster
from stockstore.backends.redis_errors import Errors
from stockstore.backends.redis_exchange import CHUNK, Arguments, Call, OnServer, Part, checked_cells
from stockstore.backends.redis_kinds import exchange_of
from stockstore.backends.redis_lists import FILL_LIST, FOLLOW_LIST
from stockstore.backends.redis_replicas import Renewal, States, cell_of
from stockstore.backends.redis_scripts import FILL, FOLLOW, INVALIDATE, MARK, PUT, RELEASE, TELL, Script
from stockstore.backends.redis_scripts import LEASE as LEASE_STEP
from stockstore.backends.redis_shards import is_generation
from stockstore.backends.redis_telling import Message, Teller

T = TypeVar("T")
_AWAITED = OnAwaitedServer, OnAwaitedCluster
_LEASED = frozenset({bytes, int, type(None)})
_NONE_GRANTED: frozenset[int] = frozenset()
_LIST_GRANTED = frozenset([0])
_LEASE_SECONDS = b"%d" % LEASE_SECONDS
NOTHING = b"0\n\n~:"
"""A message without a number, of a namespace that nobody has."""


class RedisBackend(CoherentBackend):
    """Keeps cells on one Redis server, a Sentinel's primary, or a cluster; Redis 6.2 or later.

    Args:
        url: ``redis://``, ``rediss://`` (TLS) or ``unix://``, with the options of redis-py in its query; for asyncio
            ``redis+asyncio://`` and so on.
        client: instead of a URL: a ready client (``redis.Redis``, also one from
            ``Sentinel.master_for``, ``redis.cluster.RedisCluster``, or those of ``redis.asyncio``). It keeps its own
            time-outs and retries, and ``close`` leaves it alone.
        connect_timeout: seconds to wait for a connection.
        read_timeout: seconds to wait for each answer.

    Raises:
        ConfigurationError: not exactly one of url and client, a URL that does not fit, or what is no client, is a
            pipeline, or decodes answers to text.

    No connection is opened before the first operation. Threads and forked processes may share a backend, but an asyncio
    client belongs to one event loop, and what other code calls it for is a ConfigurationError before any I/O. The user of the
    server must be allowed ``EVAL`` and ``INFO``.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        client: Union["redis.Redis", AnyCluster, "redis.asyncio.Redis", None] = None,
        connect_timeout: float = 1.0,
        read_timeout: float = 1.0,
    ) -> None:
        if (url is None) == (client is None):
            raise ConfigurationError("RedisBackend takes either a url or a client, exactly one of them")
        checked_timeouts(connect_timeout=connect_timeout, read_timeout=read_timeout)
        self._owned = url is not None
        ready = open_client(url, connect_timeout, read_timeout) if url is not None else client
        self._exchange = exchange_of(ready)
        self.io = "awaited" if isinstance(self._exchange, _AWAITED) else "blocking"
        # Other kinds of clients share the methods used here.
        self._client = cast("redis.Redis", ready)
        refuse_text(self._client)
        self._cluster = self._exchange if isinstance(self._exchange, OnCluster) else None
        self._errors = Errors(self._client, self._exchange)
        self._teller = Teller(repr(self), channel_name(self._client), scattered=self._cluster is not None)

    @property
    def client(self) -> "redis.Redis":
        """The client, of whichever kind."""
        return self._client

    def __repr__(self) -> str:
        return f"RedisBackend({address_of(self._client)!r})"

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Give the cells of those keys that are present: one MGET, on a cluster one for each slot, to all nodes at once."""
        if not keys:
            return {}
        with self._errors:
            return self._exchange.get(keys)

    def look(self, keys: Sequence[str], *, follow: bool = False) -> list[bytes | None]:
        """Give the cells in the positions of the keys."""
        if not keys or not isinstance(self._exchange, OnServer):
            return super().look(keys, follow=follow)
        with self._errors:
            return self._followed(keys) if follow else self._exchange.look(keys)

    async def get_many_awaited(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Give the cells of those keys that are present, in a coroutine of an asyncio client's loop."""
        if not isinstance(self._exchange, _AWAITED):
            return await super().get_many_awaited(keys)
        with self._errors:
            return await self._exchange.ask(keys) if keys else {}

    def follow_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Give cells and follow aliases in one round trip for each thousand; on a cluster in two."""
        if self._cluster is not None:
            return self._follow_in_two(keys)
        asked = list(dict.fromkeys(keys))
        with self._errors:
            cells = self._followed(asked)
        return {key: cell for key, cell in zip(asked, cells, strict=True) if cell is not None}

    @property
    def follows_lists(self) -> bool:
        """Whether lists and rows are on one server; on a cluster they stand in different slots."""
        return self._cluster is None

    def follow_list(self, key: str, generation: str, stamp: bytes, prefix: str, token: bytes) -> Followed:
        """Read a list with its records, and lease what is absent, by one script."""

        def arguments(_: Part, life: bytes) -> list[bytes]:
            fresh = secrets.token_bytes(GENERATION_SIZE)  # another one where the command is sent once more
            return [life, prefix.encode(), stamp, LEASE + life + token, fresh, GENERATION_SECONDS, _LEASE_SECONDS]

        with self._errors:
            ((_, answer),) = self._exchange.run([Call(FOLLOW_LIST, (generation, key), (), arguments)])
            first, *members = checked_cells(answer, _LEASED)
        if members[:1] == [1]:
            return Followed(first, [None], _LIST_GRANTED, *members[1:])
        granted = frozenset([at for at, cell in enumerate(members) if cell == 1]) if 1 in members else _NONE_GRANTED
        return Followed(first, [None if cell == 1 else cell for cell in members] if granted else members, granted)

    def lease_many(self, seen: Mapping[str, bytes | None], token: bytes, generation: str) -> Leased:
        """Take leases along with the generation in one round trip; of one server it is asked first where there are above a thousand."""
        wanted = [(key, cell or b"", 0) for key, cell in seen.items()]
        if not generation or not wanted:
            return self._lease("", wanted, token, NO_GENERATION)
        if len(wanted) < CHUNK or self._cluster is not None:
            return self._lease(generation, wanted, token, None)
        made = self._lease(generation, [], token, None).generation
        return Leased(self.get_many(list(seen)), frozenset(), None) if made is None else self._lease("", wanted, token, made)

    def fill_many(self, items: Sequence[Item], token: bytes, aliases: Sequence[Item] = ()) -> int:
        """Fill leases in one round trip for each thousand."""
        with self._errors:
            return self._count(FILL, lambda part, life: [LEASE + life + token, *cell_arguments(part, life)], items, aliases)

    def fill_list(self, items: Sequence[Item], token: bytes, watch: bytes, aliases: Sequence[Item] = ()) -> tuple[int, int]:
        """Fill a list with its records in one round trip, where these are not too many for one; then the list alone."""
        given = (items, aliases) if len(items) + len(aliases) <= CHUNK else (items[:1], ())
        with self._errors:
            ((_, answer),) = self._run(FILL_LIST, lambda part, life: [LEASE + life + token, watch, *cell_arguments(part, life)], *given)
            lists, cells = answer
            return int(lists), int(cells)

    def put_many(self, items: Sequence[Item], aliases: Sequence[Item] = ()) -> None:
        """Put values in one round trip for each thousand."""
        with self._errors:
            message = self._teller.message(keys_in([items])) if self._cluster is not None else None
            for _, answer in self._run(
                PUT, lambda part, life: [*put_arguments(part, life), *self._teller.in_script], items, aliases, message=message
            ):
                self._teller.untold(answer)

    def mark_many(
        self, keys: Sequence[str], ticket: bytes, shared: Sequence[str] = (), generations: Sequence[str] = ()
    ) -> dict[str, bytes]:
        """Mark all keys, shared or not, and look at the generations, in one round trip for each thousand; of a cluster all nodes at once."""

        def arguments(part: Part, life: bytes) -> list[bytes]:
            return [ticket, life, b"%d" % len(part[0]), GENERATION_SECONDS, *fresh_tokens(part[1]), self._teller.in_script[1]]

        states: dict[str, States] = {}
        own = [*keys, *shared]
        with self._errors:
            # On a cluster some may be looked at before others are marked: what matters is that the rows are locked by now.
            message = self._teller.message(own, ticket)
            for call, answer in self._run(MARK, arguments, bare_items(own), looked_at(generations), message=message):
                found = checked_cells(self._teller.untold(answer))
                for key, cell in zip(call.keys[len(call.keys) - len(found) :], found, strict=True):
                    states.setdefault(key, {})[call.shard] = cell
            cells = {key: self._agreed(key, states[key]) for key in states.keys() - own}
        return {key: token for key, cell in cells.items() if (token := generation_of(cell)) is not None}

    def _agreed(self, generation: str, state: States) -> bytes | None:
        """Give the cell of a generation, which is made where it is absent, from what was found in slots."""
        return next(iter(state.values())) if self._cluster is None else self._cluster.replicas.agreed(generation, state, make=True)

    def release_many(
        self,
        keys: Sequence[str],
        ticket: bytes,
        *,
        committed: bool,
        values: Sequence[Item] = (),
        aliases: Sequence[Item] = (),
        renews: bool = True,
    ) -> int:
        """Release in one round trip for each thousand."""
        valued = {item[0]: item for item in values} if committed else {}
        renewal = Renewal(keys if committed and renews and self._cluster is not None else ())
        valued |= renewal.items
        rest = [key for key in keys if key not in valued] if valued else keys
        head = [ticket, b"1" if committed else b"0"]

        def arguments(part: Part, life: bytes) -> list[bytes]:
            return [*head, b"%d" % (len(part[0]) + len(part[1])), *cell_arguments((renewal.of(part), part[2]), life), self._teller.channel]

        with self._errors:
            return self._count(RELEASE, arguments, list(valued.values()), bare_items(rest), aliases if committed else ())

    def invalidate_many(self, keys: Sequence[str]) -> int:
        """Invalidate in one round trip for each thousand."""
        with self._errors:
            message = self._teller.message(keys)
            return self._count(INVALIDATE, lambda _, life: [life, *self._teller.in_script], bare_items(keys), message=message)

    def clear(self, prefix: str) -> None:
        """Invalidate every key that starts with a prefix; scans all keys of every primary node.

        What is written while this runs may survive or not.
        """
        with self._errors:
            for batch in self._exchange.scan(literally(prefix) + "*"):
                self._count(INVALIDATE, lambda _, life: [life, b"", b""], bare_items(batch))
            # After the last of them: whoever has just read one of them is told that it is gone.
            if self._cluster is not None and (message := self._teller.message([prefix])) is not None:
                self._cluster.run([], message)
            elif self._teller.channel:
                self._count(TELL, lambda *_: self._teller.in_script, bare_items([prefix]))

    def maxmemory_policy(self) -> str | None:
        """Tell what the server evicts when it is full, such as ``"noeviction"``; ``None`` where it does not tell.

        Of the nodes of a cluster one that evicts markers is named first.
        """
        try:
            with self._errors:
                return worst_policy(self._exchange.memory_facts())
        except CacheUnreachable:
            return None

    def marker_loss(self) -> str | None:
        """Say which policy of the server evicts markers; it is asked."""
        policy = self.maxmemory_policy()
        if policy is None or not policy.startswith("allkeys"):
            return None
        return f"maxmemory-policy {policy} lets Redis evict markers; set volatile-lru, or noeviction"

    def close(self) -> None:
        """Close the connections, unless the client was given."""
        if self._owned:
            self._exchange.close()

    def at_home(self, work: Callable[[], T]) -> T:
        """Do work of a thread of the library's own in the loop of an asyncio client."""
        if not isinstance(self._exchange, _AWAITED):
            return work()
        with self._errors:
            return self._exchange.at_home(work)

    def _followed(self, keys: Sequence[str]) -> list[bytes | None]:
        parts = [keys[start : start + CHUNK] for start in range(0, len(keys), CHUNK)]
        done = self._exchange.run([Call(FOLLOW, part, (), life_alone) for part in parts])
        return [cell for call, answer in done for cell in checked_cells(answer, count=len(call.keys))]

    def _follow_in_two(self, keys: Sequence[str]) -> dict[str, bytes]:
        found = self.get_many(keys)
        targets = {key: target_of(cell) for key, cell in found.items() if cell.startswith(ALIAS)}
        records = self.get_many(list(dict.fromkeys(filter(None, targets.values()))))
        values = {key: records.get(target, b"") for key, target in targets.items()}
        return found | {key: cell for key, cell in values.items() if cell.startswith(VALUE)}

    def _lease(self, generation: str, wanted: Sequence[Item], token: bytes, known: bytes | None) -> Leased:
        def arguments(part: Part, life: bytes) -> list[bytes]:
            seen = [cell for _, cell, _ in part[1]]
            fresh = fresh_tokens(part[0]) or [b""]
            return [life, LEASE + life + token, *fresh, GENERATION_SECONDS, _LEASE_SECONDS, *(seen if any(seen) else ())]

        cells: dict[str, bytes] = {}
        granted: list[str] = []
        state: States = {}
        with self._errors:
            for call, answer in self._run(LEASE_STEP, arguments, looked_at([generation] if generation else []), wanted):
                found = checked_cells(answer, _LEASED)
                first = int(call.keys[0] == generation)
                if first:
                    state[call.shard] = cell_of(found[0])
                asked = list(zip(call.keys[first:], found[1:], strict=True))
                granted += [key for key, cell in asked if cell == 1]
                cells |= {key: cell for key, cell in asked if type(cell) is bytes}
            if generation:
                known = generation_of(self._agreed(generation, state))
            if known is None and granted:
                # Only some of the nodes knew of the writer.
                self._run(INVALIDATE, lambda _, life: [life, b"", b""], bare_items(granted))
                granted = []
        return Leased(cells, frozenset(granted), known)

    def telling_loss(self) -> str | None:
        """Say why the memory of other processes is not told of what is written here; the server is asked."""
        try:
            with self._errors:
                self._exchange.publish(self._teller.channel, NOTHING)
        except CacheUnreachable as error:
            refusal = error.__cause__
            return self._teller.silence(str(refusal)) if isinstance(refusal, redis.exceptions.NoPermissionError) else None
        return None

    def _count(self, step: Script, arguments: Arguments, *batches: Sequence[Item], message: Message | None = None) -> int:
        total, replicas = 0, dict[str, list[int]]()
        for call, answer in self._run(step, arguments, *batches, message=message):
            told = self._teller.untold(answer)
            number = told[0] if type(told) is list and told else told
            if type(number) is not int:
                raise ValueError(f"it answered {str(answer)[:80]!r} for a number")
            if self._cluster is not None and is_generation(call.keys[0]):
                replicas.setdefault(call.keys[0], []).append(number)
            else:
                total += number
        return total + sum(map(max, replicas.values()))

    def _run(self, step: Script, arguments: Arguments, *batches: Sequence[Item], message: Message | None = None) -> list[tuple[Call, Any]]:
        """Do a step over batches, and give each call, whose keys are those of all batches in turn, with the answer."""
        calls = self._exchange.calls(step, arguments, *batches)
        return self._exchange.run(calls) if self._cluster is None else self._cluster.run(calls, message)
