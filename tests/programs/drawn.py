"""Programs drawn at random, each from one number."""

import random
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final

from tests.programs import changing, reading, transacting, writing
from tests.programs.rows import CLASSES
from tests.programs.running import STEPS, Program, Step
from tests.programs.ways import DOMAINS, SESSIONS

__all__ = ["awaited", "changing", "drawn", "reading", "told", "transacting", "writing"]

_RELATED: Final = ((0, 1, 2), (1, 2, 3), (1, 9, 10, 11), (4,), (5, 6), (7, 8), (12, 13, 14), (15,), (16, 1, 0), (17, 18, 19), (1,), (2, 3))
"""Classes that lead to each other."""
_SESSIONS: Final = (0, 0, 0, 1, 1, 2)
_TRANSACTING: Final = frozenset(name for _, names in DOMAINS.values() for name in names)
_BOTH: Final = 0.3
_WAITS: Final = 20
_FLAGS: Final = ("expire", "autoflush", "warm", "listens")


def drawn(number: int, domain: str = "plain") -> Program:
    """Give a program of some classes that lead to each other, with steps of all sorts or of some; always the same for a number and a domain."""
    chance = random.Random(number)
    ways, own = DOMAINS[domain]
    weighed = _weighed(name for name in STEPS if name not in _TRANSACTING)
    names = weighed if chance.random() < 0.5 else [*chance.sample(weighed, 12), "commit"]
    names = names + _weighed(own)
    steps = tuple(_step(chance, names) for _ in range(chance.randrange(20, 60)))
    flags = {name: chance.random() < 0.5 for name in _FLAGS}
    return Program(steps, chance.choice(_RELATED), tuple(chance.choice(ways) for _ in range(SESSIONS)), **flags)


def _weighed(names: Iterable[str]) -> list[str]:
    return [name for name in names for _ in range(STEPS[name][1])]


def awaited(number: int) -> Program:
    """Give a program for an event loop: a third of them have a session cancelled, a third do some steps at once."""
    chance, program = random.Random(f"awaited {number}"), drawn(number)
    steps = list(program.steps)
    if number % 3 == 1 or chance.random() < _BOTH:
        at = chance.randrange(len(steps) * 3 // 4)
        steps[at] = steps[at]._replace(cancel=chance.choice((-1, 1)) * chance.randrange(1, _WAITS))
    only_reads = chance.random() < _BOTH
    for at, pair in enumerate(pairwise(program.steps)) if number % 3 == 2 else ():
        if chance.random() < _BOTH and not (only_reads and not all(STEPS[each.name][2] for each in pair)):
            steps[at] = steps[at]._replace(beside=True)
    return replace(program, steps=tuple(steps))


def _step(chance: random.Random, names: list[str]) -> Step:
    name, session, cls = chance.choice(names), chance.choice(_SESSIONS), chance.randrange(4)
    a, b, v = (chance.randrange(6) for _ in range(3))
    return Step(name, session, cls, a, b, v)


def told(program: Program) -> str:
    """Give a program as it may be written down."""
    given: dict[str, Any] = {name: getattr(program, name) for name in _FLAGS}
    names = ", ".join(CLASSES[number].__name__ for number in program.classes)
    return "\n".join([f"{names}; {', '.join(program.ways)}; {given}", *(f"  {step}" for step in program.steps)])
