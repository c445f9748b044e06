"""Counters of a store, and the immutable snapshot of them that users see."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

from stockstore.instrumentation.events import Kind

READS: Final = frozenset[Kind](("hit", "miss", "bypass"))
"""The events that tell of somebody's read."""

_unasked: Final = ContextVar("stockstore.unasked", default=False)


@contextmanager
def unasked() -> Iterator[None]:
    """Count no hits and misses in here: what is read is read for no caller."""
    token = _unasked.set(True)
    try:
        yield
    finally:
        _unasked.reset(token)


def is_unasked() -> bool:
    """Whether what is read now is read for no caller."""
    return _unasked.get()


@dataclass(frozen=True)
class Stats:
    """What a store has counted since it was made.

    Attributes:
        name: The store, without passwords.
        hits: Reads that it answered with an object.
        misses: Reads that it could not answer.
        bypasses: Reads that went past it although it may have had an answer, by the reason, such as ``"marked"``.
        puts: Objects written, fills included.
        fills: Objects that it kept of what a tier below had.
        refused_fills: Objects that it did not keep, since somebody else had to do with them meanwhile, or its server did not answer.
        deletes: Objects deleted.
        evictions: Objects dropped to make room.
        expirations: Entries found to have outlived their lifetime.
        errors: Failed operations of a server, and payloads that could not be decoded.
        tiers: The snapshots of a chain's tiers, from the top down; empty for a single store.
    """

    name: str = ""
    hits: int = 0
    misses: int = 0
    puts: int = 0
    deletes: int = 0
    evictions: int = 0
    expirations: int = 0
    errors: int = 0
    tiers: "tuple[Stats, ...]" = ()
    fills: int = 0
    refused_fills: int = 0
    bypasses: Mapping[str, int] = field(default_factory=dict, hash=False)

    @property
    def hit_ratio(self) -> float:
        """Hits per read that it was asked for, 0.0 before the first one."""
        reads = self.hits + self.misses
        return self.hits / reads if reads else 0.0


class Counters:
    """The running counts behind ``Stats``.

    They take no lock, which every reader and writer would meet at: the interpreter's own lock is not given away
    in the middle of an addition to an attribute, so they are exact under threads.
    """

    def __init__(self) -> None:
        """Start at zero."""
        self._hits = self._misses = self._puts = self._deletes = self._evictions = self._expirations = self._errors = 0
        self._fills = self._refused_fills = 0
        self._bypasses: defaultdict[str, int] = defaultdict(int)

    def add(
        self, *, hits: int = 0, misses: int = 0, puts: int = 0, deletes: int = 0, evictions: int = 0, expirations: int = 0, errors: int = 0
    ) -> None:
        """Add to counters by name."""
        if (hits or misses) and not _unasked.get():
            self._hits += hits
            self._misses += misses
        self._puts += puts
        self._deletes += deletes
        self._evictions += evictions
        self._expirations += expirations
        self._errors += errors

    def miss(self) -> None:
        """Count a miss as :meth:`add` does, in fewer steps."""
        if not _unasked.get():
            self._misses += 1

    def note(self, kind: Kind, count: int, reason: str = "") -> None:
        """Count what happened, if it is of a kind that is counted."""
        if kind == "fill":
            self._fills += count
        elif kind == "refused fill":
            self._refused_fills += count
        elif kind in READS and not _unasked.get():
            self._note_read(kind, count, reason)

    def _note_read(self, kind: Kind, count: int, reason: str) -> None:
        if kind == "hit":
            self._hits += count
        elif kind == "miss":
            self._misses += count
        else:
            self._bypasses[reason] += count

    def snapshot(self, name: str, tiers: tuple[Stats, ...] = (), hits: int = 0) -> Stats:
        """Give the counts as they are now, with hits that are counted elsewhere added."""
        return Stats(
            name=name,
            hits=self._hits + hits,
            misses=self._misses,
            puts=self._puts,
            deletes=self._deletes,
            evictions=self._evictions,
            expirations=self._expirations,
            errors=self._errors,
            tiers=tiers,
            fills=self._fills,
            refused_fills=self._refused_fills,
            bypasses=dict(self._bypasses),
        )
