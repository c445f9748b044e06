"""What a race is run with."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from tests.race.failpoints import Odds

PROTOCOLS: Final = ("strict", "fast", "naive", "naive-delete")
FAULTS: Final = ("kill", "stop", "freeze", "evict", "flush", "restart", "oom", "drop", "delay", "cut", "lose", "failover", "reshard")
ON_UNREACHABLE: Final = ("outbox", "commit", "abort")
READS: Final = ("store", "sessions", "awaited")
MEMORIES: Final = ("channel", "bounded", "postgresql")
UNREACHABLE: Final = frozenset({"freeze", "restart", "oom", "drop", "failover"})
"""Faults that keep writers from marking."""

THINK_SECONDS: Final = 0.02
DRAIN_SECONDS: Final = 0.02
_READ_ON: Final = 2 * 10**9
_FOR_EVER: Final = 10**18


class Job(NamedTuple):
    """What every process of a race is told."""

    folder: Path
    cache: str
    database: str
    namespace: str
    protocol: str
    keys: int
    session_keys: int
    """How many of them, the first ones, are written by sessions; the rest by puts."""
    odds: Odds
    seed: int
    outbox: bool = False
    on_unreachable: str | None = None
    reads: str = "store"
    """By what is read: the store, sessions that read through it, or either of them awaited."""
    readers: int = 2
    """Threads that read, beside the one that writes."""
    releases: int = 1
    """How many releases of the application run at the same time."""
    memory: str | None = None
    """What keeps the process memory true that each process has above the cache; ``None`` where it has none."""
    max_staleness: float = 1.0
    """For how many seconds that memory may be behind."""
    strict_reads: bool = False
    """Whether every other read asks for more than that."""
    mutation: str | None = None
    """A defence that the processes do without."""
    ways: Mapping[str, int] | None = None
    """The ways to write, with their weights; all of them by default."""
    think: float = THINK_SECONDS
    """The longest pause of a writer after each transaction, in seconds."""
    drain_every: float = DRAIN_SECONDS
    """The seconds between two looks of the janitor."""

    def end_at(self, end: int) -> None:
        """Tell all processes when to stop, by the machine's monotonic clock in nanoseconds."""
        path = self.folder / "end"
        path.with_suffix(".new").write_bytes(end.to_bytes(8, "big"))
        path.with_suffix(".new").rename(path)

    def nanoseconds_left(self) -> int:
        """Tell how long to go on; for ever, until it was told."""
        try:
            end = int.from_bytes((self.folder / "end").read_bytes(), "big")
        except FileNotFoundError:
            return _FOR_EVER
        return end - time.monotonic_ns()

    @property
    def is_over(self) -> bool:
        """Whether to stop."""
        return self.nanoseconds_left() <= 0

    @property
    def is_written(self) -> bool:
        """Whether to write no more: where there is memory, readers go on for a while, so that it holds something at rest."""
        return self.nanoseconds_left() <= (_READ_ON if self.memory else 0)

    def is_ready(self, slot: int) -> bool:
        """Whether a process has begun."""
        return (self.folder / f"{slot}.ready").exists()

    def ready(self, slot: int) -> None:
        """Tell that a process has begun."""
        (self.folder / f"{slot}.ready").touch()

    def rest(self, slot: int) -> None:
        """Tell that a process has stopped, and still has its memory."""
        (self.folder / f"{slot}.rest").touch()

    def is_resting(self, slot: int) -> bool:
        """Whether a process has stopped."""
        return (self.folder / f"{slot}.rest").exists()

    def look(self) -> None:
        """Let all that rest tell what they hold, and end."""
        (self.folder / "look").touch()

    @property
    def is_looked_at(self) -> bool:
        """Whether to tell what is held; also when there is nobody to be told any more."""
        return (self.folder / "look").exists() or not self.folder.exists()

    @property
    def is_naive(self) -> bool:
        """Whether the protocol is none of the library's."""
        return self.protocol.startswith("naive")
