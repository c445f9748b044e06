"""Judges the history of each register: a key, and the versions that were written and read under it.

A read from ``start`` to ``end`` that gave version v is right if and only if v is no older than what was acknowledged before
``start``, no older than what any read saw that ended before ``start``, and its commit was attempted before ``end``.
Where process memory may be behind by some seconds, it is right as well if all that it missed was known for no longer than that.
A read that found nothing saw the oldest deletion that fits. What a read by one key shows of the other one binds the reads that
follow, and is judged by its own key alone.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tests.race.log import ABSENT, ACKNOWLEDGED, ATTEMPT, COUNT, LATE, MISSED, NAMES, READ, STRICT, Record

STALE, NON_LINEARIZABLE, DIRTY, WRONG_OBJECT = "stale after acknowledgement", "non-linearizable", "dirty", "wrong object"
STALE_BEYOND, NON_LINEARIZABLE_BEYOND = "stale beyond the bound", "non-linearizable beyond the bound"
STRICT_WRONG, OWN_MISSED = "strict reads behind", "own writes missed"
SORTS: Final = (STALE, NON_LINEARIZABLE, DIRTY, WRONG_OBJECT, OWN_MISSED)
BOUNDED_SORTS: Final = (STALE_BEYOND, NON_LINEARIZABLE_BEYOND, STRICT_WRONG)
AT_REST_SORTS: Final = ("stale at rest", "lost writes", "markers left")
_NEVER: Final = 2**63 - 1
_EXAMPLES: Final = 20


class Violation(NamedTuple):
    """A read that is not right; ``floor`` is the version that it should have seen, known for ``age`` nanoseconds."""

    sort: str
    register: int
    version: int
    floor: int
    start: int
    end: int
    age: int

    def __str__(self) -> str:
        """Tell it in a line."""
        late = f", {self.age / 1e6:.1f} ms after the first newer one was" if self.age else ""
        return f"{self.sort}: register {self.register}, version {self.version} read where {self.floor} was known{late} (at {self.start}..{self.end})"


class History:
    """What happened under one key; it starts with a version that all have."""

    def __init__(self, register: int, first: int = 1) -> None:
        """Begin with the first version, present."""
        self.register = register
        self.starts, self.ends, self.versions, self.aside, self.strict = array("q"), array("q"), array("q"), array("b"), array("b")
        self.attempts = {first: -1}
        self.acknowledged = [(-1, first)]
        self.deletions: set[int] = set()
        self.late: dict[int, int] = {}
        """When what is written past the hook has to be known to all."""

    def add(self, record: Record) -> None:
        """Take a record of this register."""
        if record.kind in {READ, STRICT}:
            self.starts.append(record.start)
            self.ends.append(record.end)
            self.versions.append(record.version)
            self.aside.append(record.absent)
            self.strict.append(record.kind == STRICT)
        else:
            self._write(record)

    def _write(self, record: Record) -> None:
        if record.absent:
            self.deletions.add(record.version)
        if record.kind == ACKNOWLEDGED:
            self.acknowledged.append((record.end, record.version))
            if record.version in self.late:
                self.late[record.version] = record.end
            return
        self.attempts[record.version] = min(record.start, self.attempts.get(record.version, _NEVER))
        if record.kind == LATE:
            self.late[record.version] = _NEVER

    def newest(self) -> int:
        """Give the last version that was acknowledged."""
        return max(version for _, version in self.acknowledged)

    def twice(self) -> int:
        """Count the versions that two writers were told to be theirs: one of the two is lost."""
        return len(self.acknowledged) - len({version for _, version in self.acknowledged})


@dataclass
class Verdict:
    """What was found in one or all histories."""

    bound: int = 0
    """By how many nanoseconds a read that is not strict may be behind."""
    reads: int = 0
    strict_reads: int = 0
    found: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*SORTS, *BOUNDED_SORTS), 0))
    ages: "array[int]" = field(default_factory=lambda: array("q"))
    """Of each stale read, the nanoseconds since the acknowledgement of the first version that it missed."""
    examples: list[Violation] = field(default_factory=list)

    def add(self, violation: Violation) -> None:
        """Count a violation."""
        self.found[violation.sort] += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(violation)

    def behind(self, violation: Violation, known: int, *, strict: bool) -> None:
        """Count a read that was behind what was ``known`` for some nanoseconds, and a violation if that is more than it may be."""
        if violation.sort == STALE:
            self.ages.append(violation.age)
        if not self.bound:
            self.add(violation)
            return
        self.found[violation.sort] += 1
        if strict:
            self.add(violation._replace(sort=STRICT_WRONG))
        elif known > self.bound:
            self.add(violation._replace(sort=STALE_BEYOND if violation.sort == STALE else NON_LINEARIZABLE_BEYOND, age=known))

    def percentile(self, share: float) -> int:
        """Give by how many nanoseconds that share of the reads that are not strict was behind at the most."""
        over = int((1 - share) * (self.reads - self.strict_reads))
        return sorted(self.ages, reverse=True)[over] if over < len(self.ages) else 0


def judge(history: History, verdict: Verdict) -> None:
    """Add what is wrong in a history, by one sweep over its reads in the order of their starts."""
    starts, ends, resolved = history.starts, history.ends, array("q", history.versions)
    verdict.reads += len(starts) - sum(history.aside)
    verdict.strict_reads += sum(history.strict)
    order = sorted(range(len(starts)), key=starts.__getitem__)
    shown = _shown(history)
    published = sorted(range(len(starts)), key=shown.__getitem__)
    ages, floors = _floors(history.acknowledged)
    deletions = sorted(history.deletions)
    seen, at, last = -1, 0, len(published)
    sights, sighted = [-1], [-1]
    for index in order:
        start, end = starts[index], ends[index]
        while at < last and shown[published[at]] < start:
            if resolved[published[at]] > seen:
                seen = resolved[published[at]]
                sights.append(shown[published[at]])
                sighted.append(seen)
            at += 1
        # The first version was there before all reads.
        acknowledged = floors[bisect_left(ages, start) - 1]
        floor = max(acknowledged, seen)
        version = resolved[index]
        if version == ABSENT:
            version = resolved[index] = _deletion(history, deletions, floor, end)
        dirty = version < 0 or history.attempts.get(version, _NEVER) >= end
        if dirty:
            resolved[index] = -1
        if history.aside[index]:
            continue
        if dirty:
            verdict.add(Violation(DIRTY, history.register, version, floor, start, end, 0))
        elif version < floor:
            told = start - ages[bisect_right(floors, version)] if version < acknowledged else 0
            known = max(told, start - sights[bisect_right(sighted, version)] if version < seen else 0)
            sort = STALE if version < acknowledged else NON_LINEARIZABLE
            violation = Violation(sort, history.register, version, floor, start, end, told or known)
            verdict.behind(violation, known, strict=bool(history.strict[index]))


def _shown(history: History) -> Sequence[int]:
    """Give from when on what each read saw binds the others."""
    if not history.late:
        return history.ends
    return array("q", (max(end, history.late.get(version, 0)) for end, version in zip(history.ends, history.versions, strict=True)))


def _floors(acknowledged: Iterable[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Give the times at which the newest acknowledged version rose, and to what."""
    times: list[int] = []
    floors: list[int] = []
    for time, version in sorted(acknowledged):
        if not floors or version > floors[-1]:
            times.append(time)
            floors.append(version)
    return times, floors


