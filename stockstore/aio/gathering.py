"""Reads of many tasks as few commands."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from functools import partial
from itertools import chain
from typing import Any, Final, TypeAlias

Found: TypeAlias = dict[str, bytes]
MOST: Final = 1000
"""The keys of one command."""
AT_ONCE: Final = 4
"""The commands that may be under way; more would only be smaller ones."""


class Gathering:
    """Asks a server for what tasks want to read, all that was wanted within one turn of the event loop by one command.

    No read is answered by a command that was sent before it began.

    Args:
        read: Asks for at most a thousand keys, and gives what is there.
    """

    def __init__(self, read: Callable[[Sequence[str]], Awaitable[Found]]) -> None:
        """Ask nothing yet."""
        self._read = read
        self._wanted: list[tuple[Sequence[str], asyncio.Future[Found]]] = []
        self._due: object = None
        """Stands for the worker that has not begun yet."""
        self._busy = 0
        self._workers: set[asyncio.Task[None]] = set()

    def ask(self, keys: Sequence[str]) -> "asyncio.Future[Found]":
        """Give what will have the cells of those keys that are there, or the error; who cancels it cancels nobody else's."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Found] = loop.create_future()
        self._wanted.append((keys, answer))
        self._begin()
        return answer

    def _begin(self) -> None:
        if self._due is not None or self._busy >= AT_ONCE:
            return
        self._due = due = object()
        self._busy += 1
        # It begins in the next turn, and in no task's context: what is read is read for all.
        worker = Context().run(asyncio.get_running_loop().create_task, self._work())
        self._workers.add(worker)
        worker.add_done_callback(partial(self._ended, due))

    def _ended(self, due: object, worker: "asyncio.Task[None]") -> None:
        """Let another one go on where a worker was cancelled, as every task is at the end of ``asyncio.run``: a task may read yet."""
        self._workers.discard(worker)
        if self._due is due:
            self._due = None
            self._busy -= 1
        if worker.cancelled() and not all(answer.done() for _, answer in self._wanted):
            self._begin()

    async def _work(self) -> None:
        self._due = None
        try:
            while self._wanted:
                if asked := self._take():
                    await self._answer(asked)
        finally:
            # At once, and not when the task is done: until then nobody would begin another.
            self._busy -= 1

    def _take(self) -> list[tuple[Sequence[str], "asyncio.Future[Found]"]]:
        count = at = 0
        while at < len(self._wanted) and (not at or count + len(self._wanted[at][0]) <= MOST):
            count += len(self._wanted[at][0])
            at += 1
        taken, self._wanted = self._wanted[:at], self._wanted[at:]
        return [(keys, answer) for keys, answer in taken if not answer.done()]

    async def _answer(self, asked: list[tuple[Sequence[str], "asyncio.Future[Found]"]]) -> None:
        keys = asked[0][0] if len(asked) == 1 else list(dict.fromkeys(chain.from_iterable(keys for keys, _ in asked)))
        try:
            found = await self._read(keys[:MOST])
            for start in range(MOST, len(keys), MOST):
                found |= await self._read(keys[start : start + MOST])
        except BaseException as error:
            for _, answer in asked:
                _fail(answer, error)
            if not isinstance(error, Exception):
                raise
            return
        for wanted, answer in asked:
            if not answer.done():
                answer.set_result(found if wanted is keys else {key: found[key] for key in wanted if key in found})


def _fail(answer: "asyncio.Future[Any]", error: BaseException) -> None:
    if isinstance(error, Exception):
        if not answer.done():
            answer.set_exception(error)
    else:
        answer.cancel()
