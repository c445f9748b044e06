"""Finds the smallest program that still fails."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from tests.programs.running import Program

Fails = Callable[[Program], bool]
_PLAINER: Final[tuple[tuple[str, Any], ...]] = (("listens", False), ("warm", False), ("autoflush", True), ("expire", True))


def smallest(program: Program, fails: Fails) -> Program:
    """Leave out of a program what it fails without."""
    while (shorter := _shorter(program, fails)) is not program:
        program = shorter
    for name, value in _PLAINER:
        plainer = replace(program, **{name: value})
        program = plainer if plainer != program and fails(plainer) else program
    for at in range(len(program.ways)):
        plainer = replace(program, ways=(*program.ways[:at], "plain", *program.ways[at + 1 :]))
        program = plainer if plainer != program and fails(plainer) else program
    return program


def _shorter(program: Program, fails: Fails) -> Program:
    size = len(program.steps) // 2 or 1
    while size:
        at = 0
        while at < len(program.steps):
            less = replace(program, steps=program.steps[:at] + program.steps[at + size :])
            if fails(less):
                program = less
            else:
                at += size
        size //= 2
    return program
