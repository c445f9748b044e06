"""What a tier could not be told while it was out of reach."""

import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, Generic, NamedTuple, TypeAlias, TypeVar

from stockstore.keys import keys_of
from stockstore.locks import fork_safe_lock

RETRY_SECONDS: Final = 1.0
LIMIT: Final = 10_000
"""Items remembered per class and namespace; above that the class is dropped whole."""

K = TypeVar("K")
V = TypeVar("V")
Tell: TypeAlias = Callable[[Mapping[K, V] | None], object]
"""Tells the tier of items, or with ``None`` of the whole class."""
_Place: TypeAlias = tuple[type, str]

_now = time.monotonic


class _Debt(NamedTuple, Generic[K, V]):
    """What is owed for a class; ``None`` for all of it."""

    tell: Tell[K, V]
    items: dict[K, V] | None


class Recovery(Generic[K, V]):
    """Removals that one tier has still to be told of; it is not to be read for their classes until it was.

    A thread of its own tries once a second for as long as there are any: who wrote may never ask for these classes
    again, and other processes read the tier.
    """

    def __init__(self) -> None:
        """Owe nothing."""
        self._debts: dict[_Place, _Debt[K, V]] = {}
        self._payer = 0
        """The process whose thread is at work on the debts; 0 for none."""
        self._retry_at = 0.0
        self._lock = fork_safe_lock()

    def add(self, cls: type, partition: str, items: Mapping[K, V] | None, tell: Tell[K, V]) -> None:
        """Remember items of a class, ``None`` for the whole class, and try to tell at once, unless that has just failed."""
        place = (cls, partition)
        with self._lock:
            debt = self._debts.get(place)
            known = {} if debt is None else debt.items
            both = None if items is None or known is None else {**known, **items}
            self._debts[place] = _Debt(tell, both if both is not None and len(both) <= LIMIT else None)
        try:
            self.settled(cls, partition)
        finally:
            self._start_paying()

    def settled(self, cls: type, partition: str) -> bool:
        """Whether nothing is owed for a class; tells what it can first, once a second."""
        if not self._debts:
            return True
        for place in self._places(cls, partition):
            debt = self._debts.get(place)
            if debt is not None:
                self._pay(place, debt)
        return not self._places(cls, partition)

    def pay(self) -> bool:
        """Tell what can be told, and say whether anything is left; the thread ends where nothing is."""
        for place, debt in list(self._debts.items()):
            self._pay(place, debt)
        with self._lock:
            if not self._debts:
                self._payer = 0
            return bool(self._debts)

    def _start_paying(self) -> None:
        with self._lock:
            # A forked process has no thread of its parent's.
            starts = bool(self._debts) and self._payer != os.getpid()
            if starts:
                self._payer = os.getpid()
        if starts:
            # Too late, where the interpreter is about to end.
            with suppress(RuntimeError):
                threading.Thread(target=_keep_paying, args=[weakref.ref(self)], name="stockstore recovery", daemon=True).start()

    def owes(self) -> bool:
        """Whether anything is owed."""
        return bool(self._debts)

    def _places(self, cls: type, partition: str) -> list[_Place]:
        keys_of(cls)
        return [place for place in list(self._debts) if place[1] == partition and _may_share(place[0], cls)]

    def _pay(self, place: _Place, debt: _Debt[K, V]) -> None:
        """Tell, unless somebody has just tried to, or is at it: all who read would wait for the same time-out."""
        with self._lock:
            if _now() < self._retry_at:
                return
            self._retry_at = _now() + RETRY_SECONDS
        try:
            debt.tell(debt.items)
        except Exception:  # noqa: BLE001 - a tier may be anybody's class, and the origin has committed
            self._retry_at = _now() + RETRY_SECONDS
        else:
            with self._lock:
                self._retry_at = 0.0
                if self._debts.get(place) is debt:
                    del self._debts[place]


def _keep_paying(debtor: "weakref.ref[Recovery[K, V]]") -> None:
    owing = True
    while owing:
        time.sleep(RETRY_SECONDS)
        recovery = debtor()
        owing = recovery is not None and recovery.pay()
        # Not held while it sleeps: a store that nobody else has goes.
        del recovery


def _may_share(one: type, other: type) -> bool:
    """Whether a read of one class may find a record of the other."""
    return issubclass(one, other) or issubclass(other, one) or keys_of(one).identity is keys_of(other).identity
