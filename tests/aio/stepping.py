"""A coroutine of which each wait is seen."""

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeAlias, TypeVar

T = TypeVar("T")
Waits: TypeAlias = "asyncio.Future[Any] | None"


class Stepped(Generic[T]):
    """Hands on what a coroutine waits for."""

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        """Begin with nothing done."""
        self._work = work

    def __await__(self) -> Generator[Any, Any, T]:
        """Do the work."""
        value: Any = None
        errors: list[BaseException] = []  # in no variable of its own: the frame is the error's, and would be held by it
        while True:
            try:
                waits = self._work.throw(errors.pop()) if errors else self._work.send(value)
            except StopIteration as end:
                result: T = end.value
                return result
            self.suspended(waits)
            try:
                value = yield waits
                yield from self.resumes()
            except BaseException as error:  # noqa: BLE001 - it is the coroutine's
                errors.append(error)

    def suspended(self, waits: Waits) -> None:
        """See what it is about to wait for."""

    def resumes(self) -> Generator[Any, Any, None]:
        """Wait for more, before it goes on."""
        yield from ()
