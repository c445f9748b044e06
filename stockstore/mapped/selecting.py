"""The statements by which rows are read as plain columns: no entity, no session, no event of one."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from operator import itemgetter
from typing import Any, Final, Literal, TypeAlias

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Dialect,
    Integer,
    Select,
    SmallInteger,
    String,
    Table,
    and_,
    any_,
    bindparam,
    cast,
    func,
    inspect,
    literal_column,
    select,
    tuple_,
)
from sqlalchemy.orm import Mapper

from stockstore.keys import keys_of
from stockstore.mapped.columns import UNLOADED, Json, kind_of
from stockstore.mapped.documents import Documents, are_known
from stockstore.mapped.hydrate import identity_class
from stockstore.mapped.parameters import chunks, key_limit
from stockstore.mapped.plan import MappedPlan, plan_of
from stockstore.mapped.rows import Parsed

Row = tuple[MappedPlan, tuple[Any, ...]]
"""A row's class and column state, as ``RowSnapshot`` takes them."""

_SLOT: Final = "stockstore.hierarchy"
_Way: TypeAlias = Literal["one", "several", "numbers"]
_NUMBERS: Final = Integer(), SmallInteger(), BigInteger()
_HAS_JSON: Final = (3, 38)
"""The first version of SQLite that reads JSON however it was compiled."""
_LEVEL: Final = literal_column("current_setting('transaction_isolation')", String).label("stockstore_level")
_TRANSACTION: Final = literal_column("CAST(txid_current_if_assigned() AS text)", String).label("stockstore_transaction")


class Hierarchy:
    """The statements for the rows of one class and the classes below it, by one of its keys.

    Attributes:
        below: The mappers of the classes, the class's own first.
        is_plain: Whether each row stands in tables, and tells its class by a column of them.
        is_joined: Whether a row may stand in several tables.
    """

    def __init__(self, cls: type, names: tuple[str, ...], *, locked: bool) -> None:
        """Make the statements.

        Args:
            cls: A mapped class.
            names: The attributes of the key, in the order in which its values will be given.
            locked: Whether rows are locked in all of their tables.
        """
        self._mapper: Mapper[Any] = inspect(cls)
        root = identity_class(self._mapper)
        self._width = len(names)
        self._size = _size(self._mapper)
        self.below = [m for m in self._mapper.self_and_descendants if identity_class(m) is root]
        self._plans = [plan_of(mapper.class_) for mapper in self.below]
        told_by: Any = self._mapper.polymorphic_on
        self._by_discriminator = isinstance(told_by, Column) and told_by.table in self._mapper.tables
        # A concrete class may be told by a column of the union of all, which its own table does not need.
        alone = len(self.below) == 1 and (told_by is None or isinstance(told_by, Column))
        self.is_plain = all(isinstance(m.local_table, Table) for m in self.below) and (alone or self._by_discriminator)
        single = [m for m in self.below if m.persist_selectable is self._mapper.persist_selectable]
        key, identity = _columns_named(self._mapper, names), _columns_named(self._mapper, keys_of(root).identity.names)
        self._top = _Selection(self._mapper, key, identity, single, told_by if self._by_discriminator else None, locked=locked)
        self.is_joined = any(len(mapper.tables) > 1 for mapper in self.below)
        self._joined = {m: _Selection(m, identity, identity, [m], None, locked=locked) for m in self.below if m not in single}

    def is_current(self) -> bool:
        """Whether nothing was added to the mapping since."""
        return self._size == _size(self._mapper) and all(plan_of(plan.cls) is plan for plan in self._plans)

    def read(self, connection: Connection, keys: Sequence[tuple[object, ...]], told: set[str] | None = None) -> Sequence[Row | None]:
        """Give the rows of keys, ``None`` for one that does not tell its class.

        By one SELECT, and one more for each class found that has a table of its own (each per some thousands of keys).

        Args:
            connection: Where to read.
            keys: The values of each, in the order of the key's names.
            told: Takes the isolation level at which rows were read, or the id of the transaction in which they were locked, where the
                database tells it.
        """
        parts = chunks(keys, key_limit(connection.dialect, self._width))
        return [row for part in parts for row in self._read(connection, part, told)]

    def _read(self, connection: Connection, keys: Sequence[tuple[object, ...]], told: set[str] | None) -> Iterable[Row | None]:
        documents = self._top.documents_on(connection)
        rows = self._top.execute(connection, keys, documents, tells=told is not None)
        if told is not None and connection.dialect.name == "postgresql":
            told.update(row[-1].upper() for row in rows[:1] if row[-1] is not None)
        if not self._by_discriminator:
            return self._top.shaped(self._mapper, rows, documents)
        return self._told_apart(connection, rows, documents)

    def _told_apart(self, connection: Connection, rows: Sequence[Any], documents: Documents | None) -> Iterator[Row | None]:
        """Give the rows of several classes, those of subclasses with a table of their own last."""
        joined: dict[Mapper[Any], list[tuple[object, ...]]] = {}
        for row in rows:
            mapper = self._told(row[self._top.discriminator])
            if mapper is None:
                yield None
            elif mapper in self._joined:
                joined.setdefault(mapper, []).append(self._top.identity_of(row))
            elif mapper in self._top.shapes:
                yield from self._top.shaped(mapper, [row], documents)
        for mapper, found in joined.items():
            selection = self._joined[mapper]
            documents = selection.documents_on(connection)
            yield from selection.shaped(mapper, selection.execute(connection, found, documents), documents)

    def _told(self, discriminator: object) -> Mapper[Any] | None:
        # SQLAlchemy refuses to load a row that does not tell its class.
        return None if discriminator is None else self._mapper.polymorphic_map.get(discriminator)


