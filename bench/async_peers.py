"""Peers that only know asyncio, made to do many operations for each entry of their event loop."""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final

from cashews.wrapper import Cache
from typing_extensions import Self

from bench.measure import Way

_TIMES: Final = 20


class Cashews:
    """cashews on Redis, with an event loop of its own."""

    def __init__(self, url: str) -> None:
        self._loop = asyncio.new_event_loop()
        self.cache = Cache()
        self.cache.setup(url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.once(self.cache.close)
        self._loop.close()

    def once(self, operation: Callable[[], Awaitable[Any]]) -> Any:
        async def run() -> Any:
            return await operation()

        return self._loop.run_until_complete(run())

    def way(self, operation: Callable[[], Awaitable[Any]]) -> Way:
        async def run() -> None:
            for _ in range(_TIMES):
                await operation()

        return Way(lambda: self._loop.run_until_complete(run()), times=_TIMES)
