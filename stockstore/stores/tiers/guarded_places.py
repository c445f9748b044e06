"""Where writes stand in a cache store of any kind."""

from collections.abc import Collection, Iterator
from contextvars import Context
from typing import NamedTuple, TypeAlias

from stockstore.coherence.claims import Space
from stockstore.coherence.protocol import Record
from stockstore.keys import KeyPlan, Native

Place: TypeAlias = tuple[Space, Native]


class GuardedPlaces(NamedTuple):
    """Where writes stand, and the context that knows the namespace: the store's verbs are called in it."""

    context: Context
    partition: str
    records: dict[Record, tuple[object, ...]]
    classes: tuple[KeyPlan, ...]
    roots: dict[KeyPlan, type]

    def places(self) -> list[Place]:
        """Give the places of the records."""
        return [((self.partition, plan), native) for plan, native in self.records]

    def keys(self, records: Collection[Record]) -> Iterator[tuple[type, list[dict[str, object]]]]:
        """Give the keys of records as a store takes them, by their root classes."""
        groups: dict[type, list[dict[str, object]]] = {}
        for record in records:
            key = dict(zip(record[0].names, self.records[record], strict=True))
            groups.setdefault(self.roots[record[0]], []).append(key)
        yield from groups.items()
