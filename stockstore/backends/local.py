"""Bounded maps in process memory that evict by S3-FIFO; reads take no lock.

The algorithm is that of "FIFO queues are all you need for cache eviction" (Yang et al., SOSP 2023):
a small queue for newcomers, a main queue for what was asked for again, and a ghost of what left the
small queue. A node counts its hits and never moves on a hit, so that a read is one dictionary look-up.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Final, Generic, TypeVar

from stockstore.errors import ConfigurationError
from stockstore.locks import fork_safe_lock

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

SMALL_SHARE: Final = 0.1
MAX_FREQUENCY: Final = 3
_SLACK: Final = 64


class Shelf(Generic[K, V]):
    """The nodes of one kind of record by their keys, and the aliases that point to them."""

    __slots__ = ("aliases", "cells")

    def __init__(self, cells: "dict[K, Node[K, V]]", aliases: "tuple[dict[K, Node[K, V]], ...]") -> None:
        """Join dictionaries; several shelves may share them."""
        self.cells = cells
        self.aliases = aliases


class Node(Generic[K, V]):
    """One record; ``expires`` is on the monotonic clock, ``None`` for no limit."""

    __slots__ = ("_judged", "alias_keys", "expires", "hits", "key", "shelf", "value")

    def __init__(self, shelf: "Shelf[K, V]", key: K, value: V, expires: float | None, alias_keys: tuple[K | None, ...]) -> None:
        """Make a record that is not on its shelf yet."""
        self.shelf: Shelf[K, V] | None = shelf
        self.key = key
        self.value = value
        self.expires = expires
        self.alias_keys = alias_keys
        self.hits = 0
        self._judged = 0

    def frequency(self) -> int:
        """Give the hits since the last judgement, three at the most."""
        return min(self.hits - self._judged, MAX_FREQUENCY)

    def judge(self, frequency: int) -> None:
        """Count from here on, as if there had been that many hits."""
        self._judged = self.hits - frequency


class LocalCells(Generic[K, V]):
    """All shelves of one store, bounded together.

    Args:
        maxsize: Records kept at the most; aliases do not count.
        on_eviction: Called, under the lock, for each record that is dropped to make room.
    """

    def __init__(self, maxsize: int, on_eviction: Callable[[], None]) -> None:
        """Start empty."""
        if type(maxsize) is not int or maxsize < 1:
            raise ConfigurationError(f"maxsize is a number of objects from 1, not {maxsize!r}")
        self.maxsize = maxsize
        self._on_eviction = on_eviction
        self._retired_hits = 0
        # Whether any record was ever given an expiry: a batch of hits need not look at each otherwise.
        self.expiring = False
        self._lock = fork_safe_lock()
        self._reset_queues()

    def _reset_queues(self) -> None:
        self._size = 0
        self._small: deque[Node[K, V]] = deque()
        self._main: deque[Node[K, V]] = deque()
        self._ghost: OrderedDict[int, None] = OrderedDict()
        self._small_limit = max(1, int(self.maxsize * SMALL_SHARE))

    def __len__(self) -> int:
        """Give the number of records."""
        return self._size

    def hits(self) -> int:
        """Give the number of hits that were counted on nodes."""
        with self._lock:
            return self._retired_hits + sum(node.hits for node in self._live())

    def _live(self) -> Iterator[Node[K, V]]:
        return (node for queue in (self._small, self._main) for node in queue if node.shelf is not None)

    def put(self, shelf: Shelf[K, V], key: K, value: V, expires: float | None, alias_keys: tuple[K | None, ...]) -> None:
        """Keep a record under its key and its aliases, in place of what the key held."""
        if expires is not None:
            self.expiring = True
        with self._lock:
            node = shelf.cells.get(key)
            if node is not None and node.shelf is shelf:
                self._replace(node, value, expires, alias_keys)
                return
            if node is not None:
                self._drop(node)
            node = Node(shelf, key, value, expires, alias_keys)
            shelf.cells[key] = node
            self._link(node)
            self._admit(node)
            while self._size > self.maxsize:
                self._make_room()
            self._compact()

    def _replace(self, node: Node[K, V], value: V, expires: float | None, alias_keys: tuple[K | None, ...]) -> None:
        if node.alias_keys != alias_keys:
            self._unlink(node)
        node.alias_keys = alias_keys
        node.value = value
        node.expires = expires
        self._link(node)

    def _admit(self, node: Node[K, V]) -> None:
        self._size += 1
        seen = hash((id(node.shelf.cells), node.key)) if node.shelf is not None and self._ghost else None
        if seen in self._ghost:
            del self._ghost[seen]  # type: ignore[arg-type]
            self._main.append(node)
        else:
            self._small.append(node)

    @staticmethod
    def _link(node: Node[K, V]) -> None:
        if node.shelf is not None and node.alias_keys:
            for cells, key in zip(node.shelf.aliases, node.alias_keys, strict=True):
                if key is not None:
                    cells[key] = node

    @staticmethod
    def _unlink(node: Node[K, V]) -> None:
        if node.shelf is not None and node.alias_keys:
            for cells, key in zip(node.shelf.aliases, node.alias_keys, strict=True):
                if key is not None and cells.get(key) is node:
                    del cells[key]

    def remove(self, cells: dict[K, Node[K, V]], key: K, only: Node[K, V] | None = None) -> bool:
        """Drop the record of a key with its aliases, and say whether it was there; ``only`` if it is still that node."""
        with self._lock:
            node = cells.get(key)
            if node is None or (only is not None and node is not only):
                return False
            self._drop(node)
            self._compact()
            return True

    def _drop(self, node: Node[K, V]) -> None:
        shelf = node.shelf
        if shelf is None:
            return
        self._unlink(node)
        if shelf.cells.get(node.key) is node:
            del shelf.cells[node.key]
        self._size -= 1
        self._retired_hits += node.hits
        # The queue slot stays until the eviction comes by; the object must not.
        node.shelf = None
        node.value = None  # type: ignore[assignment]
        node.expires = 0.0

    def clear(self, several: Sequence[dict[K, Node[K, V]]] | None = None) -> None:
        """Drop the records of these dictionaries, or all."""
        with self._lock:
            for node in list(self._live()):
                if several is None or any(node.shelf is not None and node.shelf.cells is cells for cells in several):
                    self._drop(node)
            if several is None:
                self._reset_queues()

    # -- eviction, under the lock ---------------------------------------------------------------

    def _make_room(self) -> None:
        if len(self._small) > self._small_limit or not self._main:
            self._leave_small(self._small.popleft())
        else:
            self._leave_main(self._main.popleft())

    def _compact(self) -> None:
        """Forget the queue slots of dropped records once they outnumber the live ones."""
        if len(self._small) + len(self._main) > 2 * self._size + _SLACK:
            self._small = deque(node for node in self._small if node.shelf is not None)
            self._main = deque(node for node in self._main if node.shelf is not None)

    def _leave_small(self, node: Node[K, V]) -> None:
        if node.shelf is None:
            return
        if node.frequency() > 1:
            node.judge(0)
            self._main.append(node)
            return
        self._ghost[hash((id(node.shelf.cells), node.key))] = None
        if len(self._ghost) > self.maxsize - self._small_limit:
            self._ghost.popitem(last=False)
        self._evict(node)

    def _leave_main(self, node: Node[K, V]) -> None:
        frequency = node.frequency()
        if node.shelf is None:
            return
        if frequency > 0:
            node.judge(frequency - 1)
            self._main.append(node)
        else:
            self._evict(node)

    def _evict(self, node: Node[K, V]) -> None:
        self._drop(node)
        self._on_eviction()
