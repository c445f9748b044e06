"""Which of several nodes keeps a key."""

from collections.abc import Callable, Sequence
from hashlib import shake_128
from struct import unpack
from typing import cast
from zlib import crc32

_SLOTS = 4096
_MANY_KEYS = 10_000


def router(nodes: Sequence[str]) -> Callable[[Sequence[str]], list[int]]:
    """Give the function from keys to the positions of their nodes.

    Keys fall into slots, and rendezvous hashing gives each slot to a node. The answer depends on the names
    of the nodes alone, not on their order, the process or its hash seed; a node that joins or leaves moves
    only the keys which it gains or had.

    >>> route, turned = router(["a:11211", "b:11211"]), router(["b:11211", "a:11211"])
    >>> route(["one", "two", "three"]) == [1 - node for node in turned(["one", "two", "three"])]
    True
    """
    owners, known = _owners(nodes), dict[str, int]()

    def route(keys: Sequence[str]) -> list[int]:
        # To look up a key takes a seventh of the time to find its slot.
        found = list(map(known.get, keys))
        return _found(keys) if None in found else cast("list[int]", found)

    def _found(keys: Sequence[str]) -> list[int]:
        if len(known) > _MANY_KEYS:
            known.clear()
        found = [owners[code % _SLOTS] for code in map(crc32, map(str.encode, keys))]
        known.update(zip(keys, found, strict=True))
        return found

    return route


def _owners(nodes: Sequence[str]) -> list[int]:
    scores = [_scores(node) for node in nodes]
    # The name settles a tie, so that the order of the nodes does not.
    return [max(range(len(nodes)), key=lambda node: (scores[node][slot], nodes[node])) for slot in range(_SLOTS)]


def _scores(node: str) -> tuple[int, ...]:
    return unpack(f">{_SLOTS}Q", shake_128(node.encode()).digest(8 * _SLOTS))
