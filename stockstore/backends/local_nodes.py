"""The records of process memory, and the shelves on which they stand."""

import math
from collections.abc import Hashable
from typing import Any, Final, Generic, TypeVar

from stockstore.native import Record

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

MAX_FREQUENCY: Final = 3


class Shelf(Generic[K, V]):
    """The nodes of one kind of record by their keys, and the aliases that point to them; ``space`` names the kind."""

    __slots__ = ("aliases", "cells", "space")

    def __init__(self, cells: "dict[K, Node[K, V]]", aliases: "tuple[dict[K, Node[K, V]], ...]", space: Any = None) -> None:
        """Join dictionaries; several shelves may share them."""
        self.cells = cells
        self.aliases = aliases
        self.space = space


class Node(Record, Generic[K, V]):
    """One record; ``expires`` is on the monotonic clock, infinity for no limit.

    A hit adds one to ``hits``, or, where many are counted at once, to ``batched`` as long as that is below three.
    """

    value: V

    __slots__ = ("_judged", "alias_keys", "batched", "key", "shelf")

    def __init__(self, shelf: "Shelf[K, V]", key: K, value: V, expires: float | None, alias_keys: tuple[K | None, ...]) -> None:
        """Make a record that is not on its shelf yet."""
        self.shelf: Shelf[K, V] | None = shelf
        self.key = key
        self.value = value
        self.expires = moment(expires)
        self.alias_keys = alias_keys
        self.hits = self.batched = 0
        self._judged = 0

    def frequency(self) -> int:
        """Give the hits since the last judgement, three at the most."""
        return min(self.hits - self._judged + self.batched, MAX_FREQUENCY)

    def judge(self, frequency: int) -> None:
        """Count from here on, as if there had been that many hits."""
        self._judged = self.hits - frequency
        self.batched = 0


class Tally:
    """Hits that are counted on no node."""

    __slots__ = ("hits",)

    def __init__(self) -> None:
        """Start with none."""
        self.hits = 0


def moment(expires: float | None) -> float:
    """Give an expiry as nodes have it, which hits compare by one step."""
    return math.inf if expires is None else expires


def stands(node: Node[Any, Any]) -> bool:
    """Whether a record is found under its key."""
    return node.shelf is not None and node.shelf.cells.get(node.key) is node


def differs_in_value_only(node: Node[K, V], shelf: Shelf[K, V], alias_keys: tuple[K | None, ...]) -> bool:
    """Whether a put of a lasting record changes neither where it stands nor what points to it."""
    if node.shelf is not shelf or node.expires != math.inf or node.alias_keys != alias_keys:
        return False
    return all(key is None or cells.get(key) is node for cells, key in zip(shelf.aliases, alias_keys, strict=False))
