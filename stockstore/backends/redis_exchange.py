"""Commands to Redis, and the life of the server that answers each."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from inspect import Parameter, signature
from itertools import islice
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

import redis

from stockstore.backends.coherent import Item
from stockstore.backends.columns import keys_in
from stockstore.backends.redis_clients import AnyCluster, drop_idle_connections
from stockstore.backends.redis_identity import Life, life_of
from stockstore.backends.redis_lists import FOLLOW_LIST
from stockstore.backends.redis_scripts import LEASE as LEASE_STEP
from stockstore.backends.redis_scripts import MARK, Script
from stockstore.backends.redis_shards import NOWHERE, Shard
from stockstore.cells import LEASE, NO_ID, VALUE, all_begin
from stockstore.native import pack_command

T = TypeVar("T")
Part: TypeAlias = Sequence[Sequence[Item]]
Arguments: TypeAlias = Callable[[Part, bytes], list[bytes]]
CHUNK = 1000  # bounds how long one script holds the server, and stays far below Lua's limit for unpack
_CELLS = frozenset({bytes, type(None)})
LOST = (redis.ConnectionError, redis.TimeoutError, OSError)
ONCE = frozenset({MARK, LEASE_STEP, FOLLOW_LIST})


class Unanswered(Exception):  # noqa: N818 - no error is to be told by it
    """A mark or a lease that was sent, and of which nobody knows whether it is done, or will be.

    It is not sent again unseen, by us or by a client's own retries: the first one may come late, after others have written, and what was to follow
    on it as well; then a release would put an old value, or a fill. Who has marked knows by this that no value may follow.
    """


def unanswered(step: Script, error: Exception) -> Exception:
    """Give the error of a step that was sent, when its connection was lost."""
    return Unanswered(str(error)) if step in ONCE else error


class Call(NamedTuple):
    """One step over a piece of each of its batches; on a cluster in one slot."""

    step: Script
    keys: Sequence[str]
    part: Part
    make: Arguments
    shard: Shard = NOWHERE

    @classmethod
    def of(cls, step: Script, part: Part, make: Arguments, shard: Shard = NOWHERE) -> "Call":
        """Give the call for a part: its keys are those of all pieces in turn."""
        return cls(step, keys_in(part), part, make, shard)

    def arguments(self, life: bytes) -> list[bytes]:
        """Give what follows the keys, by the id of the server's life."""
        return self.make(self.part, life)

    def singles(self) -> "Iterator[Call]":
        """Give a call for each key."""
        for at, batch in enumerate(self.part):
            for item in batch:
                yield Call.of(self.step, [[item] if at == place else [] for place in range(len(self.part))], self.make, self.shard)


