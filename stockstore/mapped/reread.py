"""Exact rows, read by the writer itself on its own connection before it commits."""

import time
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Any, Final
from weakref import WeakKeyDictionary

from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Integer,
    Select,
    Table,
    any_,
    bindparam,
    inspect,
    select,
    text,
    tuple_,
)
from sqlalchemy.orm import Mapper

from stockstore.keys import keys_of
from stockstore.mapped.columns import UNLOADED
from stockstore.mapped.hydrate import identity_class
from stockstore.mapped.parameters import chunks, parameter_limit
from stockstore.mapped.plan import MappedPlan, plan_of

Row = tuple[MappedPlan, tuple[Any, ...]]
"""A row's class and column state, as ``RowSnapshot`` takes them."""

_CHECKED_SECONDS: Final = 60.0
_SLOT: Final = "stockstore.reread"
_now = time.monotonic


def reread(connection: Connection, root: type, keys: Sequence[tuple[object, ...]]) -> list[Row]:
    """Give the rows of a hierarchy as the database will have them when the connection's transaction commits.

    To be called after the last statement, where :func:`is_exact` holds. The rows are locked in all tables of the hierarchy, in the
    order of their keys: by one SELECT, and one more for each subclass found that has a table of its own (each per some thousands of
    keys). Rows that are gone are missing. No session is involved, and no event of one.

    Args:
        connection: The writer's.
        root: The root class, as ``Writes.by_root`` gives it.
        keys: The key values, as ``Writes.by_root`` gives them: in the order of the identity plan's ``names``.
    """
    hierarchy, rows = _hierarchy_of(root), list[Row]()
    for chunk in chunks(keys, parameter_limit(connection.dialect) // hierarchy.width):
        rows += hierarchy.read(connection, chunk)
    return rows


class _Hierarchy:
    """The statements for the rows of one root."""

    def __init__(self, root: type) -> None:
        self.mapper: Mapper[Any] = inspect(root)
        names = keys_of(root).identity.names
        self.key = [self.mapper.column_attrs[name].columns[0] for name in names]
        self.width = len(names)
        self.size = _size(self.mapper)
        self.below = [m for m in self.mapper.self_and_descendants if identity_class(m) is root]
        self.plans = [plan_of(mapper.class_) for mapper in self.below]
        told_by: Any = self.mapper.polymorphic_on
        self.by_discriminator = isinstance(told_by, Column) and told_by.table in self.mapper.tables
        # A concrete class may be told by a column of the union of all, which its own table does not need.
        alone = len(self.below) == 1 and (told_by is None or isinstance(told_by, Column))
        self.is_plain = all(isinstance(m.local_table, Table) for m in self.below) and (alone or self.by_discriminator)
        single = [m for m in self.below if m.persist_selectable is self.mapper.persist_selectable]
        self.top = _Selection(self.mapper, self.key, single, told_by if self.by_discriminator else None)
        self.joined = {m: _Selection(m, self.key, [m], None) for m in self.below if m not in single}

    def is_current(self) -> bool:
        """Whether nothing was added to the mapping since."""
        return self.size == _size(self.mapper) and all(plan_of(plan.cls) is plan for plan in self.plans)

    def read(self, connection: Connection, keys: Sequence[tuple[object, ...]]) -> Iterator[Row]:
        rows = self.top.execute(connection, keys)
        if not self.by_discriminator:
            plan, state_of = self.top.shapes[self.mapper]
            yield from ((plan, state_of(row)) for row in rows)
            return
        joined: dict[Mapper[Any], list[tuple[object, ...]]] = {}
        for row in rows:
            mapper = self.mapper if row[-1] is None else self.mapper.polymorphic_map.get(row[-1])
            if mapper in self.joined:
                joined.setdefault(mapper, []).append(tuple(row[: self.width]))
            elif mapper in self.top.shapes:
                plan, state_of = self.top.shapes[mapper]
                yield plan, state_of(row)
        for mapper, found in joined.items():
            plan, state_of = self.joined[mapper].shapes[mapper]
            yield from ((plan, state_of(row)) for row in self.joined[mapper].execute(connection, found))


class _Selection:
    """The statement for rows that stand in the same tables: the key, the columns, and at the end the discriminator, if any."""

    def __init__(self, mapper: Mapper[Any], key: Sequence[Any], mappers: Sequence[Mapper[Any]], discriminator: Any) -> None:
        loaded = [column for m in mappers for column in _columns(m) if column is not UNLOADED]
        columns = [*dict.fromkeys([*key, *loaded])]
        self._selected = [*columns, *([] if discriminator is None else [discriminator])]
        self.shapes = {m: (plan_of(m.class_), _state_of(_columns(m), self._selected)) for m in mappers}
        self._from, self._key, self._tables = mapper.persist_selectable, key, list(mapper.tables)
        self._statements: dict[str, Select[Any]] = {}

    def execute(self, connection: Connection, keys: Sequence[tuple[object, ...]]) -> Sequence[Any]:
        """Lock the rows of keys and give them."""
        name = connection.dialect.name
        statement = self._statements.get(name)
        if statement is None:
            statement = self._statements[name] = self._statement(name)
        values = [value for (value,) in keys] if len(self._key) == 1 else list(keys)
        return connection.execute(statement, {"keys": values}).all()

    def _statement(self, dialect: str) -> Select[Any]:
        statement = select(*self._selected).select_from(self._from).where(self._condition(dialect)).order_by(*self._key)
        if dialect == "sqlite":  # which has no locks of rows, and has locked the database for the writer
            return statement
        if dialect == "postgresql":
            return statement.with_for_update(key_share=True, of=self._tables)
        return statement.with_for_update()

    def _condition(self, dialect: str) -> ColumnElement[bool]:
        keys: Any = bindparam("keys", expanding=True)
        if len(self._key) > 1:
            return tuple_(*self._key).in_(keys)
        column = self._key[0]
        if dialect == "postgresql" and isinstance(column.type, Integer):
            # One parameter instead of as many as there are rows, each of which driver and server would take in by itself.
            return column == any_(bindparam("keys", type_=ARRAY(column.type)))  # type: ignore[no-any-return]
        return column.in_(keys)  # type: ignore[no-any-return]


def _columns(mapper: Mapper[Any]) -> list[Any]:
    """Give the column of each attribute of a state, ``UNLOADED`` where it is deferred."""
    props = [mapper.column_attrs[name] for name in plan_of(mapper.class_).attrs]
    return [UNLOADED if prop.deferred else prop.columns[0] for prop in props]


def _state_of(wanted: Sequence[Any], columns: Sequence[Any]) -> Callable[[Any], tuple[Any, ...]]:
    places = {column: position for position, column in reversed(list(enumerate(columns)))}
    positions = [None if column is UNLOADED else places[column] for column in wanted]
    loaded = [position for position in positions if position is not None]
    if len(loaded) < len(positions):
        return lambda row: tuple([UNLOADED if position is None else row[position] for position in positions])
    if loaded == list(range(len(loaded))) and len(loaded) == len(columns):
        return tuple
    get = itemgetter(*loaded)
    return get if len(loaded) > 1 else lambda row: (get(row),)


def _size(mapper: Mapper[Any]) -> int:
    return sum(1 for _ in mapper.self_and_descendants)


def _hierarchy_of(root: type) -> _Hierarchy:
    known = plan_of(root).statements
    hierarchy: _Hierarchy | None = known.get(_SLOT)
    if hierarchy is None or not hierarchy.is_current():
        hierarchy = known[_SLOT] = _Hierarchy(root)
    return hierarchy


# -- whether a row before COMMIT is the row after it ------------------------------------------------

_checked: Final[WeakKeyDictionary[Engine, dict[tuple[str, ...], tuple[float, bool]]]] = WeakKeyDictionary()
_CHECK: Final = text("""
    SELECT count(*) = :size FROM pg_class WHERE oid = ANY (SELECT to_regclass(name) FROM unnest(CAST(:names AS text[])) AS name)
    AND relkind IN ('r', 'p') AND has_table_privilege(oid, 'SELECT') AND has_any_column_privilege(oid, 'UPDATE')
    AND NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = pg_class.oid AND tgdeferrable AND NOT tgisinternal)
    """)


def is_exact(connection: Connection, root: type) -> bool:
    """Whether a row that :func:`reread` gives before COMMIT is the row after it.

    It is not where a table of the hierarchy has a deferrable trigger, is a view or cannot be locked by this user (all of that looked
    up once a minute), nor where a class is mapped to a query, or told by something else than a column.
    """
    hierarchy = _hierarchy_of(root)
    if not hierarchy.is_plain:
        return False
    if connection.dialect.name != "postgresql":
        return True
    preparer = connection.dialect.identifier_preparer
    tables = dict.fromkeys(table for mapper in hierarchy.below for table in mapper.tables)
    return _is_plain_in_postgresql(connection, tuple([preparer.format_table(table) for table in tables]))


def _is_plain_in_postgresql(connection: Connection, names: tuple[str, ...]) -> bool:
    known = _checked.setdefault(connection.engine, {})
    until, answer = known.get(names, (0.0, False))
    if until < _now():
        answer = bool(connection.execute(_CHECK, {"size": len(names), "names": list(names)}).scalar_one())
        known[names] = _now() + _CHECKED_SECONDS, answer
    return answer
