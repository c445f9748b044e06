"""The event loop that a client belongs to."""

import asyncio
import concurrent.futures
from collections.abc import Callable
from typing import Final, TypeVar

from stockstore.aio.bridge import greenlet_spawn, in_greenlet, running_loop
from stockstore.errors import ConfigurationError
from stockstore.locks import fork_safe_lock

T = TypeVar("T")
WAIT: Final = 5.0
"""Seconds for which a thread waits for what it has another thread's loop do."""


class Home:
    """Knows the loop in which a client is used, whose connections no other one can use.

    Args:
        client: The client.
        forget: Drops the connections of a loop that was closed, by which they are of no use to anybody, and says whether it can.
    """

    def __init__(self, client: object, forget: Callable[[], bool]) -> None:
        """Belong to none yet."""
        self._client = type(client).__name__
        self._forget = forget
        self._lock = fork_safe_lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def enter(self) -> None:
        """See to it that this is a greenlet in the client's loop, which is the one of its first use.

        Raises:
            ConfigurationError: It is not; nothing was sent.
        """
        if not in_greenlet():
            raise ConfigurationError(
                f"an asyncio client ({self._client}) was called by blocking code; await AsyncStore(store) instead, "
                "or give the store a blocking client"
            )
        self.arrive()

    def arrive(self) -> None:
        """See to it that this is the client's loop; raises ConfigurationError."""
        loop = running_loop()
        if self._loop is loop:
            return
        with self._lock:
            if self._loop is None or (self._loop.is_closed() and self._forget()):
                self._loop = loop
            elif self._loop is not loop:
                raise ConfigurationError(
                    f"an asyncio client ({self._client}) belongs to the event loop that it was first used in, and this is another one; "
                    "make a store for each loop, or close the store before its loop ends"
                )

    def leave(self) -> None:
        """Belong to none any more, as no connection is open."""
        self._loop = None

    def run(self, work: Callable[[], T]) -> T:
        """Do work in the loop: at once in a greenlet of it, else from another thread, which waits.

        Raises:
            ConnectionError: The loop does not run, or did not do it in time.
        """
        if in_greenlet():
            return work()
        loop = self._loop
        if loop is None or not loop.is_running() or asyncio._get_running_loop() is loop:  # noqa: SLF001 - documented, and needs no try
            raise ConnectionError(f"the event loop of its asyncio client ({self._client}) does not run")
        done = asyncio.run_coroutine_threadsafe(greenlet_spawn(work), loop)
        try:
            return done.result(WAIT)
        except concurrent.futures.TimeoutError:
            done.cancel()
            raise ConnectionError(f"the event loop of its asyncio client ({self._client}) did not do it in {WAIT:g} s") from None
