"""Programs drawn at random, each from one number."""

import random
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final

from tests.programs import changing, reading, writing
from tests.programs.rows import CLASSES
from tests.programs.running import STEPS, Program, Step

__all__ = ["awaited", "changing", "drawn", "reading", "told", "writing"]

_RELATED: Final = ((0, 1, 2), (1, 2, 3), (1, 9, 10, 11), (4,), (5, 6), (7, 8), (12, 13, 14), (15,), (16, 1, 0), (17, 18, 19), (1,), (2, 3))
"""Classes that lead to each other."""
_SESSIONS: Final = (0, 0, 0, 1, 1, 2)
_BOTH: Final = 0.3
_WAITS: Final = 20
_FLAGS: Final = ("expire", "autoflush", "warm", "listens")


def drawn(number: int) -> Program:
    """Give a program of some classes that lead to each other, with steps of all sorts or of some; always the same for a number."""
    chance = random.Random(number)
    weighed = [name for name, (_, weight, _) in STEPS.items() for _ in range(weight)]
    names = weighed if chance.random() < 0.5 else [*chance.sample(weighed, 12), "commit"]
    steps = tuple(_step(chance, names) for _ in range(chance.randrange(20, 60)))
    return Program(steps, chance.choice(_RELATED), **{name: chance.random() < 0.5 for name in _FLAGS})


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
    return "\n".join([f"{names}; {given}", *(f"  {step}" for step in program.steps)])
