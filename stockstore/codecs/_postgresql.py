"""PostgreSQL's ranges and bit strings, of the classes in which SQLAlchemy gives them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

RANGE, MULTIRANGE, BITS = 7, 8, 9


def parts_of(value: Any) -> tuple[int, Iterable[object]] | None:
    """Give the code and the parts of one; ``None`` for any other value."""
    cls = type(value)
    # By its name: who has none of them need not have the dialect imported.
    code = _CODES.get((cls.__module__, cls.__qualname__))
    return None if code is None else (code, _PARTS[code](value))


def _range(parts: Iterable[Any]) -> object:
    from sqlalchemy.dialects.postgresql import Range

    lower, upper, bounds, empty = parts
    return Range(lower, upper, bounds=bounds, empty=empty)


def _multirange(parts: Iterable[Any]) -> object:
    from sqlalchemy.dialects.postgresql.ranges import MultiRange

    return MultiRange(parts)


def _bits(parts: Iterable[Any]) -> object:
    from sqlalchemy.dialects.postgresql import BitString  # as of 2.1

    (digits,) = parts
    return BitString(digits)


_DIALECT: Final = "sqlalchemy.dialects.postgresql"
_CODES: Final = {
    (f"{_DIALECT}.ranges", "Range"): RANGE,
    (f"{_DIALECT}.ranges", "MultiRange"): MULTIRANGE,
    (f"{_DIALECT}.bitstring", "BitString"): BITS,
}
_PARTS: Final[dict[int, Callable[[Any], Iterable[object]]]] = {
    RANGE: lambda value: (value.lower, value.upper, value.bounds, value.empty),
    MULTIRANGE: list,
    BITS: lambda value: (str(value),),
}
FROM_PARTS: Final[dict[int, Callable[[Iterable[Any]], object]]] = {RANGE: _range, MULTIRANGE: _multirange, BITS: _bits}
