"""Bounded maps in process memory that evict by S3-FIFO; reads take no lock.

The algorithm is that of "FIFO queues are all you need for cache eviction" (Yang et al., SOSP 2023):
a small queue for newcomers, a main queue for what was asked for again, and a ghost of what left the
small queue. A node counts its hits and never moves on a hit, so that a read is one dictionary look-up.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from threading import get_ident
from typing import Any, Final, Generic, TypeVar

from stockstore.backends.local_nodes import Node, Shelf, Tally, differs_in_value_only, moment, stands
from stockstore.errors import ConfigurationError
from stockstore.locks import fork_safe_lock

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

SMALL_PART: Final = 10
_SLACK: Final = 64


class LocalCells(Generic[K, V]):
    """All shelves of one store, bounded together.

    Args:
        maxsize: Records kept at the most; aliases do not count.
    """

    # No other lock is taken under this one, and no value is let go of: what a finalizer does is not known here.
    # It, or a signal's handler, may still come up in the middle of a step and use the store: see alone.

    def __init__(self, maxsize: int) -> None:
        """Start empty."""
        if type(maxsize) is not int or maxsize < 1:
            raise ConfigurationError(f"maxsize is a number of objects from 1, not {maxsize!r}")
        self.maxsize = maxsize
        self._retired_hits = 0
        self.tally = Tally()
        # Whether any record was ever given an expiry: hits need not look at one otherwise. Who relies on it is told by the call.
        self.expiring = False
        self.on_expiring: Callable[[], None] | None = None
        # Asked under the lock before a record is kept, where one of the shelves takes part in the coherence protocol.
        self.refuses: Callable[[Shelf[K, V], K], bool] | None = None
        self.lock = fork_safe_lock()
        # The thread that is in the middle of a step, 0 for none. One that was cut off just where it ends may have left it: another
        # thread that has the lock knows better.
        self._busy = 0
        self._later: deque[tuple[Callable[..., int], tuple[Any, ...]]] = deque()
        self._reset_queues()

    def _reset_queues(self) -> None:
        self._size = 0
        self._small: deque[Node[K, V]] = deque()
        self._main: deque[Node[K, V]] = deque()
        self._ghost: OrderedDict[int, None] = OrderedDict()
        self._small_limit = max(1, self.maxsize // SMALL_PART)

    def __len__(self) -> int:
        """Give the number of records."""
        return self._size

    def hits(self) -> int:
        """Give the number of hits."""
        with self.lock:
            return self._sum_hits([]) if self.cut_into else self.alone(self._sum_hits)

    def _sum_hits(self, dropped: list[V]) -> int:
        del dropped
        return self._retired_hits + self.tally.hits + sum(node.hits for node in self._live())

    def _live(self) -> Iterator[Node[K, V]]:
        return (node for queue in (self._small, self._main) for node in queue if node.shelf is not None)

    def put(self, shelf: Shelf[K, V], key: K, value: V, expires: float | None, alias_keys: tuple[K | None, ...]) -> int:
        """Keep a record under its key and its aliases, in place of what the key held, and give how many were evicted for it."""
        node = shelf.cells.get(key)
        if node is not None and expires is None and differs_in_value_only(node, shelf, alias_keys):
            # One assignment, for which no thread need wait for another.
            node.value = value
            if node.shelf is shelf:
                return 0
            # It was dropped just then, and a dropped record keeps no value.
            node.value = None  # type: ignore[assignment]
        if expires is not None and not self.expiring:
            self.start_expiring()
        return self.alone(self.keep, shelf, key, value, expires, alias_keys)

    def start_expiring(self) -> None:
        """Have hits look at expiries from now on."""
        with self.lock:
            self.expiring = True
            if self.on_expiring is not None:
                self.on_expiring()

    def keep(self, dropped: list[V], shelf: Shelf[K, V], key: K, value: V, expires: float | None, alias_keys: tuple[K | None, ...]) -> int:
        """Do what :meth:`put` does, within a step."""
        if self.refuses is not None and self.refuses(shelf, key):
            return 0
        node = shelf.cells.get(key)
        if node is not None and node.shelf is shelf:
            dropped.append(node.value)
            self._replace(node, value, expires, alias_keys)
            return 0
        if node is not None:
            dropped.append(self._drop(node))
        node = Node(shelf, key, value, expires, alias_keys)
        # First into a queue: what can be found can always be evicted.
        self._enqueue(node)
        shelf.cells[key] = node
        self._link(node)
        return self._shrink(dropped)

    def keep_together(self, dropped: list[V], shelf: Shelf[K, V], values: Mapping[K, V], expires: float | None) -> int:
        """Do :meth:`keep` with several records that have no aliases, and that are not refused."""
        if self._ghost or not shelf.cells.keys().isdisjoint(values):
            return sum([self.keep(dropped, shelf, key, value, expires, ()) for key, value in values.items()])
        nodes = {key: Node(shelf, key, value, expires, ()) for key, value in values.items()}
        if self._later:
            # A finalizer that came up among so many new objects may have written what is to be kept.
            return 0
        # In this order: as with one.
        self._size += len(nodes)
        self._small.extend(nodes.values())
        shelf.cells.update(nodes)
        return self._shrink(dropped)

    @property
    def cut_into(self) -> bool:
        """Whether the caller, who holds the lock, came up in the middle of a step of its own thread."""
        return self._busy == get_ident()

    def alone(self, step: Callable[..., int], *arguments: Any) -> int:
        """Run a step under the lock.

        A step in the middle of another one of the same thread waits for the end of that, and gives 0. An interrupt
        undoes nothing, but leaves queues and records in order.
        """
        dropped: list[V] = []
        with self.lock:
            if self._busy == get_ident():
                self._later.append((step, arguments))
                return 0
            try:
                self._busy = get_ident()
                return step(dropped, *arguments)
            except BaseException:
                self._mend()
                raise
            finally:
                self._busy = 0
                while self._later:
                    later, its = self._later.popleft()
                    self.alone(later, *its)

    def _mend(self) -> None:
        """Keep in the queues what stands on a shelf, once, as a step that was cut off may not have."""
        self._main = deque(dict.fromkeys(node for queue in (self._main, self._small) for node in queue if stands(node)))
        self._small = deque()
        self._size = len(self._main)

    def _replace(self, node: Node[K, V], value: V, expires: float | None, alias_keys: tuple[K | None, ...]) -> None:
        if node.alias_keys != alias_keys:
            self._unlink(node)
        node.alias_keys = alias_keys
        # A reader takes the expiry first and then the value, so it never sees the old value with the new expiry.
        node.value = value
        node.expires = moment(expires)
        self._link(node)

    def _shrink(self, dropped: list[V]) -> int:
        evicted = 0
        while self._size > self.maxsize:
            evicted += self._make_room(dropped)
        self._compact()
        return evicted

    def _enqueue(self, node: Node[K, V]) -> None:
        self._size += 1
        if self._ghost and self._ghost.pop(self._trace(node), self) is None:
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

    def remove(self, cells: dict[K, Node[K, V]], key: K) -> bool:
        """Drop the record of a key with its aliases, and say whether it was there."""
        return self.alone(self.take, cells, key) > 0

    def take(self, dropped: list[V], cells: dict[K, Node[K, V]], key: K) -> int:
        """Do what :meth:`remove` does, within a step."""
        node = cells.get(key)
        if node is None:
            return 0
        dropped.append(self._drop(node))
        self._compact()
        return 1

    def expire(self, node: Node[K, V], now: float) -> bool:
        """Drop a record whose lifetime has ended, and say whether that was done; a writer may have renewed it just now."""
        return self.alone(self._expire, node, now) > 0

    def _expire(self, dropped: list[V], node: Node[K, V], now: float) -> int:
        if node.shelf is None or node.expires > now:
            return 0
        dropped.append(self._drop(node))
        self._compact()
        return 1

    def _drop(self, node: Node[K, V]) -> V:
        """Take a live node off its shelf, and give its value for the caller to let go of after the lock."""
        shelf, value = node.shelf, node.value
        assert shelf is not None
        self._unlink(node)
        del shelf.cells[node.key]
        self._size -= 1
        self._retired_hits += node.hits
        # The queue slot stays until the eviction comes by; the object must not.
        node.shelf = None
        node.value = None  # type: ignore[assignment]
        node.expires = 0.0
        return value

    def clear(self, several: Sequence[dict[K, Node[K, V]]] | None = None) -> None:
        """Drop the records of these dictionaries, or all."""
        self.alone(self._clear, several)

    def _clear(self, dropped: list[V], several: Sequence[dict[K, Node[K, V]]] | None) -> int:
        if several is None:
            dropped.extend(map(self._drop, list(self._live())))
            self._reset_queues()
        for cells in several or ():
            self.empty(dropped, cells)
        return 0

    def empty(self, dropped: list[V], cells: dict[K, Node[K, V]]) -> int:
        """Drop all records of a dictionary, within a step, and give how many there were."""
        nodes = [node for node in cells.values() if node.shelf is not None]
        dropped.extend(map(self._drop, nodes))
        self._compact()
        return len(nodes)

    # -- eviction, under the lock ---------------------------------------------------------------

    def _make_room(self, dropped: list[V]) -> bool:
        """Judge one node, and say whether it was evicted."""
        small = len(self._small) > self._small_limit or not self._main
        queue = self._small if small else self._main
        node = queue[0]
        goes = node.shelf is not None and not (self._stays_from_small(node) if small else self._stays_in_main(node))
        if goes:
            dropped.append(self._drop(node))
        # Last: what can be found is in a queue all the while.
        queue.popleft()
        return goes

    def _compact(self) -> None:
        """Forget the queue slots of dropped records once they outnumber the live ones."""
        if len(self._small) + len(self._main) > 2 * self._size + _SLACK:
            self._small = deque(node for node in self._small if node.shelf is not None)
            self._main = deque(node for node in self._main if node.shelf is not None)

    def _stays_from_small(self, node: Node[K, V]) -> bool:
        if node.frequency() > 1:
            node.judge(0)
            self._main.append(node)
            return True
        self._ghost[self._trace(node)] = None
        if len(self._ghost) > self.maxsize - self._small_limit:
            self._ghost.popitem(last=False)
        return False

    def _stays_in_main(self, node: Node[K, V]) -> bool:
        frequency = node.frequency()
        if frequency > 0:
            node.judge(frequency - 1)
            self._main.append(node)
        return frequency > 0

    @staticmethod
    def _trace(node: Node[K, V]) -> int:
        """Give what the ghost remembers of a node: not the key, which may be large."""
        return hash((id(node.shelf and node.shelf.cells), node.key))
