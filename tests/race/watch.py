"""What the logs of a race say, also while it goes on."""

import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Final

from tests.race.checker import History, Verdict, histories, judge
from tests.race.log import ACKNOWLEDGED, ATTEMPT, LATE, RECORD, Record, records_in

_EVERY: Final = 0.25
_SHARE: Final = 3
"""A look waits for as many times as long as the last one took, so that it is no load."""


def judged(records: Iterable[Record], registers: int, bound: float) -> tuple[Verdict, list[History], dict[str, int]]:
    """Judge records; ``bound``: by how many seconds reads that are not strict may be behind."""
    found, counts, wrong = histories(records, registers)
    verdict = Verdict(int(bound * 1e9))
    for history in found:
        judge(history, verdict)
    for violation in wrong:
        verdict.add(violation)
    return verdict, found, counts


def all_records(folder: Path) -> Iterator[Record]:
    """Give what all processes have noted."""
    return (record for path in sorted(folder.glob("*.log")) for record in records_in(path))


def records_so_far(folder: Path) -> Iterator[Record]:
    """Give what is noted while processes go on: reads up to a moment, and no fewer writes than those may have seen.

    A file is read after another one, in which there may be a read meanwhile of what was written in the first.
    """
    until = {path: path.stat().st_size for path in folder.glob("*.log")}
    for path in sorted(folder.glob("*.log")):
        for number, record in enumerate(records_in(path), 1):
            if record.kind in {ATTEMPT, LATE, ACKNOWLEDGED} or number * RECORD.size <= until.get(path, 0):
                yield record


class Watch:
    """Looks again and again whether a race has shown anything of some sorts."""

    def __init__(self, folder: Path, registers: int, bound: float, sorts: Collection[str]) -> None:
        """Begin with nothing seen."""
        self._folder, self._registers, self._bound, self._sorts = folder, registers, bound, sorts
        self._next = 0.0

    def sees(self) -> bool:
        """Look, where it is time, and say whether there was any."""
        began = time.monotonic()
        if not self._sorts or began < self._next:
            return False
        verdict, _, _ = judged(records_so_far(self._folder), self._registers, self._bound)
        ended = time.monotonic()
        self._next = ended + max(_EVERY, _SHARE * (ended - began))
        return any(verdict.found[sort] for sort in self._sorts)
