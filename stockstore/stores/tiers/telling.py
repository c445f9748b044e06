"""What tiers tell hooks of the places of writes."""

from collections import Counter
from collections.abc import Iterable

from stockstore.coherence.protocol import Record
from stockstore.instrumentation import Kind, emit, listening
from stockstore.keys import KeyPlan


def tell_places(kind: Kind, store: object, records: Iterable[Record], classes: Iterable[KeyPlan] = (), reason: str = "") -> None:
    """Tell what was done to records, by their classes, and to whole classes."""
    if listening:
        for plan, count in Counter(plan for plan, _ in records).items():
            emit(kind, store, plan.label, count, reason)
        for plan in classes:
            emit(kind, store, plan.label, 1, reason or "class")


def tell_end(store: object, committed: bool, records: Iterable[Record], classes: Iterable[KeyPlan], kept: Iterable[Record]) -> None:
    """Tell that markers were taken away, and which records were kept behind them."""
    tell_places("release", store, records, classes, "committed" if committed else "rolled back")
    tell_places("keep", store, kept)
