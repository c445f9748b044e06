"""The fixture of the request-scoped chain."""

from collections.abc import Iterator

import pytest

from stockstore import ChainedStore, ProcessMemoryStore, ThreadLocalStore
from tests.frameworks.tiers import Item, Tiers


@pytest.fixture
def tiers() -> Iterator[Tiers]:
    """Two items in process memory, under an empty tier of the request's."""
    requests, below = ThreadLocalStore(max_staleness=None), ProcessMemoryStore()
    below.batch_put([Item(1, "hat"), Item(2, "pen")])
    with ChainedStore([requests, below]) as chain:
        yield Tiers(requests, below, chain)
