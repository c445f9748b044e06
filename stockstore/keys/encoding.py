"""Key values: one canonical form per value, and its text.

The canonical form is what process memory hashes: an ``int`` or ``str`` as it is, everything
else its typed text in a one-tuple. Numbers that compare equal have one form; values of
different kinds never share one.
"""

import enum
import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from math import isfinite
from numbers import Integral
from typing import TypeAlias
from urllib.parse import quote, quote_from_bytes
from uuid import UUID

from stockstore.errors import CodecError

Canonical: TypeAlias = int | str | tuple[str]

_SAFE = "@.+-_~"
is_plain = re.compile(r"[A-Za-z0-9@.+\-_~]*", re.ASCII).fullmatch
DECIMAL_BELOW = 10**18
_LARGEST_EXPONENT = 400
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def canonical(value: object) -> Canonical:
    """Give the canonical form of one key value.

    Raises:
        CodecError: A value of this type cannot be part of a key.

    >>> canonical(True), canonical(1.0), canonical("1"), canonical(b"1")
    (1, 1, '1', ('b1',))
    """
    kind = type(value)
    if kind is int or kind is str:
        return value  # type: ignore[return-value]
    for types, encode in _ENCODERS:
        if isinstance(value, types):
            try:
                return encode(value)
            except (TypeError, ValueError, AttributeError) as error:  # it only says that it is of that type
                raise CodecError(
                    f"a key value of type {kind.__module__}.{kind.__qualname__} cannot be read: {error}; give a plain one"
                ) from error
    raise CodecError(
        f"a key value cannot be of type {kind.__module__}.{kind.__qualname__} ({value!r}); use numbers, text, bytes, UUID, dates or enums"
    )


def text_of(value: Canonical) -> str:
    """Give the text of a canonical form: printable ASCII without white space or colons."""
    if type(value) is int:
        return f"i{value}" if -DECIMAL_BELOW < value < DECIMAL_BELOW else f"x{value:x}"
    if type(value) is str:
        return "s" + escape(value)
    return value[0]  # type: ignore[index]


def escape(text: str) -> str:
    """Give text as printable ASCII without white space or colons.

    >>> escape("a b:ü")
    'a%20b%3A%C3%BC'
    """
    return text if is_plain(text) else quote(text, safe=_SAFE, errors="surrogatepass")


def _number(value: "float | Decimal | Fraction") -> Canonical:
    if isinstance(value, Decimal) and value.is_nan():
        return _not_finite(float("nan"))
    if not value:
        return 0
    if isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) > _LARGEST_EXPONENT:
        raise CodecError(f"the key value {value!r} is out of range: a Decimal has an exponent of at most {_LARGEST_EXPONENT}")
    if not isinstance(value, Fraction) and not isfinite(value):
        return _not_finite(value)
    above, below = value.as_integer_ratio()
    return above if below == 1 else (f"q{above:x}/{below:x}",)


def _not_finite(value: "float | Decimal") -> Canonical:
    if value != value:  # noqa: PLR0124 - NaN is the one value that differs from itself
        raise CodecError("NaN cannot be part of a key: it equals nothing, not even itself")
    return ("f+" if value > 0 else "f-",)


def _enum(value: enum.Enum) -> Canonical:
    kind = type(value)
    # Whether a combination of flags has a name depends on the version of Python.
    name = str(value._value_) if isinstance(value, enum.Flag) else value._name_
    return (f"e{escape(kind.__module__)}/{escape(kind.__qualname__)}/{escape(name)}",)


def _moment(value: datetime) -> Canonical:
    if value.utcoffset() is None:
        return ("t" + escape(value.replace(fold=0).isoformat()),)
    try:
        return ("T" + escape(value.astimezone(timezone.utc).replace(tzinfo=None).isoformat()),)
    except OverflowError:  # the instant lies in the year 0 or 10000 of UTC
        return ("T" + _span(value - _EPOCH),)


def _time(value: time) -> Canonical:
    return ("h" + escape(value.replace(fold=0).isoformat()),)


def _duration(value: timedelta) -> Canonical:
    return (_span(value),)


def _span(value: timedelta) -> str:
    return f"p{value.days}.{value.seconds}.{value.microseconds}"


def _address(value: object) -> Canonical:
    return (f"a{type(value).__name__}.{escape(str(value))}",)


# The order decides: an enum member may be an int or a str too, a datetime is a date, a bool an int.
_ENCODERS: tuple[tuple[type | tuple[type, ...], Callable[..., Canonical]], ...] = (
    (enum.Enum, _enum),
    (str, str.__str__),
    (Integral, int),
    ((float, Decimal, Fraction), _number),
    (type(None), lambda _: ("n",)),
    ((bytes, bytearray, memoryview), lambda v: ("b" + quote_from_bytes(bytes(v), safe=_SAFE),)),
    (UUID, lambda v: (f"u{v.hex}",)),
    (datetime, _moment),
    (date, lambda v: ("d" + v.isoformat(),)),
    (time, _time),
    (timedelta, _duration),
    ((IPv4Address, IPv6Address, IPv4Interface, IPv6Interface, IPv4Network, IPv6Network), _address),
)
