"""What the processes of a race have seen and done: one file each, a record at a time, so that SIGKILL loses none."""

import os
import struct
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

RECORD: Final = struct.Struct("<BBIqqq")
READ, ATTEMPT, ACKNOWLEDGED, LATE, WRONG, COUNT, STRICT, MISSED = range(8)
ABSENT: Final = -(2**62)
"""The version of a read that found nothing."""

POINTS: Final = (
    "after flush",
    "after outbox",
    "mid-mark",
    "after mark",
    "inside commit",
    "after commit",
    "mid-release",
    "after release",
    "before lease",
    "after lease",
    "after read",
    "before fill",
    "before message",
)
"""Where a process may be killed or held up."""

_COUNTED: Final = (
    "hits",
    "misses",
    "bypasses",
    "leases refused",
    "fills",
    "fills refused",
    "memory hits",
    "memory misses",
    "memory bypasses",
    "messages heard",
    "messages lost",
    "marks",
    "releases",
    "writes attempted",
    "writes rolled back",
    "writes refused by the database",
    "writes refused by the cache",
    "reads refused by the database",
    "reads refused by the cache",
)
NAMES: Final = (*_COUNTED, *(f"kill {point}" for point in POINTS), *(f"pause {point}" for point in POINTS))
_INDEX: Final = {name: at for at, name in enumerate(NAMES)}


class Change(NamedTuple):
    """A new version of a register; ``absent`` where there is no object any more."""

    register: int
    version: int
    absent: bool = False


class Record(NamedTuple):
    """One line of a log; times are nanoseconds of the machine's monotonic clock.

    Attributes:
        kind: What it is.
        absent: Of a write, whether there is no object afterwards; of a read, whether it was by another key.
        register: The key; of a count, its name.
        version: The version; of a count, the number.
        start: When it began, or the COMMIT was sent.
        end: When it was over.
    """

    kind: int
    absent: int
    register: int
    version: int
    start: int
    end: int


class Log:
    """Appends to the file of one process; its threads may share it."""

    def __init__(self, path: Path) -> None:
        """Open the file."""
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()

    def reads(self, found: Iterable[tuple[int, int]], start: int, end: int, *, aside: bool = False, kind: int = READ) -> None:
        """Note the versions that one call has given; ``aside``: of keys that were not asked for."""
        self._write(RECORD.pack(kind, aside, register, version, start, end) for register, version in found)

    def attempt(self, changes: Iterable[Change], start: int, *, late: bool = False) -> None:
        """Note that a COMMIT is about to be sent; of a late one nobody need hear before it is acknowledged."""
        self._write(RECORD.pack(LATE if late else ATTEMPT, c.absent, c.register, c.version, start, 0) for c in changes)

    def acknowledged(self, changes: Iterable[Change], start: int, end: int) -> None:
        """Note that the writer was told of its success."""
        self._write(RECORD.pack(ACKNOWLEDGED, c.absent, c.register, c.version, start, end) for c in changes)

    def wrong(self, register: int, start: int, end: int) -> None:
        """Note that a read gave another object than was asked for, or a mixture of two versions."""
        self._write([RECORD.pack(WRONG, 0, register, 0, start, end)])

    def missed(self, register: int, version: int, start: int, end: int) -> None:
        """Note that a read gave an older version than this process had written before."""
        self._write([RECORD.pack(MISSED, 0, register, version, start, end)])

    def count(self, name: str, number: int = 1) -> None:
        """Add to a count; kept in memory until :meth:`flush`."""
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + number

    def flush(self) -> None:
        """Write the counts."""
        with self._lock:
            counts, self._counts = self._counts, {}
        self._write(RECORD.pack(COUNT, 0, _INDEX[name], number, 0, 0) for name, number in counts.items() if number)

    def _write(self, records: Iterable[bytes]) -> None:
        data = b"".join(records)
        if data:
            os.write(self._file, data)


def records_in(path: Path) -> Iterator[Record]:
    """Give the records of a file; one that SIGKILL cut off is left out."""
    data = path.read_bytes()
    whole = len(data) - len(data) % RECORD.size
    return map(Record._make, RECORD.iter_unpack(memoryview(data)[:whole]))
