"""Single values to bytes and back, every one with its exact Python type."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from stockstore.codecs._enums import enum_key
from stockstore.codecs._lowering import Refusal, Scope
from stockstore.errors import CodecError

_PLAIN = Scope()


def dumps(value: object, *, enums: Iterable[type[Enum]] = ()) -> bytes:
    """Return the self-describing bytes of a value.

    Understood are ``None``, ``bool``, ``int`` of any size, ``float``, ``complex``, ``str``, ``bytes``, ``bytearray``,
    ``Decimal``, ``Fraction``, ``UUID``, ``date``, ``time``, ``datetime``, ``timedelta``, ``range``, the types of ``ipaddress``,
    SQLAlchemy's ``Range``, ``MultiRange`` and ``BitString`` of PostgreSQL,
    enum members and combinations of flags; and ``list``, ``tuple``, ``set``, ``frozenset`` and ``dict`` of these, up to
    100 levels deep. Time zones are ``datetime.timezone`` or ``zoneinfo.ZoneInfo`` with a key; others are refused, because
    a fixed offset in their place would be another time zone. A subclass of any of these types is refused too,
    but for asyncpg's of ``UUID``, which comes back as a plain one.
    An enum class must be found again under its module and name; ``enums`` names further ones.

    The bytes carry no format version: whoever keeps them, keeps one beside them.

    Raises:
        CodecError: The value cannot come back with its exact type.

    Example:
        >>> from decimal import Decimal
        >>> loads(dumps((Decimal("1.50"), {"a", 1})) ) == (Decimal("1.50"), {"a", 1})
        True
    """
    try:
        return _scope(enums).encode(value)
    except Refusal as refusal:
        raise CodecError(f"value{refusal.path}: {refusal.problem}") from refusal.__cause__


def loads(data: bytes, *, enums: Iterable[type[Enum]] = ()) -> object:
    """Return the value of `dumps`.

    Runs no code that the bytes name: an enum class is only looked up, in ``enums`` and in the modules imported so far.

    Raises:
        CodecError: The bytes are damaged, or name an enum member that does not exist here.
    """
    try:
        return _scope(enums).decode(data)
    except Exception as error:
        raise CodecError(f"a stored value cannot be decoded: {error!r}; delete it, or treat it as absent") from error


def _scope(enums: Iterable[type[Enum]]) -> Scope:
    return Scope({enum_key(cls): cls for cls in enums}) if enums else _PLAIN
