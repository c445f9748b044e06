"""The search through all states that a machine can come to."""

from collections import deque
from collections.abc import Iterator
from functools import cache
from typing import Any

from tests.model.machine import Machine
from tests.model.protocols import Protocol
from tests.model.state import ENDED, Cell, Faults, Process, State, is_marked, start
from tests.model.traces import trace_to

_order = cache(repr)


def at_rest(s: State) -> str | None:
    """Tell what is wrong with a state in which nothing happens any more but evictions."""
    if s.cell and s.cell[0] == "V" and s.generation == ("V", s.cell[2]) and s.cell[1] != s.db:
        return "dirty" if s.cell[1][1] not in s.committed else "stale at rest"
    return "marker left" if is_marked(s.cell) or is_marked(s.generation) else None


def canonical(s: State, count: int) -> State:
    """Rename tokens by the order of their first appearance, and sort the readers, which are alike."""
    names: dict[int, int] = {}

    def name(token: Any) -> Any:
        if type(token) is tuple:
            return (token[0], name(token[1]))
        return names.setdefault(token, len(names)) if type(token) is int and token >= 0 else token

    def renamed(cell: Cell) -> Cell:
        if cell is None or cell[0] == "W":
            return cell
        return ("V", cell[1], name(cell[2])) if len(cell) == 3 else (cell[0], name(cell[1]))

    generation, cell = renamed(s.generation), renamed(s.cell)
    readers: list[Process] = []
    writers: list[Process] = []
    for process in s.processes:
        if process[0] == "writer":
            has_generation = process[1] in ("commit", "release")
            writers.append((*process[:4], renamed(process[4]), *process[5:]) if has_generation else process)
        elif process == ENDED:
            (writers if len(readers) == count else readers).append(process)
        elif process[1] == "lease":
            readers.append((*process[:4], renamed(process[4])))
        elif process[1] in ("read", "fill"):
            readers.append((*process[:4], name(process[4]), name(process[5]), *process[6:]))
        else:
            readers.append(process)
    watch = name(s.watch)
    saved = s.saved and (renamed(s.saved[0]), renamed(s.saved[1]))
    processes = (*sorted(readers, key=_order), *writers)
    return s._replace(generation=generation, cell=cell, watch=watch, saved=saved, processes=processes, clock=len(names) + 1)


def explore(
    protocol: Protocol, writers: tuple[str, ...], faults: Faults, readers: int = 2, *, until: str | None = None
) -> dict[str, list[str]]:
    """Give each sort of violation that can happen, with a shortest trace to it; no more of them once that one is found."""
    found: dict[str, list[str]] = {}
    starts: list[tuple[Cell, Cell]] = [(None, ("V", 0)), (("V", (0, "-"), 0), ("V", 0)), (None, None)]
    firsts = [canonical(start(writers, readers, *cells)._replace(faults=faults), readers) for cells in starts]
    for violation, trace in _violations(Machine(protocol), firsts, readers):
        found[violation] = trace
        if violation == until:
            break
    return found


def _violations(machine: Machine, firsts: list[State], readers: int) -> Iterator[tuple[str, list[str]]]:
    origin: dict[State, tuple[State, str] | None] = dict.fromkeys(firsts)
    waiting, seen = deque(firsts), set[str]()
    while waiting:
        state = waiting.popleft()
        steps = list(machine.steps(state))
        wrong = at_rest(state) if all("evicted" in label for label, _, _ in steps) else None
        if wrong and wrong not in seen:
            seen.add(wrong)
            yield wrong, trace_to(origin, state)
        for label, after, violation in steps:
            if violation and violation not in seen:
                seen.add(violation)
                yield violation, [*trace_to(origin, state), label]
            reached = canonical(after, readers)
            if reached not in origin:
                origin[reached] = (state, label)
                waiting.append(reached)
