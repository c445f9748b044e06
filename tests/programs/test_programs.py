"""Programs of several sessions that write show the same with the hook as without, and leave the caches true."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from stockstore_ext.sqlalchemy.collect import unit_of_work
from stockstore_ext.sqlalchemy.engine_events import EngineEvents
from tests.programs.__main__ import failing
from tests.programs.caches import tiers_of
from tests.programs.drawn import drawn, told
from tests.programs.running import Program, Step
from tests.programs.shrinking import smallest
from tests.programs.twins import Twins
from tests.servers.postgres import fresh_schema

NUMBERS = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    """Two files, process memory above one of them."""
    folder: Path = tmp_path_factory.mktemp("programs")
    twins = Twins(f"sqlite:///{folder}/plain.db", f"sqlite:///{folder}/hooked.db", tiers_of("memory", "", ""))
    yield twins
    twins.close()


@pytest.fixture(scope="module", params=["redis", "memory"])
def on_postgres(postgres_url: str, redis_url: str, request: pytest.FixtureRequest) -> Iterator[Twins]:
    """Two schemas, Redis above one of them, or process memory."""
    with ExitStack() as stack:
        plain, hooked = (stack.enter_context(fresh_schema(postgres_url)).render_as_string(hide_password=False) for _ in range(2))
        twins = Twins(plain, hooked, tiers_of(request.param, redis_url, ""))
        yield twins
        twins.close()


@settings(max_examples=8, phases=[Phase.generate])
@given(number=NUMBERS)
def test_programs_on_sqlite(on_sqlite: Twins, number: int) -> None:
    """``./scripts/programs --seed NUMBER --count 1`` shortens one that fails."""
    error = failing(on_sqlite, drawn(number))
    assert error is None, f"{number}: {error}\n{told(drawn(number))}"


@settings(max_examples=4, phases=[Phase.generate])
@given(number=NUMBERS)
def test_programs_on_postgres(on_postgres: Twins, number: int) -> None:
    """So it does on the other databases and caches: ``--database postgresql --cache redis``."""
    error = failing(on_postgres, drawn(number))
    assert error is None, f"{number}: {error}\n{told(drawn(number))}"


def test_a_hook_that_tells_nothing_fails(on_sqlite: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caches have the old row then, and the program that shows it is as short as can be."""
    monkeypatch.setattr(EngineEvents, "before", lambda *_rest: None)
    monkeypatch.setattr(unit_of_work, "_note_rows", lambda *_rest: None)
    steps = (Step("read"), Step("get", a=0), Step("set", b=4, v=1), Step("rollback"), Step("set", b=4, v=1), Step("commit"))
    found = smallest(Program(steps), lambda less: failing(on_sqlite, less) is not None)
    assert [step.name for step in found.steps] == ["set", "commit"]


def test_the_smallest_program() -> None:
    """What a program fails without is left out."""
    steps = tuple(Step(name) for name in ("get", "add", "flush", "set", "commit", "read"))
    found = smallest(Program(steps, listens=True), lambda less: {"add", "commit"} <= {step.name for step in less.steps})
    assert [step.name for step in found.steps] == ["add", "commit"]
    assert not found.listens