class _Selection:
    """The statement for rows that stand in the same tables: the key, the columns, and behind them the discriminator, if any."""

    def __init__(
        self,
        mapper: Mapper[Any],
        key: Sequence[Any],
        identity: Sequence[Any],
        mappers: Sequence[Mapper[Any]],
        discriminator: Any,
        *,
        locked: bool,
    ) -> None:
        loaded = [column for m in mappers for column in _columns(m) if column is not UNLOADED]
        columns = [*dict.fromkeys([*key, *identity, *loaded])]
        self.discriminator = len(columns)
        self._selected = [*columns, *([] if discriminator is None else [discriminator])]
        self._told = _TRANSACTION if locked else _LEVEL
        given = [*self._selected, self._told]
        self.shapes = {m: (plan_of(m.class_), _state_of(_columns(m), given), _places_of_json(m, given)) for m in mappers}
        self._documents: dict[tuple[str, str], Documents] = {}
        self.identity_of = _state_of(identity, given)
        self._from, self._key, self._tables, self._locked = mapper.persist_selectable, key, list(mapper.tables), locked
        self._statements: dict[tuple[str, _Way, bool, bool, bool], Select[Any]] = {}

    def documents_on(self, connection: Connection) -> Documents | None:
        """Give the documents that are to be read as texts, if any."""
        if not self._locked:
            return None
        dialect = connection.dialect
        place = dialect.name, dialect.driver
        documents = self._documents.get(place)
        if documents is None:
            documents = self._documents[place] = Documents(self._selected, dialect)
        return documents if documents.places and are_known(connection) else None

    def shaped(self, mapper: Mapper[Any], rows: Sequence[Any], documents: Documents | None) -> Iterator[Row]:
        """Give rows of one class as such."""
        plan, state_of, json = self.shapes[mapper]
        states = map(state_of, rows)
        return zip(repeat(plan), map(Parsed, states) if documents is not None and json <= documents.places else states)

    def execute(
        self, connection: Connection, keys: Sequence[tuple[object, ...]], documents: Documents | None, *, tells: bool = False
    ) -> Sequence[Any]:
        """Give the rows of keys, locked where they are to be, some of their documents having been read as texts.

        With ``tells`` each has as its last value what PostgreSQL tells of the transaction: for rows that are locked its id, if it has
        one yet, for others its isolation level.
        """
        if len(keys) == 1 and not self._locked:
            values: dict[str, Any] = {f"key{at}": value for at, value in enumerate(keys[0])}
            return connection.execute(self._statement(connection.dialect, "one", tells, None), values).all()
        given: Any = [value for (value,) in keys] if len(self._key) == 1 else list(keys)
        numbers = self._as_text(connection.dialect, given)
        statement = self._statement(connection.dialect, "several" if numbers is None else "numbers", tells, documents)
        rows = connection.execute(statement, {"keys": numbers or given}).all()
        return rows if documents is None else documents.decoded(rows)

    def _as_text(self, dialect: Dialect, values: Sequence[object]) -> str | None:
        """Give all keys as one text, where they are plain numbers to a database that takes it; ``None`` where each is a parameter.

        SQLAlchemy, driver and server would take in each by itself. In an SQLite column that has numbers as texts no row is found so.
        """
        if not self._locked or len(self._key) > 1 or {*map(type, values)} != {int} or not _is_number(self._key[0], dialect):
            return None
        text = str(values)
        if dialect.name == "postgresql":
            return "{" + text[1:-1] + "}"
        return text if dialect.name == "sqlite" and (dialect.server_version_info or ()) >= _HAS_JSON else None

    def _statement(self, dialect: Dialect, way: _Way, tells: bool, documents: Documents | None) -> Select[Any]:
        skips = self._locked and _skips_locked(dialect)
        place = dialect.name, way, tells, documents is not None, skips
        statement = self._statements.get(place)
        if statement is None:
            statement = self._statements[place] = self._make(dialect.name, way, tells, documents, skips=skips)
        return statement

    def _make(self, dialect: str, way: _Way, tells: bool, documents: Documents | None, *, skips: bool) -> Select[Any]:
        condition = self._is_one() if way == "one" else self._is_number_in(dialect) if way == "numbers" else self._is_in(dialect)
        selected = self._selected if documents is None else documents.selected()
        statement = select(*selected).select_from(self._from).where(condition)
        if tells and dialect == "postgresql":
            statement = statement.add_columns(self._told)
        if not self._locked:
            return statement.execution_options(stockstore_internal=True)
        statement = statement.order_by(*self._key)
        if dialect == "sqlite":  # which has no locks of rows, and has locked the database for the writer
            return statement
        # Who has another table's part of a row locked may wait at his COMMIT for what this transaction has locked.
        if dialect == "postgresql":
            return statement.with_for_update(key_share=True, of=self._tables, skip_locked=skips)
        return statement.with_for_update(skip_locked=skips)

    def _is_one(self) -> ColumnElement[bool]:
        """Give the condition for one key, which takes less time than that for any number."""
        return and_(*(column == bindparam(f"key{at}", type_=column.type) for at, column in enumerate(self._key)))

    def _is_number_in(self, dialect: str) -> ColumnElement[bool]:
        column, keys = self._key[0], bindparam("keys", type_=String)
        if dialect == "postgresql":
            return column == any_(cast(keys, ARRAY(column.type)))  # type: ignore[no-any-return]
        return column.in_(select(func.json_each(keys).table_valued("value").c.value))  # type: ignore[no-any-return]

    def _is_in(self, dialect: str) -> ColumnElement[bool]:
        keys: Any = bindparam("keys", expanding=True)
        if len(self._key) > 1:
            return tuple_(*self._key).in_(keys)
        column = self._key[0]
        if dialect == "postgresql" and isinstance(column.type, Integer):
            # One parameter instead of as many as there are rows, each of which driver and server would take in by itself.
            return column == any_(bindparam("keys", type_=ARRAY(column.type)))  # type: ignore[no-any-return]
        return column.in_(keys)  # type: ignore[no-any-return]


