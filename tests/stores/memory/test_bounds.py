"""The bound: what is evicted is found by no key, and memory stays flat."""

import gc
import tracemalloc
import weakref

import pytest

from stockstore import ProcessMemoryStore
from tests.stores.memory.readings import USER_KEYS, counts
from tests.stores.things import Code, Thing, User, user

pytestmark = pytest.mark.sa_agnostic


def test_the_store_is_bounded() -> None:
    """Never more objects than ``maxsize`` are kept, of all classes together, and evictions are counted."""
    store = ProcessMemoryStore(maxsize=10)
    refs: list[weakref.ref[Thing]] = []
    for number in range(50):
        ann, code = user(number), Code(code=number)
        refs += [weakref.ref(ann), weakref.ref(code)]
        store.batch_put([ann, code])
    del ann, code
    gc.collect()
    assert sum(ref() is not None for ref in refs) == 10
    assert counts(store) == {"puts": 100, "evictions": 90}


def test_an_evicted_object_is_found_by_no_key() -> None:
    """An eviction takes the aliases along."""
    store = ProcessMemoryStore(maxsize=1)
    store.batch_put([user(1), user(2)])
    assert [store.get(User, key(1)) for key in USER_KEYS] == [None] * 4
    assert [store.contains(User, key(2)) for key in USER_KEYS] == [True] * 4
    assert all(len(cells) <= 1 for cells in store._spaces._dicts.values())


def test_memory_stays_flat_under_churn() -> None:
    """Puts, reads, deletes and expired entries leave nothing behind."""
    store = ProcessMemoryStore(maxsize=100, lifetime=1e-9)

    def churn(rounds: int) -> int:
        for number in range(rounds):
            store.put(user(number))
            store.get(User, number - 50)
            store.delete(User, number - 20)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        first = churn(500)
        assert churn(4000) - first < 20_000
    finally:
        tracemalloc.stop()


def test_a_bound_may_be_beyond_all_floats() -> None:
    """A number that no float holds is a bound like any other."""
    store = ProcessMemoryStore(maxsize=10**400)
    store.put(user(1))
    assert store.contains(User, 1)
