"""Commands to Redis by an asyncio client."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from inspect import Parameter, signature
from typing import Any, Final, TypeVar

import redis
from redis.asyncio import ConnectionPool, Redis

from stockstore.aio.bridge import await_only, await_whole, in_greenlet, run_apart
from stockstore.aio.gathering import Found, Gathering
from stockstore.backends.coherent import Item
from stockstore.backends.redis_clients import CONNECTIONS
from stockstore.backends.redis_exchange import (
    CHUNK,
    LOST,
    Arguments,
    Call,
    by_thousands,
    checked_cells,
    rest_of,
    unanswered,
    usable_cells,
)
from stockstore.backends.redis_identity import AwaitedLife, life_of
from stockstore.backends.redis_of_loop import OfLoop
from stockstore.backends.redis_scripts import Script
from stockstore.cells import NO_ID
from stockstore.native import pack_command

T = TypeVar("T")
_POLICY: Final = re.compile(rb"maxmemory_policy:(\S+)")


class OnAwaitedServer(OfLoop):
    """One server, or a Sentinel's primary, by an asyncio client.

    Every command is done to its end, whoever is cancelled meanwhile: so no connection is left with an answer to come.
    """

    def __init__(self, client: "Redis") -> None:
        """Keep the client; opens no connection."""
        self._client = client
        self._settle()
        # As on the blocking client.
        named = signature(ConnectionPool.get_connection).parameters.get("command_name")
        self._names = ("EVALSHA",) if named is not None and named.default is Parameter.empty else ()

    def _start(self) -> None:
        self._room = asyncio.Semaphore(max(1, min(self._client.connection_pool.max_connections, CONNECTIONS)))
        self._reads = Gathering(partial(self._read, self._room))

    def _forget(self) -> bool:
        self._client.connection_pool.reset()
        self._start()
        return True

    async def _close(self) -> None:
        # Those that tasks are using are closed by these.
        await self._client.connection_pool.disconnect(inuse_connections=False)

    def calls(self, step: Script, make: Arguments, *batches: Sequence[Item]) -> list[Call]:
        """Part what is above a thousand keys."""
        return [Call.of(step, part, make) for part in by_thousands(*batches) if any(part)]

    def run(self, calls: Sequence[Call]) -> list[tuple[Call, Any]]:
        """Do one EVALSHA for each call."""
        self._home.enter()
        room = self._room
        return [(call, await_whole(self._exchange(room, partial(self._call, call)))) for call in calls]

    def scan(self, match: str) -> Iterator[list[str]]:
        """Give the keys of a pattern, by the thousand or so."""
        self._home.enter()
        room, cursor = self._room, b"0"
        while True:
            command = "SCAN", str(int(cursor)), "MATCH", match, "COUNT", str(CHUNK)
            cursor, keys = await_whole(self._exchange(room, partial(_scan, command)))
            if keys:
                yield [key.decode() for key in keys]
            if not int(cursor):
                return

    def memory_facts(self) -> Mapping[str, Any]:
        """Give what the server tells of its memory, on a connection of its own: it may be asked where the client's loop is not."""
        if self._is_found_by_loop():
            return {}
        found = _POLICY.search(bytes(run_apart(lambda: await_only(self._ask_apart("INFO", "memory")))))
        return {"maxmemory_policy": found[1].decode()} if found else {}

    def publish(self, channel: bytes, message: bytes) -> None:
        """Publish a message, in the same way."""
        if not self._is_found_by_loop():
            run_apart(lambda: await_only(self._ask_apart("PUBLISH", channel, message)))

    def _is_found_by_loop(self) -> bool:
        return getattr(self._client.connection_pool, "sentinel_manager", None) is not None and not in_greenlet()

    async def _read(self, room: asyncio.Semaphore, keys: Sequence[str]) -> Found:
        return await self._exchange(room, partial(_get, keys))

    async def _exchange(self, room: asyncio.Semaphore, work: Callable[[Any, AwaitedLife], Awaitable[T]]) -> T:
        pool: Any = self._client.connection_pool
        async with room:
            connection = await pool.get_connection(*self._names)
            try:
                life = life_of(connection, AwaitedLife)
                once, fail = partial(_once, connection, life, work), partial(_break, connection, life)
                answer: T = await connection.retry.call_with_retry(once, fail)
            except redis.exceptions.ReadOnlyError:
                # No primary any more: it may be one again, as another.
                await _break(connection, life)
                raise
            except redis.RedisError:
                raise
            except BaseException:
                # Nonsense, or the loop's end: what is still to come would be the answer to another command.
                await connection.disconnect(nowait=True)
                raise
            finally:
                if room is not self._room:
                    # The client was closed meanwhile, and what is opened now would be of no use to another loop.
                    await connection.disconnect(nowait=True)
                await pool.release(connection)
            return answer

    async def _call(self, call: Call, connection: Any, life: AwaitedLife) -> Any:
        rest = rest_of(call, life.id or NO_ID)
        try:
            return await _evaluate(call.step, rest, connection)
        except LOST as error:
            raise unanswered(call.step, error) from error

    async def _ask_apart(self, *command: str | bytes) -> Any:
        pool: Any = self._client.connection_pool
        connection = pool.make_connection()
        try:
            await connection.connect()
            return await _ask(connection, *command)
        finally:
            await connection.disconnect(nowait=True)


async def _get(keys: Sequence[str], connection: Any, life: AwaitedLife) -> Found:
    cells = checked_cells(await _ask(connection, "MGET", *keys))
    found = usable_cells(keys, cells, life.id or NO_ID)
    if len(found) + cells.count(None) < len(cells):
        life.doubt()
    return found


async def _scan(command: Sequence[str], connection: Any, _life: AwaitedLife) -> Any:
    return await _ask(connection, *command)


async def _ask(connection: Any, *command: str | bytes) -> Any:
    await connection.send_packed_command([pack_command(command)])
    return await connection.read_response()


async def _evaluate(script: Script, rest: Sequence[str | bytes], connection: Any) -> Any:
    try:
        return await _ask(connection, "EVALSHA", script.digest, *rest)
    except redis.exceptions.NoScriptError:
        return await _ask(connection, "EVAL", script.text, *rest)


async def _once(connection: Any, life: AwaitedLife, work: Callable[[Any, AwaitedLife], Awaitable[T]]) -> T:
    if life.id is None:
        await connection.connect()
    if life.id is None:
        await life.learn(connection)
    known = life.id
    answer = await work(connection, life)
    if life.id is not None and life.id != known:
        raise redis.ConnectionError("the connection was made anew in the middle of a command")
    return answer


async def _break(connection: Any, life: AwaitedLife, _error: object = None) -> None:
    await connection.disconnect(nowait=True)
    life.id = None
