"""The search through all states that one process's memory can come to."""

from collections import deque

from tests.model.memory import ENDED, Faults, Machine, Memory, State, starts
from tests.model.traces import trace_to


def at_rest(s: State, way: Memory) -> str | None:
    """Tell what is wrong where all have ended, and all that was sent was heard."""
    if not way.channel or s.stream or not (s.linked and s.listening) or any(process != ENDED for process in s.processes):
        return None
    if s.missing and not way.ignores_gaps:
        return None  # the answer to the next PING shows it
    return "stale at rest" if s.memory and s.memory[0] == "V" and s.memory[1] != s.db else None


def explore(way: Memory, writers: tuple[str, ...], faults: Faults, *, until: str | None = None) -> dict[str, list[str]]:
    """Give each sort of violation that can happen, with a shortest trace to it; no more of them once that one is found."""
    machine, found = Machine(way), dict[str, list[str]]()
    waiting = deque(starts(way, writers, faults))
    origin: dict[State, tuple[State, str] | None] = dict.fromkeys(waiting)
    while waiting and until not in found:
        state = waiting.popleft()
        if wrong := at_rest(state, way):
            found.setdefault(wrong, trace_to(origin, state))
        for label, after, violation in machine.steps(state):
            if violation:
                found.setdefault(violation, [*trace_to(origin, state), label])
            if after not in origin:
                origin[after] = (state, label)
                waiting.append(after)
    return found
