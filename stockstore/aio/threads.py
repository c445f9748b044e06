"""Blocking work of greenlets, in a few threads."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from stockstore.aio.bridge import await_only, await_whole

T = TypeVar("T")
THREADS: Final = 16
"""What is more waits for one of them."""
_executors: Final[dict[int, ThreadPoolExecutor]] = {}


def in_thread(work: Callable[[], T], *, whole: bool) -> T:
    """Do blocking work in a thread, while the greenlet's event loop goes on.

    Args:
        work: What to do; once begun it is done to its end, also where the task is cancelled meanwhile.
        whole: Whether that is waited for before the cancellation is raised, as for what writes.
    """
    return await_whole(_in_thread(work)) if whole else await_only(_in_thread(work))


async def _in_thread(work: Callable[[], T]) -> T:
    try:
        done = asyncio.get_running_loop().run_in_executor(_executor(), work)
    except RuntimeError:
        # The interpreter is about to end, and begins no threads any more.
        return work()
    return await done


def _executor() -> ThreadPoolExecutor:
    # A forked process has no threads of its parent's.
    executor = _executors.get(os.getpid())
    if executor is None:
        executor = _executors.setdefault(os.getpid(), ThreadPoolExecutor(THREADS, "stockstore"))
    return executor