class Exchange(Protocol):
    """What is different between a server and a cluster."""

    def get(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Give the cells that are present and of this life, or of none."""

    def calls(self, step: Script, make: Arguments, *batches: Sequence[Item]) -> list[Call]:
        """Part a step over batches; each call has a piece of each batch."""

    def run(self, calls: Sequence[Call]) -> list[tuple[Call, Any]]:
        """Give calls with their answers; one that a node would not do as a whole is there in pieces."""

    def scan(self, match: str) -> Iterator[list[str]]:
        """Give the keys of a pattern on every primary node, by the thousand."""

    def memory_facts(self) -> Mapping[str, Any]:
        """Give what the server, or each node, tells of its memory."""

    def publish(self, channel: bytes, message: bytes) -> None:
        """Publish a message, past all scripts."""

    def drop_idle(self) -> None:
        """Close the connections that are not in use now, where one may have an answer still to come."""

    def close(self) -> None:
        """Close the client."""


class OnClient:
    """What a server and a cluster share, by redis-py's own commands."""

    def __init__(self, client: "redis.Redis | AnyCluster") -> None:
        """Keep the client; opens no connection."""
        # Half of its methods have no types.
        self._client: Any = client
        # Before redis-py 5.3 a name was wanted, since then it is warned about.
        named = signature(redis.ConnectionPool.get_connection).parameters.get("command_name")
        self._names = ("EVALSHA",) if named is not None and named.default is Parameter.empty else ()

    def scan(self, match: str) -> Iterator[list[str]]:
        """Give the keys of a pattern on every primary node, by the thousand."""
        found = self._client.scan_iter(match=match, count=CHUNK)
        while batch := [key.decode() for key in islice(found, CHUNK)]:
            yield batch

    def memory_facts(self) -> Mapping[str, Any]:
        """Give what the server, or each node, tells of its memory."""
        facts: Mapping[str, Any] = self._client.info("memory")
        return facts

    def publish(self, channel: bytes, message: bytes) -> None:
        """Publish a message, past all scripts."""
        self._client.publish(channel, message)

    def drop_idle(self) -> None:
        """Close the connections that are not in use now."""
        drop_idle_connections(self._client)

    def close(self) -> None:
        """Close the client."""
        self._client.close()


class OnServer(OnClient):
    """One server, or a Sentinel's primary.

    redis-py's own commands do not tell which connection gave an answer, nor are they made anew for the connection
    that a retry is sent by.
    """

    def get(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Read by one MGET."""
        return self._exchange(partial(self._get, keys))

    def look(self, keys: Sequence[str]) -> list[bytes | None]:
        """Give the same in the positions of the keys."""
        return self._exchange(partial(self._look, keys))

    def calls(self, step: Script, make: Arguments, *batches: Sequence[Item]) -> list[Call]:
        """Part what is above a thousand keys."""
        return [Call.of(step, part, make) for part in by_thousands(*batches) if any(part)]

    def run(self, calls: Sequence[Call]) -> list[tuple[Call, Any]]:
        """Do one EVALSHA for each call."""
        return [(call, self._exchange(partial(self._call, call))) for call in calls]

    def _get(self, keys: Sequence[str], connection: Any, life: Life) -> dict[str, bytes]:
        cells = checked_cells(self._ask(connection, "MGET", *keys))
        found = usable_cells(keys, cells, life.id or NO_ID)
        if len(found) + cells.count(None) < len(cells):
            life.doubt()
        return found

    def _look(self, keys: Sequence[str], connection: Any, life: Life) -> list[bytes | None]:
        cells: list[bytes | None] = checked_cells(self._ask(connection, "MGET", *keys), count=len(keys))
        if all_begin(cells, VALUE + (life.id or NO_ID)):
            return list(cells)
        found = usable_cells(keys, cells, life.id or NO_ID)
        if len(found) + cells.count(None) < len(cells):
            life.doubt()
        return list(map(found.get, keys))

    def _call(self, call: Call, connection: Any, life: Life) -> Any:
        rest = rest_of(call, life.id or NO_ID)
        try:
            return self._evaluate(call.step, rest, connection)
        except LOST as error:
            raise unanswered(call.step, error) from error

    def _evaluate(self, script: Script, rest: Sequence[str | bytes], connection: Any) -> Any:
        try:
            return self._ask(connection, "EVALSHA", script.digest, *rest)
        except redis.exceptions.NoScriptError:
            return self._ask(connection, "EVAL", script.text, *rest)

    def _ask(self, connection: Any, *command: str | bytes) -> Any:
        # Packed here, since what is to be packed may be answered from a cache of redis-py's own.
        connection.send_packed_command([pack_command(command)])
        return connection.read_response()

    def _exchange(self, work: Callable[[Any, Life], T]) -> T:
        pool = self._client.connection_pool
        connection: Any = pool.get_connection(*self._names)
        try:
            life = life_of(connection, Life)
            return connection.retry.call_with_retry(partial(_once, connection, life, work), lambda _: _break(connection, life))  # type: ignore[no-any-return]
        except redis.exceptions.ReadOnlyError:
            # No primary any more: it may be one again, as another.
            _break(connection, life)
            raise
        except redis.RedisError:
            raise
        except BaseException:
            # A signal's exception, or nonsense: what is still to come would be the answer to another command.
            connection.disconnect()
            raise
        finally:
            pool.release(connection)


def by_thousands(*batches: Sequence[Item]) -> Iterator[tuple[Sequence[Item], ...]]:
    """Part batches that have more than a thousand keys."""
    if sum(map(len, batches)) <= CHUNK:
        yield batches
        return
    for at, batch in enumerate(map(list, batches)):
        for start in range(0, len(batch), CHUNK):
            yield *((),) * at, batch[start : start + CHUNK], *((),) * (len(batches) - at - 1)


def checked_cells(answer: object, kinds: frozenset[object] = _CELLS, count: int | None = None) -> list[Any]:
    """Refuse what is no list of cells, of so many where they are counted, with ``None`` where there is none.

    Raises:
        ValueError: It is something else.
    """
    if type(answer) is not list or not kinds.issuperset(map(type, answer)) or len(answer) != (len(answer) if count is None else count):
        raise ValueError(f"it answered {str(answer)[:80]!r} to a read")
    return answer


def usable_cells(keys: Sequence[str], cells: Sequence[bytes | None], life: bytes) -> dict[str, bytes]:
    """Give the cells that are present, but for values and leases of another life."""
    if all_begin(cells, VALUE + life):
        return dict(zip(keys, cells, strict=True))
    return {
        key: cell
        for key, cell in zip(keys, cells, strict=True)
        if cell is not None and (cell.startswith(life, 1) or not cell.startswith((VALUE, LEASE)))
    }


def _once(connection: Any, life: Life, work: Callable[[Any, Life], T]) -> T:
    if life.id is None:
        connection.connect()
    if life.id is None:
        life.learn(connection)
    known = life.id
    answer = work(connection, life)
    if life.id is not None and life.id != known:
        raise redis.ConnectionError("the connection was made anew in the middle of a command")
    return answer


def _break(connection: Any, life: Life) -> None:
    connection.disconnect()
    life.id = None


def rest_of(call: Call, life: bytes) -> list[str | bytes]:
    """Give what follows the script in a call's command."""
    return [str(len(call.keys)), *call.keys, *call.arguments(life)]
