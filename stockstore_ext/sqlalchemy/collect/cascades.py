"""Rows that the database itself deletes or changes along with others: by ``ON DELETE`` and ``ON UPDATE`` of foreign keys."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from sqlalchemy import Column, Connection, ForeignKeyConstraint, Select, Table, delete, false, select, tuple_
from sqlalchemy.orm import InstanceState, Mapper
from sqlalchemy.orm.exc import UnmappedColumnError
from sqlalchemy.sql.expression import TableClause, Update

from stockstore.keys import IndexPlan
from stockstore.mapped.foreign_keys import acting_keys, dependents
from stockstore.mapped.tables import Roots, identity_columns, mappers_in, roots_named
from stockstore_ext.sqlalchemy.collect.lists import columns_in, note_stored, rows_of_lists
from stockstore_ext.sqlalchemy.collect.notes import Notes
from stockstore_ext.sqlalchemy.collect.told import TOLD

_Values = list[tuple[Any, ...]]


class _Unknown(Exception):  # noqa: N818 - it never leaves this module
    """The rows cannot be told one by one."""


class _Link(NamedTuple):
    """A foreign key that acts on deletion: the columns of the child, and what they refer to."""

    child: Table
    columns: tuple[Any, ...]
    referred: tuple[Any, ...]
    cascades: bool
    nulls: bool


def roots_deleted_along(mapper: Mapper[Any]) -> Roots:
    """Give the roots of which the database may change rows when rows of a mapper are deleted."""
    return roots_named(frozenset[str]().union(*(dependents(table, "ondelete") for table in mapper.tables)))


def note_deleted_along(connection: Connection, mapper: Mapper[Any], states: Sequence[InstanceState[Any]], notes: Notes, limit: int) -> None:
    """Note the rows that go or change along with rows that are about to be deleted, one by one where they can be told.

    Their parents are locked first: no other transaction can add a child then.
    """
    roots = {root for root in roots_deleted_along(mapper) if notes.wants(root) and not notes.is_whole(root)}
    if not roots:
        return
    try:
        for table in mapper.tables:
            _follow(_Walk(connection, notes, limit, mapper), table, states)
    except _Unknown:
        notes.whole(roots)


class _Walk:
    """A walk from the rows that are deleted to those that depend on them."""

    def __init__(self, connection: Connection, notes: Notes, limit: int, mapper: Mapper[Any]) -> None:
        self.connection, self.notes, self.limit, self.mapper = connection, notes, limit, mapper
        self.count = 0
        self.seen: dict[tuple[Table, tuple[Any, ...]], set[tuple[Any, ...]]] = {}

    def rows(self, statement: Select[Any], *, deleted: bool = True) -> _Values:
        """Select rows and lock them, as their deletion does or an update."""
        if self.connection.dialect.name != "sqlite":  # which is locked as a whole
            statement = statement.with_for_update(key_share=not deleted)
        rows = [tuple(row) for row in self.connection.execute(statement.limit(self.limit + 1))]
        self.count += len(rows)
        if self.count > self.limit:
            raise _Unknown
        return rows


def _follow(walk: _Walk, table: Any, states: Sequence[InstanceState[Any]]) -> None:
    links = list(_links_to(table)) if isinstance(table, Table) else []
    links = [link for link in links if not _is_inheritance(walk.mapper, link)]
    if not links:
        return
    if len(states) > walk.limit:  # nor has a statement room for any number of keys
        raise _Unknown
    columns = list(dict.fromkeys(column for link in links for column in link.referred))
    rows = [[_value(walk.mapper, state, column) for column in columns] for state in states]
    _lock(walk, table, columns, rows)
    for link in links:
        _children(walk, link, {tuple(row[columns.index(column)] for column in link.referred) for row in rows})


def _lock(walk: _Walk, table: Table, columns: Sequence[Any], rows: Sequence[Sequence[Any]]) -> None:
    if walk.connection.dialect.name == "sqlite":
        # A write that changes nothing takes the lock that the deletion needs anyway.
        walk.connection.execute(delete(table).where(false()), execution_options={TOLD: True})
    else:
        order = list(table.primary_key)
        walk.rows(select(*order).where(_among(columns, {tuple(row) for row in rows})).order_by(*order))


def _children(walk: _Walk, link: _Link, values: set[tuple[Any, ...]]) -> None:
    seen = walk.seen.setdefault((link.child, link.columns), set())
    fresh = {value for value in values if None not in value} - seen
    if not fresh:
        return
    seen |= fresh
    below = list(_links_to(link.child)) if link.cascades else []
    if not link.cascades and dependents(link.child, "onupdate"):
        raise _Unknown
    identities = identity_columns(link.child)
    listed = _lists_of(walk.notes, link.child)
    wanted = [*identities.values(), *(b.referred for b in below), *(columns for found in listed.values() for columns in found.values())]
    columns = list(dict.fromkeys([*link.child.primary_key, *(column for columns in wanted for column in columns)]))
    rows = walk.rows(select(*columns).where(_among(link.columns, fresh)).order_by(*link.child.primary_key), deleted=link.cascades)
    _note_rows(walk.notes, link.child, identities, columns, rows)
    _note_lists(walk.notes, link, listed, columns, rows)
    for further in below:
        _children(walk, further, {tuple(row[columns.index(column)] for column in further.referred) for row in rows})


def _note_rows(notes: Notes, table: Table, identities: dict[type, list[Any]], columns: Sequence[Any], rows: _Values) -> None:
    for root in roots_named([table.name]):
        if not rows or not notes.wants(root):
            continue
        if root not in identities:
            raise _Unknown
        notes.stored(root, [[row[columns.index(column)] for column in identities[root]] for row in rows])


def _lists_of(notes: Notes, table: Table) -> dict[type, dict[IndexPlan, list[Any]]]:
    found = {root: columns_in(root, table) for root in roots_named([table.name]) if notes.wants(root)}
    if None in found.values():
        raise _Unknown
    return {root: lists for root, lists in found.items() if lists}


def _note_lists(notes: Notes, link: _Link, listed: dict[type, dict[IndexPlan, list[Any]]], columns: Sequence[Any], rows: _Values) -> None:
    """Note the lists that rows leave, and where their reference is taken away those that they come into."""
    for root, found in listed.items():
        changed = found if link.cascades else {plan: its for plan, its in found.items() if not set(its).isdisjoint(link.columns)}
        if changed and rows and not (link.cascades or link.nulls):
            raise _Unknown
        after = (
            []
            if link.cascades
            else [tuple(None if column in link.columns else row[at] for at, column in enumerate(columns)) for row in rows]
        )
        for plan, values in rows_of_lists(changed, columns, [*rows, *after]):
            note_stored(notes, root, plan, values)


def _among(columns: Sequence[Any], values: set[tuple[Any, ...]]) -> Any:
    return columns[0].in_([value for (value,) in values]) if len(columns) == 1 else tuple_(*columns).in_(list(values))


def _links_to(table: Table) -> Iterator[_Link]:
    constraints = dict.fromkeys(key.constraint for key in acting_keys(table, "ondelete"))
    for constraint in constraints:
        if isinstance(constraint, ForeignKeyConstraint):
            keys = constraint.elements
            does = (constraint.ondelete or "").upper()
            columns = tuple(key.parent for key in keys), tuple(key.column for key in keys)
            yield _Link(constraint.table, *columns, cascades=does == "CASCADE", nulls=does == "SET NULL")


def _is_inheritance(mapper: Mapper[Any], link: _Link) -> bool:
    """Whether a child is a part of the very row that is deleted."""
    return any(
        link.child is other.local_table and other.inherits is not None and set(link.columns) == set(link.child.primary_key)
        for other in mapper.base_mapper.self_and_descendants
    )


def _value(mapper: Mapper[Any], state: InstanceState[Any], column: Column[Any]) -> Any:
    """Give the value that the database has in a column of an object that is to be deleted."""
    try:
        name = mapper.get_property_by_column(column).key
    except UnmappedColumnError:
        raise _Unknown from None
    keys = [mapper.get_property_by_column(key).key for key in mapper.primary_key]
    if name in keys and state.identity is not None:
        return state.identity[keys.index(name)]
    value = state.committed_state.get(name, state.dict.get(name))
    if isinstance(value, (str, int, bytes)) or hasattr(value, "hex"):
        return value
    raise _Unknown


# -- updates --------------------------------------------------------------------------------------

_referred: Final[WeakKeyDictionary[Table, tuple[int, frozenset[str]]]] = WeakKeyDictionary()


def referred_names(table: object) -> frozenset[str]:
    """Give the names of a table's columns, and of their attributes, a change of which the database hands on to other tables."""
    if not isinstance(table, Table):
        return frozenset()
    size = len(table.metadata.tables)
    known = _referred.get(table)
    if known is None or known[0] != size:
        known = _referred[table] = size, frozenset(_names(table))
    return known[1]


