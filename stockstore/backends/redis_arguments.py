"""What follows the keys in the commands of a step."""

import re
import struct
from collections.abc import Iterable

from stockstore.backends.coherent import Item
from stockstore.backends.redis_exchange import Part
from stockstore.cells import VALUE

_LONGEST = 2**32 - 1  # seconds, 136 years: what fits into four bytes


def bare_items(keys: Iterable[str]) -> list[Item]:
    """Give keys, each once, as items of which only the key is sent."""
    return [(key, b"", 0) for key in dict.fromkeys(keys)]


def life_alone(_: Part, life: bytes) -> list[bytes]:
    """Give the id of the server's life."""
    return [life]


def cell_arguments(part: Part, life: bytes) -> list[bytes]:
    """Give lifetimes, the number of values, and the cells of values and aliases."""
    values, aliases = part
    seconds = [lasts for batch in part for _, _, lasts in batch]
    alike = seconds and seconds.count(seconds[0]) == len(seconds)
    packed = b"=%d" % _bounded(seconds[0]) if alike else struct.pack(f">c{len(seconds)}I", b"#", *map(_bounded, seconds))
    head = VALUE + life
    return [packed, b"%d" % len(values), *[head + body for _, body, _ in values], *[cell for _, cell, _ in aliases]]


def _bounded(seconds: int) -> int:
    return min(seconds, _LONGEST)


def literally(prefix: str) -> str:
    r"""Escape what a MATCH pattern takes for wildcards.

    >>> print(literally("shop*:"))
    shop\*:
    """
    return re.sub(r"([*?\[\]\\^-])", r"\\\1", prefix)
