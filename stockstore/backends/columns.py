"""Batches of items that are kept in columns: what takes them as such need not make each item."""

from abc import abstractmethod
from collections.abc import Collection, Iterator, Sequence
from itertools import chain, cycle, repeat
from typing import TypeVar, overload

from stockstore.backends.coherent import Item
from stockstore.cells import pack_alias

T = TypeVar("T")


class Columns(Sequence[Item]):
    """Items of one lifetime; as any sequence of them to whoever does not know it.

    Attributes:
        keys: The keys.
        lasts: The server lifetime of all of them.
    """

    def __init__(self, keys: Sequence[str], lasts: int) -> None:
        """Keep what all columns have."""
        self.keys, self.lasts = keys, lasts

    @abstractmethod
    def cells(self, before: bytes = b"") -> list[bytes]:
        """Give what is to stand under the keys, each after the same bytes."""

    def parted(self) -> tuple[bytes, Sequence[bytes]]:
        """Give what all cells begin with, and the rest of each."""
        return b"", self.cells()

    def __iter__(self) -> Iterator[Item]:
        return zip(self.keys, self.cells(), repeat(self.lasts))

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, at: int) -> Item: ...
    @overload
    def __getitem__(self, at: slice) -> list[Item]: ...
    def __getitem__(self, at: int | slice) -> Item | list[Item]:
        return list(self)[at]


class Values(Columns):
    """Values of one class that begin alike."""

    def __init__(self, keys: Sequence[str], head: bytes, rests: Sequence[bytes], lasts: int) -> None:
        """Keep keys, what all values begin with, and the rest of each."""
        super().__init__(keys, lasts)
        self._head, self._rests = head, rests

    def cells(self, before: bytes = b"") -> list[bytes]:
        """Give the values."""
        head = before + self._head
        return [head + rest for rest in self._rests]

    def parted(self) -> tuple[bytes, Sequence[bytes]]:
        """Give what all values begin with, and the rest of each."""
        return self._head, self._rests

    def grouped(self, places: Sequence[int], count: int) -> list[Sequence[Item]]:
        """Give the values of each place of so many, by the place of each value."""
        columns = zip(grouped(self.keys, places, count), grouped(self._rests, places, count), strict=True)
        return [Values(keys, self._head, rests, self.lasts) if keys else () for keys, rests in columns]


class PointersInTurn(Columns):
    """The aliases of a batch, of which each points to the value in its place, those of a second key again to the first, and so on.

    A backend that knows what they point to may leave that out.
    """

    def __init__(self, keys: Sequence[str], targets: Sequence[str], lasts: int) -> None:
        """Keep keys, some for each target, and the keys that they point to."""
        super().__init__(keys, lasts)
        self._targets = targets

    def cells(self, before: bytes = b"") -> list[bytes]:
        """Give the cells of aliases."""
        in_turn = cycle([before + pack_alias(target) for target in self._targets])
        return [cell for _, cell in zip(self.keys, in_turn)]  # noqa: B905 - as often as there are keys


def grouped(column: Sequence[T], places: Sequence[int], count: int) -> list[list[T]]:
    """Give what belongs to each place of so many, by the place of each.

    >>> grouped(["a", "b", "c"], [0, 2, 0], 3)
    [['a', 'c'], [], ['b']]
    """
    groups: list[list[T]] = [[] for _ in range(count)]
    for each, place in zip(column, places, strict=True):
        groups[place].append(each)
    return groups


def keys_of(batch: Sequence[Item]) -> Sequence[str]:
    """Give the keys of a batch."""
    return batch.keys if isinstance(batch, Columns) else [key for key, _, _ in batch]


def keys_in(part: Sequence[Sequence[Item]]) -> list[str]:
    """Give the keys of all batches in turn."""
    return [*chain.from_iterable(map(keys_of, part))]


def lifetimes_of(batch: Sequence[Item]) -> Collection[int]:
    """Give the different server lifetimes of a batch."""
    return {batch.lasts} if isinstance(batch, Columns) else {lasts for _, _, lasts in batch}


def lifetimes_in(part: Sequence[Sequence[Item]]) -> list[int]:
    """Give the server lifetimes of all batches in turn."""
    each = (repeat(batch.lasts, len(batch)) if isinstance(batch, Columns) else [lasts for _, _, lasts in batch] for batch in part)
    return [*chain.from_iterable(each)]


def parted(batch: Sequence[Item]) -> tuple[bytes, Sequence[bytes]]:
    """Give what all cells of a batch begin with, and the rest of each."""
    return batch.parted() if isinstance(batch, Columns) else (b"", [cell for _, cell, _ in batch])


def cells_in(batch: Sequence[Item], before: bytes = b"") -> list[bytes]:
    """Give what is to stand under the keys of a batch, each after the same bytes."""
    return batch.cells(before) if isinstance(batch, Columns) else [before + cell for _, cell, _ in batch]
