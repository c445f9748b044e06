"""The stores' contract by AsyncStore."""

import asyncio
from collections.abc import Callable, Iterator

import pytest

from stockstore import ChainedStore, MappingStore, ProcessMemoryStore, Store, ThreadLocalStore
from stockstore.testing import CacheStoreContract, StoreContract
from stockstore.testing.cache_store_contract import MakeStore
from tests.aio.driven import Driven, driving

Drive = Callable[[Store], Driven]


@pytest.fixture
def drive() -> Iterator[Drive]:
    """What drives stores on an event loop."""
    with driving(asyncio.new_event_loop) as drive:
        yield drive


class TestProcessMemory(CacheStoreContract):
    by_reference = True
    shares_storage = False

    @pytest.fixture
    def make_store(self, drive: Drive) -> MakeStore:
        """Of its own."""
        return lambda **options: drive(ProcessMemoryStore(**options))


class TestMemoryMapping(StoreContract):
    by_reference = True

    @pytest.fixture
    def store(self, drive: Drive) -> Store:
        """A chain without I/O."""
        return drive(ChainedStore([ProcessMemoryStore(), MappingStore({})]))


class TestThreadLocalMapping(StoreContract):
    @pytest.fixture
    def store(self, drive: Drive) -> Store:
        """A chain whose first tier knows each call's task: none finds what another has put there."""
        return drive(ChainedStore([ThreadLocalStore(), MappingStore({})]))
