"""A coroutine whose task is cancelled while it waits for the n-th time."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from tests.aio.stepping import Stepped, T, Waits


class Counted(Stepped[T]):
    """Has its task cancelled at one of the moments in which it waits.

    Args:
        work: The coroutine.
        at: The number of the wait.
        late: Whether what it waits for comes first, and is lost.
    """

    def __init__(self, work: Coroutine[Any, Any, T], at: int, *, late: bool = False) -> None:
        """Begin with the first wait."""
        super().__init__(work)
        self._at, self._late = at, late
        self.count = 0

    def suspended(self, waits: Waits) -> None:
        """Cancel the task if this is the moment."""
        self.count += 1
        if self.count != self._at:
            return
        task = asyncio.current_task()
        assert task is not None
        if self._late and waits is not None:
            waits.add_done_callback(lambda _: task.cancel())
        else:
            asyncio.get_running_loop().call_soon(task.cancel)


async def cancelled_at(work: Coroutine[Any, Any, object], at: int) -> bool:
    """Run a coroutine in a task that is cancelled at its n-th wait, and say whether it was."""
    counted = Counted(work, at)
    try:
        await in_task(counted)
    except asyncio.CancelledError:
        return True
    return counted.count >= at


async def in_task(work: Stepped[T]) -> T:
    """Wait for a coroutine in a task of its own."""

    async def run() -> T:
        return await work

    return await asyncio.ensure_future(run())
