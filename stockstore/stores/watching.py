"""What a subclass's own verb does with the verb that it overrides, for the chain that asks for more than the verb tells."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stockstore.stores.outcome import BeforeCommit, Outcome
from stockstore.stores.snapshots import Snapshot

if TYPE_CHECKING:
    from stockstore.stores.base import Store


@dataclass
class Watch:
    """One call of an overridden verb: what to pass on to the verb below it, and what came back."""

    store: "Store"
    before_commit: BeforeCommit | None = None
    lifetimes: dict[int, float | None] = field(default_factory=dict)
    found: list[Snapshot] = field(default_factory=list)
    stored: dict[int, Snapshot] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)

    def note_found(self, snapshots: Sequence[Snapshot | None]) -> None:
        """Keep what was read."""
        self.found += [snapshot for snapshot in snapshots if snapshot is not None]

    def note_stored(self, objects: Sequence[object], outcome: Outcome) -> None:
        """Keep what was written for which object."""
        self.stored.update(zip(map(id, objects), outcome.snapshots, strict=True))
        self.outcomes.append(outcome)

    def outcome(self, count: int, snapshots: list[Snapshot]) -> Outcome:
        """Give a write's outcome, with what the verb below has done along with it."""
        others = [row for outcome in self.outcomes for row in outcome.others]
        swept = frozenset[type]().union(*(outcome.swept for outcome in self.outcomes))
        return Outcome(count, snapshots, others, swept, lists=[at for outcome in self.outcomes for at in outcome.lists])


_watch: ContextVar[Watch | None] = ContextVar("stockstore.watch", default=None)


@contextmanager
def watching(watch: Watch) -> Iterator[Watch]:
    """Watch one store while an overridden verb of it runs."""
    token = _watch.set(watch)
    try:
        yield watch
    finally:
        _watch.reset(token)


def watch_of(store: "Store") -> Watch | None:
    """Give the watch over a store, if there is one."""
    watch = _watch.get()
    return watch if watch is not None and watch.store is store else None
