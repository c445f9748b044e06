"""Commands to the nodes of a cluster by an asyncio client."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import redis
from redis.asyncio import RedisCluster
from redis.exceptions import MovedError

from stockstore.aio.bridge import await_only, await_whole, greenlet_spawn, in_greenlet, run_apart
from stockstore.aio.gathering import Gathering
from stockstore.backends.redis_clients import CONNECTIONS, nodes_of
from stockstore.backends.redis_cluster import ASKING, OnCluster, doubt_idle
from stockstore.backends.redis_errands import Errand
from stockstore.backends.redis_exchange import CHUNK, LOST, Call
from stockstore.backends.redis_identity import AwaitedLife, life_of
from stockstore.backends.redis_of_loop import OfLoop
from stockstore.backends.redis_shards import pattern_on_cluster, without_tag
from stockstore.backends.redis_telling import Message
from stockstore.cells import NO_ID
from stockstore.native import pack_command

T = TypeVar("T")
_POLICY: Final = re.compile(rb"maxmemory_policy:(\S+)")


class OnAwaitedCluster(OfLoop, OnCluster):
    """A cluster, by an asyncio client: what is done is what a blocking client does, in a greenlet of its own.

    Every step is done to its end, whoever is cancelled meanwhile: so no connection is left with an answer to come.
    """

    def __init__(self, client: "RedisCluster") -> None:
        """Keep the client; opens no connection."""
        super().__init__(client)
        self._settle()

    def _start(self) -> None:
        most = int(self._client.nodes_manager.connection_kwargs.get("max_connections") or CONNECTIONS)
        self._room = asyncio.Semaphore(max(1, min(most, CONNECTIONS)))
        self._reads = Gathering(partial(greenlet_spawn, partial(OnCluster.get, self)))

    def run(self, calls: Sequence[Call], message: Message | None = None) -> list[tuple[Call, Any]]:
        """Do all calls at once."""
        self._home.enter()
        return await_whole(greenlet_spawn(super().run, calls, message))

    def scan(self, match: str) -> Iterator[list[str]]:
        """Give the keys of a pattern on every primary node, by the thousand or so."""
        self._home.enter()
        await_only(self._client.initialize())
        for node in self._client.get_primaries():
            cursor: bytes | None = b"0"
            while cursor is not None:
                command = "SCAN", cursor, "MATCH", pattern_on_cluster(match), "COUNT", str(CHUNK)
                after, keys = await_whole(self._alone(partial(_told, node, command)))
                if keys:
                    yield [without_tag(key.decode()) for key in keys]
                cursor = after if int(after) else None

    def memory_facts(self) -> Mapping[str, Any]:
        """Give what each node that is known by now tells of its memory, on connections of their own: the client's loop may be elsewhere."""
        facts: dict[str, Any] = {}
        for node in nodes_of(self._client):
            found = _POLICY.search(bytes(self._apart(node, "INFO", "memory")))
            facts[node.name] = {"maxmemory_policy": found[1].decode()} if found else {}
        return facts

    def publish(self, channel: bytes, message: bytes) -> None:
        """Publish a message, in the same way."""
        self._apart(nodes_of(self._client)[0], "PUBLISH", channel, message)

    # -- what a blocking client does otherwise --------------------------------------------------

    def _prepare(self) -> None:
        await_only(self._client.initialize())

    def _travel(self, errands: Sequence[Errand]) -> None:
        self._prepare()
        by_node = self._by_node(errands)
        await_only(self._alone(partial(_travel, list(by_node.values()))))

    def _pause(self, seconds: float) -> None:
        await_only(asyncio.sleep(seconds))

    def _learn_nodes(self) -> None:
        await_only(self._client.nodes_manager.initialize())

    async def _alone(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do what takes a connection to each node at the most, when there are that many."""
        async with self._room:
            return await work()

    def _apart(self, node: Any, *command: str | bytes) -> Any:
        ask = partial(_asked_apart, node, command)
        return await_only(ask()) if in_greenlet() else run_apart(lambda: await_only(ask()))


async def _travel(trips: Sequence[tuple[Any, list[Errand]]]) -> None:
    await asyncio.gather(*(_trip(node, errands) for node, errands in trips))


async def _trip(node: Any, errands: list[Errand]) -> None:
    """Have a node do errands, on one connection; an answer may be an error."""
    try:
        connection = node.acquire_connection()
    except redis.ConnectionError as error:  # there are no more
        _fail(errands, error, sent=False)
        return
    sent = False
    try:
        life, commands = await _commands(connection, errands)
        sent = True
        await _exchange(connection, life, commands, errands)
    except LOST as error:
        await connection.disconnect(nowait=True)
        # What else is idle there is as old.
        for idle in list(node._free):  # noqa: SLF001 - its public name is not in older versions of redis-py
            await idle.disconnect(nowait=True)
        _fail(errands, error, sent=sent)
    except BaseException:
        # What is still to come would be the answer to another command.
        await connection.disconnect(nowait=True)
        raise
    finally:
        _release(node, connection)


async def _commands(connection: Any, errands: list[Errand]) -> tuple[AwaitedLife, list[bytes]]:
    life = life_of(connection, AwaitedLife)
    if any(errand.is_sent_once for errand in errands) and connection.is_connected and await _has_hung_up(connection):
        await connection.disconnect(nowait=True)
        life.id = None
    known = await _known(life, connection)
    return life, [ASKING * errand.asking + pack_command(errand.command(known)) for errand in errands]


async def _exchange(connection: Any, life: AwaitedLife, commands: list[bytes], errands: list[Errand]) -> None:
    await connection.send_packed_command([b"".join(commands)])
    moved = False
    for errand in errands:
        if errand.asking:
            await connection.read_response()
        try:
            errand.answer = await connection.read_response()
        except redis.ResponseError as error:
            errand.answer = error
            moved = moved or isinstance(error, (MovedError, redis.exceptions.ReadOnlyError))
    life.heard = time.monotonic()
    if moved:
        life.id = None


async def _has_hung_up(connection: Any) -> bool:
    """Whether there is anything to be read from an idle connection, if but its end; redis-py's other clients look themselves."""
    # Older versions of redis-py have another name for it.
    found: bool = await getattr(connection, "can_read", connection.can_read_destructive)()
    return found


async def _known(life: AwaitedLife, connection: Any) -> bytes:
    """Give the id of the life that a connection reaches, asked for anew where that is in doubt."""
    doubt_idle(life)
    if life.id is None:
        await connection.connect()
    if life.id is None:
        await life.learn(connection)
    return life.id or NO_ID


def _release(node: Any, connection: Any) -> None:
    """Give a connection back, as older versions of redis-py do it themselves too."""
    if hasattr(node, "release"):
        node.release(connection)
    else:
        node._free.append(connection)  # noqa: SLF001 - see above


def _fail(errands: Sequence[Errand], error: Exception, *, sent: bool) -> None:
    for errand in errands:
        errand.lose(error, sent=sent)


async def _told(node: Any, command: Sequence[str | bytes]) -> Any:
    connection = node.acquire_connection()
    try:
        await connection.connect()
        await connection.send_packed_command([pack_command(command)])
        return await connection.read_response()
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    finally:
        _release(node, connection)


async def _asked_apart(node: Any, command: Sequence[str | bytes]) -> Any:
    connection = node.connection_class(**node.connection_kwargs)
    try:
        await connection.connect()
        await connection.send_packed_command([pack_command(command)])
        return await connection.read_response()
    finally:
        await connection.disconnect(nowait=True)
