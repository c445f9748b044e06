"""Two coroutines that go on one after the other, in an order that is the same each time."""

import asyncio
import random
from collections.abc import Coroutine, Generator
from typing import Any, Final

from tests.aio.stepping import Stepped, T

_PATIENCE: Final = 0.05
"""Seconds for which one waits for the other, which may itself wait for this one."""


class Turns:
    """Says whose turn it is.

    Args:
        number: What the order comes from.
    """

    def __init__(self, number: int) -> None:
        """Have nobody's turn yet."""
        self._chance = random.Random(number)
        self._names: list[int] = []
        self._whose = 0

    async def take(self, *works: Coroutine[Any, Any, T]) -> list[T]:
        """Do some work at once; give what each has given."""
        self._names = list(range(len(works)))
        return await asyncio.gather(*(self._one(name, work) for name, work in enumerate(works)))

    def next(self) -> None:
        """Choose whose turn it is."""
        self._whose = self._chance.choice(self._names or [0])

    async def wait(self, name: int) -> None:
        """Wait for the turn of one."""
        end = asyncio.get_running_loop().time() + _PATIENCE
        while self._whose != name and asyncio.get_running_loop().time() < end:  # noqa: ASYNC110 - each turn of the loop may change it
            await asyncio.sleep(0)

    async def _one(self, name: int, work: Coroutine[Any, Any, T]) -> T:
        try:
            return await _Turn(work, name, self)
        finally:
            self._names.remove(name)
            self.next()


class _Turn(Stepped[T]):
    def __init__(self, work: Coroutine[Any, Any, T], name: int, turns: Turns) -> None:
        super().__init__(work)
        self._name, self._turns = name, turns

    def suspended(self, waits: object) -> None:
        del waits
        self._turns.next()

    def resumes(self) -> Generator[Any, Any, None]:
        yield from self._turns.wait(self._name).__await__()
