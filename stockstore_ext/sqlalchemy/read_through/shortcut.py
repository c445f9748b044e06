# ruff: noqa: SLF001 - the short way goes past what the store's own methods ask for each row
"""The short way to the rows of a statement, where process memory has all of them."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from sqlalchemy.orm import Session

from stockstore.instrumentation import listening
from stockstore.keys import IndexPlan, Lookup, keys_of
from stockstore.mapped import MappedPlan, plan_of
from stockstore.stores.hits import any_over
from stockstore.stores.tenants import current as asking
from stockstore_ext.sqlalchemy.read_through.batches import Batch, unpacked
from stockstore_ext.sqlalchemy.read_through.classes import Classes
from stockstore_ext.sqlalchemy.read_through.exact import kinds_of
from stockstore_ext.sqlalchemy.read_through.found import Found, all_carry, found_alike
from stockstore_ext.sqlalchemy.read_through.glance import Glance
from stockstore_ext.sqlalchemy.read_through.list_kinds import ListKinds
from stockstore_ext.sqlalchemy.read_through.quick import memory_of, served_plans
from stockstore_ext.sqlalchemy.read_through.shapes import Question

_QUICK: Final = (int, str)
_NOTHING: Final[dict[Any, Any]] = {}


class _Shape(NamedTuple):
    """What is the same for all statements of one class."""

    plan: MappedPlan
    kind: Any
    place: tuple[Any, ...]
    served: frozenset[MappedPlan]


class Shortcut:
    """Gives the rows of statements by primary keys, or by one value of an index, that are all plain hits of process memory.

    Whatever is not the plain case it leaves to the longer way, of which it makes all the tests, most of them at a glance.

    Args:
        tiers: The caches, from the top down.
        classes: Which classes are served.
        glance: Judges sessions.
        kinds: Tells by which values lists may be kept.
    """

    def __init__(self, tiers: Sequence[Any], classes: Classes, glance: Glance, kinds: ListKinds) -> None:
        """Look for process memory in the first tier."""
        self._store = memory_of(tuple(tiers))
        self._classes = classes
        self._glance = glance
        self._kinds = kinds
        self._shapes: WeakKeyDictionary[type, _Shape] = WeakKeyDictionary()

    def rows(self, session: Session, question: Question, *, is_sure: bool = False) -> Found | None:
        """Give the rows, as the longer way would, to a session of which the glance may be sure already; ``None``: it has to look itself."""
        store, cls = self._store, question.entity.cls
        if store is None or listening or store.tenant_rules or asking.get() is not None or not question.lookups or not store.is_fresh():
            return None
        shape = self._shape(cls)
        if shape.kind not in _QUICK or not (is_sure or self._glance.is_sure(session, cls)):
            return None
        cells: dict[Any, Any] = store._shelves._dicts.get(shape.place, _NOTHING)
        if question.listed:
            return self._listed(shape, cls, cells, question.lookups)
        if type(question.lookups) is not Batch or question.lookups.plan is not shape.place[1]:
            return None
        if type(question.lookups.values[0]) is not shape.kind:
            return None
        nodes = list(map(cells.get, question.lookups.values))
        rows = _rows(shape, nodes)
        if rows is not None:
            _count(nodes)
        return rows

    def learn(self, session: Session, cls: type) -> None:
        """Take a session that the longer way has just served for one of those that it serves."""
        if self._store is not None and not self._glance.is_sure(session, cls):
            self._glance.learn(session, cls)

    # -- lists ----------------------------------------------------------------------------------

    def _listed(self, shape: _Shape, cls: type, cells: dict[Any, Any], lookups: Sequence[Lookup]) -> Found | None:
        plan, native, (value, *_) = lookups[0]
        if len(lookups) > 1 or not isinstance(plan, IndexPlan) or plan.owner is not cls or type(value) is not self._kinds.of(plan):
            return None
        node = cells.get(plan.place(native))
        if node is None:
            return None
        # In this order: see LocalCells.
        expires, keys = node.expires, node.value
        if keys is None or any_over([expires]):
            return None
        wanted = [key for (key,) in keys]
        if not {shape.kind}.issuperset(map(type, wanted)):
            return None
        nodes = list(map(cells.get, wanted))
        rows = _rows(shape, nodes)
        if rows is None or not all_carry(rows, plan.names[0], value):
            return None
        _count([node, *nodes])
        return rows

    def _shape(self, cls: type) -> _Shape:
        shape, plan = self._shapes.get(cls), plan_of(cls)
        if shape is None or shape.plan is not plan:
            identity = keys_of(cls).identity
            kinds = kinds_of(cls, identity)
            kind = kinds[0] if len(kinds) == 1 else None
            place = (self._store._namespace_setting, identity, False) if self._store else ()
            shape = self._shapes[cls] = _Shape(plan, kind, place, frozenset(served_plans(self._classes, plan)))
        return shape


def _rows(shape: _Shape, nodes: list[Any]) -> Found | None:
    """Give the rows of nodes that are all there and live, each of a plan that is served, else ``None``."""
    # In this order: see LocalCells.
    if not all(nodes) or any_over([node.expires for node in nodes]):
        return None
    payloads = [node.value for node in nodes]
    if not all(payloads):
        return None
    found = found_alike(shape.plan, payloads) if shape.plan in shape.served else None
    return unpacked(shape.plan, nodes, shape.served) if found is None else found


def _count(nodes: list[Any]) -> None:
    for node in nodes:
        node.hits += 1
