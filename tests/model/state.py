"""What the model of the protocol knows at a moment: a row, its cell, the generation of its class, and who is at what."""

from typing import Any, NamedTuple

Cell = tuple[Any, ...] | None
Step = tuple[str, "State", "str | None"]
Process = tuple[Any, ...]

KEYED, WIDE, WIDE_ELSEWHERE, INVISIBLE = "keyed", "wide", "wide elsewhere", "invisible"
LISTED = "listed"
"""Adds a row of its own to the list that the cell is then: such writers do not wait for one another."""
INVISIBLY_LISTED = "invisibly listed"
ENDED = ("end",)


class Faults(NamedTuple):
    """How many of each may happen."""

    evictions: int = 0
    crashes: int = 0
    losses: int = 0
    rollbacks: int = 0
    restarts: int = 0
    """Of the cache's server, with what it had when it last saved."""


class State(NamedTuple):
    """All there is."""

    db: tuple[int, str]
    lock: int | None
    cell: Cell
    generation: Cell
    watch: int | None
    processes: tuple[Process, ...]
    outbox: frozenset[int]
    acknowledged: int
    visible: int
    committed: frozenset[str]
    faults: Faults
    clock: int
    saved: tuple[Cell, Cell] | None = None
    """What the server has on disk: the cell and the generation."""

    def at(self, place: int, process: Process, **changes: Any) -> "State":
        """Give the state after a step of one process."""
        processes = (*self.processes[:place], process, *self.processes[place + 1 :])
        return self._replace(processes=processes, **changes)


def start(writers: tuple[str, ...], readers: int, cell: Cell, generation: Cell = ("V", 0)) -> State:
    """Give a state in which nothing has begun."""
    processes = tuple([("reader", "start")] * readers + [("writer", "start", kind) for kind in writers])
    return State((0, "-"), None, cell, generation, None, processes, frozenset(), 0, 0, frozenset("-"), Faults(), 1)


def is_marked(cell: Cell) -> bool:
    """Whether a writer's marker stands in a cell."""
    return cell is not None and cell[0] == "W"


def with_marker(cell: Cell, writer: int, *, blind: bool) -> Cell:
    """Give a cell with a writer's marker; a blind mark replaces those of others."""
    if is_marked(cell) and not blind:
        assert cell is not None
        return ("W", cell[1] | {writer}, True)
    return ("W", frozenset([writer]), False)


def stirred(s: State) -> State:
    """Count on a watch; where there is none, the next one will be another."""
    return s if s.watch is None else s._replace(watch=s.clock, clock=s.clock + 1)


def replaced(s: State, name: str, cell: Cell) -> State:
    """Give the state with another cell, or another generation."""
    return s._replace(cell=cell) if name == "cell" else s._replace(generation=cell)


def less(faults: Faults, name: str) -> Faults:
    """Give the faults when one has happened."""
    return faults._replace(**{name: getattr(faults, name) - 1})


def judged(s: State, value: Any, floors: tuple[int, int]) -> str | None:
    """Tell what is wrong with a value that was read since that much was known."""
    if value[1] not in s.committed:
        return "dirty"
    if value[0] < floors[0]:
        return "stale after acknowledgement"
    return "stale after commit" if value[0] < floors[1] else None
