"""The bridge's names mean on every version of SQLAlchemy what the library takes them to mean."""

import asyncio
import re
import subprocess
import sys
from contextvars import ContextVar
from pathlib import Path

import pytest

import stockstore
from stockstore.aio import bridge
from stockstore.aio.bridge import await_only, await_whole, greenlet_spawn, in_greenlet, run_apart, uncancelled

PACKAGES = [Path(stockstore.__file__).parent, Path(stockstore.__file__).parent.parent / "stockstore_ext"]
NAME: ContextVar[str] = ContextVar("name", default="")


def test_only_the_bridge_knows_the_names() -> None:
    """No other module names SQLAlchemy's module, or greenlet."""
    names = re.compile(r"util\.concurrency|import greenlet\b|from greenlet\b")
    found = [path.name for package in PACKAGES for path in package.rglob("*.py") if names.search(path.read_text())]
    assert found == ["bridge.py"]


async def test_a_greenlet_waits_for_the_loop() -> None:
    """Blocking-style code gets what an awaitable gives, and its error; other tasks run meanwhile."""
    other = asyncio.ensure_future(asyncio.sleep(0, "other"))

    def work() -> str:
        assert in_greenlet()
        assert await_only(asyncio.sleep(0.001, "slept")) == "slept"
        assert other.done()
        with pytest.raises(ZeroDivisionError):
            await_only(failing())
        return "done"

    async def failing() -> None:
        1 / 0  # noqa: B018 - it fails

    assert not in_greenlet()
    assert await greenlet_spawn(work) == "done"
    assert not in_greenlet()


async def test_a_greenlet_has_the_context_of_its_task() -> None:
    """Context variables are the task's, in both directions."""
    NAME.set("outer")

    def work() -> str:
        was = NAME.get()
        NAME.set("inner")
        return was

    assert await greenlet_spawn(work) == "outer"
    assert NAME.get() == "inner"


async def test_a_greenlet_is_in_its_task() -> None:
    """The current task is the one that spawned the greenlet."""
    assert await greenlet_spawn(asyncio.current_task) is asyncio.current_task()


async def test_whole_work_ends_before_its_caller_is_cancelled() -> None:
    """What is waited for as a whole goes on when the task is cancelled, which is told afterwards."""
    begun, go_on, done = asyncio.Event(), asyncio.Event(), list[str]()

    async def sent() -> None:
        begun.set()
        await go_on.wait()
        done.append("sent")

    def work() -> None:
        try:
            await_whole(sent())
        finally:
            done.append("told")

    task = asyncio.ensure_future(greenlet_spawn(work))
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    assert done == []
    task.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == ["sent", "told"]


async def test_whole_work_is_cancelled_after_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that never answers keeps nobody who was cancelled."""
    monkeypatch.setattr(bridge, "GRACE", 0.01)
    begun = asyncio.Event()

    async def endless() -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.ensure_future(greenlet_spawn(await_whole, endless()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_of_whole_work_is_its_callers() -> None:
    """What the work raises is raised, and hidden by a cancellation alone."""

    async def failing() -> None:
        await asyncio.sleep(0)
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        await greenlet_spawn(await_whole, failing())
    task = asyncio.ensure_future(greenlet_spawn(await_whole, failing()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_is_held_until_all_steps_are_done() -> None:
    """Of several steps each is done and gives its result; the cancellation comes last, also from an inner such block."""
    begun, go_on, steps = asyncio.Event(), asyncio.Event(), list[int]()

    async def step(number: int) -> int:
        begun.set()
        await go_on.wait()
        return number

    def work() -> None:
        with uncancelled():
            with uncancelled():
                steps.append(await_whole(step(1)))
            steps.append(await_whole(step(2)))
        steps.append(3)

    task = asyncio.ensure_future(greenlet_spawn(work))
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert steps == [1, 2]


async def test_work_apart_has_a_loop_of_its_own() -> None:
    """Beside a running loop, and without any, work that awaits runs on another; in a greenlet it runs where it is."""
    own = asyncio.get_running_loop()

    def work() -> tuple[asyncio.AbstractEventLoop, str]:
        return await_only(asyncio.sleep(0, asyncio.get_running_loop())), NAME.get()

    NAME.set("here")
    apart, name = run_apart(work)
    assert apart is not own
    assert name == "here"
    assert (await greenlet_spawn(run_apart, work))[0] is own
    assert (await asyncio.to_thread(run_apart, work))[0] is not own


def test_nothing_is_imported_to_ask_for_a_greenlet() -> None:
    """In a process without greenlets the question costs no import, and its answer is no."""
    script = "import sys; from stockstore.aio.bridge import in_greenlet; print(in_greenlet(), 'sqlalchemy' in sys.modules, 'greenlet' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split() == [
        "False",
        "False",
        "False",
    ]
