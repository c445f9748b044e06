"""Which values of a column are in the database as the program has them."""

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import CHAR, Boolean, Date, Dialect, Float, Integer, LargeBinary, Numeric, String, Uuid, inspect
from sqlalchemy.orm import Mapper
from sqlalchemy.types import TypeDecorator, TypeEngine

from stockstore.codecs.drivers import is_uuid_of_driver
from stockstore.keys import IndexPlan
from stockstore.mapped.columns import Anything, Members, Moments, Native, kind_of

_EXACT_TEXT: Final = frozenset(("postgresql", "sqlite"))
"""Databases that take texts for different which differ, unless a column says otherwise."""
_LISTED: Final = frozenset((int, str, bool, bytes, dt.date, uuid.UUID))
"""What has one form alone in Python and in any database."""


class Part:
    """One column of a key."""

    def __init__(self, prop: Any) -> None:
        """Look at the column of a mapped attribute."""
        self.type: TypeEngine[Any] = prop.columns[0].type
        kind = kind_of(prop)
        self.custom = isinstance(kind, Anything)
        self.python = kind.enum_class if isinstance(kind, Members) else _python(kind)
        self.folded = isinstance(self.type, Uuid) and self.python is str
        """Whether one value has several texts, of which the database gives one: of a UUID those in capitals, and without hyphens."""
        # CHAR is padded, a number rounded to its scale.
        self.rounded = isinstance(self.type, CHAR | Numeric | Float)
        self._simple = self.custom or isinstance(kind, Members) or self.python in _LISTED

    def as_stored(self, value: object, dialect: Dialect) -> object:
        """Give a value as it comes back from the database; ValueError where that cannot be told."""
        if self.custom:
            return _there_and_back(self.type.dialect_impl(dialect), value, dialect)
        if self.rounded or (type(value) is not self.python and not (self.python is uuid.UUID and is_uuid_of_driver(type(value)))):
            raise ValueError(f"{value!r} may be stored as another value")
        return str(uuid.UUID(value)) if self.folded else value  # type: ignore[arg-type]  # a text

    def is_told_apart(self, dialect: Dialect) -> bool:
        """Whether an equal value in a WHERE is the same value."""
        if self.rounded or self.python is not str:
            return not self.rounded
        return _is_exact_text(self.type.dialect_impl(dialect), dialect)

    def can_be_listed(self, dialect: Dialect) -> bool:
        """Whether the rows that a WHERE finds by a value are those, and all of those, that have this very value in Python."""
        return self._simple and self.is_told_apart(dialect) and (not self.custom or _is_plain(self.type, dialect))

    def is_as_stored(self, value: object, dialect: Dialect) -> bool:
        """Whether a value is just what comes back from the database for it."""
        if value is None:
            return not self.custom
        stored = self.as_stored(value, dialect)
        return type(stored) is type(value) and stored == value


def _python(kind: object) -> type | None:
    return kind.python_type if isinstance(kind, Native) else dt.datetime if isinstance(kind, Moments) else None


def _is_exact_text(impl: Any, dialect: Dialect) -> bool:
    return dialect.name in _EXACT_TEXT and impl.collation is None and type(impl).__name__ != "CITEXT"


def _is_plain(type_: TypeEngine[Any], dialect: Dialect) -> bool:
    """Whether what an application's own type is stored as tells values apart."""
    impl: Any = type_.dialect_impl(dialect)
    impl = impl.impl_instance if isinstance(impl, TypeDecorator) else impl
    if isinstance(impl, String):
        return not isinstance(impl, CHAR) and _is_exact_text(impl, dialect)
    return isinstance(impl, Integer | Boolean | Uuid | LargeBinary | Date)


def _there_and_back(type_: TypeEngine[Any], value: object, dialect: Dialect) -> object:
    there, back = type_.bind_processor(dialect), type_.result_processor(dialect, None)
    if there is None and back is None and not isinstance(type_, TypeDecorator):
        raise ValueError(f"what the database makes of {value!r} is not known")
    bound = value if there is None else there(value)
    return bound if back is None else back(bound)


def parts_of(plan: IndexPlan) -> list[Part]:
    """Give the columns of an index, in the order of its names."""
    parts: list[Part] | None = plan.__dict__.get("_parts")
    if parts is None:
        mapper: Mapper[Any] = inspect(plan.owner)
        parts = plan.__dict__.setdefault("_parts", [Part(mapper.column_attrs[name]) for name in plan.names])
    return parts


def keeps_lists(plan: IndexPlan, dialect: Dialect) -> bool:
    """Whether caches may keep lists by an index.

    They may not where the database takes more values for equal than Python does (collations, padding, conversions), or has values otherwise
    than Python (rounding, time zones): a write of one of them would not tell of the list of the other.
    """
    return all(part.can_be_listed(dialect) for part in parts_of(plan))


def keeps_list(plan: IndexPlan, values: Sequence[object], dialect: Dialect) -> bool:
    """Whether caches may keep the list of the rows that a WHERE finds by these values of an index."""
    try:
        return keeps_lists(plan, dialect) and all(
            part.is_as_stored(value, dialect) for part, value in zip(parts_of(plan), values, strict=True)
        )
    except Exception:  # noqa: BLE001 - a type may be anybody's class
        return False


def stored_in_list(plan: IndexPlan, values: Sequence[object], dialect: Dialect) -> list[object]:
    """Give the values of an index as they come back from the database; ValueError, or whatever a type raises, where that cannot be told."""
    parts = zip(parts_of(plan), values, strict=True)
    return [value if value is None and not part.custom else part.as_stored(value, dialect) for part, value in parts]
