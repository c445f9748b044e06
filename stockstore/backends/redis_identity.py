"""Which life of which server a connection reaches."""

import time
from typing import Any, TypeVar

from stockstore.backends.redis_scripts import LIFE
from stockstore.cells import ID_SIZE

_DOUBT_AFTER = 10.0
L = TypeVar("L", "Life", "AwaitedLife")


class AnyLife:
    """What is known of the life that one connection reaches."""

    __slots__ = ("__weakref__", "_learnt", "heard", "id")

    def __init__(self) -> None:
        """Know nothing yet."""
        self.id: bytes | None = None
        self.heard = 0.0
        self._learnt = 0.0

    def doubt(self) -> None:
        """Ask again with the next use, unless that was done just now: another life's cells were met.

        A server may take another replication id while it is connected to. Clients that disagree about it would
        replace one another's values for ever.
        """
        if time.monotonic() > self._learnt + _DOUBT_AFTER:
            self.id = None

    def _take(self, answer: object) -> None:
        self.id, self._learnt = _checked(answer), time.monotonic()


class Life(AnyLife):
    """The life that one connection reaches; learnt before anything else is asked, whenever the connection is made."""

    __slots__ = ()

    def learn(self, connection: Any) -> None:
        """Ask the server; redis-py calls this for each new connection."""
        self.id = None
        try:
            connection.send_packed_command(connection.pack_command("EVAL", LIFE.text, "0"), check_health=False)
            self._take(connection.read_response())
        except BaseException:
            # redis-py would keep the connection, and its answer for another command.
            connection.disconnect()
            raise


class AwaitedLife(AnyLife):
    """The same for a connection of an asyncio client."""

    __slots__ = ()

    async def learn(self, connection: Any) -> None:
        """Ask the server; redis-py calls this for each new connection."""
        self.id = None
        try:
            await connection.send_packed_command(connection.pack_command("EVAL", LIFE.text, "0"), check_health=False)
            self._take(await connection.read_response())
        except BaseException:
            await connection.disconnect(nowait=True)
            raise


def _checked(answer: object) -> bytes:
    if type(answer) is not bytes or len(answer) != ID_SIZE:
        raise ValueError(f"it answered {str(answer)[:80]!r} to the question which server it is")
    return answer


def life_of(connection: Any, kind: type[L]) -> L:
    """Give the life of a connection; it stays right when the connection is closed and made again, by whomever."""
    try:
        return connection.stockstore_life  # type: ignore[no-any-return]
    except AttributeError:
        life = connection.stockstore_life = kind()
    connection.register_connect_callback(life.learn)
    return life