def _skips_locked(dialect: Dialect) -> bool:
    """Whether a database can leave out rows that others have locked."""
    oldest = (10, 6) if getattr(dialect, "is_mariadb", False) else (8,) if dialect.name == "mysql" else (9, 5)
    return (dialect.server_version_info or ()) >= oldest


def _is_number(column: Any, dialect: Dialect) -> bool:
    kind = type(column.type.dialect_impl(dialect))
    return any(kind is type(number.dialect_impl(dialect)) for number in _NUMBERS)


def _columns_named(mapper: Mapper[Any], names: Sequence[str]) -> list[Any]:
    return [mapper.column_attrs[name].columns[0] for name in names]


def _columns(mapper: Mapper[Any]) -> list[Any]:
    """Give the column of each attribute of a state, ``UNLOADED`` where it is deferred."""
    props = [mapper.column_attrs[name] for name in plan_of(mapper.class_).attrs]
    return [UNLOADED if prop.deferred else prop.columns[0] for prop in props]


def _places_of_json(mapper: Mapper[Any], columns: Sequence[Any]) -> frozenset[int]:
    plan = plan_of(mapper.class_)
    props = [mapper.column_attrs[name] for name in plan.attrs]
    wanted = {prop.columns[0] for prop in props if isinstance(kind_of(prop), Json) and not prop.deferred}
    return frozenset(place for place, column in enumerate(columns) if column in wanted)


def _state_of(wanted: Sequence[Any], columns: Sequence[Any]) -> Callable[[Any], tuple[Any, ...]]:
    places = {column: position for position, column in reversed(list(enumerate(columns)))}
    positions = [None if column is UNLOADED else places[column] for column in wanted]
    loaded = [position for position in positions if position is not None]
    if len(loaded) < len(positions):
        return lambda row: tuple([UNLOADED if position is None else row[position] for position in positions])
    if loaded == list(range(len(loaded))):
        return itemgetter(slice(len(loaded)))
    get = itemgetter(*loaded)
    return get if len(loaded) > 1 else lambda row: (get(row),)


def _size(mapper: Mapper[Any]) -> int:
    return sum(1 for _ in mapper.self_and_descendants)


def hierarchy_of(cls: type, names: tuple[str, ...], *, locked: bool) -> Hierarchy:
    """Give the statements for a class and one of its keys, made once for as long as the mapping stays as it is."""
    known, slot = plan_of(cls).statements, (_SLOT, names, locked)
    hierarchy: Hierarchy | None = known.get(slot)
    if hierarchy is None or not hierarchy.is_current():
        hierarchy = known[slot] = Hierarchy(cls, names, locked=locked)
    return hierarchy