def _names(table: Table) -> Iterator[str]:
    columns = {key.column for key in acting_keys(table, "onupdate")}
    for column in columns:
        yield from (column.name, column.key)
        for mapper in mappers_in(table):
            yield from (prop.key for prop in mapper.column_attrs if column in prop.columns)


def changed_along(dml: Update, table: TableClause, column_keys: Iterable[str] | None) -> frozenset[str]:
    """Give the names of the tables whose rows the database may change along with an UPDATE."""
    referred = referred_names(table)
    if not referred:
        return frozenset()
    values: Any = dml._values or dict(dml._ordered_values or ()) if hasattr(dml, "_ordered_values") else dml._values  # noqa: SLF001
    names = {str(getattr(key, "key", key)) for key in (values or ())} | set(column_keys or ())
    return dependents(table, "onupdate") if not names or names & referred else frozenset()


def roots_changed_along(mapper: Mapper[Any], states: Iterable[InstanceState[Any]]) -> Roots:
    """Give the roots of which the database may have changed rows along with a flush's updates of a mapper's rows."""
    referred = frozenset[str]().union(*(referred_names(table) for table in mapper.tables))
    names = [prop.key for prop in mapper.column_attrs if prop.key in referred] if referred else []
    if not names or not any(_has_changed(state, names) for state in states):
        return frozenset()
    return roots_named(frozenset[str]().union(*(dependents(table, "onupdate") for table in mapper.tables)))


def _has_changed(state: InstanceState[Any], names: Sequence[str]) -> bool:
    return any(name in state.dict and state.attrs[name].history.has_changes() for name in names)
