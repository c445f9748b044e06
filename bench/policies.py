"""What decides which entry goes: S3-FIFO as its paper has it, and a way to ask any cache for a trace."""

from collections import OrderedDict, deque
from collections.abc import Callable, MutableMapping, Sequence
from typing import Final

from bench.samples import Product, fields
from stockstore import ProcessMemoryStore

_SMALL_SHARE: Final = 0.1
_MOST: Final = 3


def hits_of_mapping(cache: MutableMapping[int, None], trace: Sequence[int]) -> float:
    """Give the hit ratio in percent."""
    hits = 0
    for key in trace:
        if key in cache:
            hits += 1
            cache[key]
        else:
            cache[key] = None
    return 100 * hits / len(trace)


def hits_of_store(store: ProcessMemoryStore, trace: Sequence[int]) -> float:
    objects = {key: Product(**fields(key)) for key in set(trace)}
    get, put = store.get, store.put
    hits = 0
    for key in trace:
        if get(Product, key) is None:
            put(objects[key])
        else:
            hits += 1
    return 100 * hits / len(trace)


class ReferenceS3Fifo:
    """Algorithm 1 of Yang et al., "FIFO queues are all you need for cache eviction" (SOSP 2023), with its sizes."""

    def __init__(self, size: int) -> None:
        self._small_size = max(1, int(size * _SMALL_SHARE))
        self._size, self._main_size = size, size - self._small_size
        self._small: deque[int] = deque()
        self._main: deque[int] = deque()
        self._ghost: OrderedDict[int, None] = OrderedDict()
        self._frequency: dict[int, int] = {}

    def hits(self, trace: Sequence[int]) -> float:
        """Give the hit ratio in percent."""
        return 100 * sum(map(self._ask, trace)) / len(trace)

    def _ask(self, key: int) -> bool:
        frequency = self._frequency.get(key)
        if frequency is not None:
            self._frequency[key] = min(frequency + 1, _MOST)
            return True
        while len(self._frequency) >= self._size:
            self._evict()
        returned = key in self._ghost
        if returned:
            del self._ghost[key]
        (self._main if returned else self._small).append(key)
        self._frequency[key] = 0
        return False

    def _evict(self) -> None:
        if len(self._small) >= self._small_size or not self._main:
            self._evict_small()
        else:
            self._evict_main()

    def _evict_small(self) -> None:
        while self._small:
            key = self._small.popleft()
            if self._frequency[key] > 1:
                self._promote(key)
            else:
                del self._frequency[key]
                self._remember(key)
                return

    def _promote(self, key: int) -> None:
        self._frequency[key] = 0
        self._main.append(key)
        if len(self._main) > self._main_size:
            self._evict_main()

    def _remember(self, key: int) -> None:
        self._ghost[key] = None
        if len(self._ghost) > self._main_size:
            self._ghost.popitem(last=False)

    def _evict_main(self) -> None:
        while self._main:
            key = self._main.popleft()
            if not self._frequency[key]:
                del self._frequency[key]
                return
            self._frequency[key] -= 1
            self._main.append(key)


Policy = Callable[[Sequence[int]], float]
