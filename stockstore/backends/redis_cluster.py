"""Commands to the nodes of a cluster: those for all nodes are under way at once, and follow slots and primaries that move."""

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import redis
from redis.exceptions import AskError, MovedError, TryAgainError

from stockstore.backends.coherent import Item
from stockstore.backends.redis_clients import AnyCluster
from stockstore.backends.redis_errands import Errand, Telling
from stockstore.backends.redis_exchange import (
    CHUNK,
    LOST,
    Arguments,
    Call,
    OnClient,
    Unanswered,
    by_thousands,
    checked_cells,
    usable_cells,
)
from stockstore.backends.redis_identity import AnyLife, Life, life_of
from stockstore.backends.redis_replicas import Replicas, States, counts, placed_items, usable_cell
from stockstore.backends.redis_scripts import MARK, Script
from stockstore.backends.redis_shards import Shard, beside_generations, by_shard, is_generation, pattern_on_cluster, without_tag
from stockstore.backends.redis_telling import Message
from stockstore.cells import NO_ID
from stockstore.errors import ConfigurationError
from stockstore.native import pack_command

_ROUNDS: Final = 8
ASKING: Final = b"*1\r\n$6\r\nASKING\r\n"
_WAIT_SECONDS: Final = 0.02
_IDLE_SECONDS: Final = 1.0
"""After so long a node may have lost its office to a replica and won it back, and its connections are still open."""
_REFRESH_SECONDS: Final = 1.0
_SETTLING: Final = (redis.exceptions.ClusterDownError, redis.exceptions.ReadOnlyError, redis.exceptions.SlotNotCoveredError)


class Trip:
    """The errands to one node, on one connection of it."""

    def __init__(self, pool: Any, errands: list[Errand]) -> None:
        self._pool, self._errands = pool, errands
        self._connection: Any = None
        self._life: Life | None = None
        self._is_owed = False

    def send(self, names: Sequence[str]) -> None:
        """Write all commands."""
        try:
            connection = self._connection = self._pool.get_connection(*names)
            self._life = life_of(connection, Life)
            life = _known(self._life, connection)
            commands = [pack_command(errand.command(life)) for errand in self._errands]
            for at, errand in enumerate(self._errands):
                if errand.asking:
                    commands[at] = ASKING + commands[at]
            self._is_owed = True
            connection.send_packed_command([b"".join(commands)])
        except LOST as error:
            self._fail(error)

    def receive(self) -> None:
        """Read all answers; an error is one, too."""
        if not self._is_owed or self._life is None:
            return
        read, moved = self._connection.read_response, False
        try:
            for errand in self._errands:
                if errand.asking:
                    read()
                try:
                    errand.answer = read()
                except redis.ResponseError as error:
                    errand.answer = error
                    moved = moved or isinstance(error, (MovedError, redis.exceptions.ReadOnlyError))
            self._is_owed = False
        except LOST as error:
            self._fail(error)
        self._life.heard = time.monotonic()
        if moved:
            self._life.id = None

    def end(self) -> None:
        """Give the connection back, without an answer that is still to come."""
        if self._connection is not None:
            if self._is_owed:
                self._connection.disconnect()
            self._pool.release(self._connection)

    def _fail(self, error: Exception) -> None:
        # What else is idle there is as old.
        self._pool.disconnect(inuse_connections=False)
        for errand in self._errands:
            errand.lose(error, sent=self._is_owed)


def doubt_idle(life: AnyLife) -> None:
    """Have it asked anew which life an idle connection reaches."""
    if time.monotonic() > life.heard + _IDLE_SECONDS:
        life.id = None


def _known(life: Life, connection: Any) -> bytes:
    """Give the id of the life that a connection reaches, asked for anew where that is in doubt."""
    doubt_idle(life)
    if life.id is None:
        connection.connect()
    if life.id is None:
        life.learn(connection)
    return life.id or NO_ID


