"""What a race is run with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from tests.race.failpoints import Odds

PROTOCOLS: Final = ("strict", "fast", "naive", "naive-delete")
FAULTS: Final = ("kill", "stop", "freeze", "evict", "flush", "restart", "oom", "drop", "delay")
ON_UNREACHABLE: Final = ("outbox", "commit", "abort")
UNREACHABLE: Final = frozenset({"freeze", "restart", "oom", "drop"})
"""Faults that keep writers from marking."""


class Job(NamedTuple):
    """What every process of a race is told."""

    folder: Path
    cache: str
    database: str
    namespace: str
    protocol: str
    keys: int
    until: int
    """When to stop, by the machine's monotonic clock in nanoseconds."""
    odds: Odds
    seed: int
    outbox: bool = False
    on_unreachable: str | None = None
    readers: int = 2
    """Threads that read, beside the one that writes."""
    releases: int = 1
    """How many releases of the application run at the same time."""
    mutation: str | None = None
    """A defence that the processes do without."""
    ways: Mapping[str, int] | None = None
    """The ways to write, with their weights; all of them by default."""

    @property
    def is_naive(self) -> bool:
        """Whether the protocol is none of the library's."""
        return self.protocol.startswith("naive")
