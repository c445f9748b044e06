"""The contract of the stores without a server: process memory, thread-local, mappings, null."""

import shelve
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockstore import MappingStore, NullStore, ProcessMemoryStore, Store, ThreadLocalStore
from stockstore.testing import CacheStoreContract, StoreBasics
from stockstore.testing.cache_store_contract import MakeStore


class TestProcessMemory(CacheStoreContract):
    by_reference = True
    shares_storage = False

    @pytest.fixture
    def make_store(self) -> MakeStore:
        """Of its own."""
        return ProcessMemoryStore


@pytest.mark.sa_agnostic
class TestProcessMemoryThatCopies(CacheStoreContract):
    shares_storage = False

    @pytest.fixture
    def make_store(self) -> MakeStore:
        """With copies."""
        return lambda **options: ProcessMemoryStore(copy=True, **options)


@pytest.mark.sa_agnostic
class TestThreadLocal(CacheStoreContract):
    by_reference = True
    shares_storage = False

    @pytest.fixture
    def make_store(self) -> MakeStore:
        """Of this thread."""
        return ThreadLocalStore


class TestMappingOfADict(CacheStoreContract):
    @pytest.fixture
    def make_store(self) -> MakeStore:
        """On one dict."""
        mapping: dict[str, bytes] = {}
        return lambda **options: MappingStore(mapping, **options)


@pytest.mark.sa_agnostic
class TestMappingOfAShelf(CacheStoreContract):
    @pytest.fixture
    def make_store(self, tmp_path: Path) -> Iterator[MakeStore]:
        """On one file."""
        with shelve.open(str(tmp_path / "shelf")) as mapping:
            yield lambda **options: MappingStore(mapping, **options)


class TestNull(StoreBasics):
    @pytest.fixture
    def store(self) -> Store:
        """The store that keeps nothing."""
        return NullStore()