class OnCluster(OnClient):
    """A cluster.

    redis-py's own pipeline does not tell which connection gave an answer, asks all nodes in turn for what has
    moved, and takes several times as long for a batch.
    """

    def __init__(self, client: "AnyCluster") -> None:
        """Keep the client; opens no connection."""
        super().__init__(client)
        if client.read_from_replicas or getattr(client, "load_balancing_strategy", None):
            raise ConfigurationError("this RedisCluster reads from replicas, which may be behind; give one that reads from primaries")
        self._refreshed = -_REFRESH_SECONDS
        self.replicas = Replicas(self._do)

    def get(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Read by one MGET for each slot, with the generations that are asked for beside the keys of their classes."""
        generations = {key for key in keys if key[-1:] == ":" and is_generation(key)}
        asked: dict[bytes, list[str]] = {}
        cells: dict[bytes, list[bytes | None]] = {}
        done = self._do([Errand(shard, group) for shard, group in beside_generations(keys, generations).items()])
        for errand in done:
            asked.setdefault(errand.life, []).extend(errand.keys)
            cells.setdefault(errand.life, []).extend(checked_cells(errand.answer))
        found: dict[str, bytes] = {}
        for life, names in asked.items():
            found |= usable_cells(names, cells[life], life)
        return self._agreed(found, _states_in(done, generations)) if generations else found

    def _agreed(self, found: dict[str, bytes], states: Mapping[str, States]) -> dict[str, bytes]:
        """Give what was found with one cell for each generation."""
        for key, state in states.items():
            try:
                cell = self.replicas.agreed(key, state, make=False)
            except Unanswered:  # of a replica's lease; without the generation rows are as if they were absent
                cell = None
            if cell is not None:
                found[key] = cell
            else:
                found.pop(key, None)
        return found

    def calls(self, step: Script, make: Arguments, *batches: Sequence[Item]) -> list[Call]:
        """Part a step by slots, and what is above a thousand keys."""
        placed = placed_items(batches)
        return [Call.of(step, part, make, shard) for shard, items in placed for part in by_thousands(*items) if any(part)]

    def run(self, calls: Sequence[Call], message: Message | None = None) -> list[tuple[Call, Any]]:
        """Do all calls at once, but those on generations that count before their replicas; then a message is published, which names the keys of their first batches."""
        errands = [Errand(call.shard, call.keys, call) for call in calls]
        # Whoever has asked there before has but leases at the replicas, which end with what is done there; marks are waited for by the COMMIT.
        first = [errand for errand, call in zip(errands, calls, strict=True) if call.step is not MARK and counts(call.keys, call.shard)]
        done = self._do(first) if first else []
        rest = [errand for errand in errands if errand not in first] if first else errands
        done += self._do(rest) if message is None else self._do_and_tell(rest, message)
        return [(errand.call, errand.answer) for errand in done if errand.call]

    def _do_and_tell(self, errands: list[Errand], message: Message) -> list[Errand]:
        """Do errands, then publish a message: behind them where they are one node's, which does all in turn, or else once all are done.

        Whoever hears of a mark before it stands may fill his memory from what it is going to cover.
        """
        named = [errand for errand in errands if errand.call and errand.call.part[0]]
        shard = named[0].shard if named else next(iter(by_shard(message.texts, message.texts)))
        self._prepare()
        along = len({self._node_of(errand).name for errand in named}) == 1
        done = self._do([*errands, *_tellings(shard, message)] if along else errands)
        if not along or not all(errand.is_done_at_once for errand in named):
            done += self._do(_tellings(shard, message))
        for errand in done:
            if isinstance(errand, Telling) and isinstance(errand.answer, Exception):
                message.refused(str(errand.answer))
        return done

    def scan(self, match: str) -> Iterator[list[str]]:
        """Give the keys of a pattern on every primary node, by the thousand."""
        for batch in super().scan(pattern_on_cluster(match)):
            yield list(map(without_tag, batch))

    def _do(self, errands: list[Errand]) -> list[Errand]:
        """Give the errands with their answers, some in pieces; the first error is raised when all are back."""
        done: list[Errand] = []
        broken = 0
        for _ in range(_ROUNDS):
            for errand in errands:
                errand.rounds += 1
            self._travel(errands)
            failed = [errand for errand in errands if errand.has_failed]
            if not failed:
                return [*done, *errands]
            done += [errand for errand in errands if errand not in failed]
            broken += any(isinstance(errand.answer, (redis.ConnectionError, OSError)) for errand in failed)
            errands = self._again(failed, last=broken > 1)
        raise next(errand.answer for errand in failed)

    def _again(self, failed: Iterable[Errand], *, last: bool) -> list[Errand]:
        """Say how what has failed may be done; raises where it may not."""
        again: list[Errand] = []
        wait = refresh = False
        for errand in failed:
            error = errand.answer
            if isinstance(error, redis.exceptions.NoScriptError):
                errand.whole = True
            elif isinstance(error, AskError):
                errand.to, errand.asking = (error.host, error.port), not isinstance(error, MovedError)
                refresh = refresh or not errand.asking
            elif isinstance(error, TryAgainError):
                again += errand.pieces() if len(errand.keys) > 1 else [errand]
                wait = wait or len(errand.keys) == 1
                continue
            elif isinstance(error, _SETTLING) or (isinstance(error, (redis.ConnectionError, OSError)) and not last):
                errand.to, errand.asking = None, False
                wait = refresh = True
            else:
                if isinstance(error, Unanswered):
                    # Whoever marks once more does not have to find out who has taken the node's place.
                    self._refresh(soon=True)
                raise error
            again.append(errand)
        if refresh:
            self._refresh(soon=wait)
        self._pause(_WAIT_SECONDS if wait else 0)
        return again

    def _refresh(self, *, soon: bool) -> None:
        """Ask who has which slots; one that has moved is found without."""
        now = time.monotonic()
        if soon or now > self._refreshed + _REFRESH_SECONDS:
            self._learn_nodes()
            self._refreshed = now

    def _prepare(self) -> None:
        """See to it that the client knows who has which slots."""

    def _learn_nodes(self) -> None:
        self._client.nodes_manager.initialize()

    def _pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def _travel(self, errands: Sequence[Errand]) -> None:
        """Ask all nodes, and then wait for them; an answer may be an error."""
        # In one order: threads that wait for connections of small pools would wait for each other.
        parts = sorted(self._by_node(errands).items())
        trips = [Trip(self._client.get_redis_connection(node).connection_pool, group) for _, (node, group) in parts]
        try:
            for trip in trips:
                trip.send(self._names)
            for trip in trips:
                trip.receive()
        finally:
            for trip in trips:
                trip.end()

    def _by_node(self, errands: Sequence[Errand]) -> dict[str, tuple[Any, list[Errand]]]:
        """Give the nodes by their names, each with what it is to do."""
        by_node: dict[str, tuple[Any, list[Errand]]] = {}
        for errand in errands:
            node = self._node_of(errand)
            by_node.setdefault(node.name, (node, []))[1].append(errand)
        return by_node

    def _node_of(self, errand: Errand) -> Any:
        nodes = self._client.nodes_manager
        if errand.to is not None:
            node = nodes.get_node(*errand.to)
            if node is None:
                self._learn_nodes()
                node = nodes.get_node(*errand.to)
            if node is not None:
                return node
        holders = nodes.slots_cache.get(errand.shard.slot)
        return holders[0] if holders else nodes.get_node_from_slot(errand.shard.slot)


def _tellings(shard: Shard, message: Message) -> list[Errand]:
    return [Telling(shard, part) for part in message.parts(CHUNK)]


def _states_in(done: Iterable[Errand], generations: Collection[str]) -> dict[str, States]:
    """Give what was found for generations, which stand last in what was read."""
    states: dict[str, States] = {}
    for errand in done:
        for key, cell in zip(reversed(errand.keys), reversed(errand.answer), strict=True):
            if key not in generations:
                break
            states.setdefault(key, {})[errand.shard] = usable_cell(cell, errand.life)
    return states
