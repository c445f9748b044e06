"""Which lists a flush has a row come into and leave."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy.orm import InstanceState, LoaderCallableStatus

from stockstore.keys import IndexPlan, keys_of

_UNKNOWN: Final = object()


class Move(NamedTuple):
    """What a flush has done to a row as far as one index is concerned.

    Attributes:
        plan: The index.
        old: The values by which the row was listed before; ``None`` where the program does not know them.
        new: Those by which it is listed now; ``None`` where the program does not know them.
        was: Whether it was there before.
        stays: Whether it is there now.
    """

    plan: IndexPlan
    old: tuple[Any, ...] | None
    new: tuple[Any, ...] | None
    was: bool
    stays: bool

    @property
    def old_is_known(self) -> bool:
        """Whether the list that it has left is known, if there is one."""
        return not self.was or self.old is not None

    @property
    def new_is_known(self) -> bool:
        """Whether the list that it has come into is known, if there is one."""
        return not self.stays or self.new is not None


def moves_of(state: InstanceState[Any], deleted: bool) -> Iterator[Move]:
    """Give the moves of a row of which a flush tells, as ``after_flush`` has it; none where its lists are as they were."""
    for plan in keys_of(state.mapper.class_).indexes:
        if deleted:
            yield Move(plan, _values(state, plan.names, former=True), None, was=True, stays=False)
        elif state.key is None:
            yield Move(plan, None, _values(state, plan.names, former=False), was=False, stays=True)
        elif _moves(state, plan):
            old, new = (_values(state, plan.names, former=former) for former in (True, False))
            yield Move(plan, old, new, was=True, stays=True)


def places_of(state: InstanceState[Any]) -> Iterator[tuple[IndexPlan, tuple[Any, ...] | None]]:
    """Give the indexes of a row that a flush has written, with the values by which it stays listed; ``None`` where it comes into a list."""
    for plan in keys_of(state.mapper.class_).indexes:
        comes = state.key is None or _moves(state, plan)
        yield plan, None if comes else _values(state, plan.names, former=False)


def _moves(state: InstanceState[Any], plan: IndexPlan) -> bool:
    identity = keys_of(state.mapper.class_).identity.names
    if not _may_move(state, (*plan.names, *identity)):
        return False
    old, new = (_values(state, plan.names, former=former) for former in (True, False))
    return old is None or new is None or old != new or _has_moved(state, identity)


def _may_move(state: InstanceState[Any], names: Sequence[str]) -> bool:
    # A column that was set to an SQL expression is not loaded any more.
    return any(name in state.committed_state or name not in state.dict for name in names)


def _has_moved(state: InstanceState[Any], identity: Sequence[str]) -> bool:
    return _values(state, identity, former=True) != _values(state, identity, former=False)


def _values(state: InstanceState[Any], names: Sequence[str], *, former: bool) -> tuple[Any, ...] | None:
    was, values = state.committed_state if former else {}, state.dict
    found = tuple([was[name] if name in was else values[name] if name in values else _unset(state, name) for name in names])
    return None if any(value is _UNKNOWN or isinstance(value, LoaderCallableStatus) for value in found) else found


def _unset(state: InstanceState[Any], name: str) -> object:
    """Give what an attribute that is not loaded stands for: of a new row NULL, where the column has no default."""
    column: Any = state.mapper.column_attrs[name].columns[0]
    given = state.key is None and column.default is None and column.server_default is None and column.computed is None
    return None if given and column.identity is None else _UNKNOWN
