"""Equality that also compares types, order and what ``==`` forgives."""

from __future__ import annotations

import struct
from datetime import datetime, time, timezone
from decimal import Decimal
from typing import Any


def same(left: object, right: object) -> bool:
    """Whether two values are alike in type and content, all the way down."""
    if type(left) is not type(right):
        return False
    for kinds, compare in _BY_TYPE:
        if isinstance(left, kinds):
            return bool(compare(left, right))
    return left == right


def _sequences(left: Any, right: Any) -> bool:
    return len(left) == len(right) and all(map(same, left, right))


def _sets(left: Any, right: Any) -> bool:
    return len(left) == len(right) and all(any(same(item, other) for other in right) for item in left)


def _mappings(left: Any, right: Any) -> bool:
    return same(list(left.items()), list(right.items()))


def _floats(left: float, right: float) -> bool:
    return struct.pack(">d", left) == struct.pack(">d", right)


def _complexes(left: Any, right: Any) -> bool:
    return _floats(left.real, right.real) and _floats(left.imag, right.imag)


def _decimals(left: Any, right: Any) -> bool:
    return bool(left.as_tuple() == right.as_tuple())


def _clocks(left: Any, right: Any) -> bool:
    return _clock(left) == _clock(right)


def _clock(value: datetime | time) -> tuple[object, ...]:
    zone = value.tzinfo
    name = zone.tzname(None) if isinstance(zone, timezone) else None
    return value.replace(tzinfo=None).isoformat(), value.fold, type(zone), zone, name


_BY_TYPE: list[tuple[Any, Any]] = [
    ((list, tuple), _sequences),
    ((set, frozenset), _sets),
    (dict, _mappings),
    (float, _floats),
    (complex, _complexes),
    (Decimal, _decimals),
    ((datetime, time), _clocks),
]
