# ruff: noqa: SLF001 - what a load does to an instance has no public names
"""Puts column values into instances that are there already, as a load of SQLAlchemy does with a row that it has read."""

from collections.abc import Collection, Sequence
from typing import Any, Final

from sqlalchemy.orm import Session
from sqlalchemy.orm.state import InstanceState

from stockstore.mapped import UNLOADED, MappedPlan

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


def refresh(state: "InstanceState[Any]", row: Row, names: Collection[str]) -> None:
    """Set attributes of an expired instance, and tell of it, as if SQLAlchemy had read the row for them."""
    plan, values = row
    attributes = state.dict
    attributes.update([(name, value) for name, value in zip(plan.attrs, values, strict=True) if name in names])
    _tell(state, names)


def attached(session: Session, rows: Sequence[Row]) -> list[Any]:
    """Give the instances of rows, and set what those lack that are in the session already: so does a SELECT that finds their rows."""
    plans = {plan for plan, _ in rows}
    known = len(session.identity_map)
    if known and any(plan.mapper.class_manager.dispatch.refresh for plan in plans):
        return [_attached(session, *row) for row in rows]  # so that events come in the order of the rows
    if known:
        for row in rows:
            _complete(session, *row)
    if len(plans) == 1:
        return plans.pop().attach_many(session, [values for _, values in rows])
    return [plan.attach(session, values) for plan, values in rows]


def _attached(session: Session, plan: MappedPlan, values: tuple[Any, ...]) -> Any:
    _complete(session, plan, values)
    return plan.attach(session, values)


def primary_key(row: Row) -> tuple[Any, ...]:
    """Give the values of a row's primary key."""
    plan, values = row
    return tuple([values[plan.attrs.index(name)] for name in plan.primary_key])


def _complete(session: Session, plan: MappedPlan, values: tuple[Any, ...]) -> None:
    """Set what an instance lacks that is there already, and leave what it holds."""
    instance: Any = session.identity_map.get((plan.root, primary_key((plan, values)), None))
    if instance is None:
        return
    state: InstanceState[Any] = instance._sa_instance_state
    listened = state.manager.dispatch.refresh
    if not listened and filled(plan) <= instance.__dict__.keys():
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
