# ruff: noqa: SLF001 - what a load does to an instance has no public names
"""Puts column values into instances that are there already, as a load of SQLAlchemy does with a row that it has read."""

from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Final

from sqlalchemy.orm.state import InstanceState

from stockstore.mapped import UNLOADED, MappedPlan

_COMPLETING: Final = "stockstore.completing"
_FILLED: Final = "stockstore.filled"
_REFRESHED: Final = "stockstore.refreshed"
_LAZY: Final = frozenset(("dynamic", "raise", "raise_on_sql", "select", True, "write_only"))
"""Relationships of which a refresh loads nothing."""
Row = tuple[MappedPlan, tuple[Any, ...]]
"""The plan of a row's class, and its column values."""


def has_all(plan: MappedPlan, names: Collection[str]) -> bool:
    """Whether the column state of a class has all that a load would set of these attributes."""
    known: frozenset[str] | None = plan.statements.get(_REFRESHED)
    if known is None:
        mapper = plan.mapper
        lazy = (relationship.key for relationship in mapper.relationships if relationship.lazy in _LAZY)
        known = plan.statements[_REFRESHED] = filled(plan).union(lazy, mapper.composites.keys(), mapper.synonyms.keys())
    return known.issuperset(names)


def refresh(state: "InstanceState[Any]", row: Row, names: Collection[str]) -> bool:
    """Set attributes of an expired instance, and tell of it, as if SQLAlchemy had read the row for them; not if the row lacks one."""
    plan, values = row
    found = [(name, value) for name, value in zip(plan.attrs, values, strict=True) if name in names]
    if any(value is UNLOADED for _, value in found):
        return False
    state.dict.update(found)
    _tell(state, names)
    return True


def completing(plan: MappedPlan) -> Callable[[Any, tuple[Any, ...]], None]:
    """Give what sets in an instance of a class what it lacks, and leaves what it holds."""
    known: Callable[[Any, tuple[Any, ...]], None] | None = plan.statements.get(_COMPLETING)
    return known or plan.statements.setdefault(_COMPLETING, partial(_complete, plan, filled(plan)))


def _complete(plan: MappedPlan, wanted: frozenset[str], instance: Any, values: tuple[Any, ...]) -> None:
    state: InstanceState[Any] = instance._sa_instance_state
    if wanted <= instance.__dict__.keys() and not state.manager.dispatch.refresh:
        return
    lacking = state.unloaded
    if lacking:
        found = [(name, value) for name, value in zip(plan.attrs, values, strict=True) if name in lacking and value is not UNLOADED]
        state.dict.update(found)
        _tell(state, lacking)


def _tell(state: "InstanceState[Any]", names: Collection[str]) -> None:
    if state.manager.dispatch.refresh:
        state.manager.dispatch.refresh(state, None, names)
    state._commit(state.dict, names)


def filled(plan: MappedPlan) -> frozenset[str]:
    """The attributes that an instance has after a load."""
    known: frozenset[str] | None = plan.statements.get(_FILLED)
    if known is None:
        columns = plan.mapper.column_attrs
        known = plan.statements[_FILLED] = frozenset(name for name in plan.attrs if not columns[name].deferred)
    return known
