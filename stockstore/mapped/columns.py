"""What is known of a column's values before any value was seen."""

import datetime as dt
import decimal
import enum
import uuid
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import types
from sqlalchemy.orm import ColumnProperty
from sqlalchemy.types import TypeEngine


class _Unloaded(enum.Enum):
    # An enum member stays itself under copy, pickle and a type checker's narrowing.
    UNLOADED = "UNLOADED"

    def __repr__(self) -> str:
        return "UNLOADED"


UNLOADED: Final = _Unloaded.UNLOADED
"""Stands in a state for a column that is deferred, expired or was never loaded."""


@dataclass(frozen=True)
class Native:
    """Values are exactly of one type that msgspec writes and reads back unchanged."""

    python_type: type


@dataclass(frozen=True)
class Json:
    """Values come out of ``json.loads``."""


@dataclass(frozen=True)
class Members:
    """Values are members of one enumeration, stored by name."""

    enum_class: type[enum.Enum]


@dataclass(frozen=True)
class Moments:
    """Values are datetimes, as a rule with a time zone."""


@dataclass(frozen=True)
class Anything:
    """Nothing is known: the self-describing value codec takes them."""


Kind = Native | Json | Members | Moments | Anything

_FIXED: Final[tuple[tuple[type[TypeEngine[Any]], type], ...]] = (
    (types.Boolean, bool),
    (types.Integer, int),
    (types.String, str),
    (types.LargeBinary, bytes),
    (types.Date, dt.date),
    (types.Time, dt.time),
    (types.Interval, dt.timedelta),
)


def kind_of(column_property: ColumnProperty[Any]) -> Kind:
    """Say which values a mapped column gives; :class:`Anything` where its type does not tell."""
    type_: TypeEngine[Any] = column_property.columns[0].type
    # A TypeDecorator is none of the classes below, and Interval, which is one, is known all the same.
    if isinstance(type_, types.Enum):
        return _enum(type_.enum_class)
    if isinstance(type_, types.JSON):
        return Json()
    if isinstance(type_, types.Numeric | types.Float):  # a Float is a Numeric up to SQLAlchemy 2.0
        return Native(decimal.Decimal if type_.asdecimal else float)
    if isinstance(type_, types.DateTime):
        return Moments() if type_.timezone else Native(dt.datetime)
    if isinstance(type_, types.Uuid):
        return Native(uuid.UUID if type_.as_uuid else str)
    return next((Native(python) for sql, python in _FIXED if isinstance(type_, sql)), Anything())


def _enum(enum_class: type[enum.Enum] | None) -> Kind:
    if enum_class is None:
        return Native(str)
    # A combination of flags is a value of its class and has no name of its own.
    return Anything() if issubclass(enum_class, enum.Flag) else Members(enum_class)
