"""What several shards are, and have done, as one."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from stockstore.errors import ConfigurationError
from stockstore.stores.outcome import Outcome
from stockstore.stores.snapshots import Snapshot

T = TypeVar("T")


def one_of(kinds: set[T], complaint: str) -> T:
    """Give the one kind that all shards are of.

    Raises:
        ConfigurationError: There are several.
    """
    if len(kinds) > 1:
        raise ConfigurationError(f"the shards of a store are alike; {complaint}")
    return kinds.pop()


def each(steps: Iterable[Callable[[], T]]) -> list[T]:
    """Do every step; the first error is raised after the last."""
    done: list[T] = []
    errors: list[Exception] = []
    for step in steps:
        try:
            done.append(step())
        except Exception as error:  # noqa: BLE001, PERF203 - a shard may be anybody's class
            errors.append(error)
    if errors:
        raise errors[0]
    return done


def joined(parts: Sequence[Outcome], snapshots: list[Snapshot]) -> Outcome:
    """Give what several shards have done as one outcome, with these rows."""
    others = [row for part in parts for row in part.others]
    swept = frozenset[type]().union(*(part.swept for part in parts))
    return Outcome(sum(part.count for part in parts), snapshots, others, swept, lists=[at for part in parts for at in part.lists])
