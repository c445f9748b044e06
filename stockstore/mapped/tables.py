"""Which mapped classes have their rows in a table.

A class is named by its root: all tables of a hierarchy lead to it. Tables match by name, and by schema where both have one.
"""

import re
import weakref
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import Join, MetaData, Table, event
from sqlalchemy.orm import Mapper
from sqlalchemy.sql.expression import TableClause

from stockstore.keys import forget_keys
from stockstore.mapped.foreign_keys import acting_keys, dependents, target_name
from stockstore.mapped.hydrate import constructed_mappers, identity_class, plan_slot

_PLAIN: Final = re.compile(r"\w+")
_DELETING: Final = frozenset(("delete", "replace", "merge"))
_CHANGING: Final = frozenset(("update", "replace", "merge"))
Roots = frozenset[type]
_NONE: Final[Roots] = frozenset()
_replacing: Final[WeakKeyDictionary[Table, bool]] = WeakKeyDictionary()


class _Place(NamedTuple):
    """A schema, and a mapper that has a table in it, kept weakly."""

    schema: str | None
    mapper: "weakref.ref[Mapper[Any]]"


class _Index:
    """The roots by the lower-case names of their tables."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.places: dict[str, list[_Place]] = {}
        self.metadatas: WeakSet[MetaData] = WeakSet()
        for mapper in constructed_mappers():
            for table in mapper.tables:
                self._add(table, mapper)
                if isinstance(table, Table):
                    self.metadatas.add(table.metadata)

    def _add(self, table: Any, mapper: Mapper[Any]) -> None:
        name, schema = _lower(getattr(table, "name", "")), getattr(table, "schema", None)
        self.places.setdefault(name, []).append(_Place(schema and _lower(schema), weakref.ref(mapper)))

    def mappers(self, name: str, schema: str | None) -> list[Mapper[Any]]:
        places, wanted = self.places.get(_lower(name), ()), schema and _lower(schema)
        mappers = (place.mapper() for place in places if wanted is None or place.schema is None or place.schema == wanted)
        # One whose mapping was taken back goes when nobody holds it any more.
        return [mapper for mapper in mappers if mapper is not None and plan_slot(mapper.class_) is not None]

    def roots(self, name: str, schema: str | None) -> Roots:
        return frozenset(map(identity_class, self.mappers(name, schema)))


def _lower(name: str) -> str:
    """Give a name in lower case: SQLAlchemy's own that are to be quoted give themselves."""
    return str(name).lower()


_version = 0
_index: _Index | None = None


@event.listens_for(Mapper, "after_mapper_constructed")
def _after_mapper_constructed(_mapper: Mapper[Any], cls: type) -> None:
    global _version  # noqa: PLW0603 - it belongs to SQLAlchemy's registries, which are global too
    _version += 1
    forget_keys(cls)


def mapping_version() -> int:
    """Give a number that no other has once another class is mapped."""
    return _version


def _current() -> _Index:
    global _index  # noqa: PLW0603 - as above
    index, version = _index, _version
    if index is None or index.version != version:
        index = _index = _Index(version)
    return index


def roots_of(table: TableClause, *, any_schema: bool = False) -> Roots:
    """Give the roots that have rows in a table; ``any_schema`` where the schema it names is not the one it is executed in."""
    return _current().roots(table.name, None if any_schema else getattr(table, "schema", None))


def mappers_in(table: Table) -> list[Mapper[Any]]:
    """Give the mappers that have rows in a table."""
    return _current().mappers(table.name, table.schema)


def identity_columns(table: Table) -> dict[type, list[Any]]:
    """Give for each root that has rows in a table the columns by which the table tells their identity, where it does."""
    found: dict[type, list[Any]] = {}
    for mapper in mappers_in(table):
        columns = columns_of_identity(mapper, table)
        if columns is not None:
            found[identity_class(mapper)] = columns
    return found


def columns_of_identity(mapper: Mapper[Any], table: object) -> list[Any] | None:
    """Give the columns of one of a mapper's tables that carry the primary key, in its order; ``None`` where there are none."""
    found = [
        next((column for column in mapper.get_property_by_column(key).columns if getattr(column, "table", None) is table), None)
        for key in mapper.primary_key
    ]
    return None if any(column is None for column in found) else found


def has_shared_rows(mapper: Mapper[Any]) -> bool:
    """Whether a class is mapped to a join in which a row of a table may be part of several objects."""
    return isinstance(mapper.local_table, Join) and any(columns_of_identity(mapper, table) is None for table in mapper.tables)


def roots_named(names: Iterable[str]) -> Roots:
    """Give the roots that have rows in tables of these names, whatever the schema."""
    index = _current()
    return _NONE.union(*(index.roots(name, None) for name in names))


def all_roots() -> Roots:
    """Give the roots of all mapped classes."""
    index = _current()
    return roots_named(index.places)


def replaces(table: object) -> bool:
    """Whether a new value of a unique column makes SQLite delete another row, by ``ON CONFLICT REPLACE`` in the table's definition."""
    if not isinstance(table, Table):
        return False
    if table not in _replacing:
        settings = (value for part in (*table.constraints, *table.columns) for value in part.dialect_kwargs.values())
        _replacing[table] = any(str(value).upper() == "REPLACE" for value in settings)
    return _replacing[table]


def roots_in_text(sql: str, words: AbstractSet[str]) -> Roots:
    """Give the roots of whose tables a text that writes names one, and those of which the database changes rows along.

    Args:
        sql: The text.
        words: The words in it, in lower case.
    """
    index, text = _current(), sql.lower()
    odd = (name for name in index.places if not _PLAIN.fullmatch(name) and (name in text or name.replace('"', '""') in text))
    names = {*words, *odd}
    tables = [table for metadata in list(index.metadatas) for table in list(metadata.tables.values())]
    along = (_changed_along(table, words) for table in tables if _lower(table.name) in names)
    if "cascade" in words:
        names |= _referrers(names, tables)
    return roots_named(names.union(*along))


def _changed_along(table: Table, words: AbstractSet[str]) -> frozenset[str]:
    deleted = dependents(table, "ondelete") if not words.isdisjoint(_DELETING) else frozenset[str]()
    referred = {_lower(key.column.name) for key in acting_keys(table, "onupdate")}
    changes = not words.isdisjoint(_CHANGING) and not referred.isdisjoint(words)
    return deleted | dependents(table, "onupdate") if changes else deleted


def _referrers(names: AbstractSet[str], tables: Iterable[Table]) -> set[str]:
    """Give the names of the tables that refer to some, and of those that refer to them."""
    referrers: dict[str, set[str]] = {}
    for table in tables:
        for key in table.foreign_keys:
            referrers.setdefault(_lower(target_name(key)), set()).add(_lower(table.name))
    found, waiting = set(names), list(names)
    while waiting:
        fresh = referrers.get(waiting.pop(), set()) - found
        found |= fresh
        waiting += fresh
    return found
