"""Every interleaving of one process's memory, a shared cache below it, writers, and the channel between them, on one row.

The shared cache is taken as the other model proves it: while a marker stands there nobody fills it, and a release without its marker
removes what stands. Time is counted in ticks, of which ``max_staleness`` is one: what was acknowledged before the last tick but one has
to be seen by a read that goes to memory, and a PONG or a lease of before the last tick but one says nothing any more.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

Step = tuple[str, "State", "str | None"]
Process = tuple[Any, ...]

REMOTE, LOCAL, UNSEEN = "remote", "local", "unseen"
"""Writers of another process, of this one, and one without a hook, of whom a janitor tells."""
ENDED: Process = ("end",)
_NEW = 2
"""Of this tick; 1: of the last one; 0: too old."""


@dataclass(frozen=True)
class Memory:
    """How process memory is kept true; the fields below ``shared`` are defects."""

    channel: bool = True
    """Whether writers publish; without, what is filled is believed from its lease on for a while."""
    with_commit: bool = False
    """A message comes with the commit, as by NOTIFY, and not with the mark."""
    shared: bool = True
    """Whether there is a shared cache below."""
    flushes_early: bool = False
    """Memory is flushed before it is subscribed again, not after."""
    never_flushes: bool = False
    ignores_gaps: bool = False
    """Memory is not flushed where the numbers of what was heard show that a message is missing."""
    ignores_silence: bool = False
    """Memory is believed without a PONG."""
    pong_counts: bool = False
    """Silence is counted from the PONG, not from its PING."""
    spares_leases: bool = False
    """A message leaves leases alone."""
    spares_markers: bool = False
    """A message leaves this process's own markers alone, so that their values follow."""
    publishes_first: bool = False
    """A mark is published before it is set."""
    publishes_late: bool = False
    """Only the release publishes."""
    lost_unpublished: bool = False
    """A release that has lost its marker does not publish."""
    janitor_silent: bool = False
    fills_past_markers: bool = False
    """What was read past a marker of the shared cache fills memory."""
    counts_from_fill: bool = False
    """Without a channel: what is filled is believed from the fill on."""
    believes_for_ever: bool = False


class Faults(NamedTuple):
    """How many of each may happen."""

    cuts: int = 0
    losses: int = 0
    crashes: int = 0
    rollbacks: int = 0
    ticks: int = 2
    reads: int = 1
    """How many more a reader may begin."""
    drops: int = 0
    """Of messages, though the connection stands."""


class State(NamedTuple):
    """All there is."""

    db: int
    acknowledged: int
    own: int
    """What a writer of this process was told to have written."""
    recent: int
    """What was acknowledged at the last tick."""
    bound: int
    """What was acknowledged at the last tick but one."""
    lock: int | None
    shared: Process | None
    memory: Process | None
    leases: frozenset[int]
    linked: bool
    listening: bool
    stream: tuple[Process, ...]
    """What the server has sent."""
    fresh: int
    processes: tuple[Process, ...]
    faults: Faults
    missing: bool = False
    """Whether a message was dropped that was sent before what was heard last, which its number will show."""

    def at(self, place: int, process: Process, **changes: Any) -> "State":
        """Give the state after a step of one process."""
        processes = (*self.processes[:place], process, *self.processes[place + 1 :])
        return self._replace(processes=processes, **changes)

    def sent(self, *message: Any) -> tuple[Process, ...]:
        """Give the stream with one thing more, where there is a connection."""
        return (*self.stream, message) if self.linked else self.stream


def starts(way: Memory, writers: tuple[str, ...], faults: Faults) -> Iterator[State]:
    """Give states in which nothing has begun: that of a new process, and one in which memory has the row."""
    processes = (("reader", "check"), *(("writer", "begin", kind) for kind in writers))
    new = State(0, 0, 0, 0, 0, None, ("V", 0) if way.shared else None, None, frozenset(), False, False, (), 0, processes, faults)
    yield new
    yield new._replace(memory=("V", 0, _NEW), linked=way.channel, listening=way.channel, fresh=_NEW if way.channel else 0)


