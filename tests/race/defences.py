"""Takes each defence of the protocol away in turn, and looks who sees it: the race, or the model."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from tests.model import memory
from tests.model.explore import explore
from tests.model.memory import Memory
from tests.race.caches import CacheServer
from tests.race.failpoints import Odds
from tests.race.mutations import MUTATIONS, Mutation
from tests.race.options import Options
from tests.race.report import failing
from tests.race.supervisor import race

_ROUND_SECONDS: Final = 8.0
_LOSE: Final = 0.3
_MAX_STALENESS: Final = 0.3


class Caught(NamedTuple):
    """By what it was seen that a defence is missing, and after how many seconds; ``None`` where it was not."""

    by_race: str | None
    race_seconds: float
    by_model: str | None
    model_seconds: float


def check_all(options: Options, cache: CacheServer, database: str) -> Iterator[tuple[str, Caught]]:
    """Take each defence away in turn."""
    for name, mutation in MUTATIONS.items():
        began = time.monotonic()
        by_race = _by_race(options, name, cache, database)
        ended = time.monotonic()
        by_model = _by_model(mutation)
        yield name, Caught(by_race, ended - began, by_model, time.monotonic() - ended)


def all_hold(options: Options, cache: CacheServer, database: str) -> list[str]:
    """Give what goes wrong with all defences in place, under all that the mutations are run with."""
    raised = {point: chance for mutation in MUTATIONS.values() for point, chance in mutation.raised.items()}
    changed = replace(
        options, seconds=_ROUND_SECONDS, faults=("kill", "restart"), odds=Odds(0.005, 0.0, 0.1, raised), on_unreachable="abort"
    )
    return failing(race(changed, cache, database))


def without(options: Options, name: str) -> Options:
    """Give a race without a defence, under what is apt to show it."""
    mutation = MUTATIONS[name]
    return replace(
        options,
        mutation=name,
        faults=mutation.faults,
        odds=Odds(mutation.kill, 0.0, 0.1, mutation.raised, _LOSE if "lose" in mutation.faults else 0.0),
        outbox=mutation.outbox,
        ways=mutation.ways,
        keys=mutation.keys,
        memory=mutation.memory,
        max_staleness=_MAX_STALENESS,
        on_unreachable="abort",
        protocol="strict",
    )


def _by_race(options: Options, name: str, cache: CacheServer, database: str) -> str | None:
    deadline = time.monotonic() + options.seconds
    changed = replace(without(options, name), seconds=min(_ROUND_SECONDS, options.seconds))
    while time.monotonic() < deadline:
        report = race(changed, cache, database)
        if wrong := failing(report):
            return ", ".join(f"{name} {report['figures'][name]}" for name in wrong)
        changed = replace(changed, seed=changed.seed + 1)
    return None


def _by_model(mutation: Mutation) -> str | None:
    if mutation.defect is None:
        return None
    protocol, writers, faults = mutation.model
    search: Callable[..., Mapping[str, object]] = memory.explore if isinstance(protocol, Memory) else explore
    broken = replace(protocol, **{mutation.defect: not getattr(protocol, mutation.defect)})  # type: ignore[arg-type]
    return ", ".join(search(broken, writers, faults)) or None


def check(options: Options, cache: CacheServer, database: str) -> int:
    """Print a table of all defences, and give 0 where each is needed, and nothing goes wrong with all of them."""
    wrong = all_hold(options, cache, database)
    sys.stdout.write(f"with all defences: {', '.join(wrong) or 'nothing wrong'}\n\n{'without':<58}caught by\n")
    for name, caught in check_all(options, cache, database):
        race_says = f"race in {caught.race_seconds:.0f} s: {caught.by_race}" if caught.by_race else "not by the race"
        model_says = f"model in {caught.model_seconds:.1f} s: {caught.by_model}" if caught.by_model else "not by the model"
        sys.stdout.write(f"{name:<58}{race_says}\n{'':<58}{model_says}\n")
        sys.stdout.flush()
        if not (caught.by_race or caught.by_model):
            wrong.append(name)
    sys.stdout.write(f"\n{'NOT AS IT HAS TO BE: ' + ', '.join(wrong) if wrong else 'Each defence is needed.'}\n")
    return 1 if wrong else 0
