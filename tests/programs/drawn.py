"""Programs drawn at random, each from one number."""

import random
from typing import Any, Final

from tests.programs import changing, reading, writing
from tests.programs.rows import CLASSES
from tests.programs.running import STEPS, Program, Step

__all__ = ["changing", "drawn", "reading", "told", "writing"]

_RELATED: Final = ((0, 1, 2), (1, 2, 3), (1, 9, 10, 11), (4,), (5, 6), (7, 8), (12, 13, 14), (15,), (16, 1, 0), (17, 18, 19), (1,), (2, 3))
"""Classes that lead to each other."""
_SESSIONS: Final = (0, 0, 0, 1, 1, 2)
_FLAGS: Final = ("expire", "autoflush", "warm", "listens")


def drawn(number: int) -> Program:
    """Give a program of some classes that lead to each other, with steps of all sorts or of some; always the same for a number."""
    chance = random.Random(number)
    weighed = [name for name, (_, weight, _) in STEPS.items() for _ in range(weight)]
    names = weighed if chance.random() < 0.5 else [*chance.sample(weighed, 12), "commit"]
    steps = tuple(_step(chance, names) for _ in range(chance.randrange(20, 60)))
    return Program(steps, chance.choice(_RELATED), **{name: chance.random() < 0.5 for name in _FLAGS})


def _step(chance: random.Random, names: list[str]) -> Step:
    return Step(chance.choice(names), chance.choice(_SESSIONS), chance.randrange(4), *(chance.randrange(6) for _ in range(3)))


def told(program: Program) -> str:
    """Give a program as it may be written down."""
    given: dict[str, Any] = {name: getattr(program, name) for name in _FLAGS}
    names = ", ".join(CLASSES[number].__name__ for number in program.classes)
    return "\n".join([f"{names}; {given}", *(f"  {step}" for step in program.steps)])
