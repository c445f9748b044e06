"""What follows the keys in the commands of a step."""

import re
import secrets
import struct
from collections.abc import Iterable, Sequence
from itertools import repeat

from stockstore.backends.coherent import Item
from stockstore.backends.columns import PointersInTurn, cells_in, lifetimes_in, lifetimes_of
from stockstore.backends.redis_exchange import Part
from stockstore.cells import GENERATION_SIZE, VALUE

_LONGEST = 2**32 - 1  # seconds, 136 years: what fits into four bytes
GENERATION_SECONDS = b"%d" % (30 * 24 * 3600)
NEW, REPLICA = b"N", b"L"
"""What is to become of a generation that is absent: it is made, or, of a replica, leased by a step that leases."""


def bare_items(keys: Iterable[str]) -> list[Item]:
    """Give keys, each once, as items of which only the key is sent."""
    return list(zip(dict.fromkeys(keys), repeat(b""), repeat(0)))


def looked_at(generations: Iterable[str]) -> list[Item]:
    """Give generations as items that stand beside the keys of their classes."""
    return [(key, NEW, 0) for key in dict.fromkeys(generations)]


def fresh_tokens(generations: Iterable[Item]) -> list[bytes]:
    """Give tokens to make generations of; others where a command is sent once more, as the first may have been seen meanwhile."""
    return [secrets.token_bytes(GENERATION_SIZE) if what == NEW else what for _, what, _ in generations]


def life_alone(_: Part, life: bytes) -> list[bytes]:
    """Give the id of the server's life."""
    return [life]


def cell_arguments(part: Part, life: bytes) -> list[bytes]:
    """Give lifetimes, the number of values, and the cells of values and aliases."""
    return _arguments(part, life, part[1])


def put_arguments(part: Part, life: bytes) -> list[bytes]:
    """Give the same, but no cells of aliases of which the script knows where they point to."""
    values, aliases = part
    return _arguments(part, life, () if values and isinstance(aliases, PointersInTurn) else aliases)


def _arguments(part: Part, life: bytes, told: Sequence[Item]) -> list[bytes]:
    values, different = part[0], {lasts for batch in part for lasts in lifetimes_of(batch)}
    packed = b"=%d" % _bounded(*different) if len(different) == 1 else _each(lifetimes_in(part))
    return [packed, b"%d" % len(values), *cells_in(values, VALUE + life), *cells_in(told)]


def _each(lifetimes: Sequence[int]) -> bytes:
    return struct.pack(f">c{len(lifetimes)}I", b"#", *map(_bounded, lifetimes))


def _bounded(seconds: int) -> int:
    return min(seconds, _LONGEST)


def literally(prefix: str) -> str:
    r"""Escape what a MATCH pattern takes for wildcards.

    >>> print(literally("shop*:"))
    shop\*:
    """
    return re.sub(r"([*?\[\]\\^-])", r"\\\1", prefix)
