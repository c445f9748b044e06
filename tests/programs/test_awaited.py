"""Programs of AsyncSessions show the same with the hook as without, and leave the caches true, whoever is cancelled and whatever is done at once."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings

from stockstore.coherence.resolver import Resolver
from stockstore_ext.sqlalchemy.collect import unit_of_work
from stockstore_ext.sqlalchemy.engine_events import EngineEvents
from tests.aio.cancelling import in_task
from tests.aio.stepping import Stepped
from tests.programs import turns
from tests.programs.__main__ import failing, main
from tests.programs.awaited import AwaitedTwins
from tests.programs.caches import tiers_of
from tests.programs.drawn import awaited, told
from tests.programs.running import Program, Step
from tests.programs.shrinking import smallest
from tests.programs.tasks import TaskRun
from tests.programs.test_programs import NUMBERS
from tests.programs.turns import Turns
from tests.servers.postgres import fresh_schema

_WAITS = 13
"""More than a commit of one row has."""


@pytest.fixture(scope="module")
def on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwaitedTwins]:
    """Two files by aiosqlite, process memory above one of them."""
    folder: Path = tmp_path_factory.mktemp("programs")
    twins = AwaitedTwins("aiosqlite", f"sqlite:///{folder}/plain.db", f"sqlite:///{folder}/hooked.db", tiers_of("memory", "", ""))
    yield twins
    twins.close()


@pytest.fixture(scope="module")
def on_postgres(postgres_url: str, redis_url: str) -> Iterator[AwaitedTwins]:
    """Two schemas by asyncpg, process memory above Redis above one of them."""
    with ExitStack() as stack:
        plain, hooked = (stack.enter_context(fresh_schema(postgres_url)).render_as_string(hide_password=False) for _ in range(2))
        twins = AwaitedTwins("asyncpg", plain, hooked, tiers_of("memory+redis", redis_url.replace("://", "+asyncio://", 1), ""))
        yield twins
        twins.close()


@settings(max_examples=3, phases=[Phase.generate])
@given(number=NUMBERS)
def test_programs_on_sqlite(on_sqlite: AwaitedTwins, number: int) -> None:
    """``./scripts/programs --async --seed NUMBER --count 1`` shortens one that fails."""
    error = failing(on_sqlite, awaited(number))
    assert error is None, f"{number}: {error}\n{told(awaited(number))}"


@settings(max_examples=3, phases=[Phase.generate])
@given(number=NUMBERS)
def test_programs_on_postgres(on_postgres: AwaitedTwins, number: int) -> None:
    """So it does on the other database: ``--async --database postgresql --cache memory+redis``."""
    error = failing(on_postgres, awaited(number))
    assert error is None, f"{number}: {error}\n{told(awaited(number))}"


def test_a_hook_that_tells_nothing_fails(on_sqlite: AwaitedTwins, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caches have the old row then, also where a session was cancelled before."""
    monkeypatch.setattr(EngineEvents, "before", lambda *_rest: None)
    monkeypatch.setattr(unit_of_work, "_note_rows", lambda *_rest: None)
    steps = (Step("get", session=1, cancel=1), Step("get", a=0), Step("set", b=4, v=1), Step("commit"))
    found = smallest(Program(steps, warm=False), lambda less: failing(on_sqlite, less) is not None)
    assert [step.name for step in found.steps] == ["set", "commit"]


@pytest.mark.parametrize("cancel", [1, -1])
def test_a_session_is_cancelled(on_sqlite: AwaitedTwins, monkeypatch: pytest.MonkeyPatch, cancel: int) -> None:
    """At the wait that a step says, in the world with the hook; its user has another one then, and goes on."""
    results: list[Any] = []
    seen = TaskRun.seen

    def note(run: TaskRun, result: Any) -> Any:
        results.append(result)
        return seen(run, result)

    monkeypatch.setattr(TaskRun, "seen", note)
    on_sqlite.compare(Program((Step("select_all", cancel=cancel), Step("select_all")), warm=False))
    without, with_hook = results[:2], results[2:]
    assert with_hook[0] == ("error", "Cancelled", "NoneType", None)
    assert with_hook[1] == without[1]
    assert len(without[1]) == 3


@pytest.mark.sa_agnostic
def test_what_a_cancelled_session_leaves_fails(on_postgres: AwaitedTwins, monkeypatch: pytest.MonkeyPatch) -> None:
    """At one of its waits, where nobody resolves what it has marked."""
    monkeypatch.setattr(Resolver, "met", lambda *_: 0)
    wait = next(wait for wait in range(1, _WAITS) if _fails(on_postgres, wait))
    monkeypatch.undo()
    assert not _fails(on_postgres, wait)


def _fails(both: AwaitedTwins, wait: int) -> bool:
    try:
        both.compare(Program((Step("get"), Step("set", b=4, v=1), Step("commit", cancel=wait))))
    except AssertionError:
        return True
    return False


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_turns_are_the_same_each_time(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What two coroutines do at once they do in an order that a number gives."""
    # Neither waits for the other, however long a busy machine stands still.
    monkeypatch.setattr(turns, "_PATIENCE", 60)
    orders = []
    for _ in range(2):
        order: list[str] = []

        async def work(name: str, order: list[str] = order) -> str:
            for _ in range(5):
                order.append(name)
                await asyncio.to_thread(lambda: None)
            return name

        assert await Turns(number).take(work("a"), work("b")) == ["a", "b"]
        orders.append("".join(order))
    assert orders[0] == orders[1]
    assert sorted(orders[0]) == sorted("ab" * 5)


async def test_what_waits_for_the_other_is_let_go() -> None:
    """It has the turn, and cannot go on."""
    event = asyncio.Event()

    async def sets() -> None:
        await asyncio.sleep(0)
        event.set()

    for number in range(5):
        event.clear()
        await Turns(number).take(event.wait(), sets())


async def test_an_error_is_the_coroutines() -> None:
    """It is raised in it, and by it."""

    async def fails() -> None:
        with pytest.raises(ValueError, match="first"):
            await asyncio.gather(_raises("first"))
        await _raises("then")

    with pytest.raises(ValueError, match="then"):
        await in_task(Stepped(fails()))


async def _raises(text: str) -> None:
    await asyncio.sleep(0)
    raise ValueError(text)


@pytest.mark.sa_agnostic
def test_a_driver_of_another_database_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Else it would look for a server where the file's path says."""
    with pytest.raises(SystemExit):
        main(["--driver", "psycopg_async"])
    assert "--driver psycopg_async is none of --database sqlite; give one of aiosqlite" in capsys.readouterr().err
