"""How often a cache of a twentieth of the keys has what is asked for."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from cachetools import LFUCache, LRUCache

from bench import traces
from bench.context import Context
from bench.policies import Policy, ReferenceS3Fifo, hits_of_mapping, hits_of_store
from bench.report import Row, at_least, sized
from stockstore import ProcessMemoryStore

SUBJECT: Final = "process memory, hit ratio at 5 % capacity"
_CAPACITY: Final = 0.05
_TRACES: Final[dict[str, Callable[[int, int], Sequence[int]]]] = {
    "Zipf 1.0": traces.zipf,
    "Zipf 1.0, 20 % scans": traces.with_scans,
    "Zipf 1.0, hot set moves": traces.moving,
}


def rows(context: Context) -> Iterator[Row]:
    keys = context.size(50_000, 5_000)
    for name, trace_of in _TRACES.items():
        yield from _rows(name, trace_of(keys, 20 * keys), int(keys * _CAPACITY))


def _rows(name: str, trace: Sequence[int], size: int) -> Iterator[Row]:
    store = ProcessMemoryStore(maxsize=size)
    ours = hits_of_store(store, trace)
    for peer, policy in _peers(size).items():
        # Both are one sample of the same chances: a twentieth of a percent is a draw.
        target = at_least(0.9995) if peer.startswith("S3-FIFO") else None
        yield sized(SUBJECT, name, ours, (policy(trace), peer), "%", target)


def _peers(size: int) -> dict[str, Policy]:
    return {
        "S3-FIFO (reference)": ReferenceS3Fifo(size).hits,
        "LRU (cachetools)": lambda trace: hits_of_mapping(LRUCache(size), trace),
        "LFU (cachetools)": lambda trace: hits_of_mapping(LFUCache(size), trace),
    }