def _deletion(history: History, deletions: list[int], floor: int, end: int) -> int:
    """Give the oldest deletion that a read which found nothing may have seen, else the newest that it can have seen, else -1."""
    at = bisect_left(deletions, floor)
    if at < len(deletions) and history.attempts.get(deletions[at], _NEVER) < end:
        return deletions[at]
    return next((version for version in reversed(deletions[:at]) if history.attempts.get(version, _NEVER) < end), -1)


def histories(records: Iterable[Record], registers: int) -> tuple[list[History], dict[str, int], list[Violation]]:
    """Sort records by their registers, and give the counts and the wrong objects besides."""
    by_register = [History(register) for register in range(registers)]
    counts: dict[str, int] = {}
    wrong: list[Violation] = []
    for record in _writes_in_order(records, by_register):
        if record.kind == COUNT:
            counts[NAMES[record.register]] = counts.get(NAMES[record.register], 0) + record.version
        else:
            sort = OWN_MISSED if record.kind == MISSED else WRONG_OBJECT
            wrong.append(Violation(sort, record.register, record.version, 0, record.start, record.end, 0))
    return by_register, counts, wrong


def _writes_in_order(records: Iterable[Record], by_register: list[History]) -> Iterator[Record]:
    """Hand records to their registers, acknowledgements last, and give those that belong to none."""
    acknowledgements = []
    for record in records:
        if record.kind in {READ, STRICT, ATTEMPT, LATE}:
            by_register[record.register].add(record)
        elif record.kind == ACKNOWLEDGED:
            acknowledgements.append(record)
        else:
            yield record
    for record in acknowledgements:
        by_register[record.register].add(record)
