"""What a cache tier could not be told while it was out of reach."""

import time
from collections.abc import Hashable, Mapping, Sequence
from contextvars import Context, copy_context
from typing import Final, NamedTuple, Protocol

from stockstore.errors import StockstoreError

RETRY_SECONDS: Final = 1.0
LIMIT: Final = 10_000
"""Keys remembered per class and namespace; above that the whole class is cleared instead."""

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
        self._debts: dict[tuple[type, Hashable], _Debt] = {}
        self._retry_at = 0.0

    def add(self, cls: type, keys: Sequence[Mapping[str, object]]) -> None:
        """Remember keys of a class, and try to deliver at once."""
        debt = self._debts.get((cls, self._tier.partition))
        known = [*keys] if debt is None else [*debt.keys, *keys]
        cleared = debt is not None and not debt.keys
        self._debts[cls, self._tier.partition] = _Debt(copy_context(), [] if cleared or len(known) > LIMIT else known)
        self._retry_at = 0.0
        self.settled(cls)

    def settled(self, cls: type) -> bool:
        """Whether the tier holds nothing old of this class; delivers what it can first, once a second."""
        if not self._debts:
            return True
        debt = self._debts.get((cls, self._tier.partition))
        if debt is not None and _now() >= self._retry_at:
            self._deliver(cls, debt)
        return (cls, self._tier.partition) not in self._debts

    def _deliver(self, cls: type, debt: _Debt) -> None:
        try:
            debt.context.copy().run(self._delete, cls, debt.keys)
        except StockstoreError:
            self._retry_at = _now() + RETRY_SECONDS
        else:
            place = (cls, self._tier.partition)
            if self._debts.get(place) is debt:
                del self._debts[place]

    def _delete(self, cls: type, keys: Sequence[Mapping[str, object]]) -> None:
        if keys:
            self._tier.batch_delete(cls, keys)
        else:
            self._tier.clear(cls)
