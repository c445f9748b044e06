"""Batches of plain objects on memcached, which go there in columns: put anew they are one round trip, and nothing of one mixes with another."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import pytest

from stockstore import MemcacheStore
from tests.servers.memcached import MemcachedServer

NUMBERS = list(range(60))
"""So many that none of three servers, whose ports differ from run to run, is without any."""


@dataclass
class Part:
    """A plain class with two keys."""

    __keys__: ClassVar = ["id", "sku"]

    id: int
    sku: str
    name: str


def parts(version: int) -> list[Part]:
    """Give parts that differ in length, by version and among each other."""
    return [Part(number, f"S-{number}", f"{version}." * (1 + number % 7 + version)) for number in NUMBERS]


def skus() -> list[dict[str, object]]:
    """Give the other keys of all parts."""
    return [{"sku": f"S-{number}"} for number in NUMBERS]


@pytest.fixture(params=[1, 3])
def store(memcached_cluster: Callable[[int], list[MemcachedServer]], request: pytest.FixtureRequest) -> Iterator[MemcacheStore]:
    """A store on one server, and on three."""
    with MemcacheStore([server.address for server in memcached_cluster(request.param)], lifetime=600) as store:
        yield store


def test_each_object_is_found_as_it_was_put_last(store: MemcacheStore) -> None:
    """The first put, the next ones that name what they replace, and those after a read all put every object under its own keys."""
    for version in range(5):
        store.batch_put(parts(version))
        if version != 1:
            assert store.batch_get(Part, NUMBERS) == parts(version)
            assert store.batch_get(Part, skus()) == parts(version)


def test_no_marker_is_replaced(store: MemcacheStore) -> None:
    """What is marked after the last put stays so, and all others are put."""
    marked = [3, 4, 31]
    store.batch_put(parts(0))
    texts = {number: f"stockstore:tests.stores.test_memcached_batches.Part:id:i{number}" for number in NUMBERS}
    store.backend.mark_many([texts[number] for number in marked], b"ticket")  # type: ignore[attr-defined]
    store.batch_put(parts(1))
    cells = store.backend.get_many(list(texts.values()))
    assert [number for number, text in texts.items() if cells[text] == b"W-ticket"] == marked
    assert store.batch_get(Part, NUMBERS) == [None if part.id in marked else part for part in parts(1)]


def test_those_put_after_a_clear_by_another_are_found(store: MemcacheStore) -> None:
    """A put that names what stood there before the clear is seen to be in vain, and is done anew."""
    store.batch_put(parts(0))
    with MemcacheStore([node.pool.server.name for node in store.backend._nodes.listed]) as other:  # type: ignore[attr-defined]
        other.clear(Part)
    store.batch_put(parts(1))
    assert store.batch_get(Part, NUMBERS) == parts(1)
