"""Every interleaving of readers, writers and faults on one row, its cell and the generation of its class.

The steps are those of ``stockstore.backends.coherent``, each atomic. A value is (version, writer). Explored breadth first,
so the trace to a violation is one of the shortest.
"""

from collections.abc import Iterator
from typing import Any

from tests.model.protocols import Protocol
from tests.model.state import (
    ENDED,
    INVISIBLE,
    INVISIBLY_LISTED,
    KEYED,
    LISTED,
    WIDE_ELSEWHERE,
    Cell,
    Process,
    State,
    Step,
    is_marked,
    judged,
    less,
    replaced,
    stirred,
    with_marker,
)


class Machine:
    """One protocol in motion."""

    def __init__(self, protocol: Protocol) -> None:
        self.p = protocol

    def steps(self, s: State) -> Iterator[Step]:
        """Give all that may happen next."""
        for place, process in enumerate(s.processes):
            if process[0] == "reader":
                yield from self._reader(s, place, process)
            elif process[0] == "writer":
                yield from self._writer(s, place, process)
        for writer in s.outbox:
            yield f"janitor({writer})", self._drained(s, writer), None
        if self.p.resolver:
            yield from self._resolved(s)
        if s.generation is None:
            yield "a reader of another row makes the generation", s._replace(generation=("V", s.clock), clock=s.clock + 1), None
        if s.faults.evictions:
            yield from self._evicted(s)
        if s.faults.restarts:
            yield self._saved(s) if s.saved is None else self._restarted(s, s.saved)

    # -- readers ----------------------------------------------------------------------------------

    def _reader(self, s: State, place: int, process: Process) -> Iterator[Step]:
        _, at, *rest = process
        step = getattr(self, f"_reader_{at}")
        yield from step(s, place, *rest)

    def _reader_start(self, s: State, place: int) -> Iterator[Step]:
        floors = (s.acknowledged, s.visible)
        seen = s.db if self.p.snapshot_first else None
        yield f"r{place} begins", s.at(place, ("reader", "get", floors, seen)), None

    def _reader_get(self, s: State, place: int, floors: Any, seen: Any) -> Iterator[Step]:
        if s.cell and s.cell[0] == "V" and s.generation == ("V", s.cell[2]):
            yield f"r{place} hits {s.cell[1]}", s.at(place, ENDED), None if seen else judged(s, s.cell[1], floors)
        else:
            yield f"r{place} misses", s.at(place, ("reader", "lease", floors, seen, s.cell)), None

    def _reader_lease(self, s: State, place: int, floors: Any, seen: Any, old: Cell) -> Iterator[Step]:
        marked = s.cell is not None and s.cell[0] == "W" and not self.p.leases_over_markers
        if self.p.unleased:
            yield f"r{place} goes on", s.at(place, ("reader", "read", floors, seen, -1, 0)), None
        elif is_marked(s.generation) or marked or s.cell != old or (old and old[0] == "L"):
            yield f"r{place} bypasses", s.at(place, ("reader", "read", floors, seen, None, None)), None
        else:
            generation = s.generation or ("V", s.clock)
            reading: Process = ("reader", "read", floors, seen, s.clock + 1, generation[1])
            yield f"r{place} leases", s.at(place, reading, cell=("L", s.clock + 1), generation=generation, clock=s.clock + 2), None
        if self.p.watches and not is_marked(s.generation):
            # He asks for a list of which the row will turn out to be one, whatever stands in its cell.
            generation, watch = s.generation or ("V", s.clock), s.clock + 1 if s.watch is None else s.watch
            reading = ("reader", "read", floors, seen, ("watch", watch), generation[1])
            yield f"r{place} watches", s.at(place, reading, generation=generation, watch=watch, clock=s.clock + 2), None

    def _reader_read(self, s: State, place: int, floors: Any, seen: Any, token: Any, generation: Any) -> Iterator[Step]:
        value = seen or s.db
        yield f"r{place} reads {value}", s.at(place, ("reader", "fill", floors, seen, token, generation, value)), None

    def _reader_fill(self, s: State, place: int, floors: Any, seen: Any, token: Any, generation: Any, value: Any) -> Iterator[Step]:
        if self.p.generation_of_the_fill and not is_marked(s.generation) and s.generation:
            generation = s.generation[1]
        fills = token == -1 or (token is not None and s.cell == ("L", token))
        if type(token) is tuple:
            fills = (s.cell is None or self.p.watch_fills_anything) and token[1] == s.watch
        cell = ("V", value, generation) if fills else s.cell
        yield f"r{place} {'fills' if fills else 'ends'}", s.at(place, ENDED, cell=cell), None if seen else judged(s, value, floors)

    # -- writers ----------------------------------------------------------------------------------

    def _writer(self, s: State, place: int, process: Process) -> Iterator[Step]:
        _, at, *rest = process
        if s.faults.crashes and at != "start":
            lock = None if s.lock == place else s.lock
            yield f"w{place} crashes", s.at(place, ENDED, lock=lock, faults=less(s.faults, "crashes")), None
        yield from getattr(self, f"_writer_{at}")(s, place, *rest)

    def _writer_start(self, s: State, place: int, kind: str) -> Iterator[Step]:
        if s.processes[place] in s.processes[:place]:
            return  # Of writers of one kind, which differ in their numbers only, the first begins first.
        if kind == WIDE_ELSEWHERE:
            yield f"w{place} updates another row", s.at(place, ("writer", "mark", kind, None)), None
        elif kind in (LISTED, INVISIBLY_LISTED):
            value = (s.db[0] + 1, str(place))
            after = ("writer", "mark", kind, value) if kind == LISTED else ("writer", "commit", kind, value, None)
            yield f"w{place} adds a row", s.at(place, after), None
        elif s.lock is None:
            value = (s.db[0] + 1, str(place))
            after = ("writer", "commit", kind, value, None) if kind == INVISIBLE else ("writer", "mark", kind, value)
            yield f"w{place} updates", s.at(place, after, lock=place), None

    def _writer_mark(self, s: State, place: int, kind: str, value: Any) -> Iterator[Step]:
        if s.generation is None and self.p.makes and self.p.marks and kind == KEYED:
            s = s._replace(generation=("V", s.clock), clock=s.clock + 1)
        committing = ("writer", "commit", kind, value, None if is_marked(s.generation) else s.generation)
        if self.p.early and kind == KEYED:
            yield f"w{place} puts early", s.at(place, committing, cell=("V", value, 0)), None
        elif not self.p.marks or (kind not in (KEYED, LISTED) and self.p.generation_unmarked):
            yield f"w{place} goes on", s.at(place, committing), None
        else:
            yield f"w{place} marks", self._marked(s, place, kind, committing), None
            if s.faults.losses:
                yield from self._mark_lost(s, place, committing)

    def _marked(self, s: State, place: int, kind: str, committing: Process) -> State:
        if kind in (KEYED, LISTED):
            blind = self.p.blind if kind == KEYED else self.p.blind_lists
            return stirred(s).at(place, committing, cell=with_marker(s.cell, place, blind=blind))
        return s.at(place, committing, generation=with_marker(s.generation, place, blind=self.p.blind_generation))

    def _mark_lost(self, s: State, place: int, committing: Process) -> Iterator[Step]:
        faults = less(s.faults, "losses")
        if self.p.goes_on_unmarked:
            yield f"w{place} cannot mark", s.at(place, committing, faults=faults), None
        else:
            yield f"w{place} cannot mark and aborts", s.at(place, ENDED, lock=None if s.lock == place else s.lock, faults=faults), None

    def _writer_commit(self, s: State, place: int, kind: str, value: Any, generation: Cell) -> Iterator[Step]:
        lock = None if s.lock == place else s.lock
        unseen = kind in (INVISIBLE, INVISIBLY_LISTED)
        told = unseen or self.p.outbox
        read, value = value, (s.db[0] + 1, value[1]) if kind in (LISTED, INVISIBLY_LISTED) else value
        changes: dict[str, Any] = {"lock": lock, "outbox": s.outbox | {place} if told else s.outbox}
        if value:
            changes |= {"db": value, "committed": s.committed | {value[1]}}
            if not unseen:
                changes["visible"] = value[0]
        if self.p.lists_end_in_values and kind == LISTED:
            value = read
        yield f"w{place} commits", s.at(place, ("writer", "release", kind, value, generation, True), **changes), None
        if s.faults.rollbacks:
            undone = ("writer", "release", kind, value, generation, False)
            yield f"w{place} rolls back", s.at(place, undone, lock=lock, faults=less(s.faults, "rollbacks")), None

    def _writer_release(self, s: State, place: int, kind: str, value: Any, generation: Cell, committed: bool) -> Iterator[Step]:
        if kind in (INVISIBLE, INVISIBLY_LISTED):
            yield f"w{place} ends", s.at(place, ENDED), None
            return
        after = ("writer", "return", value) if committed else ENDED
        if self.p.generation_made_late and s.generation is None and committed and kind == KEYED:
            generation = ("V", s.clock)
            s = s._replace(generation=generation, clock=s.clock + 1)
        if self.p.generation_of_the_release:
            generation = None if is_marked(s.generation) else s.generation
        values = self.p.values if kind != LISTED else self.p.lists_end_in_values
        kept = ("V", value, generation[1]) if committed and values and generation else None
        released = self._released(s, place, kind, kept, committed)
        yield f"w{place} releases", (released if self.p.release_stirs_nothing else stirred(released)).at(place, after), None
        if s.faults.losses and (self.p.resolver or self.p.outbox):
            yield f"w{place} cannot release", s.at(place, after, faults=less(s.faults, "losses")), None

    def _released(self, s: State, place: int, kind: str, kept: Cell, committed: bool) -> State:
        if not self.p.marks:
            return self._told_afterwards(s, place, kind) if committed else s
        if kind not in (KEYED, LISTED):
            cell = s.generation if self.p.generation_unmarked and not committed else self._without_marker(s.generation, place, committed)
            return s._replace(generation=cell)
        return s._replace(cell=self._without_marker(s.cell, place, committed, kept))

    def _told_afterwards(self, s: State, place: int, kind: str) -> State:
        if kind not in (KEYED, LISTED):
            return s._replace(generation=None)
        return s._replace(cell=("V", s.processes[place][3], 0) if self.p.put else None)

    def _without_marker(self, cell: Cell, place: int, committed: bool, value: Cell = None) -> Cell:
        if not is_marked(cell):
            return cell if self.p.keeps_where_marker_was_lost or not committed else None
        assert cell is not None
        if place not in cell[1]:
            return cell
        if value and (self.p.releases_always_with_value or cell == ("W", frozenset([place]), False)):
            return value
        rest = cell[1] - {place}
        return ("W", rest, True) if rest else None

    def _writer_return(self, s: State, place: int, value: Any) -> Iterator[Step]:
        acknowledged = max(s.acknowledged, value[0]) if value else s.acknowledged
        yield f"w{place} returns", s.at(place, ENDED, acknowledged=acknowledged), None

    # -- janitor, resolver, faults ----------------------------------------------------------------

    def _drained(self, s: State, writer: int) -> State:
        cell, generation = self._invalidated(s.cell), s.generation
        if is_marked(generation):
            generation = self._without_marker(generation, writer, True)
        after = s._replace(cell=self._without_marker(cell, writer, True), generation=generation, outbox=s.outbox - {writer})
        return after if self.p.invalidation_stirs_nothing else stirred(after)

    def _invalidated(self, cell: Cell) -> Cell:
        if self.p.janitor_deletes or not is_marked(cell):
            return None
        assert cell is not None
        return cell if self.p.invalidation_spares_sole_markers else ("W", cell[1], True)

    def _resolved(self, s: State) -> Iterator[Step]:
        for name in ("cell", "generation"):
            cell = getattr(s, name)
            for writer in cell[1] if is_marked(cell) else ():
                process = s.processes[writer]
                if process == ENDED or process[1] in ("release", "return"):
                    yield f"{name} of w{writer} is resolved", stirred(replaced(s, name, self._without_marker(cell, writer, False))), None

    def _evicted(self, s: State) -> Iterator[Step]:
        for name in ("cell", "generation"):
            cell = getattr(s, name)
            if cell and not (self.p.pinned and is_marked(cell)):
                yield f"{name} is evicted", replaced(s, name, None)._replace(faults=less(s.faults, "evictions")), None
        if s.watch is not None:
            yield "the watch is evicted", s._replace(watch=None, faults=less(s.faults, "evictions")), None

    def _saved(self, s: State) -> Step:
        return "the server saves", s._replace(saved=(s.cell, s.generation)), None

    def _restarted(self, s: State, saved: tuple[Cell, Cell]) -> Step:
        """Only markers of an earlier life stand in this one."""
        cell, generation = [old if self.p.believes_earlier_lives or is_marked(old) else None for old in saved]
        after = s._replace(cell=cell, generation=generation, watch=None, saved=None, faults=less(s.faults, "restarts"))
        return "the server restarts with what it saved", after, None
