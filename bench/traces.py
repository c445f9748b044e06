"""Sequences of keys that caches are asked for."""

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Final

_SEED: Final = 20_240_517
_SCAN: Final = 200
_MOVES: Final = 10


def zipf(keys: int, requests: int) -> Sequence[int]:
    """Key number n is asked for in proportion to 1 / n."""
    weights = list(itertools.accumulate(1 / (number + 1) for number in range(keys)))
    return random.Random(_SEED).choices(range(keys), cum_weights=weights, k=requests)


def with_scans(keys: int, requests: int) -> Sequence[int]:
    """As zipf, and one request in five belongs to a run through keys that nobody asks for again."""
    return list(itertools.islice(_scanned(zipf(keys, requests), keys), requests))


def _scanned(trace: Sequence[int], first: int) -> Iterator[int]:
    step, scanned = 4 * _SCAN, itertools.count(first)
    for start in range(0, len(trace), step):
        yield from trace[start : start + step]
        yield from itertools.islice(scanned, _SCAN)


def moving(keys: int, requests: int) -> Sequence[int]:
    """As zipf, but ten times on the way other keys become the frequent ones."""
    length = requests // _MOVES
    return [(number + at // length * keys // _MOVES) % keys for at, number in enumerate(zipf(keys, requests))]
