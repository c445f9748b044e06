"""Takes each defence of the protocol away in turn, and looks who sees it: the race, or the model."""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.model import explore, memory_explore
from tests.model.memory import Memory
from tests.race.ending import Ending, Stopped
from tests.race.mutations import MUTATIONS, Defect, Mutation
from tests.race.options import Options
from tests.race.report import failing

SECONDS: Final = 15.0
"""For which a defence is looked for by default."""
PROCESSES: Final = 4
_SHARE: Final = 0.8
"""Of its time that a race takes at the most; its processes are to be begun and ended, too."""
_CONTROL_SECONDS: Final = 3.0
_LEAST_SECONDS: Final = 2.0
"""What a round takes at the least."""
_START_SECONDS: Final = 60.0
_WIDTH: Final = max(map(len, MUTATIONS)) + 2
Race = Callable[[Options], dict[str, Any]]


class Sight(NamedTuple):
    """What a race has shown.

    Attributes:
        wrong: What should have been zero, and how much of it there was.
        reads: How many there were until then.
        seconds: For how long processes raced until then.
        errors: What the processes met that is no wrong read.
    """

    wrong: Mapping[str, int]
    reads: int
    seconds: float
    errors: Sequence[str]

    def __str__(self) -> str:
        """Tell it in some words."""
        told = ", ".join([*(f"{name} {number}" for name, number in self.wrong.items()), *self.errors]) or "nothing"
        return f"{told} in {self.reads:,} reads, {self.seconds:.1f} s"


class Steps(NamedTuple):
    """The shortest way to what the model has found; none where it has found nothing."""

    wrong: str
    trace: Sequence[str]
    seconds: float

    def __str__(self) -> str:
        """Tell it in some words."""
        return f"{self.wrong} in {len(self.trace)} steps, {self.seconds:.1f} s" if self.trace else "nothing"


class Finding(NamedTuple):
    """What has seen that a defence is missing, and what the same race has shown with it."""

    name: str
    model: Steps
    race: Sight
    control: Sight

    @property
    def verdict(self) -> str:
        """By what it is caught; in capitals, what has to be looked into."""
        if self.control.wrong or self.control.errors:
            return "WRONG WITH IT"
        by = [name for name, has_seen in (("race", self.race.wrong), ("model", self.model.trace)) if has_seen]
        return " and ".join(by) or "NOT CAUGHT"

    def line(self) -> str:
        """Give its line of the table."""
        return f"{self.name:<{_WIDTH}}{self.verdict:<16}{self.race!s:<72}{self.model!s:<54}{self.control}"

    def numbers(self) -> dict[str, Any]:
        """Give it for a file."""
        parts = {"model": self.model._asdict(), "race": self.race._asdict(), "control": self.control._asdict()}
        return {"defence": self.name, "removed": MUTATIONS[self.name].removed, "verdict": self.verdict, **parts}


_HEAD: Final = f"{'without':<{_WIDTH}}{'caught by':<16}{'the race shows':<72}{'the model shows':<54}with it the race shows"


def look(name: str, race: Race, options: Options) -> Finding:
    """Look for a defence that is missing: in the model, which takes seconds, and in the race; then race with it."""
    mutation = MUTATIONS[name]
    model = explored(mutation.defect)
    changed = mutation.race(options)
    found = raced(mutation, race, replace(changed, mutation=name), options.seconds)
    return Finding(name, model, found, raced(mutation, race, changed, _CONTROL_SECONDS))


def explored(defect: Defect) -> Steps:
    """Look for a defence that is missing in the model."""
    began = time.monotonic()
    search: Any = memory_explore.explore if isinstance(defect.protocol, Memory) else partial(explore.explore, readers=defect.readers)
    broken = replace(defect.protocol, **{defect.field: not getattr(defect.protocol, defect.field)})  # type: ignore[arg-type]
    found = search(broken, defect.writers, defect.faults, until=defect.wrong)
    return Steps(defect.wrong, found.get(defect.wrong, []), time.monotonic() - began)


def raced(mutation: Mutation, race: Race, options: Options, seconds: float) -> Sight:
    """Race for some seconds, in rounds, each until something is wrong; after each one it is looked at what is left at rest."""
    end, reads, raced_for = time.monotonic() + seconds, 0, 0.0
    while True:
        report = race(replace(options, seconds=_round(mutation, seconds, end - time.monotonic())))
        if report["stopped"]:
            raise Stopped(report["stopped"])
        reads += report["figures"]["reads"]
        raced_for += report["figures"]["seconds"]
        wrong, errors = _wrong(mutation, report)
        if wrong or errors or time.monotonic() + _LEAST_SECONDS > end:
            return Sight(wrong, reads, round(raced_for, 1), errors)
        options = replace(options, seed=options.seed + 1)


def _round(mutation: Mutation, seconds: float, left: float) -> float:
    return max(_LEAST_SECONDS, min(mutation.round, _SHARE * seconds, left))


def _wrong(mutation: Mutation, report: Mapping[str, Any]) -> tuple[dict[str, int], list[str]]:
    failed = [name for name in failing(report) if name not in mutation.spared]
    wrong = {name: report["figures"][name] for name in failed if name in mutation.told}
    return wrong, [name for name in failed if name not in wrong]


def bound(count: int, options: Options) -> float:
    """Give the seconds within which some defences are looked for: each as long again for the model, and for the race with it."""
    return _START_SECONDS + 2 * count * options.seconds


def check(names: Sequence[str], race: Race, options: Options, ending: Ending, path: Path | None) -> int:
    """Print a line for each defence, and give 0 where each is caught; it ends in any case within a time that is told first."""
    seconds, began = bound(len(names), options), time.monotonic()
    sys.stdout.write(
        f"{len(names)} defences, each looked for by the race for {options.seconds:g} s at most: this ends within {seconds / 60:.1f} min.\n\n{_HEAD}\n"
    )
    found: list[Finding] = []
    stopped: Stopped | None = None
    try:
        ending.after(seconds)
        for name in names:
            found.append(look(name, race, options))
            sys.stdout.write(found[-1].line() + "\n")
            sys.stdout.flush()
    except Stopped as caught:
        stopped = caught
    wrong = {finding.name: finding.verdict for finding in found if finding.verdict.isupper()}
    wrong |= dict.fromkeys(names[len(found) :], "NOT TRIED")
    told = "".join(f"\n{verdict}: {name}" for name, verdict in wrong.items()) or "\nEach defence is needed, and caught."
    sys.stdout.write(f"{told}\n{f'Ended by {stopped}. ' if stopped else ''}{time.monotonic() - began:.0f} s.\n")
    if path:
        path.write_text(json.dumps(_told(names, found, wrong, time.monotonic() - began, seconds), indent=2))
    if stopped and stopped.is_signal:
        return stopped.status
    return 1 if wrong else 0


def _told(names: Sequence[str], found: Sequence[Finding], wrong: Mapping[str, str], seconds: float, at_most: float) -> dict[str, Any]:
    return {
        "caught": len(names) - len(wrong),
        "wrong": wrong,
        "seconds": round(seconds, 1),
        "seconds at most": at_most,
        "defences": [finding.numbers() for finding in found],
    }
