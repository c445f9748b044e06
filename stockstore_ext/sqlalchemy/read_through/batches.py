# ruff: noqa: SLF001 - the short way goes past what the store's own methods ask for each row
"""Batches of hits in process memory, in passes that the interpreter runs fast."""

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any, Final
from weakref import WeakKeyDictionary

from sqlalchemy.orm import Session

from stockstore.errors import CodecError
from stockstore.instrumentation import listening
from stockstore.keys import KeyPlan, Lookup, keys_of
from stockstore.mapped import MappedPlan, has_written, hides, plan_of
from stockstore.stores.hits import any_over
from stockstore.stores.memory import ProcessMemoryStore
from stockstore.stores.tenants import current as asking
from stockstore.stores.tiers.local import LocalTier
from stockstore_ext.sqlalchemy.read_through.classes import Classes
from stockstore_ext.sqlalchemy.read_through.exact import kinds_of
from stockstore_ext.sqlalchemy.read_through.quick import served_plans

_QUICK: Final = (int, str)
Row = tuple[MappedPlan, tuple[Any, ...]]


class Batch(Sequence[Lookup]):
    """Lookups of a key of one name by values that are all text or all whole numbers, made only when they are asked for.

    Attributes:
        plan: The key.
        values: The values.
    """

    __slots__ = ("plan", "values")

    def __init__(self, plan: KeyPlan, values: list[Any]) -> None:
        """Keep the values, which are in the canonical form of keys already."""
        self.plan = plan
        self.values = values

    def __len__(self) -> int:
        """Give their number."""
        return len(self.values)

    def __getitem__(self, at: Any) -> Any:
        """Give one of them, or some."""
        return list(self)[at] if isinstance(at, slice) else Lookup(self.plan, self.values[at], (self.values[at],))

    def __iter__(self) -> Iterator[Lookup]:
        """Make them."""
        return map(Lookup, repeat(self.plan), self.values, zip(self.values, strict=True))


class MemoryBatches:
    """Answers batches of primary keys where all of them are plain hits of the first tier, and that is process memory.

    Whatever is not the plain case it leaves to the longer way, of which it makes all the tests, some of them once for the batch.
    """

    def __init__(self, tiers: Sequence[Any], classes: Classes) -> None:
        """Look for process memory in the first tier."""
        store = tiers[0]._store if tiers and type(tiers[0]) is LocalTier else None
        self._store: ProcessMemoryStore | None = store if type(store) is ProcessMemoryStore else None
        self._classes = classes
        self._served: WeakKeyDictionary[type, tuple[MappedPlan, frozenset[MappedPlan]]] = WeakKeyDictionary()

    def rows(self, session: Session, cls: type, lookups: Sequence[Lookup]) -> list[Row] | None:
        """Give the rows of lookups of one key, ``None`` where not all of them are plain hits."""
        store, keys = self._store, keys_of(cls)
        if store is None or listening or store.tenant_rules or asking.get() is not None or not lookups or not store.is_fresh():
            return None
        if lookups[0].plan is not keys.identity or len(lookups[0].values) > 1 or kinds_of(cls, keys.identity)[0] not in _QUICK:
            return None
        values: list[Any] = lookups.values if type(lookups) is Batch else [lookup.values[0] for lookup in lookups]
        if set(map(type, values)) != {kinds_of(cls, keys.identity)[0]}:
            return None
        # Of another row's change the longer way knows that it is another's.
        if has_written(session, plan_of(cls).root, None) or hides(session, cls):
            return None
        cells = store._shelves.found(store._namespace(), keys.identity, alias=False)
        nodes: list[Any] = list(map(cells.get, values))
        rows = unpacked(plan_of(cls), nodes, self._plans(cls))
        for node in nodes if rows is not None else ():
            node.hits += 1
        return rows

    def _plans(self, cls: type) -> frozenset[MappedPlan]:
        """Give the plans of a class and its subclasses whose states are what a load would give."""
        plan = plan_of(cls)
        known = self._served.get(cls)
        if known is None or known[0] is not plan:
            known = self._served[cls] = (plan, frozenset(served_plans(self._classes, plan)))
        return known[1]


def unpacked(plan: MappedPlan, nodes: list[Any], served: frozenset[MappedPlan]) -> list[Row] | None:
    """Give the rows of nodes that are all there and live, each of a plan that is served, else ``None``."""
    # In this order: see LocalCells.
    if None in nodes or any_over([node.expires for node in nodes]):
        return None
    payloads = [node.value for node in nodes]
    if None in payloads:
        return None
    try:
        rows = list(map(plan.unpack, payloads))
    except CodecError:
        return None
    return rows if served.issuperset([plan for plan, _ in rows]) else None
