"""Counters of a store, and the immutable snapshot of them that users see."""

from dataclasses import dataclass

from stockstore.locks import fork_safe_lock


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
    """The running counts behind ``Stats``, exact under threads."""

    def __init__(self) -> None:
        """Start at zero."""
        self._lock = fork_safe_lock()
        self._counts: dict[str, int] = {}

    def add(self, **counts: int) -> None:
        """Add to counters by name."""
        with self._lock:
            for name, count in counts.items():
                self._counts[name] = self._counts.get(name, 0) + count

    def snapshot(self, name: str, tiers: tuple[Stats, ...] = (), **more: int) -> Stats:
        """Give the counts as they are now, with others that are counted elsewhere added."""
        with self._lock:
            counts = dict(self._counts)
        for key, count in more.items():
            counts[key] = counts.get(key, 0) + count
        return Stats(name=name, tiers=tiers, **counts)
