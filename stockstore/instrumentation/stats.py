"""Counters of a store, and the immutable snapshot of them that users see."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

_unasked: Final = ContextVar("stockstore.unasked", default=False)


@contextmanager
def unasked() -> Iterator[None]:
    """Count no hits and misses in here: what is read is read for no caller."""
    token = _unasked.set(True)
    try:
        yield
    finally:
        _unasked.reset(token)


@dataclass(frozen=True)
class Stats:
    """What a store has counted since it was made.

    Attributes:
        name: The store, without passwords.
        hits: Reads that it answered with an object.
        misses: Reads that it could not answer.
        puts: Objects written, fills included.
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

    @property
    def hit_ratio(self) -> float:
        """Hits per read, 0.0 before the first read."""
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
        )
