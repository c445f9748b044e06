"""Time several ways to do one thing in turns, so that what disturbs the machine disturbs all of them."""

import gc
import random
import statistics
import time
import timeit
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

Clock = Callable[[], float]
_UNROLLED: Final = 20


@dataclass(frozen=True)
class Effort:
    """How long to measure: rounds, and the least seconds that each way runs in each round."""

    rounds: int
    seconds: float


FULL: Final = Effort(rounds=75, seconds=0.004)
QUICK: Final = Effort(rounds=5, seconds=0.002)


class Way:
    """One way to do a thing.

    A function is called; ``times`` says how often it does the thing. A statement is compiled into the timing loop,
    many times in a row, with ``names`` as its local variables: a function around ``d[k]`` would cost more than ``d[k]``.
    """

    def __init__(self, run: Callable[[], object] | str, names: Mapping[str, object] | None = None, *, times: int = 1) -> None:
        self._repeated = _UNROLLED if isinstance(run, str) else times
        # timeit switches the garbage collector off, but what a way leaves to it is a part of its cost.
        setup = ["import gc; gc.enable()", *(f"{name} = names[{name!r}]" for name in names or {})]
        statement = "\n".join([run] * _UNROLLED) if isinstance(run, str) else run
        self._timer = timeit.Timer(statement, "\n".join(setup), globals={"names": names})
        self._loops = 1

    def seconds(self, clock: Clock) -> float:
        """Run once for as long as calibrated, and give the seconds that one execution took."""
        return self._run(clock) / (self._loops * self._repeated)

    def calibrate(self, seconds: float, clock: Clock) -> None:
        """Choose the number of loops so that one run takes as long as this at least."""
        while self._run(clock) < seconds:
            self._loops *= 2

    def _run(self, clock: Clock) -> float:
        self._timer.timer = clock  # type: ignore[attr-defined]
        return self._timer.timeit(self._loops)


@dataclass(frozen=True)
class Ratio:
    """The median of the ratios of all rounds, and their quartiles."""

    median: float
    low: float
    high: float


class Times:
    """What a race took: for each way, the seconds per execution in each round."""

    def __init__(self, rounds: list[dict[str, float]]) -> None:
        self._rounds = rounds

    def median(self, name: str) -> float:
        return statistics.median(times[name] for times in self._rounds)

    def ratio(self, above: str, below: str) -> Ratio:
        """Compare two ways within each round."""
        return ratio_of([times[above] / times[below] for times in self._rounds])


def ratio_of(ratios: list[float]) -> Ratio:
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return Ratio(statistics.median(ratios), low, high)


def race(ways: Mapping[str, Way], effort: Effort, clock: Clock = time.perf_counter) -> Times:
    """Run all ways in turns, in another order each round: what runs after itself, or after a certain other, runs warmer.

    ``time.process_time`` as the clock keeps other programs out of what never waits.
    """
    for way in ways.values():
        way.calibrate(effort.seconds, clock)
    gc.collect()
    gc.freeze()
    order, rounds, chance = list(ways), [], random.Random(0)
    for _ in range(effort.rounds):
        chance.shuffle(order)
        rounds.append({name: ways[name].seconds(clock) for name in order})
    gc.unfreeze()
    return Times(rounds)
