"""Lifetimes, by a clock that moves when it is told to."""

import random
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import time_machine

from stockstore import ProcessMemoryStore
from tests.stores.memory.readings import READINGS, USER_KEYS, Clock, every_reading
from tests.stores.things import Code, User, user

pytestmark = pytest.mark.sa_agnostic


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("key", USER_KEYS)
@pytest.mark.parametrize("read_before", [True, False])
def test_an_entry_lives_until_its_lifetime_ends(
    clock: Clock, reading: Callable[[ProcessMemoryStore, Any], Any], key: Callable[[int], Any], read_before: bool
) -> None:
    """Until just before the end an object is a hit by each key and way to read, from then on a miss by each."""
    store, ann = ProcessMemoryStore(lifetime=60), user(1)
    store.put(ann)
    clock.now += 59.999
    if read_before:
        assert set(every_reading(store, User, key(1))) == {ann}
    assert reading(store, key(1)) is not None
    clock.now += 0.001
    assert reading(store, key(1)) is None
    clock.now -= 30
    assert [store.get(User, other(1)) for other in USER_KEYS] == [None] * 4
    assert store.stats().expirations == 1
    assert all(not cells for cells in store._spaces._dicts.values())


def test_putting_again_renews_the_lifetime(clock: Clock) -> None:
    """The lifetime counts from the last put, also where the entry had expired unread."""
    store, ann = ProcessMemoryStore(lifetime=60), user(1)
    for _ in range(3):
        store.put(ann)
        clock.now += 59
        assert set(every_reading(store, User, 1)) == {ann}
        clock.now += 30
    store.put(ann)
    assert set(every_reading(store, User, 1)) == {ann}


@pytest.mark.parametrize("lifetime", [0, -1, -0.0, timedelta(0), -float("inf"), datetime(2000, 1, 1, tzinfo=timezone.utc)])
def test_a_lifetime_of_nothing_removes_what_was_there(lifetime: Any) -> None:
    """Putting for no time stores nothing, and an older value is gone by every key."""
    store = ProcessMemoryStore(lifetime=lambda obj: obj.lifetime)
    store.put(user(1, lifetime=60))
    store.put(user(1, lifetime=lifetime))
    assert [store.get(User, key(1)) for key in USER_KEYS] == [None] * 4
    assert store.stats().puts == 1


@pytest.mark.parametrize("lifetime", [None, float("inf"), 10**400, timedelta.max, lambda _: None])
def test_no_limit_is_no_limit(clock: Clock, lifetime: Any) -> None:
    """Without a limit entries outlive any clock."""
    store, ann = ProcessMemoryStore(lifetime=lifetime), user(1)
    store.put(ann)
    clock.now += 10**9
    assert set(every_reading(store, User, 1)) == {ann}


def test_a_callable_decides_for_each_object(clock: Clock) -> None:
    """The callable is given the object; each keeps its own lifetime."""
    store = ProcessMemoryStore(lifetime=lambda obj: obj.seconds)
    store.batch_put([Code(code=number, seconds=number) for number in range(4)])
    clock.now += 1.5
    assert [found and found.code for found in store.batch_get(Code, [0, 1, 2, 3])] == [None, None, 2, 3]


@pytest.mark.parametrize(
    ("lifetime", "error", "message"),
    [
        (True, TypeError, "not bool True"),
        ("60", TypeError, "not str '60'"),
        (float("nan"), ValueError, "a lifetime cannot be NaN"),
        (datetime(2024, 5, 17), ValueError, "has no time zone"),
        (lambda _: "60", TypeError, "not str '60'"),
    ],
)
def test_a_wrong_lifetime_is_refused_at_put(lifetime: Any, error: type[Exception], message: str) -> None:
    """A malformed lifetime is the rule's error, and nothing of the batch is stored."""
    store = ProcessMemoryStore(lifetime=lifetime)
    with pytest.raises(error, match=message):
        store.batch_put([user(1), user(2)])
    assert store.batch_get(User, [1, 2]) == [None, None]


def test_a_wall_clock_step_changes_nothing(clock: Clock) -> None:
    """Setting the wall clock forward kills no entry, and setting it back resurrects none."""
    store, ann = ProcessMemoryStore(lifetime=60), user(1)
    with time_machine.travel(datetime(2024, 5, 17, tzinfo=timezone.utc), tick=False) as traveller:
        store.put(ann)
        traveller.shift(3600)
        assert set(every_reading(store, User, 1)) == {ann}
        clock.now += 60
        traveller.shift(-7200)
        assert set(every_reading(store, User, 1)) == {None}


def test_jitter_spreads_expiry(clock: Clock) -> None:
    """Objects put at once expire one by one, none later than its lifetime."""
    random.seed(3)
    store = ProcessMemoryStore(lifetime=100, jitter=0.5)
    store.batch_put([Code(code=number) for number in range(200)])
    left = []
    for _ in range(3):
        clock.now += 100 / 3 + 0.01
        left.append(200 - store.batch_get(Code, range(200)).count(None))
    assert left[0] == 200
    assert 100 < left[1] < 180
    assert left[2] == 0
