"""What a race is asked for."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.race.failpoints import Odds
from tests.race.job import DRAIN_SECONDS, THINK_SECONDS, UNREACHABLE

_KILL: Final = 0.01
_PAUSE: Final = 0.004
_LOSE: Final = 0.02


@dataclass(frozen=True)
class Options:
    """What the user asked for."""

    seconds: float = 60.0
    processes: int = 8
    cache: str = "redis"
    database: str = "postgresql"
    protocol: str = "strict"
    faults: tuple[str, ...] = ()
    keys: int = 16
    reads: str = "store"
    memory: str | None = None
    max_staleness: float = 1.0
    strict_reads: bool = False
    on_unreachable: str | None = None
    outbox: bool = True
    releases: int = 1
    seed: int = 0
    mutation: str | None = None
    odds: Odds | None = None
    ways: Mapping[str, int] | None = None
    pauses: Mapping[str, float] = field(default_factory=dict)
    haste: float = 1.0
    """How many times as often as usual faults come."""
    think: float = THINK_SECONDS
    """The longest pause of a writer after each transaction, in seconds."""
    drain_every: float = DRAIN_SECONDS
    """The seconds between two looks of the janitor."""
    stop_at: tuple[str, ...] = ()
    """Sorts of wrong reads, with the first of which the race is over."""
    keep: Path | None = None
    """An empty folder for the logs, where they are wanted afterwards."""

    @property
    def has_outbox(self) -> bool:
        """Whether rows go to the outbox, and a janitor and a writer without a hook take part."""
        return self.outbox and not self.protocol.startswith("naive")

    @property
    def session_keys(self) -> int:
        """How many rows sessions write; a chain's put goes on where a cache cannot be marked, so it takes no part in races with such faults."""
        can_put = not self.protocol.startswith("naive") and not UNREACHABLE & set(self.faults) and self.ways is None
        return self.keys - (self.keys // 8 if can_put else 0)

    def chances(self) -> Odds:
        """Give the odds at the failpoints."""
        if self.odds is not None:
            return self.odds
        held_up = {"stop", "delay"} & set(self.faults)
        lose = _LOSE if "lose" in self.faults else 0.0
        return Odds(_KILL if "kill" in self.faults else 0.0, _PAUSE if held_up else 0.0, raised=self.pauses, lose=lose)


def seeded(seed: int | None) -> int:
    """Give a seed, a new one where none was given."""
    return random.SystemRandom().randrange(10**6) if seed is None else seed
