"""The bridge between blocking-style code and asyncio; the one module that knows SQLAlchemy's names for it.

All logic of the library is plain blocking-style code. Under asyncio it runs in a greenlet, and where it has to wait for a
server, the greenlet hands what it waits for to the event loop.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, Final, TypeAlias, TypeVar, cast

from stockstore.errors import ConfigurationError

T = TypeVar("T")

GRACE: Final = 5.0
"""Seconds for which work that is under way may still go on after its caller was cancelled."""
_NAMES: Final = "sqlalchemy.util.concurrency"
_Mine: TypeAlias = ContextVar[tuple["asyncio.Task[Any] | None", T] | None]
_acting: Final["_Mine[asyncio.Task[Any] | None]"] = ContextVar("stockstore.acting", default=None)
_background: Final[set["asyncio.Task[Any]"]] = set()
_held: Final["_Mine[list[asyncio.CancelledError]]"] = ContextVar("stockstore.held", default=None)


@cache
def concurrency() -> ModuleType:
    """Give SQLAlchemy's module.

    Raises:
        ConfigurationError: It, or greenlet, is not installed.
    """
    try:
        import_module("greenlet")  # SQLAlchemy needs it, and tells so only later
        return import_module(_NAMES)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f'asyncio needs SQLAlchemy with greenlet, and {error.name} is missing: pip install "stockstore[asyncio]"'
        ) from error


def greenlet_spawn(work: Callable[..., T], *args: object, **kwargs: object) -> Coroutine[Any, Any, T]:
    """Run blocking-style code in a greenlet, in which it may wait for the event loop."""
    return cast("Coroutine[Any, Any, T]", concurrency().greenlet_spawn(work, *args, **kwargs))


def running_loop() -> asyncio.AbstractEventLoop:
    """Give the event loop that runs this.

    Raises:
        ConfigurationError: It is none of asyncio's.
    """
    loop = asyncio._get_running_loop()  # noqa: SLF001 - documented, and needs no try
    if loop is None:
        raise ConfigurationError("no event loop of asyncio runs this: a store is awaited there, and neither by trio nor by hand")
    return loop


def spawn_in_loop(work: Callable[..., T], *args: object, **kwargs: object) -> Coroutine[Any, Any, T]:
    """Do as :func:`greenlet_spawn`, for what an application awaits; raises ConfigurationError."""
    running_loop()
    return greenlet_spawn(work, *args, **kwargs)


def await_only(awaitable: Awaitable[T]) -> T:
    """Wait, in a greenlet, for what the event loop does; a cancellation of the task is raised here."""
    return cast("T", concurrency().await_only(awaitable))


def in_greenlet() -> bool:
    """Whether this code may wait for the event loop; imports nothing, as most processes have no greenlets."""
    module = sys.modules.get(_NAMES)
    return module is not None and "greenlet" in sys.modules and bool(module.in_greenlet())


def await_whole(work: Coroutine[Any, Any, T]) -> T:
    """Wait, in a greenlet, until work has ended, also where the task is cancelled meanwhile: that is raised afterwards.

    So no connection is left with an answer to come, and nobody goes on while what he has sent may still be done. Where the
    work takes longer than ``GRACE`` seconds after that, it is cancelled as well.
    """
    return await_only(_whole(work, _mine(_held)))


async def _whole(work: Coroutine[Any, Any, T], held: list[asyncio.CancelledError] | None) -> T:
    loop = asyncio.get_running_loop()
    task, interrupt, limit = loop.create_task(work), None, None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:  # noqa: PERF203 - each is waited out
            interrupt = error
            limit = limit or loop.call_later(GRACE, task.cancel)
    if interrupt is None or limit is None:
        return task.result()
    limit.cancel()
    if held is not None and not task.cancelled():
        held.append(interrupt)
        return task.result()
    if not task.cancelled():
        task.exception()
    raise interrupt


def in_own_task(work: Callable[[], T], *, whole: bool) -> T:
    """Do blocking-style work, from a greenlet, in a task that is not cancelled with this one, but ``GRACE`` seconds later.

    Drivers, and SQLAlchemy above them, leave connections behind where they are cancelled in the middle of a step.

    Args:
        work: What to do, as a part of the task that this is (:func:`acting_task`).
        whole: Whether to wait for its end also where this task is cancelled, as somebody has to know that nothing of it goes on.
    """
    own = _act(work, acting_task(), _mine(_held))
    return await_whole(own) if whole else await_only(_detached(own))


def acting_task() -> "asyncio.Task[Any] | None":
    """Give the task for which this runs; ``None`` outside of any."""
    return _mine(_acting) or _current_task()


def _current_task() -> "asyncio.Task[Any] | None":
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _mine(kept: "_Mine[T]") -> T | None:
    """Give what was set in this very task: one that an application begins in it has a copy of the context, and is no part of it."""
    found = kept.get()
    return found[1] if found is not None and found[0] is _current_task() else None


async def _act(work: Callable[[], T], task: "asyncio.Task[Any] | None", held: list[asyncio.CancelledError] | None) -> T:
    this = asyncio.current_task()
    acting, holding = _acting.set((this, task)), _held.set(None if held is None else (this, held))
    try:
        return await greenlet_spawn(work)
    finally:
        _acting.reset(acting)
        _held.reset(holding)


async def _detached(work: Coroutine[Any, Any, T]) -> T:
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    _background.add(task)
    task.add_done_callback(_background.discard)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        loop.call_later(GRACE, task.cancel)
        raise


@contextmanager
def uncancelled() -> Iterator[None]:
    """Do what is in here to its end; where the task is cancelled meanwhile, that is raised afterwards."""
    if not in_greenlet() or _mine(_held) is not None:
        yield
        return
    held: list[asyncio.CancelledError] = []
    token = _held.set((_current_task(), held))
    try:
        yield
    finally:
        _held.reset(token)
        if held:
            raise held[0]


def run_apart(work: Callable[[], T]) -> T:
    """Run blocking-style code that waits for an event loop: here, if this is a greenlet, else in a thread with a loop of its own.

    It must use no connection that belongs to another loop. The caller's own loop, if there is one, stands still meanwhile.
    """
    if in_greenlet():
        return work()
    context = copy_context()
    with ThreadPoolExecutor(1, "stockstore apart") as executor:
        return executor.submit(context.run, asyncio.run, greenlet_spawn(work)).result()


class TaskLock:
    """A lock for greenlets, whose task may take it again; a lock of threads would let in every task of a thread."""

    def __init__(self) -> None:
        """Be free."""
        self._lock = asyncio.Lock()
        self._owner: asyncio.Task[Any] | None = None
        self._taken = 0

    def __enter__(self) -> None:
        """Wait until it is free, or this task's own."""
        task = acting_task()
        if self._owner is not task:
            await_only(self._lock.acquire())
            self._owner = task
        self._taken += 1

    def __exit__(self, *_error: object) -> None:
        """Let it go."""
        self._taken -= 1
        if not self._taken:
            self._owner = None
            self._lock.release()
