"""What is counted, exactly."""

import dataclasses

import pytest

from stockstore import ProcessMemoryStore, Stats
from tests.stores.memory.readings import Clock, counts, run_threads
from tests.stores.things import Code, User, user

pytestmark = pytest.mark.sa_agnostic


def test_counts_are_exact(clock: Clock) -> None:
    """Every read, write, eviction and expiration is counted once, repeats in batches included."""
    store = ProcessMemoryStore(maxsize=3, lifetime=10)
    assert counts(store) == {}
    store.batch_put([user(1), user(2)])
    store.get(User, 1)
    store.get(User, email="1@b.c")
    store.get(User, 404)
    store.batch_get(User, [1, 1, {"id": 2}, 404, 404, {"email": "no"}])
    assert counts(store) == {"hits": 5, "misses": 4, "puts": 2}
    store.contains(User, 2)
    store.contains(User, 5)
    assert counts(store) == {"hits": 6, "misses": 5, "puts": 2}
    store.batch_put([user(1), user(3), user(4)])
    assert counts(store) == {"hits": 6, "misses": 5, "puts": 5, "evictions": 1}
    store.delete(User, 4)
    store.delete(User, 404)
    assert counts(store) == {"hits": 6, "misses": 5, "puts": 5, "deletes": 1, "evictions": 1}
    clock.now += 10
    store.batch_get(User, [1, 1, 2, 3])
    found = counts(store)
    assert (found["hits"], found["misses"], found["expirations"]) == (6, 9, 2)
    assert store.stats().hit_ratio == pytest.approx(6 / 15)


@pytest.mark.parametrize("asked", ["value", "dict"])
@pytest.mark.parametrize(("times", "stays"), [(1, False), (2, True), (9, True)])
def test_eviction_knows_what_batches_asked_for(times: int, stays: bool, asked: str) -> None:
    """A record that two batches asked for outlives newcomers, as one that was asked for by itself does."""
    store = ProcessMemoryStore(maxsize=10)
    store.batch_put([Code(code=0, version=1), Code(code=1, version=1)])
    store.get(Code, 1)  # from now on hits go the fast way
    key = 0 if asked == "value" else {"code": 0}
    for _ in range(times):
        assert store.batch_get(Code, [key, 404])[1] is None
    assert counts(store) == {"puts": 2, "hits": 1 + times, "misses": times}
    store.batch_put(Code(code=number, version=1) for number in range(2, 12))
    assert store.contains(Code, 0) is stays


def test_stats_are_an_immutable_snapshot() -> None:
    """Stats do not change with the store, and cannot be changed."""
    store = ProcessMemoryStore(maxsize=7)
    before = store.stats()
    store.put(user(1))
    assert (before.puts, store.stats().puts) == (0, 1)
    assert (before.name, before.tiers, before.hit_ratio) == ("ProcessMemoryStore(maxsize=7)", (), 0.0)
    assert isinstance(before, Stats)
    for name in [field.name for field in dataclasses.fields(before)]:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(before, name, 1)


def test_counts_are_exact_under_threads() -> None:
    """No hit and no miss of eight threads is lost."""
    store = ProcessMemoryStore()
    store.batch_put([user(number) for number in range(10)])

    def read() -> None:
        for number in range(1000):
            store.get(User, number % 20)
            store.batch_get(User, [number % 20, {"email": "0@b.c"}])

    run_threads([read] * 8)
    assert counts(store) == {"puts": 10, "hits": 8 * 2000, "misses": 8 * 1000}