class Machine:
    """One way to keep memory true, in motion."""

    def __init__(self, way: Memory) -> None:
        self.way = way

    def steps(self, s: State) -> Iterator[Step]:
        """Give all that may happen next."""
        for place, process in enumerate(s.processes):
            if process != ENDED:
                yield from getattr(self, f"_{process[0]}_{process[1]}")(s, place, *process[2:])
        if s.processes[0] == ENDED and s.faults.reads:
            yield "one more read", s.at(0, ("reader", "check"), faults=_less(s.faults, "reads")), None
        if self.way.channel:
            yield from self._connection(s)
        if s.faults.ticks:
            yield "a tick", self._ticked(s), None
        if s.shared is None and self.way.shared:
            yield "another process fills the cache", s._replace(shared=("V", s.db)), None
        if s.faults.losses and s.shared:
            yield "the cache loses it", s._replace(shared=None, faults=_less(s.faults, "losses")), None

    def _ticked(self, s: State) -> State:
        memory = (*s.memory[:2], max(s.memory[2] - 1, 0)) if s.memory else None
        stream = tuple(("pong", max(item[1] - 1, 0)) if item[0] == "pong" else item for item in s.stream)
        processes = tuple((*p[:-1], max(p[-1] - 1, 0)) if p[:2] in (("reader", "below"), ("reader", "fill")) else p for p in s.processes)
        return s._replace(
            bound=s.recent,
            recent=s.acknowledged,
            fresh=max(s.fresh - 1, 0),
            memory=memory,
            stream=stream,
            processes=processes,
            faults=_less(s.faults, "ticks"),
        )

    # -- the channel ------------------------------------------------------------------------------

    def _connection(self, s: State) -> Iterator[Step]:
        if not s.listening:
            yield "subscribes", s._replace(linked=True, listening=True, stream=(("confirmed",),)), None
        elif not s.linked:
            noticed = s._replace(listening=False)
            yield "notices the cut", self._flushed(noticed) if self.way.flushes_early else noticed, None
        elif ("confirmed",) not in s.stream and not any(item[0] == "pong" for item in s.stream):
            yield "PING", s._replace(stream=s.sent("pong", _NEW)), None
        if s.stream:
            yield f"hears {s.stream[0][0]}", self._heard(s._replace(stream=s.stream[1:]), *s.stream[0]), None
        if s.stream and s.stream[0][0] == "message" and s.faults.drops:
            dropped = s._replace(stream=s.stream[1:], missing=True, faults=_less(s.faults, "drops"))
            yield "a message is dropped", dropped, None
        if s.linked and s.faults.cuts:
            yield "the connection is cut", s._replace(linked=False, stream=(), faults=_less(s.faults, "cuts")), None

    def _heard(self, s: State, what: str, level: int = 0) -> State:
        if s.missing and not self.way.ignores_gaps:
            s = self._flushed(s)._replace(missing=False)
        if what == "pong":
            return s._replace(fresh=_NEW if self.way.pong_counts else max(s.fresh, level))
        if what == "confirmed":
            return s if self.way.flushes_early or self.way.never_flushes else self._flushed(s)
        return self._flushed(s, spares=True)

    def _flushed(self, s: State, *, spares: bool = False) -> State:
        memory = s.memory if s.memory and s.memory[0] == "W" else None
        if memory and not (self.way.spares_markers and spares):
            memory = ("W", "joined", memory[2])
        return s._replace(memory=memory, leases=s.leases if self.way.spares_leases and spares else frozenset())

    # -- readers ----------------------------------------------------------------------------------

    def _reader_check(self, s: State, place: int) -> Iterator[Step]:
        if self.way.channel and not s.fresh and not self.way.ignores_silence:
            yield f"r{place} passes memory by", s.at(place, ENDED), None
        else:
            yield f"r{place} begins", s.at(place, ("reader", "look", s.bound, s.own)), None

    def _reader_look(self, s: State, place: int, bound: int, own: int) -> Iterator[Step]:
        if s.memory and s.memory[0] == "V" and (s.memory[2] or self.way.channel or self.way.believes_for_ever):
            yield f"r{place} hits {s.memory[1]}", s.at(place, ENDED), _judged(s.memory[1], bound, own)
        elif s.memory and s.memory[0] == "W":
            yield f"r{place} meets a marker", s.at(place, ENDED), None
        else:
            yield f"r{place} leases", s.at(place, ("reader", "below", _NEW), memory=None, leases=s.leases | {place}), None

    def _reader_below(self, s: State, place: int, level: int) -> Iterator[Step]:
        if s.shared and s.shared[0] == "V":
            yield f"r{place} has {s.shared[1]} of the cache", s.at(place, ("reader", "fill", s.shared[1], level)), None
        elif s.shared is None or self.way.fills_past_markers:
            yield f"r{place} reads {s.db}", s.at(place, ("reader", "fill", s.db, level)), None
        else:
            yield f"r{place} meets a marker below", s.at(place, ENDED, leases=s.leases - {place}), None

    def _reader_fill(self, s: State, place: int, value: int, level: int) -> Iterator[Step]:
        level = _NEW if self.way.counts_from_fill else level
        memory = ("V", value, level) if place in s.leases else s.memory
        yield f"r{place} fills", s.at(place, ENDED, memory=memory, leases=s.leases - {place}), None

    # -- writers ----------------------------------------------------------------------------------

    def _writer_begin(self, s: State, place: int, kind: str) -> Iterator[Step]:
        if s.lock is None:
            after = {REMOTE: "mark" if self.way.shared else "commit", LOCAL: "hide", UNSEEN: "commit"}[kind]
            after = "publish" if self.way.publishes_first and kind == REMOTE else after
            yield f"w{place} updates", s.at(place, ("writer", after, kind, s.db + 1), lock=place), None

    def _writer_hide(self, s: State, place: int, kind: str, value: int) -> Iterator[Step]:
        after = "mark" if self.way.shared else "commit"
        hidden = s.at(place, ("writer", after, kind, value), memory=("W", "sole", _NEW), leases=frozenset())
        yield f"w{place} marks memory", hidden, None

    def _writer_publish(self, s: State, place: int, kind: str, value: int) -> Iterator[Step]:
        yield f"w{place} publishes", s.at(place, ("writer", "mark", kind, value), stream=s.sent("message")), None

    def _writer_mark(self, s: State, place: int, kind: str, value: int) -> Iterator[Step]:
        others = s.shared[1] if s.shared and s.shared[0] == "W" else frozenset()
        silent = kind == LOCAL or self.way.with_commit or self.way.publishes_first or self.way.publishes_late
        stream = s.stream if silent else s.sent("message")
        yield f"w{place} marks", s.at(place, ("writer", "commit", kind, value), shared=("W", others | {place}), stream=stream), None
        yield from self._crashed(s, place, kind)

    def _crashed(self, s: State, place: int, kind: str) -> Iterator[Step]:
        if s.faults.crashes and kind == REMOTE:
            lock = None if s.lock == place else s.lock
            yield f"w{place} crashes", s.at(place, ENDED, lock=lock, faults=_less(s.faults, "crashes")), None

    def _writer_commit(self, s: State, place: int, kind: str, value: int) -> Iterator[Step]:
        stream = s.sent("message") if self.way.with_commit and kind != LOCAL else s.stream
        done = s.at(place, ("writer", "release", kind, value, True), lock=None, db=value, stream=stream)
        yield f"w{place} commits {value}", done, None
        if s.faults.rollbacks and kind != UNSEEN:
            undone = ("writer", "release", kind, value, False)
            yield f"w{place} rolls back", s.at(place, undone, lock=None, faults=_less(s.faults, "rollbacks")), None
        yield from self._crashed(s, place, kind)

    def _writer_release(self, s: State, place: int, kind: str, value: int, committed: bool) -> Iterator[Step]:
        after = ("writer", "show" if kind == LOCAL else "return", kind, value, committed)
        if kind == UNSEEN:
            stream = s.stream if self.way.janitor_silent or not self.way.shared else s.sent("message")
            yield "janitor", s.at(place, after, shared=_invalidated(s.shared), stream=stream), None
            return
        held = s.shared is not None and s.shared[0] == "W" and place in s.shared[1]
        publishes = self.way.publishes_late if held else committed and self.way.shared and not self.way.lost_unpublished
        stream = s.sent("message") if publishes else s.stream
        yield f"w{place} releases", s.at(place, after, shared=_released(s.shared, place, value, committed), stream=stream), None
        yield from self._crashed(s, place, kind)

    def _writer_show(self, s: State, place: int, kind: str, value: int, committed: bool) -> Iterator[Step]:
        assert s.memory
        exact = committed and s.memory[1] == "sole"
        memory = ("V", value, _NEW if self.way.counts_from_fill else s.memory[2]) if exact else None
        yield f"w{place} shows it", s.at(place, ("writer", "return", kind, value, committed), memory=memory), None

    def _writer_return(self, s: State, place: int, kind: str, value: int, committed: bool) -> Iterator[Step]:
        told = max(s.acknowledged, value) if committed else s.acknowledged
        own = max(s.own, value) if committed and kind == LOCAL else s.own
        yield f"w{place} returns", s.at(place, ENDED, acknowledged=told, own=own), None


def _released(shared: Process | None, place: int, value: int, committed: bool) -> Process | None:
    if shared is None or shared[0] == "V":
        return None if committed else shared
    if place not in shared[1]:
        return shared
    if shared == ("W", frozenset([place])) and committed:
        return ("V", value)
    rest = shared[1] - {place}
    return ("W", rest, "joined") if rest else None


def _invalidated(shared: Process | None) -> Process | None:
    return ("W", shared[1], "joined") if shared and shared[0] == "W" else None


def _judged(value: int, bound: int, own: int) -> str | None:
    if value < bound:
        return "stale beyond the bound"
    return "own write missed" if value < own else None


def _less(faults: Faults, name: str) -> Faults:
    return faults._replace(**{name: getattr(faults, name) - 1})
