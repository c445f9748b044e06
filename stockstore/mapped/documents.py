"""JSON documents of rows that are read again, decoded in a seventh of the time that ``json.loads`` takes.

They are read as the texts that they are, where an application's SELECT would have them from ``json.loads`` and nothing else. What
msgspec decodes is what ``json.loads`` makes of it; what it refuses (NaN, numbers out of range, lone surrogates) is decoded by that.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, Final

from msgspec.json import Decoder
from sqlalchemy import JSON, Column, ColumnElement, Connection, Dialect, String, Text, cast, func, type_coerce
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine

_DECODE: Final = Decoder().decode
_TYPES: Final[tuple[TypeEngine[Any], ...]] = (JSON(), postgresql.JSONB())
_TEXTS: Final = frozenset((str, type(None)))
_PSYCOPG: Final = frozenset(("psycopg", "psycopg_binary", "psycopg_c"))
"""Where its own loader of texts may be, in Python or in C."""
_TEXT: Final = 25
Decode = Callable[[Any], object]


class Documents:
    """Those of a selection's columns whose documents can be read as texts on one sort of database.

    Args:
        columns: All that is selected.
        dialect: The database.

    Attributes:
        places: The positions of these columns.
    """

    def __init__(self, columns: Sequence[Column[Any]], dialect: Dialect) -> None:
        """Find the columns that are of a dialect's own JSON types, whatever stands around these in a mapping."""
        own = {type(kind.dialect_impl(dialect)) for kind in _TYPES}
        kinds = [column.type.dialect_impl(dialect) for column in columns]
        self._otherwise: dict[int, Decode] = {
            place: kind.result_processor(dialect, None) or loads for place, kind in enumerate(kinds) if type(kind) in own
        }
        self.places = frozenset(self._otherwise)
        self._columns, self._dialect = columns, dialect.name

    def selected(self) -> list[ColumnElement[Any]]:
        """Give what is to be selected in place of the columns."""
        return [self._as_text(column) if place in self.places else column for place, column in enumerate(self._columns)]

    def _as_text(self, column: Column[Any]) -> ColumnElement[Any]:
        # On SQLite they are texts, which SQLAlchemy would decode. What is no JSON after all in PostgreSQL's table becomes it here.
        return type_coerce(column, String) if self._dialect == "sqlite" else cast(func.pg_catalog.to_json(column), Text)

    def decoded(self, rows: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Give rows of what was selected with their documents."""
        if not rows:
            return []
        columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
        for place, otherwise in self._otherwise.items():
            columns[place] = decode(columns[place], otherwise)
        return list(zip(*columns, strict=True))


def decode(texts: Sequence[Any], otherwise: Decode) -> Sequence[Any]:
    """Give documents by their texts, ``None`` for one that is missing; all of them as given where one needs it."""
    if _TEXTS.issuperset(map(type, texts)):
        with suppress(Exception):
            return [None if value is None else _DECODE(value) for value in texts]
    return list(map(otherwise, texts))


def loads(value: Any) -> object:
    """Give the document of a text, as psycopg does it."""
    return None if value is None else json.loads(value)


def are_known(connection: Connection) -> bool:
    """Whether the documents that a connection reads come out of ``json.loads``, as far as its dialect's own JSON types go."""
    dialect = connection.dialect
    if getattr(dialect, "_json_deserializer", loads) is not None:  # create_engine's json_deserializer
        return False
    if dialect.name == "sqlite":
        return True
    if dialect.driver != "psycopg":
        return False
    with suppress(Exception):  # a driver's connection may be anybody's class
        return _loads_as_usual(connection.connection.driver_connection)
    return False


def _loads_as_usual(driver: Any) -> bool:
    """Whether nobody has told psycopg how to load JSON or texts, on a connection or for all of them."""
    loader_of, (form, usual) = driver.adapters.get_loader, _usual()
    known = all(loader_of(oid, form) is loader and loader(oid).loads is json.loads for oid, loader in usual)
    text: type = loader_of(_TEXT, form)
    as_usual = text.__name__ == "TextLoader" and text.__module__.partition(".")[0] in _PSYCOPG
    return known and as_usual and driver.info.encoding == "utf-8"


@cache
def _usual() -> tuple[Any, tuple[tuple[int, Any], ...]]:
    """Give psycopg's name for the form of texts, and its own loaders of JSON by the types' ids."""
    from psycopg.pq import Format
    from psycopg.types.json import JsonbLoader, JsonLoader

    return Format.TEXT, ((114, JsonLoader), (3802, JsonbLoader))
