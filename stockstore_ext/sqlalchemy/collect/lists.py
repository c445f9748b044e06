"""Lists, as they are noted: which of them rows have come into or left."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

from sqlalchemy import Dialect, Insert, Table, inspect
from sqlalchemy.orm import InstanceState, Mapper
from sqlalchemy.sql.expression import TableClause

from stockstore.errors import CodecError, StockstoreError
from stockstore.keys import IndexPlan, ListLookup, keys_of
from stockstore.mapped.hydrate import identity_class
from stockstore.mapped.moves import moves_of, places_of
from stockstore.mapped.statements import table_written
from stockstore.mapped.stored import keeps_lists, stored_in_list
from stockstore.mapped.tables import mapping_version
from stockstore_ext.sqlalchemy.collect.notes import Notes

_UNKNOWN = object()
_Found = Mapping[IndexPlan, Sequence[Any]]
"""Indexes, each with its columns in the order of its names."""


_without: Final[WeakKeyDictionary[type, int]] = WeakKeyDictionary()
"""The roots without any index, and as of when; of others the indexes themselves would keep the class."""


def indexes_below(root: type) -> list[IndexPlan]:
    """Give the indexes of all classes of a hierarchy."""
    version = mapping_version()
    if _without.get(root) == version:
        return []
    found = _indexes_below(root)
    if not found:
        _without[root] = version
    return found


def _indexes_below(root: type) -> list[IndexPlan]:
    found: dict[IndexPlan, None] = {}
    top: Mapper[Any] = inspect(root)
    for mapper in top.self_and_descendants:
        if identity_class(mapper) is root:
            found.update(dict.fromkeys(_indexes_of(mapper.class_)))
    return list(found)


def _indexes_of(cls: type) -> Sequence[IndexPlan]:
    try:
        return keys_of(cls).indexes
    except StockstoreError:
        return ()


def columns_in(root: type, table: object) -> dict[IndexPlan, list[Any]] | None:
    """Give the indexes that may list rows of a table, with its columns; ``None`` where another table has some of them."""
    found: dict[IndexPlan, list[Any]] = {}
    for plan in indexes_below(root):
        mapper: Mapper[Any] = inspect(plan.owner)
        if any(_is_same(table, other) for other in mapper.tables):
            columns = [_column_in(mapper, name, table) for name in plan.names]
            if any(column is None for column in columns):
                return None
            found[plan] = columns
    return found


def _is_same(table: Any, other: Any) -> bool:
    return table is other or getattr(table, "name", None) == getattr(other, "name", "")


def _column_in(mapper: Mapper[Any], name: str, table: object) -> Any:
    return next((column for column in mapper.column_attrs[name].columns if _is_same(table, getattr(column, "table", None))), None)


# -- flushes --------------------------------------------------------------------------------------


def note_moves(notes: Notes, root: type, states: Iterable[InstanceState[Any]], dialect_of: Callable[[], Dialect], *, deleted: bool) -> None:
    """Note the lists that a flush has rows of a mapper come into or leave, and where they stand; the class where the program does not know."""
    for state in states:
        for move in moves_of(state, deleted):
            if not keeps_lists(move.plan, dialect_of()):
                continue
            if not (move.old_is_known and move.new_is_known):
                notes.whole([root])
                return
            note_given(notes, root, move.plan, [values for values in (move.old, move.new) if values is not None], dialect_of())
        if not deleted:
            places = [(plan, values) for plan, values in places_of(state) if keeps_lists(plan, dialect_of())]
            notes.placed(root, _identity(state), places)


def _identity(state: InstanceState[Any]) -> list[Any]:
    names = (state.mapper.get_property_by_column(column).key for column in state.mapper.primary_key)
    return [state.dict.get(name) for name in names]


def note_given(notes: Notes, root: type, plan: IndexPlan, rows: Iterable[Sequence[Any]], dialect: Dialect) -> None:
    """Note lists by values as the program has them; the class where the database may have others."""
    for stored in (_stored(plan, values, dialect) for values in rows):
        if stored is None:
            notes.whole([root])
        else:
            note_stored(notes, root, plan, stored)


def _stored(plan: IndexPlan, values: Sequence[Any], dialect: Dialect) -> list[Any] | None:
    try:
        return stored_in_list(plan, values, dialect)
    except Exception:  # noqa: BLE001 - a type may be anybody's class
        return None


def note_stored(notes: Notes, root: type, plan: IndexPlan, values: Sequence[Any]) -> None:
    """Note a list by values as the database gave them."""
    try:
        notes.writes.add_list(ListLookup(plan, plan.native(values), ()))
    except CodecError:
        notes.whole([root])


# -- INSERT ---------------------------------------------------------------------------------------


def note_rows(notes: Notes, root: type, cls: type, rows: Sequence[Mapping[str, Any]], dialect: Dialect) -> None:
    """Note the lists of new rows of a class, which are given by their attributes."""
    mapper: Mapper[Any] = inspect(cls)
    for plan in _indexes_of(cls):
        if keeps_lists(plan, dialect):
            unset = [_unset_in(mapper, name) for name in plan.names]
            note_given(notes, root, plan, [_values(row, plan.names, unset) for row in rows], dialect)


def _unset_in(mapper: Mapper[Any], name: str) -> object:
    """Give what an attribute has that rows leave out: the ORM itself sets what tells their class."""
    columns = mapper.column_attrs[name].columns
    return mapper.polymorphic_identity if any(column is mapper.polymorphic_on for column in columns) else _unset(columns[0])


def _values(row: Mapping[str, Any], names: Sequence[str], unset: Sequence[object]) -> list[Any]:
    return [_value(row, name, instead) for name, instead in zip(names, unset, strict=True)]


def _value(row: Mapping[str, Any], name: str, unset: object) -> object:
    if row.get(name) is not None:
        return row[name]
    # Whether a given None is sent, or left to the default, is decided by an option.
    return _UNKNOWN if name in row and unset is not None else unset


def _unset(column: Any) -> object:
    """Give what a column has that an INSERT leaves out."""
    default = column.default
    if default is not None:
        return default.arg if default.is_scalar else _UNKNOWN
    plain = column.server_default is None and column.computed is None and column.identity is None
    return None if plain else _UNKNOWN


def note_inserted(notes: Notes, root: type, table: TableClause, context: Any, limit: int) -> bool:
    """Note the lists of the rows that a statement is about to insert, and say whether all of them are known."""
    found, parameters = columns_in(root, table), getattr(context, "compiled_parameters", None)
    if found is None or not parameters or len(parameters) > limit:
        return not (found or found is None)
    if context.compiled.ctes:  # which may insert into the same table
        return False
    dml = context.compiled.statement
    for plan, columns in found.items():
        if keeps_lists(plan, context.dialect):
            rows = _inserted(dml, parameters, table, columns) if table_written(context.compiled, dml) is table else None
            if rows is None or len(rows) > limit:
                return False
            note_given(notes, root, plan, rows, context.dialect)
    return True


def _inserted(dml: Any, parameters: Sequence[Mapping[str, Any]], table: TableClause, columns: Sequence[Any]) -> list[list[Any]] | None:
    if not isinstance(dml, Insert) or dml.select is not None:
        return None
    keys = [column.key if isinstance(table, Table) else column.name for column in columns]
    single: Any = dml._values or {}  # noqa: SLF001 - there is no other way to ask
    several: list[Any] = [row for rows in dml._multi_values for row in rows]  # noqa: SLF001 - as above
    given = {getattr(key, "key", key) for values in (single, *several) for key in values}
    names = [[f"{key}_m{number}" if several and key in given else key for key in keys] for number in range(len(several) or 1)]
    return [
        [_parameter(row, name, key in given, column) for name, key, column in zip(its, keys, columns, strict=True)]
        for row in parameters
        for its in names
    ]


def _parameter(row: Mapping[str, Any], name: str, given: bool, column: Any) -> Any:
    """Give the value of a column in a row of parameters; one that is set to an expression has none."""
    return row[name] if name in row else _UNKNOWN if given else _unset(column)


def lists_set(root: type, names: Iterable[str]) -> list[IndexPlan]:
    """Give the indexes of a hierarchy that list a row by other values when columns of these names or keys are set by an UPDATE."""
    names = set(names)
    return [plan for plan in indexes_below(root) if any(_is_set(plan, name, names) for name in plan.names)]


def _is_set(plan: IndexPlan, name: str, names: set[str]) -> bool:
    mapper: Mapper[Any] = inspect(plan.owner)
    columns = mapper.column_attrs[name].columns
    return name in names or any(_follows(column) or not names.isdisjoint((column.key, column.name)) for column in columns)


def _follows(column: Any) -> bool:
    return column.onupdate is not None or column.server_onupdate is not None or column.computed is not None


def rows_of_lists(found: _Found, columns: Sequence[Any], rows: Iterable[Sequence[Any]]) -> Iterator[tuple[IndexPlan, list[Any]]]:
    """Give the values of indexes in rows that were selected as some columns."""
    places = {plan: [columns.index(column) for column in its] for plan, its in found.items()}
    for row in rows:
        for plan, its in places.items():
            yield plan, [row[at] for at in its]
