"""What every subject is given, and how an answer is checked before it is timed."""

import reprlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.measure import FULL, QUICK, Effort, Times, Way, race
from bench.servers import Servers


@dataclass(frozen=True)
class Context:
    servers: Servers
    quick: bool

    @property
    def effort(self) -> Effort:
        return QUICK if self.quick else FULL

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def race(self, ways: Mapping[str, Way]) -> Times:
        return race(ways, self.effort)

    def race_unwaiting(self, ways: Mapping[str, Way]) -> Times:
        """As race, by processor time: for ways that never wait, on a machine that has other work, too."""
        return race(ways, self.effort, time.process_time)


class WrongAnswerError(AssertionError):
    """A way to be measured does not give what it should; its time would mean nothing."""


def expect(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise WrongAnswerError(f"{what}: it gave {reprlib.repr(found)}, not {reprlib.repr(wanted)}")


def expect_all(wanted: object, ways: Mapping[str, Callable[[], object]]) -> None:
    """Check that every way gives the same."""
    for name, way in ways.items():
        expect(name, way(), wanted)


def calls(ways: Mapping[str, Callable[[], object]]) -> dict[str, Way]:
    return {name: Way(way) for name, way in ways.items()}
