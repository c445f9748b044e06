"""Every interleaving of readers and writers where the generation of a class stands in each slot, on one row and two of these slots.

One is the generation's own: what it says counts. The other is the row's, and has a replica, which is believed of what stands beside it. A replica
is put by its lease: who finds none leaves one, then asks the generation, and then puts what he was told where that lease still stands. Who has written
the whole class leaves a new generation in both, each by itself, where no other writer's marker has been beside his.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.model.traces import trace_to

Cell = tuple[Any, ...] | None
Process = tuple[Any, ...]
Step = tuple[str, "State", "str | None"]

KEYED, WIDE = "keyed", "wide"
ENDED: Process = ("end",)
_PLACES = ("home", "replica")


@dataclass(frozen=True)
class Replicas:
    """How replicas come to be; all fields are defects."""

    installs_unleased: bool = False
    """A replica is put whatever has become of its lease."""
    asks_home_first: bool = False
    """The generation is asked before the replica is leased."""
    marks_home_alone: bool = False
    """A wide writer leaves the replicas as they are."""
    marks_replicas_late: bool = False
    """A wide writer commits when the generation is marked, and takes the replicas away afterwards."""
    renews_joined: bool = False
    """A wide writer leaves a new generation also where another writer has marked meanwhile."""
    goes_on_unmarked: bool = False
    """A wide writer commits though one of the nodes could not be reached."""


class Faults(NamedTuple):
    """How many of each may happen."""

    evictions: int = 0
    crashes: int = 0
    losses: int = 0


class State(NamedTuple):
    """All there is."""

    db: int
    acknowledged: int
    lock: int | None
    home: Cell
    replica: Cell
    cell: Cell
    processes: tuple[Process, ...]
    faults: Faults
    clock: int

    def at(self, place: int, process: Process, **changes: Any) -> "State":
        """Give the state after a step of one process."""
        return self._replace(processes=(*self.processes[:place], process, *self.processes[place + 1 :]), **changes)


class Machine:
    """One way in motion."""

    def __init__(self, way: Replicas) -> None:
        self.way = way

    def steps(self, s: State) -> Iterator[Step]:
        """Give all that may happen next."""
        for place, process in enumerate(s.processes):
            if process != ENDED:
                yield from getattr(self, f"_{process[0]}_{process[1]}")(s, place, *process[2:])
        for name in (*_PLACES, "cell"):
            cell = getattr(s, name)
            if cell and cell[0] != "W" and s.faults.evictions:
                yield f"{name} is evicted", _set(s, name, None)._replace(faults=_less(s.faults, "evictions")), None
            for writer in cell[1] if cell and cell[0] == "W" else ():
                if s.processes[writer] == ENDED:
                    yield f"{name} of w{writer} is resolved", _set(s, name, _without(cell, writer)), None

    # -- readers ----------------------------------------------------------------------------------

    def _reader_look(self, s: State, place: int) -> Iterator[Step]:
        # What the generation says, or another slot's replica, may have been read at any time since he began.
        yield f"r{place} begins", s.at(place, ("reader", "get", (s.acknowledged, s.db), s.home)), None

    def _reader_get(self, s: State, place: int, floors: Any, home: Cell) -> Iterator[Step]:
        after = "home" if self.way.asks_home_first else "lease"
        yield f"r{place} misses", s.at(place, ("reader", after, floors, s.cell, None)), None
        if s.cell and s.cell[0] == "V" and not _marked(s.replica):
            told = s.replica if s.replica and s.replica[0] == "V" else home
            if told == ("V", s.cell[2]):
                yield f"r{place} hits", s.at(place, ENDED), _judged(s.cell[1], floors)
            if told != s.replica:
                yield f"r{place} has found {s.cell[1]}", s.at(place, ("reader", "late", floors, s.cell)), None

    def _reader_late(self, s: State, place: int, floors: Any, cell: Any) -> Iterator[Step]:
        hits = s.home == ("V", cell[2])
        yield f"r{place} asks the generation", s.at(place, ENDED), _judged(cell[1], floors) if hits else None

    def _reader_lease(self, s: State, place: int, floors: Any, seen: Cell, told: Any) -> Iterator[Step]:
        if _marked(s.replica) or _marked(s.cell) or s.cell != seen or (seen and seen[0] == "L"):
            yield f"r{place} bypasses", s.at(place, ("reader", "read", floors, None, None)), None
            return
        lease = ("L", ("t", s.clock))
        known = s.replica[1] if s.replica and s.replica[0] == "V" else None
        after = "read" if known else "install" if told else "home"
        mine = (lease, lease if known else s.replica or lease)
        leased = s.at(place, ("reader", after, floors, mine, known or told), cell=lease, clock=s.clock + 1)
        yield f"r{place} leases", leased if s.replica else leased._replace(replica=lease), None

    def _reader_home(self, s: State, place: int, floors: Any, lease: Cell, _: Any) -> Iterator[Step]:
        if _marked(s.home):
            yield f"r{place} is refused", s.at(place, ("reader", "read", floors, None, None)), None
            return
        s, token = _made(s)
        after = "lease" if self.way.asks_home_first else "install"
        yield f"r{place} asks the generation", s.at(place, ("reader", after, floors, lease, token)), None

    def _reader_install(self, s: State, place: int, floors: Any, lease: Any, token: Any) -> Iterator[Step]:
        puts = s.replica == lease[1] or (self.way.installs_unleased and not _marked(s.replica))
        after = s.at(place, ("reader", "read", floors, lease, token), replica=("V", token) if puts else s.replica)
        yield f"r{place} puts the replica", after, None

    def _reader_read(self, s: State, place: int, floors: Any, lease: Cell, token: Any) -> Iterator[Step]:
        yield f"r{place} reads {s.db}", s.at(place, ("reader", "fill", lease, token, s.db)), _judged(s.db, floors)

    def _reader_fill(self, s: State, place: int, lease: Any, token: Any, value: int) -> Iterator[Step]:
        fills = lease is not None and s.cell == lease[0]
        yield f"r{place} fills", s.at(place, ENDED, cell=("V", value, token) if fills else s.cell), None

    # -- a reader of another row of the slot --------------------------------------------------------

    def _other_lease(self, s: State, place: int, told: Any) -> Iterator[Step]:
        if self.way.asks_home_first and told is None:
            yield from self._other_home(s, place, None)
        elif s.replica is None or s.replica[0] == "L":
            lease = s.replica or ("L", ("t", s.clock))
            after = ("other", "install" if told else "home", lease, told)
            yield f"o{place} leases the replica", s.at(place, after[: 4 if told else 3], replica=lease, clock=s.clock + 1), None
        else:
            yield f"o{place} ends", s.at(place, ENDED), None

    def _other_home(self, s: State, place: int, lease: Cell) -> Iterator[Step]:
        if _marked(s.home):
            yield f"o{place} is refused", s.at(place, ENDED), None
            return
        s, token = _made(s)
        after = ("other", "install", lease, token) if lease else ("other", "lease", token)
        yield f"o{place} asks the generation", s.at(place, after), None

    def _other_install(self, s: State, place: int, lease: Cell, token: Any) -> Iterator[Step]:
        puts = s.replica == lease or (self.way.installs_unleased and not _marked(s.replica))
        yield f"o{place} puts the replica", s.at(place, ENDED, replica=("V", token) if puts else s.replica), None

    # -- writers ----------------------------------------------------------------------------------

    def _writer_begin(self, s: State, place: int, kind: str) -> Iterator[Step]:
        if s.lock is None:
            todo: Any = _PLACES
            if kind == WIDE and (self.way.marks_home_alone or self.way.marks_replicas_late):
                todo = _PLACES[:1]
            yield f"w{place} updates", s.at(place, ("writer", "mark", kind, todo), lock=place), None

    def _writer_mark(self, s: State, place: int, kind: str, todo: tuple[str, ...]) -> Iterator[Step]:
        if kind == KEYED:
            token = s.replica[1] if s.replica and s.replica[0] == "V" else None
            step = "commit" if token or _marked(s.replica) else "ask"
            yield f"w{place} marks", s.at(place, ("writer", step, kind, token), cell=_with(s.cell, place)), None
            return
        for name in todo:
            rest = tuple(other for other in todo if other != name)
            after: Process = ("writer", "mark", kind, rest) if rest else ("writer", "commit", kind, None)
            yield f"w{place} marks the {name}", s.at(place, after, **{name: _with(getattr(s, name), place)}), None
            if s.faults.losses:
                given_up = s.at(place, ENDED, lock=None, faults=_less(s.faults, "losses"))
                unmarked = s.at(place, after, faults=_less(s.faults, "losses"))
                yield f"w{place} cannot mark the {name}", unmarked if self.way.goes_on_unmarked else given_up, None
        if s.faults.crashes:
            yield f"w{place} dies", s.at(place, ENDED, lock=None, faults=_less(s.faults, "crashes")), None

    def _writer_ask(self, s: State, place: int, kind: str, _: Any) -> Iterator[Step]:
        made, token = (s, None) if _marked(s.home) else _made(s)
        yield f"w{place} asks the generation", made.at(place, ("writer", "commit", kind, token)), None

    def _writer_commit(self, s: State, place: int, kind: str, token: Any) -> Iterator[Step]:
        new = ("t", s.clock) if kind == WIDE else token
        after = ("writer", "release", kind, new, s.db + 1, _PLACES)
        yield f"w{place} commits", s.at(place, after, db=s.db + 1, lock=None, clock=s.clock + 1), None
        if s.faults.crashes:
            yield f"w{place} dies", s.at(place, ENDED, lock=None, faults=_less(s.faults, "crashes")), None

    def _writer_release(self, s: State, place: int, kind: str, token: Any, value: int, todo: tuple[str, ...]) -> Iterator[Step]:
        done = ("writer", "return", value)
        if kind == KEYED:
            cell = ("V", value, token) if _is_sole(s.cell, place) and token else _without(s.cell, place)
            yield f"w{place} releases", s.at(place, done, cell=cell), None
            return
        for name in todo:
            rest = tuple(other for other in todo if other != name)
            if name == "replica" and self.way.marks_home_alone:
                cell = s.replica
            else:
                cell = getattr(s, name)
                renews = _is_sole(cell, place) or (self.way.renews_joined and _marked(cell) and cell[1] == frozenset([place]))
                cell = ("V", token) if renews else _without(cell, place)
            after = ("writer", "release", kind, token, value, rest) if rest else done
            yield f"w{place} releases the {name}", s.at(place, after, **{name: cell}), None

    def _writer_return(self, s: State, place: int, value: int) -> Iterator[Step]:
        yield f"w{place} returns", s.at(place, ENDED, acknowledged=max(s.acknowledged, value)), None


def _set(s: State, name: str, cell: Cell) -> State:
    changed: dict[str, Any] = {name: cell}
    return s._replace(**changed)


def _made(s: State) -> tuple[State, Any]:
    if s.home is not None:
        return s, s.home[1]
    token = ("t", s.clock)
    return s._replace(home=("V", token), clock=s.clock + 1), token


def _marked(cell: Cell) -> bool:
    return cell is not None and cell[0] == "W"


def _is_sole(cell: Cell, writer: int) -> bool:
    return cell == ("W", frozenset([writer]), False)


def _with(cell: Cell, writer: int) -> Cell:
    return ("W", cell[1] | {writer}, True) if cell is not None and cell[0] == "W" else ("W", frozenset([writer]), False)


def _without(cell: Cell, writer: int) -> Cell:
    """Give a cell without a marker; what stands where it was lost goes."""
    if cell is None or cell[0] != "W" or writer not in cell[1]:
        return cell if _marked(cell) else None
    return ("W", cell[1] - {writer}, True) if len(cell[1]) > 1 else None


def _less(faults: Faults, name: str) -> Faults:
    return faults._replace(**{name: getattr(faults, name) - 1})


def _judged(value: int, floors: tuple[int, int]) -> str | None:
    if value < floors[0]:
        return "stale after acknowledgement"
    return "stale after commit" if value < floors[1] else None


def canonical(s: State) -> State:
    """Rename tokens by the order of their first appearance."""
    names: dict[int, int] = {}

    def renamed(item: Any) -> Any:
        if type(item) is not tuple:
            return item
        if len(item) == 2 and item[0] == "t":
            return ("t", names.setdefault(item[1], len(names)))
        return tuple(map(renamed, item))

    home, replica, cell = renamed(s.home), renamed(s.replica), renamed(s.cell)
    return s._replace(home=home, replica=replica, cell=cell, processes=renamed(s.processes), clock=len(names))


def explore(way: Replicas, writers: tuple[str, ...], faults: Faults, *, until: str | None = None) -> dict[str, list[str]]:
    """Give each sort of violation that can happen, with a shortest trace to it, to a reader of the row beside one of another row.

    No more of them are looked for once that one is found.
    """
    machine, found = Machine(way), dict[str, list[str]]()
    processes = (("reader", "look"), ("other", "lease", None), *(("writer", "begin", kind) for kind in writers))
    warm = State(0, 0, None, ("V", ("t", 0)), ("V", ("t", 0)), ("V", 0, ("t", 0)), processes, faults, 1)
    # A replica may have been evicted, and what it was believed of be there.
    starts = [warm, warm._replace(replica=None), warm._replace(home=None, replica=None, cell=None)]
    waiting = deque(canonical(one) for one in starts)
    origin: dict[State, tuple[State, str] | None] = dict.fromkeys(waiting)
    while waiting and until not in found:
        state = waiting.popleft()
        for wrong in _wrong_in(state):
            found.setdefault(wrong, trace_to(origin, state))
        for label, after, violation in machine.steps(state):
            if violation:
                found.setdefault(violation, [*trace_to(origin, state), label])
            reached = canonical(after)
            if reached not in origin:
                origin[reached] = (state, label)
                waiting.append(reached)
    return found


def _wrong_in(s: State) -> Iterator[str]:
    """Tell what the next reader would be given that is wrong: he begins now, and hits."""
    if s.cell and s.cell[0] == "V" and s.replica == ("V", s.cell[2]):
        wrong = _judged(s.cell[1], (s.acknowledged, s.db))
        if wrong:
            yield wrong
        if s.cell[1] != s.db and all(process == ENDED for process in s.processes):
            yield "stale at rest"
