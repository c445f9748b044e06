"""A coroutine whose task is cancelled while it waits for the n-th time."""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any


class _Counted:
    """Hands on what a coroutine waits for, and has its task cancelled at one of these moments."""

    def __init__(self, work: Coroutine[Any, Any, object], at: int) -> None:
        self._work, self._at = work, at
        self.count = 0

    def __await__(self) -> Generator[Any, Any, object]:
        step: Callable[[], Any] = lambda: self._work.send(None)  # noqa: E731 - it changes
        while True:
            try:
                waits = step()
            except StopIteration as end:
                return end.value
            self.count += 1
            if self.count == self._at:
                task = asyncio.current_task()
                assert task is not None
                asyncio.get_running_loop().call_soon(task.cancel)
            try:
                value = yield waits
            except BaseException as error:  # noqa: BLE001 - it is the coroutine's
                step = lambda error=error: self._work.throw(error)  # type: ignore[misc]  # noqa: E731
            else:
                step = lambda value=value: self._work.send(value)  # type: ignore[misc]  # noqa: E731


async def cancelled_at(work: Coroutine[Any, Any, object], at: int) -> bool:
    """Run a coroutine in a task that is cancelled at its n-th wait, and say whether it was."""
    counted = _Counted(work, at)

    async def run() -> object:
        return await counted

    try:
        await asyncio.ensure_future(run())
    except asyncio.CancelledError:
        return True
    return counted.count >= at
