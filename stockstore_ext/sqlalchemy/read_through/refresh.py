# ruff: noqa: SLF001 - what a load does to an instance has no public names
"""Puts column values into instances that are there already, as a load of SQLAlchemy does with a row that it has read."""

from collections.abc import Collection, Sequence
from typing import Any, Final

from sqlalchemy.orm import Session
from sqlalchemy.orm.state import InstanceState

from stockstore.mapped import UNLOADED, MappedPlan

_SLOT: Final = "stockstore.filled"
Row = tuple[MappedPlan, tuple[Any, ...]]
"""The plan of a row's class, and its column values."""


def has_all(plan: MappedPlan, names: Collection[str]) -> bool:
    """Whether each of these attributes has its value in the column states of a class."""
    return filled(plan).issuperset(names)


def refresh(state: "InstanceState[Any]", row: Row, names: Collection[str]) -> None:
    """Set attributes of an expired instance, and tell of it, as if SQLAlchemy had read the row for them."""
    plan, values = row
    attributes = state.dict
    attributes.update([(name, value) for name, value in zip(plan.attrs, values, strict=True) if name in names])
    _tell(state, names)


def complete(session: Session, rows: Sequence[Row]) -> None:
    """Set what instances lack that are in the session already, and leave what they hold: so does a SELECT that finds their rows."""
    identity_map = session.identity_map
    for plan, values in rows:
        primary_key = tuple([values[plan.attrs.index(name)] for name in plan.primary_key])
        instance: Any = identity_map.get((plan.root, primary_key, None))
        if instance is not None:
            state: InstanceState[Any] = instance._sa_instance_state
            if state.manager.dispatch.refresh or not filled(plan) <= instance.__dict__.keys():
                _complete(state, plan, values)


def _complete(state: "InstanceState[Any]", plan: MappedPlan, values: tuple[Any, ...]) -> None:
    lacking = state.unloaded
    if not lacking:
        return
    attributes = state.dict
    for name, value in zip(plan.attrs, values, strict=True):
        if name in lacking and value is not UNLOADED:
            attributes[name] = value
    _tell(state, lacking)


def _tell(state: "InstanceState[Any]", names: Collection[str]) -> None:
    if state.manager.dispatch.refresh:
        state.manager.dispatch.refresh(state, None, names)
    state._commit(state.dict, names)


def filled(plan: MappedPlan) -> frozenset[str]:
    """The attributes that an instance has after a load."""
    known: frozenset[str] | None = plan.statements.get(_SLOT)
    if known is None:
        columns = plan.mapper.column_attrs
        known = plan.statements[_SLOT] = frozenset(name for name in plan.attrs if not columns[name].deferred)
    return known
