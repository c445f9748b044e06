"""Programs of several sessions that write show the same with the hook as without, and leave the caches true."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from stockstore_ext.sqlalchemy import scope
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


def prove(both: Twins, number: int, domain: str) -> None:
    """Show that a program does not fail."""
    program = drawn(number, domain)
    error = failing(both, program)
    assert error is None, f"{number} of {domain}: {error}\n{told(program)}"


@settings(max_examples=8, phases=[Phase.generate])
@given(number=NUMBERS)
def test_programs_on_sqlite(on_sqlite: Twins, number: int) -> None:
    """``./scripts/programs --seed NUMBER --count 1`` shortens one that fails."""
    prove(on_sqlite, number, "plain")


@settings(max_examples=3, phases=[Phase.generate])
@given(number=NUMBERS)
def test_programs_on_postgres(on_postgres: Twins, number: int) -> None:
    """So it does on the other databases and caches: ``--database postgresql --cache redis``."""
    prove(on_postgres, number, "plain")


@pytest.mark.parametrize("domain", ["autocommit", "joined"])
@settings(max_examples=2, phases=[Phase.generate])
@given(number=NUMBERS)
def test_transactions_on_sqlite(on_sqlite: Twins, domain: str, number: int) -> None:
    """With ``--transactions`` the sessions' transactions are others than their own."""
    prove(on_sqlite, number, domain)


@pytest.mark.parametrize("on_postgres", ["redis"], indirect=True)
@pytest.mark.parametrize("domain", ["levels", "phases", "joined"])
@settings(max_examples=1, phases=[Phase.generate])
@given(number=NUMBERS)
def test_transactions_on_postgres(on_postgres: Twins, domain: str, number: int) -> None:
    """So it is on PostgreSQL, where there are more of them."""
    prove(on_postgres, number, domain)


def test_a_hook_that_tells_nothing_fails(on_sqlite: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caches have the old row then, and the program that shows it is as short as can be."""
    monkeypatch.setattr(EngineEvents, "before", lambda *_rest: None)
    monkeypatch.setattr(unit_of_work, "_note_rows", lambda *_rest: None)
    steps = (Step("read"), Step("get", a=0), Step("set", b=4, v=1), Step("rollback"), Step("set", b=4, v=1), Step("commit"))
    found = smallest(Program(steps), lambda less: failing(on_sqlite, less) is not None)
    assert [step.name for step in found.steps] == ["set", "commit"]


@pytest.mark.parametrize("on_postgres", ["redis"], indirect=True)
def test_a_hook_that_heeds_no_snapshot_fails(on_postgres: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that reads from one snapshot throughout would be given what is newer."""
    monkeypatch.setattr(scope, "PINNING", frozenset[str]())
    steps = (
        Step("select_otherwise", session=1),
        Step("set", b=4, v=1),
        Step("commit"),
        Step("get", session=1),
        Step("read_all", session=1),
    )
    program = Program(steps, ways=("plain", "repeatable read", "plain"))
    assert failing(on_postgres, program) is not None
    monkeypatch.undo()
    assert failing(on_postgres, program) is None


def test_the_smallest_program() -> None:
    """What a program fails without is left out."""
    steps = tuple(Step(name) for name in ("get", "add", "flush", "set", "commit", "read"))
    found = smallest(Program(steps, listens=True), lambda less: {"add", "commit"} <= {step.name for step in less.steps})
    assert [step.name for step in found.steps] == ["add", "commit"]
    assert not found.listens
