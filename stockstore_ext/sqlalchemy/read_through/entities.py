# ruff: noqa: SLF001 - what a statement consists of has no public names
"""What statements may ask of a mapped class: its keys, by the columns that they are made of."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BIGINT,
    DATE,
    INTEGER,
    SMALLINT,
    BigInteger,
    Column,
    Date,
    Index,
    Integer,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapper
from sqlalchemy.types import TypeEngine

from stockstore.errors import StockstoreError
from stockstore.keys import KeyPlan, keys_of

_SLOT: Final = "stockstore.entity"
_ORDERED: Final[frozenset[type]] = frozenset((BIGINT, BigInteger, DATE, Date, INTEGER, Integer, SMALLINT, SmallInteger))
"""Types whose order in Python is that of every database; text has the order of its collation."""


class KeyForm(NamedTuple):
    """A key by which a statement may ask for rows of a class.

    Attributes:
        plan: The key.
        types: The types of each name's columns, in the order of ``plan.names``.
        is_identity: Whether it is the primary key.
        is_index: Whether any number of rows may have the same values.
    """

    plan: KeyPlan
    types: tuple[tuple[TypeEngine[Any], ...], ...]
    is_identity: bool
    is_index: bool = False


class Entity:
    """One mapped class as statements see it. Made by :func:`entity_of`.

    Attributes:
        cls: The class.
        mapper: Its mapper.
        names: The attributes that keys are made of, by each of their columns.
        forms: The keys that the database keeps unique, and the indexes, by their names.
        alone: Those of one name.
        by_key: The order by the primary key.
        metadata: What results of it have in common, once one was made.
        orders: All column attributes, by each of their columns, with whether Python orders the cached values as the database does its own.
    """

    def __init__(self, mapper: Mapper[Any]) -> None:
        """Look at the mapping once."""
        self.cls: type = mapper.class_
        self.mapper = mapper
        self.forms = {frozenset(form.plan.names): form for form in (*_indexes(mapper), *_forms(mapper))}
        self.alone = {form.plan.names[0]: form for form in self.forms.values() if len(form.plan.names) == 1}
        keyed = frozenset[str]().union(*self.forms)
        columns = [(column, prop.key) for prop in mapper.column_attrs for column in prop.columns if isinstance(column, Column)]
        self.names: dict[Any, str] = {column: name for column, name in columns if name in keyed}
        self.by_key = tuple([(mapper.get_property_by_column(column).key, False) for column in mapper.primary_key])
        self.metadata: Any = None
        self.orders: dict[Any, tuple[str, bool]] = {
            # The caches have no values of deferred columns.
            column: (name, type(column.type) in _ORDERED and not (column.nullable or mapper.column_attrs[name].deferred))
            for column, name in columns
        }


def entity_of(mapper: Mapper[Any]) -> Entity:
    """Give the entity of a mapper, made at the first call and kept as long as the mapping."""
    info: dict[Any, Any] = mapper.class_manager.info
    entity: Entity | None = info.get(_SLOT)
    if entity is None or entity.mapper is not mapper:
        entity = info[_SLOT] = Entity(mapper)
    return entity


def entity_selected(column: Any) -> Entity | None:
    """Give the entity that stands as a whole in a statement's list of columns, or is what it selects from."""
    mapper = column._annotations.get("parententity")
    return entity_of(mapper) if type(mapper) is Mapper and column._is_from_clause else None


def unannotated(column: Any) -> Any:
    """Give the table's own column that an attribute of a class stands for."""
    return column.__dict__.get("_Annotated__element", column)


def _forms(mapper: Mapper[Any]) -> Iterator[KeyForm]:
    try:
        keys = keys_of(mapper.class_)
    except StockstoreError:  # who uses the class with a store is told
        return
    for plan in keys.plans:
        columns = [mapper.column_attrs[name].columns for name in plan.names]
        if plan is keys.identity or _is_unique(mapper, columns):
            yield KeyForm(plan, tuple(tuple([column.type for column in each]) for each in columns), plan is keys.identity)


def _indexes(mapper: Mapper[Any]) -> Iterator[KeyForm]:
    try:
        plans = keys_of(mapper.class_).indexes
    except StockstoreError:
        return
    for plan in plans:
        columns = [mapper.column_attrs[name].columns for name in plan.names]
        yield KeyForm(plan, tuple(tuple([column.type for column in each]) for each in columns), is_identity=False, is_index=True)


def _is_unique(mapper: Mapper[Any], columns: list[Any]) -> bool:
    """Whether the database lets no two rows carry the same values: a key that is only said to be unique may be that of several."""
    given = {column for each in columns for column in each}
    return any(unique <= given for table in mapper.tables if isinstance(table, Table) for unique in _unique_sets(table))


def _unique_sets(table: Table) -> Iterator[set[Any]]:
    for constraint in table.constraints:
        if isinstance(constraint, (PrimaryKeyConstraint, UniqueConstraint)) and len(constraint.columns):
            yield set(constraint.columns)
    for index in table.indexes:
        if index.unique and not _is_partial(index):
            yield set(index.expressions)


def _is_partial(index: Index) -> bool:
    return any(options.get("where") is not None for options in index.dialect_options.values())
