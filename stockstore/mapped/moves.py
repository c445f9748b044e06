"""Which lists a flush has a row come into and leave."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from sqlalchemy import ColumnClause
from sqlalchemy.orm import InstanceState, LoaderCallableStatus, Mapper
from sqlalchemy.sql.visitors import iterate

from stockstore.errors import StockstoreError
from stockstore.keys import IndexPlan, keys_of
from stockstore.mapped.hydrate import identity_class

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


# -- rows that become ones of another class ---------------------------------------------------------


class _Telling(NamedTuple):
    """What tells the class of a row: the names of columns and attributes, and these attributes alone."""

    names: frozenset[str]
    attributes: tuple[str, ...]


_telling: Final[WeakKeyDictionary[Mapper[Any], _Telling]] = WeakKeyDictionary()


def discriminators(mapper: Mapper[Any]) -> frozenset[str]:
    """Give the names of the columns that tell the class of a row, and of their attributes; of an expression all that it reads."""
    return _telling_of(mapper).names


def telling_attributes(mapper: Mapper[Any]) -> tuple[str, ...]:
    """Give the attributes by whose values a row is of one class or another."""
    return _telling_of(mapper).attributes


def _telling_of(mapper: Mapper[Any]) -> _Telling:
    found = _telling.get(mapper)
    if found is None:
        parts = () if mapper.polymorphic_on is None else iterate(mapper.polymorphic_on)
        columns = {name for part in parts if isinstance(part, ColumnClause) for name in (part.key, part.name)}
        attrs = {attr.key for attr in mapper.column_attrs if any(getattr(column, "name", None) in columns for column in attr.columns)}
        names = frozenset(columns | attrs)
        found = _telling[mapper] = _Telling(names, tuple([attr.key for attr in mapper.column_attrs if attr.key in names]))
    return found


def joins_others(state: InstanceState[Any]) -> bool:
    """Whether a flush may have made a row one of another class, and so put it into lists that its object's class does not have."""
    if state.mapper.polymorphic_on is None or not _may_be_of_another_class(state):
        return False
    own = keys_of(state.mapper.class_).indexes
    return any(plan not in own for plan in _indexes_beside(state.mapper))


def _may_be_of_another_class(state: InstanceState[Any]) -> bool:
    mapper, was, values = state.mapper, state.committed_state, state.dict
    names = telling_attributes(mapper)
    if state.key is None:
        return len(names) != 1 or not _is_column(mapper) or values.get(names[0]) != mapper.polymorphic_identity
    return any(name not in values or (name in was and was[name] != values[name]) for name in names)


def _is_column(mapper: Mapper[Any]) -> bool:
    return isinstance(mapper.polymorphic_on, ColumnClause)


def _indexes_beside(mapper: Mapper[Any]) -> Iterator[IndexPlan]:
    for other in mapper.base_mapper.self_and_descendants:
        if identity_class(other) is identity_class(mapper):
            yield from _indexes_of(other.class_)


def _indexes_of(cls: type) -> Sequence[IndexPlan]:
    try:
        return keys_of(cls).indexes
    except StockstoreError:
        return ()
