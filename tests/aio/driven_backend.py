"""A backend on an asyncio client as a blocking one: so the tests of a blocking one are tests of it."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from stockstore.aio.bridge import greenlet_spawn
from stockstore.backends.coherent import CoherentBackend

NewLoop = Callable[[], asyncio.AbstractEventLoop]


def _driven(verb: str) -> Callable[..., Any]:
    def call(self: Any, *args: Any, **options: Any) -> Any:
        work = greenlet_spawn(partial(getattr(self.backend, verb), *args, **options))
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    return call


_Driven: Any = type("_Driven", (CoherentBackend,), {verb: _driven(verb) for verb in CoherentBackend.__abstractmethods__})


class DrivenBackend(_Driven):
    """A backend whose methods run in greenlets of a loop, which may be called from any thread."""

    def __init__(self, backend: CoherentBackend, loop: asyncio.AbstractEventLoop) -> None:
        self.backend, self.loop = backend, loop

    def __repr__(self) -> str:
        return repr(self.backend)


@contextlib.contextmanager
def running(new_loop: NewLoop) -> Iterator[asyncio.AbstractEventLoop]:
    """Give a loop that runs in a thread of its own."""
    loop = new_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
