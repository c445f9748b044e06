"""The verdict on each defence, from what the race and the model have shown."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.race.defences import check
from tests.race.ending import Stopped, stoppable
from tests.race.mutations import MUTATIONS
from tests.race.options import Options

pytestmark = pytest.mark.sa_agnostic
BOUNDED, RESOLVED = "memory is believed for max_staleness", "dead writers' markers are resolved"


def racing(shown: Callable[[Options], dict[str, int]]) -> Callable[[Options], dict[str, Any]]:
    """Give a race that shows what is told for its options."""
    return lambda options: {
        "stopped": None,
        "figures": {"seconds": 1.0, "reads": 100, "writes attempted": 10, **shown(options)},
        "gated": [*shown(options)],
    }


def judged(
    shown: Callable[[Options], dict[str, int]], tmp_path: Path, names: tuple[str, ...] = (BOUNDED,), seconds: float = 1.0
) -> tuple[int, dict[str, Any]]:
    """Give the status and what the file has."""
    with stoppable() as ending:
        status = check(names, racing(shown), Options(seconds=seconds), ending, tmp_path / "told.json")
    return status, json.loads((tmp_path / "told.json").read_text())


def test_what_race_and_model_see_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was removed, by whom it was seen, after how many reads, and by which steps; and that nothing is wrong with it."""
    status, told = judged(lambda options: {"stale beyond the bound": 3 if options.mutation else 0}, tmp_path)
    (one,) = told["defences"]
    assert (status, told["wrong"], one["verdict"]) == (0, {}, "race and model")
    assert one["removed"] == "Memory without a channel is believed for ever."
    assert (one["race"]["wrong"], one["race"]["reads"]) == ({"stale beyond the bound": 3}, 100)
    assert one["model"]["trace"][-1] == "r0 hits 0"
    assert one["control"]["wrong"] == {}
    out = capsys.readouterr().out
    assert "this ends within" in out
    assert "Each defence is needed, and caught." in out


def test_what_the_model_alone_sees_is_enough(tmp_path: Path) -> None:
    """The race may not come to it in its time."""
    status, told = judged(lambda _: {}, tmp_path)
    assert (status, told["defences"][0]["verdict"]) == (0, "model")


@pytest.mark.parametrize("shown", ["stale beyond the bound", "errors"])
def test_what_is_wrong_with_the_defence_too_is_no_catch(tmp_path: Path, shown: str) -> None:
    """Then the race, or the protocol, has to be looked into."""
    status, told = judged(lambda _: {shown: 1}, tmp_path)
    assert (status, told["wrong"]) == (1, {BOUNDED: "WRONG WITH IT"})


def test_what_nobody_sees_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends with 1."""
    seen_by_none = MUTATIONS[BOUNDED].defect._replace(wrong="nothing that happens")
    monkeypatch.setitem(MUTATIONS, BOUNDED, MUTATIONS[BOUNDED]._replace(defect=seen_by_none))
    status, told = judged(lambda _: {}, tmp_path)
    assert (status, told["wrong"]) == (1, {BOUNDED: "NOT CAUGHT"})


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGALRM, 1)], ids=["signal", "time"])
def test_what_was_not_tried_is_named(tmp_path: Path, number: signal.Signals, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    """When it is ended by a signal, or because its time is over, what was found so far is told."""

    def shown(options: Options) -> dict[str, int]:
        if options.memory is None:
            raise Stopped(number.name)
        return {}

    ended, told = judged(shown, tmp_path, (BOUNDED, RESOLVED))
    assert (ended, told["wrong"]) == (status, {RESOLVED: "NOT TRIED"})
    assert f"Ended by {number.name}." in capsys.readouterr().out


@pytest.mark.parametrize("name", MUTATIONS)
def test_each_defence_has_its_defect_in_the_model(name: str) -> None:
    """One that is off unless it is switched on, and what is left of the defence is told."""
    defect = MUTATIONS[name].defect
    assert isinstance(getattr(defect.protocol, defect.field), bool)
    assert MUTATIONS[name].removed.endswith(".")
