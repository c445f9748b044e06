"""Where the keys of a class lie on a cluster.

Redis does a command or a script for the keys of one slot only. So a class has sixteen slots, one in each sixteenth of all:
a batch is a few commands for each node, and every node has about as many of the class's keys as of all slots. Which
slots these are follows from the first parts of the key (``"namespace:class label:"``), so that classes and tenants lie apart.
"""

from binascii import crc_hqx
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple, TypeVar
from zlib import adler32

from stockstore.backends.generations import heads_of

T = TypeVar("T")
_SLOTS: Final = 16384
_NUMBER: Final = 16
# Slots are a checksum's: that of a text's end, shifted by what stands before. These ends differ in its four highest bits.
_ENDS: Final = tuple({crc_hqx(end.encode(), 0) % _SLOTS * _NUMBER // _SLOTS: end for end in map("{:02x}".format, range(256))}.values())
_TAGGED: Final = len("{000000}")
_COLONS: Final = len("::")


class Shard(NamedTuple):
    """A slot of a class, and what stands before its keys there."""

    tag: str
    slot: int


NOWHERE: Final = Shard("", -1)
"""That of a key which is not on a cluster."""


@lru_cache(maxsize=10_000)
def _shards_of(head: str) -> tuple[Shard, ...]:
    begin = f"{crc_hqx(head.encode(), 0):04x}"
    return tuple(Shard(f"{{{begin}{end}}}", crc_hqx(f"{begin}{end}".encode(), 0) % _SLOTS) for end in _ENDS)


def by_shard(keys: Sequence[str], items: Sequence[T]) -> dict[Shard, list[T]]:
    """Part items, which belong to the keys one by one, by the shards of these."""
    return _joined((shard, group) for _, shard, group in _parted(keys, items))


def shards_of(generation: str) -> tuple[Shard, ...]:
    """Give all shards of a class, by the key of its generation: each has a cell of that."""
    return _shards_of(generation)


def is_generation(key: str) -> bool:
    """Whether a key is that of a generation: what the keys of its class begin with.

    >>> is_generation("shop:User:"), is_generation("shop:User:id:i1"), is_generation("shop:")
    (True, False, False)
    """
    return key[-1:] == ":" and key.count(":") == _COLONS


def beside_generations(keys: Sequence[str], generations: Collection[str]) -> dict[Shard, list[str]]:
    """Part keys by shards; generations among them stand last wherever there are keys of their class, or else in their own shard alone."""
    rows = [key for key in keys if key not in generations] if generations else keys
    groups = [*_parted(rows, rows)]
    found = _joined((shard, group) for _, shard, group in groups)
    heads = {head for head, _, _ in groups}
    alone = [key for key in generations if key not in heads]
    for head, shard, _ in [*groups, *_parted(alone, alone)] if generations else ():
        if head in generations:
            found.setdefault(shard, []).append(head)
    return found


def _parted(keys: Sequence[str], items: Sequence[T]) -> Iterator[tuple[str, Shard, list[T]]]:
    if not keys:
        return
    # A whole namespace, which is told of by itself, is its own head.
    heads = heads_of(keys) if keys[0].count(":") > 1 else [*keys]
    groups: dict[str, list[list[T]]] = {head: [[] for _ in _ENDS] for head in dict.fromkeys(heads)}
    # No key has a line's end in it; and of a checksum's halves this is the one that depends on places.
    sums = map(adler32, "\n".join(keys).encode().split(b"\n"))
    for head, checksum, item in zip(heads, sums, items, strict=True):
        groups[head][(checksum >> 16) % _NUMBER].append(item)
    for head, parts in groups.items():
        for shard, group in zip(_shards_of(head), parts, strict=True):
            if group:
                yield head, shard, group


def _joined(parts: Iterable[tuple[Shard, list[T]]]) -> dict[Shard, list[T]]:
    found: dict[Shard, list[T]] = {}
    for shard, group in parts:
        # The checksums of two classes may be alike.
        found[shard] = found[shard] + group if shard in found else group
    return found


def without_tag(key: str) -> str:
    """Give a key as it is everywhere but on a cluster.

    >>> without_tag("{3fa2b1}shop:User:id:i1")
    'shop:User:id:i1'
    """
    return key[_TAGGED:] if key.startswith("{") else key


def pattern_on_cluster(match: str) -> str:
    """Give a pattern of keys as they are on a cluster."""
    return f"{{{'?' * (_TAGGED - 2)}}}{match}"
