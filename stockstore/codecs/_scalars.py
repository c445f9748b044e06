"""Single values that msgpack does not know: their bytes, and the way back.

The codes are part of the stored format: never reuse one.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
import struct
import uuid
import zoneinfo
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

_TIMEDELTA = struct.Struct(">iii")
_COMPLEX = struct.Struct(">dd")
_MICROSECOND = dt.timedelta(microseconds=1)
_ZONE_KEY = re.compile(r"[A-Za-z0-9_+\-]+(/[A-Za-z0-9_+\-]+)*")


def _int_to_bytes(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def _int_from_bytes(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)


def _fraction_to_bytes(value: Fraction) -> bytes:
    numerator = _int_to_bytes(value.numerator)
    return len(numerator).to_bytes(4, "big") + numerator + _int_to_bytes(value.denominator)


def _fraction_from_bytes(data: bytes) -> Fraction:
    end = 4 + int.from_bytes(data[:4], "big")
    return Fraction(_int_from_bytes(data[4:end]), _int_from_bytes(data[end:]))


def _timedelta_to_bytes(value: dt.timedelta) -> bytes:
    return _TIMEDELTA.pack(value.days, value.seconds, value.microseconds)


def _timedelta_from_bytes(data: bytes) -> dt.timedelta:
    return dt.timedelta(*_TIMEDELTA.unpack(data))


def _zone_text(zone: dt.tzinfo | None) -> str:
    if zone is None:
        return ""
    if type(zone) is dt.timezone:
        offset = zone.utcoffset(None)
        name = zone.tzname(None)
        named = "" if name == dt.timezone(offset).tzname(None) else f"|{name}"
        return f"@{offset // _MICROSECOND}{named}"
    if type(zone) is zoneinfo.ZoneInfo and _ZONE_KEY.fullmatch(zone.key or ""):
        return zone.key
    raise ValueError(
        f"cannot encode a time zone of type {type(zone).__module__}.{type(zone).__qualname__}; use datetime.timezone, or zoneinfo.ZoneInfo by its key"
    )


def _zone_from_text(text: str) -> dt.tzinfo | None:
    if not text:
        return None
    if not text.startswith("@"):
        if not _ZONE_KEY.fullmatch(text):
            raise ValueError(f"not the key of a time zone: {text!r}")
        return zoneinfo.ZoneInfo(text)
    micros, named, name = text[1:].partition("|")
    offset = int(micros) * _MICROSECOND
    return dt.timezone(offset, name) if named else dt.timezone(offset)


def _clock_to_bytes(value: Any) -> bytes:
    """The ISO text of a time or datetime; what that text cannot say follows a bar."""
    zone = value.tzinfo
    if not value.fold and (zone is None or zone is dt.timezone.utc):
        return value.isoformat().encode()  # type: ignore[no-any-return]
    naive = value.replace(tzinfo=None).isoformat()
    return f"{naive}|{value.fold}|{_zone_text(zone)}".encode("utf-8", "surrogatepass")


def _clock_from_bytes(cls: Any) -> Callable[[bytes], object]:
    def from_bytes(data: bytes) -> object:
        text, bar, rest = data.decode("utf-8", "surrogatepass").partition("|")
        value = cls.fromisoformat(text)
        if not bar:
            return value
        fold, _, zone = rest.partition("|")
        return value.replace(fold=int(fold), tzinfo=_zone_from_text(zone))

    return from_bytes


def _text(value: object) -> bytes:
    return str(value).encode()


def _from_text(cls: Callable[[str], object]) -> Callable[[bytes], object]:
    def from_bytes(data: bytes) -> object:
        return cls(data.decode())

    return from_bytes


def _uuid_from_bytes(data: bytes) -> uuid.UUID:
    return uuid.UUID(bytes=data)


def _uuid_to_bytes(value: uuid.UUID) -> bytes:
    return value.bytes


def _str_to_bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")


def _str_from_bytes(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _complex_to_bytes(value: complex) -> bytes:
    return _COMPLEX.pack(value.real, value.imag)


def _complex_from_bytes(data: bytes) -> complex:
    return complex(*_COMPLEX.unpack(data))


def _range_to_bytes(value: range) -> bytes:
    return f"{value.start:x} {value.stop:x} {value.step:x}".encode()


def _range_from_bytes(data: bytes) -> range:
    start, stop, step = (int(part, 16) for part in data.split(b" "))
    return range(start, stop, step)


_TABLE: tuple[tuple[int, type, Callable[[Any], bytes], Callable[[bytes], object]], ...] = (
    (16, int, _int_to_bytes, _int_from_bytes),
    (17, str, _str_to_bytes, _str_from_bytes),
    (18, bytearray, bytes, bytearray),
    (19, Decimal, _text, _from_text(Decimal)),
    (20, uuid.UUID, _uuid_to_bytes, _uuid_from_bytes),
    (21, dt.date, _text, _from_text(dt.date.fromisoformat)),
    (22, dt.time, _clock_to_bytes, _clock_from_bytes(dt.time)),
    (23, dt.datetime, _clock_to_bytes, _clock_from_bytes(dt.datetime)),
    (24, dt.timedelta, _timedelta_to_bytes, _timedelta_from_bytes),
    (25, Fraction, _fraction_to_bytes, _fraction_from_bytes),
    (26, complex, _complex_to_bytes, _complex_from_bytes),
    (27, range, _range_to_bytes, _range_from_bytes),
    (28, ipaddress.IPv4Address, _text, _from_text(ipaddress.IPv4Address)),
    (29, ipaddress.IPv6Address, _text, _from_text(ipaddress.IPv6Address)),
    (30, ipaddress.IPv4Network, _text, _from_text(ipaddress.IPv4Network)),
    (31, ipaddress.IPv6Network, _text, _from_text(ipaddress.IPv6Network)),
    (32, ipaddress.IPv4Interface, _text, _from_text(ipaddress.IPv4Interface)),
    (33, ipaddress.IPv6Interface, _text, _from_text(ipaddress.IPv6Interface)),
)

TO_BYTES: dict[type, tuple[int, Callable[[Any], bytes]]] = {cls: (code, to_bytes) for code, cls, to_bytes, _ in _TABLE}
FROM_BYTES: dict[int, Callable[[bytes], object]] = {code: from_bytes for code, _, _, from_bytes in _TABLE}
