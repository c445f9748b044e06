"""What the asyncio clients of a server and of a cluster share: a loop in which they are at home, and the reads of its tasks."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from stockstore.aio.bridge import await_only
from stockstore.aio.gathering import Found, Gathering
from stockstore.aio.home import Home

T = TypeVar("T")


class OfLoop:
    """An exchange by a client that one event loop uses."""

    _client: Any
    _reads: Gathering

    def _settle(self) -> None:
        """Begin, once the client is known."""
        self._home = Home(self._client, self._forget)
        self._start()

    def _start(self) -> None:
        """Make what belongs to a loop, anew for each."""
        raise NotImplementedError

    def _forget(self) -> bool:
        """Drop the connections of a loop that was closed, and begin anew, where that can be done."""
        return False

    async def _close(self) -> None:
        await self._client.aclose()

    def get(self, keys: Sequence[str]) -> Found:
        """Read along with all that other tasks want to read in this turn of the loop."""
        self._home.enter()
        return await_only(self._reads.ask(keys))

    def ask(self, keys: Sequence[str]) -> Awaitable[Found]:
        """Do as :meth:`get`, in a coroutine."""
        self._home.arrive()
        return self._reads.ask(keys)

    def drop_idle(self) -> None:
        """Do nothing: a connection whose use was interrupted is closed before it goes back."""

    def close(self) -> None:
        """Close the client, which may be used by another loop then; a connection that a task is using is closed when it is given back."""
        self._home.enter()
        self._start()
        await_only(self._close())
        self._home.leave()

    def at_home(self, work: Callable[[], T]) -> T:
        """Do work in the client's loop, also from a thread of the library's own."""
        return self._home.run(work)
