"""What a cache tier could not be told while it was out of reach."""

import time
from collections.abc import Hashable, Mapping, Sequence
from contextvars import Context, copy_context
from typing import Final, NamedTuple, Protocol, TypeAlias

from stockstore.keys import keys_of
from stockstore.locks import fork_safe_lock

RETRY_SECONDS: Final = 1.0
LIMIT: Final = 10_000
"""Keys remembered per class and namespace; above that the whole class is cleared instead."""

_Place: TypeAlias = tuple[type, Hashable]

_now = time.monotonic


class Deletes(Protocol):
    """The verbs of a tier that make an old value unreadable."""

    @property
    def partition(self) -> Hashable:
        """What separates this caller's entries from others', such as a tenant."""

    def batch_delete(self, targets: type, keys: Sequence[Mapping[str, object]]) -> int:
        """Delete by keys."""

    def clear(self, cls: type) -> None:
        """Delete all of a class."""


class _Debt(NamedTuple):
    """Keys to delete, all of the class where there are none; the context knows the namespace they stand in."""

    context: Context
    keys: list[Mapping[str, object]]


class Owed:
    """Keys whose old value may still stand in one tier; the tier is bypassed for their class until it was told."""

    def __init__(self, tier: Deletes) -> None:
        """Owe nothing."""
        self._tier = tier
        self._debts: dict[_Place, _Debt] = {}
        self._retry_at = 0.0
        self._lock = fork_safe_lock()

    def add(self, cls: type, keys: Sequence[Mapping[str, object]]) -> None:
        """Remember keys of a class, or where there are none the whole class, and try to deliver at once, unless that has just failed."""
        place = (cls, self._tier.partition)
        with self._lock:
            debt = self._debts.get(place)
            known = [*keys] if debt is None else [*debt.keys, *keys]
            cleared = not keys or (debt is not None and not debt.keys)
            self._debts[place] = _Debt(copy_context(), [] if cleared or len(known) > LIMIT else known)
        # While a retry is due later, the tier is known to be out of reach: a put does not wait for its time-out again.
        self.settled(cls)

    def settled(self, cls: type) -> bool:
        """Whether the tier holds nothing old of this class; delivers what it can first, once a second."""
        if not self._debts:
            return True
        for place in self._places(cls):
            debt = self._debts.get(place)
            if debt is not None and _now() >= self._retry_at:
                self._deliver(place, debt)
        return not self._places(cls)

    def _places(self, cls: type) -> list[_Place]:
        keys_of(cls)
        partition = self._tier.partition
        return [place for place in list(self._debts) if place[1] == partition and _may_share(place[0], cls)]

    def _deliver(self, place: _Place, debt: _Debt) -> None:
        try:
            debt.context.copy().run(self._delete, place[0], debt.keys)
        except Exception:  # noqa: BLE001 - a tier may be anybody's class, and the origin has committed
            self._retry_at = _now() + RETRY_SECONDS
        else:
            with self._lock:
                if self._debts.get(place) is debt:
                    del self._debts[place]

    def _delete(self, cls: type, keys: Sequence[Mapping[str, object]]) -> None:
        if keys:
            self._tier.batch_delete(cls, keys)
        else:
            self._tier.clear(cls)


def _may_share(one: type, other: type) -> bool:
    """Whether a read of one class may find a record of the other."""
    return issubclass(one, other) or issubclass(other, one) or keys_of(one).identity is keys_of(other).identity
