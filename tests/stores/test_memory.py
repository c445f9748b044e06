"""Process memory: what it keeps, what it counts, and what threads, clocks and tenants see."""

import dataclasses
import gc
import inspect
import os
import random
import re
import signal
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import time_machine

from stockstore import ChainedStore, CodecError, ConfigurationError, MappingStore, NotKeyedError, ProcessMemoryStore, Stats, UnknownKeyError
from tests.stores.things import Animal, Cat, Code, Dog, Falsy, Puppy, Quarrelsome, Thing, User, user

pytestmark = pytest.mark.sa_agnostic

USER_KEYS: list[Callable[[int], Any]] = [
    lambda number: number,
    lambda number: {"id": number},
    lambda number: {"email": f"{number}@b.c"},
    lambda number: {"username": f"u{number}", "tenant": number % 3},
]


class Clock:
    """A monotonic clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Give the time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that process memory looks at."""
    clock = Clock()
    monkeypatch.setattr("stockstore.stores.local._now", clock)
    monkeypatch.setattr("stockstore.stores.memory._now", clock)
    monkeypatch.setattr("stockstore.stores.hits._now", clock)
    return clock


def counts(store: ProcessMemoryStore) -> dict[str, int]:
    """Give the counts that are not zero."""
    return {name: value for name, value in dataclasses.asdict(store.stats()).items() if type(value) is int and value}


def every_reading(store: ProcessMemoryStore, cls: type, key: Any) -> list[Any]:
    """Read one key in every way, twice: the first read of a class is not the way of the later ones."""
    keywords = [store.get(cls, **key)] if isinstance(key, dict) else []
    return [*keywords, *store.batch_get(cls, [key, key]), store.get(cls, key), *store.batch_get(cls, [key])]


READINGS: list[Callable[[ProcessMemoryStore, Any], Any]] = [
    lambda store, key: store.get(User, key),
    lambda store, key: store.get(User, **(key if isinstance(key, dict) else {"id": key})),
    lambda store, key: store.batch_get(User, [key])[0],
    lambda store, key: store.batch_get(User, [404, key])[1],
    lambda store, key: next(iter(store.batch_fetch(User, [key]))),
    lambda store, key: store.contains(User, key) or None,
]


# -- plain objects by reference ----------------------------------------------------------------------


@pytest.mark.parametrize("key", USER_KEYS)
def test_every_key_gives_the_very_object(key: Callable[[int], Any]) -> None:
    """By each declared key, and each way to read, comes the object that was put."""
    store, ann = ProcessMemoryStore(), user(1)
    store.batch_put([user(2), ann])
    assert all(found is ann for found in every_reading(store, User, key(1)))
    assert all(found is ann for found in every_reading(store, User, key(1)))
    assert every_reading(store, User, key(404)) == [None] * len(every_reading(store, User, key(404)))


@pytest.mark.parametrize("value", [1, 1.0, True])
def test_numbers_that_compare_equal_are_one_key(value: Any) -> None:
    """It does not matter by which type of number an object was put or is asked for."""
    store = ProcessMemoryStore()
    store.put(Code(code=value))
    for asked in (1, 1.0, True):
        assert all(found is not None and found.code is value for found in every_reading(store, Code, asked))
    for other in ("1", b"1", None, 2):
        assert every_reading(store, Code, other) == [None] * 4


class Seat:
    """A thing with keys that are called like options of ``get``."""

    __keys__ = ("id", "session", "key")

    def __init__(self, number: int) -> None:
        """Give all keys other values."""
        self.id, self.session, self.key = number, number + 1, number + 2


def test_a_keyword_called_like_an_option_is_the_option() -> None:
    """The class, the key and the session may be given by their names, before and after the fast way was learned; keys called so as a dict."""
    store, seat = ProcessMemoryStore(), Seat(1)
    store.put(seat)
    given: list[dict[str, Any]] = [{"key": 1}, {"key": {"session": 2}}, {"id": 1, "session": None}, {"id": 1, "strict": True}, {"id": 1}]
    for _ in range(2):
        assert all(store.get(Seat, **names) is seat for names in given)
        assert store.get(cls=Seat, key=1) is store.get(Seat, 1, session=None) is store.get(Seat, {"key": 3}) is seat
        assert store.get(Seat, key=3) is None
        with pytest.raises(UnknownKeyError, match="no key was given"):
            store.get(Seat, session=None)
    assert inspect.signature(store.get) == inspect.signature(MappingStore({}).get)


def test_none_is_a_canonical_key_like_another() -> None:
    """A plain object whose canonical key is None is found by it, while None in other keys finds nothing."""
    store, nobody = ProcessMemoryStore(), User(id=None, email=None, tenant=1, username=None)
    store.put(nobody)
    assert store.get(User, None) is nobody
    assert store.get(User, email=None) is None
    assert store.get(User, tenant=1, username=None) is None


def test_a_batch_keeps_positions_mixes_keys_and_repeats() -> None:
    """Answers stand where their keys stand, whatever the keys' forms, and from any iterable."""
    store, people = ProcessMemoryStore(), [user(number) for number in range(4)]
    store.batch_put(iter(people))
    keys = [3, {"id": 0}, {"email": "2@b.c"}, 404, 3, {"tenant": 1, "username": "u1"}, {"email": "x"}]
    expected = [people[3], people[0], people[2], None, people[3], people[1], None]
    for _ in range(2):
        assert store.batch_get(User, keys) == expected
        assert store.batch_get(User, (key for key in keys)) == expected
    assert store.batch_get(User, [0, 1, 2]) == people[:3]
    assert store.batch_get(User, []) == []


@pytest.mark.parametrize("cls", [Falsy, Quarrelsome])
def test_objects_that_lie_about_themselves_are_found(cls: type[Thing]) -> None:
    """Objects that are false, empty, equal to all or not to be compared are hits, and are deleted."""
    store = ProcessMemoryStore()
    things = [cls(id=number) for number in range(3)]
    store.batch_put(things)
    for _ in range(2):
        for number, thing in enumerate(things):
            assert all(found is thing for found in every_reading(store, cls, number))
        assert [found is not None for found in store.batch_get(cls, [0, 404, 2])] == [True, False, True]
        assert store.contains(cls, 1)
    assert store.delete(things[0])
    assert store.get(cls, 0) is None
    assert store.get_or_load(cls, 9, lambda: cls(id=9)) is store.get(cls, 9)


def test_putting_again_replaces() -> None:
    """A later object of the same key wins, also within one batch, and its predecessor is let go."""
    store, old, new = ProcessMemoryStore(), user(1), user(1, email="new@b.c")
    gone = weakref.ref(old)
    store.batch_put([old, new])
    del old
    gc.collect()
    assert gone() is None
    assert store.get(User, 1) is new
    assert store.get(User, email="1@b.c") is None
    assert store.get(User, email="new@b.c") is new


# -- keys that change --------------------------------------------------------------------------------


def test_a_key_changed_in_place_misses_by_the_old_value() -> None:
    """Objects are kept by reference: what no longer carries the value asked for is a miss, and by its new value once put."""
    store, ann = ProcessMemoryStore(), user(1)
    store.put(ann)
    every_reading(store, User, {"email": "1@b.c"})
    ann.email, ann.username = "new@b.c", "new"
    for key in ({"email": "1@b.c"}, {"tenant": 1, "username": "u1"}):
        assert set(every_reading(store, User, key)) == {None}
    assert store.get(User, 1) is ann
    store.put(ann)
    for key in ({"email": "1@b.c"}, {"tenant": 1, "username": "u1"}):
        assert set(every_reading(store, User, key)) == {None}
    for key in ({"email": "new@b.c"}, {"tenant": 1, "username": "new"}):
        assert set(every_reading(store, User, key)) == {ann}


def test_a_canonical_key_changed_in_place_misses_by_the_old_value() -> None:
    """The same holds for the key under which an object is kept."""
    store, ann = ProcessMemoryStore(), user(1)
    store.put(ann)
    every_reading(store, User, 1)
    ann.id = 7
    assert set(every_reading(store, User, 1)) == {None}
    store.put(ann)
    assert set(every_reading(store, User, 7)) == {ann}
    assert set(every_reading(store, User, 1)) == {None}


def test_an_alternate_key_taken_over_gives_the_new_owner() -> None:
    """When an object takes a value that another had, the value gives the new owner, also after the old one is deleted."""
    store, ann, bob = ProcessMemoryStore(), user(1), user(2)
    store.batch_put([ann, bob])
    ann.email, bob.email = "else@b.c", "1@b.c"
    store.batch_put([ann, bob])
    assert store.get(User, email="1@b.c") is bob
    store.delete(ann)
    assert store.get(User, email="1@b.c") is bob
    assert store.get(User, email="2@b.c") is None


# -- deleting and clearing ---------------------------------------------------------------------------


@pytest.mark.parametrize("key", USER_KEYS)
def test_delete_by_any_key_leaves_nothing_readable(key: Callable[[int], Any]) -> None:
    """A delete by one key takes the object from all of them, says whether there was one, and leaves the others."""
    store = ProcessMemoryStore()
    store.batch_put([user(1), user(2)])
    assert store.delete(User, key(1)) is True
    assert [store.get(User, other(1)) for other in USER_KEYS] == [None] * 4
    assert store.delete(User, key(1)) is False
    assert [store.contains(User, other(2)) for other in USER_KEYS] == [True] * 4


def test_delete_counts_each_object_once() -> None:
    """A batch that names an object by several keys, or twice, deletes one."""
    store = ProcessMemoryStore()
    store.batch_put([user(1), user(2), user(3)])
    assert store.batch_delete(User, [1, {"id": 1}, {"email": "1@b.c"}, 404]) == 1
    assert store.batch_delete([user(2), user(2), user(3)]) == 2
    assert store.batch_delete([]) == 0
    assert counts(store) == {"puts": 3, "deletes": 3}


def test_clear_drops_a_class_or_all() -> None:
    """Clearing a class leaves the others; clearing all leaves nothing; both leave the store usable."""
    store, ann, code = ProcessMemoryStore(), user(1), Code(code="x")
    store.batch_put([ann, code])
    store.clear(User)
    assert (store.get(User, 1), store.get(User, email="1@b.c"), store.get(Code, "x")) == (None, None, code)
    store.clear()
    assert store.get(Code, "x") is None
    store.put(ann)
    assert store.get(User, email="1@b.c") is ann


def test_close_forgets_all_and_may_be_repeated() -> None:
    """A closed store holds nothing."""
    with ProcessMemoryStore() as store:
        ann = user(1)
        gone = weakref.ref(ann)
        store.put(ann)
    store.close()
    del ann
    gc.collect()
    assert gone() is None


# -- bounds -------------------------------------------------------------------------------------------


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


# -- lifetimes ----------------------------------------------------------------------------------------


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


# -- copies ---------------------------------------------------------------------------------------------


def test_copies_isolate_both_ways() -> None:
    """With ``copy=True`` neither what the writer nor what a reader changes later is seen by others."""
    store = ProcessMemoryStore(copy=True)
    ann = user(1, tags=["a"])
    store.put(ann)
    ann.tags.append("writer")
    found = store.get(User, 1)
    assert found is not None
    assert found is not ann
    assert found.tags == ["a"]
    found.tags.append("reader")
    found.email = "changed"
    again = store.batch_get(User, [1, {"email": "1@b.c"}])
    assert [obj and obj.tags for obj in again] == [["a"], ["a"]]
    assert again[0] is not again[1]


def test_what_cannot_be_copied_is_refused_before_anything_is_stored() -> None:
    """A batch with an object that cannot be copied is CodecError naming its class, and none of it is stored."""
    store = ProcessMemoryStore(copy=True)
    with pytest.raises(CodecError, match=r"a tests\.stores\.things\.User cannot be copied, as copy=True asks: cannot pickle"):
        store.batch_put([user(1), user(2, lock=threading.Lock())])
    assert store.batch_get(User, [1, 2]) == [None, None]


# -- tenants ----------------------------------------------------------------------------------------------


def test_tenants_are_apart() -> None:
    """A callable namespace is asked at each call: what one tenant puts, no other reads, deletes or clears."""
    tenant = ContextVar("tenant", default="a")
    store = ProcessMemoryStore(namespace=tenant.get)
    people = {}
    for name in ("a", "b", "a:b"):
        tenant.set(name)
        people[name] = user(1, email=f"{name}@b.c")
        store.put(people[name])
    for name, ann in people.items():
        tenant.set(name)
        assert set(every_reading(store, User, 1)) == {ann}
        assert set(every_reading(store, User, {"email": f"{name}@b.c"})) == {ann}
        assert store.partition == name
    tenant.set("b")
    assert store.delete(User, 1)
    tenant.set("a")
    assert store.get(User, 1) is people["a"]
    store.clear()
    assert store.get(User, 1) is None
    tenant.set("a:b")
    assert store.get(User, 1) is people["a:b"]


@pytest.mark.parametrize("namespace", ["", None, 7, b"shop"])
def test_a_namespace_that_is_no_text_is_refused(namespace: Any) -> None:
    """A namespace that is empty or no text is ConfigurationError, at once or when the callable gives it."""
    message = re.escape(f"a namespace is a text that is not empty, or a callable that gives one, not {namespace!r}")
    with pytest.raises(ConfigurationError, match=message):
        ProcessMemoryStore(namespace=namespace)
    with pytest.raises(ConfigurationError, match=message):
        ProcessMemoryStore(namespace=lambda: namespace).get(User, 1)


# -- polymorphism -----------------------------------------------------------------------------------------


def test_polymorphic_finds_by_every_base_and_key() -> None:
    """An object is found by its class and by each keyed base, by all of their keys."""
    store = ProcessMemoryStore(polymorphic=True)
    rex = Puppy(id=1, name="Rex", chip="c1")
    store.put(rex)
    for cls, key in [(kind, key) for kind in (Puppy, Dog, Animal) for key in ({"id": 1}, {"name": "Rex"}, {"chip": "c1"})]:
        if cls is not Animal or "chip" not in key:
            assert set(every_reading(store, cls, key)) == {rex}, (cls, key)
    assert set(every_reading(store, Animal, 1)) == {rex}
    assert set(every_reading(store, Cat, 1)) == {None}


def test_without_polymorphic_a_base_finds_nothing() -> None:
    """By default an object is found by its own class alone."""
    store = ProcessMemoryStore()
    store.put(Puppy(id=1, name="Rex", chip="c1"))
    assert [store.get(cls, id=1) is None for cls in (Puppy, Dog, Animal)] == [False, True, True]


def test_siblings_with_one_base_key_do_not_hide_each_other() -> None:
    """Each is found by its own class, whichever was put last, and after the other was deleted."""
    store = ProcessMemoryStore(polymorphic=True)
    dog, cat = Dog(id=1, name="Alex", chip="c1"), Cat(id=1, name="Alex")
    for first, second in ((dog, cat), (cat, dog)):
        store.batch_put([first, second])
        assert store.get(Dog, id=1) is dog
        assert store.get(Cat, id=1) is cat
        assert store.get(Dog, name="Alex") is dog
        assert store.get(Cat, name="Alex") is cat
        assert store.get(Animal, 1) is second
        assert store.delete(second)
        assert store.get(type(first), id=1) is first
        assert store.get(type(second), id=1) is None
        store.clear()


def test_delete_by_a_base_deletes_the_subclass_object() -> None:
    """What a base's key finds, a delete by it deletes."""
    store = ProcessMemoryStore(polymorphic=True)
    store.put(Dog(id=1, name="Rex", chip="c1"))
    assert store.delete(Animal, name="Rex")
    assert [store.get(cls, id=1) for cls in (Dog, Animal)] == [None, None]


def test_clearing_a_base_clears_its_subclasses() -> None:
    """With ``polymorphic=True`` a class is cleared with all below it, and without what stands beside it."""
    store = ProcessMemoryStore(polymorphic=True)
    store.batch_put([Puppy(id=1, name="Rex", chip="c1"), Cat(id=2, name="Tom"), Animal(id=3, name="It")])
    store.clear(Dog)
    assert [found is not None for found in store.batch_get(Animal, [1, 2, 3])] == [False, True, True]
    store.clear(Animal)
    assert store.batch_get(Animal, [1, 2, 3]) == [None] * 3


# -- counting ----------------------------------------------------------------------------------------------


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


# -- get_or_load ---------------------------------------------------------------------------------------------


def test_a_loader_is_asked_once() -> None:
    """What the loader gives is stored under every key, and the next read does not ask it."""
    store, asked = ProcessMemoryStore(), []

    def load(key: object) -> User:
        asked.append(key)
        return user(1)

    ann = store.get_or_load(User, {"email": "1@b.c"}, load)
    assert ann is store.get_or_load(User, {"email": "1@b.c"}, load) is store.get_or_load(User, 1, load) is store.get(User, 1)
    assert asked == [{"email": "1@b.c"}]


def test_a_loader_may_take_no_argument() -> None:
    """A loader without parameters is called with nothing."""
    store, ann = ProcessMemoryStore(), user(1)
    assert store.get_or_load(User, 1, lambda: ann) is ann
    assert store.get(User, 1) is ann


def test_none_from_a_loader_is_not_stored() -> None:
    """Nothing found is asked for again."""
    store, answers = ProcessMemoryStore(), iter([None, None, user(1)])
    assert [store.get_or_load(User, 1, lambda: next(answers)) is None for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize(
    "wrong",
    [user(2), user(1, email="other@b.c"), Code(code="1@b.c")],
    ids=["another key", "another value", "another class"],
)
def test_a_loader_that_gives_another_object_is_refused(wrong: Any) -> None:
    """An object that does not carry the key asked for is UnknownKeyError, and is not stored."""
    store = ProcessMemoryStore()
    with pytest.raises(UnknownKeyError, match=r"the loader for .*User \{'email': '1@b\.c'\} gave .*, which does not carry this key"):
        store.get_or_load(User, {"email": "1@b.c"}, lambda: wrong)
    assert counts(store) == {"misses": 1}


def test_an_error_of_a_loader_comes_through() -> None:
    """The loader's own error is the caller's, TypeError included."""

    def fail(key: object) -> User:
        raise TypeError(f"no {key}")

    with pytest.raises(TypeError, match=r"^no 1$"):
        ProcessMemoryStore().get_or_load(User, 1, fail)


# -- wrong input -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize(
    ("key", "message"),
    [
        ({"phone": 1}, "User has no key 'phone'; it declares 'id', 'email', ('tenant', 'username')"),
        ({"tenant": 1}, "User has no key 'tenant'; it declares 'id', 'email', ('tenant', 'username')"),
        ({}, "User has no key (); it declares 'id', 'email', ('tenant', 'username')"),
        ((1, 2), "User is 'id': it needs 1 values in this order, not (1, 2)"),
    ],
)
def test_a_wrong_key_is_refused(warm: bool, key: Any, message: str) -> None:
    """An unknown, incomplete or empty key is UnknownKeyError for every verb, also where the class was read before."""
    store = ProcessMemoryStore()
    store.put(user(1))
    if warm:
        every_reading(store, User, 1)
    verbs: list[Callable[[], object]] = [
        lambda: store.get(User, key),
        lambda: store.batch_get(User, [1, key]),
        lambda: store.contains(User, key),
        lambda: store.delete(User, key),
        lambda: store.batch_delete(User, [1, key]),
        lambda: store.get_or_load(User, key, lambda: None),
    ]
    for verb in verbs:
        with pytest.raises(UnknownKeyError, match=re.escape(message)):
            verb()
    assert store.contains(User, 1)


@pytest.mark.parametrize("warm", [True, False])
def test_keys_given_twice_or_not_at_all_are_refused(warm: bool) -> None:
    """No key, a key as well as keywords, and a key beside an object are UnknownKeyError."""
    store, ann = ProcessMemoryStore(), user(1)
    store.put(ann)
    if warm:
        every_reading(store, User, 1)
    no_key = "no key was given; give a dict, the canonical key's value, or names as keywords"
    twice = re.escape("the key was given twice, as 1 and as {'id': 1}")
    for verb in (store.get, store.contains, store.delete):
        with pytest.raises(UnknownKeyError, match=no_key):
            verb(User)
        with pytest.raises(UnknownKeyError, match=twice):
            verb(User, 1, id=1)
    with pytest.raises(UnknownKeyError, match="delete takes an object, or a class and a key; it was given the object"):
        store.delete(ann, 1)
    assert store.get(User, 1) is ann


@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize("thing", ["User", 7, None, [], {}])
def test_what_is_no_class_is_refused(warm: bool, thing: Any) -> None:
    """Something else in the place of the class is NotKeyedError showing it."""
    store = ProcessMemoryStore()
    if warm:
        store.get(User, 1)
    for verb in (lambda: store.get(thing, 1), lambda: store.batch_get(thing, [1]), lambda: store.contains(thing, 1)):
        with pytest.raises(NotKeyedError, match=re.escape(f"the first argument is the class to look up, not {thing!r}")):
            verb()


@pytest.mark.parametrize("thing", [7, "text", None, object(), User, Thing()])
def test_an_object_without_keys_is_refused(thing: Any) -> None:
    """An object whose class declares no keys is NotKeyedError naming the class, and nothing of its batch is stored."""
    store = ProcessMemoryStore()
    message = re.escape(f"{type(thing).__module__}.{type(thing).__qualname__} declares no keys; give it __keys__")
    with pytest.raises(NotKeyedError, match=message):
        store.batch_put([user(1), thing])
    with pytest.raises(NotKeyedError, match=message):
        store.batch_delete([user(1), thing])
    assert store.get(User, 1) is None


@pytest.mark.parametrize(("missing", "key"), [("id", "'id'"), ("email", "'email'"), ("username", r"\('tenant', 'username'\)")])
def test_an_object_without_a_key_attribute_is_refused(missing: str, key: str) -> None:
    """An object that lacks the attribute of any of its keys is NotKeyedError naming both."""
    store, ann = ProcessMemoryStore(), user(1)
    delattr(ann, missing)
    with pytest.raises(NotKeyedError, match=rf"a .*User has no value for its key {key}: .* has no attribute '{missing}'"):
        store.batch_put([user(2), ann])
    assert store.get(User, 2) is None


def test_an_object_without_its_canonical_key_cannot_be_deleted() -> None:
    """A delete of such an object is NotKeyedError too, alone and in a chain."""
    store = ProcessMemoryStore()
    for one in (store, ChainedStore([store])):
        with pytest.raises(NotKeyedError, match=r"a .*User has no value for its key 'id': .* has no attribute 'id'"):
            one.delete(User(email="a"))


@pytest.mark.parametrize("batch", [7, None, "text", b"bytes", User])
def test_a_batch_that_is_none_is_refused(batch: Any) -> None:
    """What is no iterable of objects is ConfigurationError showing it."""
    store = ProcessMemoryStore()
    with pytest.raises(ConfigurationError, match=re.escape(f"a batch is an iterable of objects, not {batch!r}")):
        store.batch_put(batch)


@pytest.mark.parametrize("value", [float("nan"), [1], object()])
def test_a_key_value_that_cannot_be_one_is_refused(value: Any) -> None:
    """NaN and values without an encoding are CodecError at put and at get."""
    store = ProcessMemoryStore()
    with pytest.raises(CodecError, match="cannot be"):
        store.put(Code(code=value))
    for _ in range(2):
        with pytest.raises(CodecError, match="cannot be"):
            store.get(Code, {"code": value})
        store.get(Code, 1)


@pytest.mark.parametrize("maxsize", [0, -5, 1.0, "10", None, True])
def test_a_size_that_is_no_number_is_refused(maxsize: Any) -> None:
    """A bound that is no int from 1 is ConfigurationError with the value."""
    with pytest.raises(ConfigurationError, match=re.escape(f"maxsize is a number of objects from 1, not {maxsize!r}")):
        ProcessMemoryStore(maxsize=maxsize)


@pytest.mark.parametrize("keys", [{"id": 1}, "1", b"1", 1, None])
@pytest.mark.parametrize("warm", [True, False])
def test_keys_that_are_no_batch_are_refused(warm: bool, keys: Any) -> None:
    """One key in the place of a batch is UnknownKeyError, not a batch of its letters or names."""
    store = ProcessMemoryStore()
    store.put(user(1))
    if warm:
        every_reading(store, User, 1)
    message = re.escape(f"a batch of keys is an iterable of them, such as [1, {{'id': 2}}], not {keys!r}")
    for verb in (store.batch_get, store.batch_delete):
        with pytest.raises(UnknownKeyError, match=message):
            verb(User, keys)
    assert store.contains(User, 1)


def test_objects_and_keys_together_are_refused() -> None:
    """A delete of objects takes no keys beside them."""
    store, ann = ProcessMemoryStore(), user(1)
    store.put(ann)
    with pytest.raises(UnknownKeyError, match=r"batch_delete takes objects, or a class and keys; it was given \[.*\] and keys as well"):
        store.batch_delete([ann], [1])
    assert store.get(User, 1) is ann


# -- subclasses ------------------------------------------------------------------------------------------------


def test_a_subclass_s_own_batch_get_is_what_get_asks() -> None:
    """The one-item verbs stand on the batch verbs: an override of those is seen by every read, also of hits."""
    asked: list[Any] = []

    class Watched(ProcessMemoryStore):
        def batch_get(self, cls: type[Any], keys: Any, *, session: Any = None) -> list[Any]:
            """Note what is asked for."""
            keys = list(keys)
            asked.extend(keys)
            return super().batch_get(cls, keys, session=session)

    store, ann = Watched(), user(1)
    store.put(ann)
    assert [store.get(User, 1) for _ in range(3)] == [ann] * 3
    assert store.contains(User, 1)
    assert len(asked) == 4


# -- threads and forks -----------------------------------------------------------------------------------------


def run_threads(works: list[Callable[[], None]]) -> None:
    """Run functions in threads, and raise the first error of any."""
    errors: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    if errors:
        raise errors[0]


def test_reads_take_no_lock() -> None:
    """While another thread holds the lock of the writers, every sort of hit is answered."""
    store, ann = ProcessMemoryStore(), user(1)
    store.put(ann)
    answers: list[Any] = []
    with store._spaces.cells.lock:
        reader = threading.Thread(target=lambda: answers.extend(every_reading(store, User, key(1))[-1] for key in USER_KEYS), daemon=True)
        reader.start()
        reader.join(10)
        assert answers == [ann] * 4


def test_a_reader_never_takes_away_what_a_writer_just_renewed(clock: Clock) -> None:
    """An entry found expired and put again before it is dropped stays."""
    store, ann = ProcessMemoryStore(lifetime=10), user(1)
    store.put(ann)
    (cells,) = [cells for (_, _, alias), cells in store._spaces._dicts.items() if not alias]
    node = cells[1]
    clock.now += 10
    store.put(ann)
    store._expire(node)
    assert store.get(User, 1) is ann
    assert store.stats().expirations == 0


def test_threads_see_whole_objects_only() -> None:
    """While eight threads put, get and delete, no read gives an object of another key, and the store ends whole."""
    store = ProcessMemoryStore(maxsize=30, lifetime=lambda obj: obj.seconds)

    def hammer(seed: int) -> None:
        chooser = random.Random(seed)
        for _ in range(1500):
            number = chooser.randrange(60)
            action = chooser.random()
            if action < 0.3:
                store.put(user(number, seconds=chooser.choice((None, 1e-6, 60))))
            elif action < 0.4:
                store.delete(User, number)
            elif action < 0.7:
                found = store.get(User, number)
                assert found is None or found.id == number
            elif action < 0.8:
                found = store.get(User, email=f"{number}@b.c")
                assert found is None or found.id == number
            else:
                batch = store.batch_get(User, [number, number + 1])
                assert [obj is None or obj.id - number for obj in batch] in ([0, 1], [True, 1], [0, True], [True, True])

    run_threads([lambda seed=seed: hammer(seed) for seed in range(8)])  # type: ignore[misc]
    spaces = store._spaces
    records = [cells for (_, _, alias), cells in spaces._dicts.items() if not alias]
    live = {id(node) for cells in records for node in cells.values()}
    assert len(spaces.cells) == len(live) <= 30
    assert all(id(node) in live for cells in spaces._dicts.values() for node in cells.values())


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_while_another_thread_writes_and_evicts() -> None:
    """No fork waits for ever, and each child can read, write and count, however busy other threads were."""
    store = ProcessMemoryStore(maxsize=5)
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            store.put(user(random.randrange(50)))

    writers = [threading.Thread(target=write) for _ in range(3)]
    for writer in writers:
        writer.start()
    try:
        statuses = [_status_of_child(store) for _ in range(15)]
    finally:
        done.set()
        for writer in writers:
            writer.join(10)
    assert statuses == [0] * 15


def _status_of_child(store: ProcessMemoryStore) -> int:
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        status = 1
        try:
            store.put(user(99))
            status = 0 if store.contains(User, 99) and store.stats().puts > 0 else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_an_object_s_finalizer_may_use_the_store() -> None:
    """What is evicted may use the store as it goes, without waiting for itself."""
    store = ProcessMemoryStore(maxsize=2)

    class Careful(Thing):
        __keys__ = ["id"]
        id: int

        def __del__(self) -> None:
            store.delete(Code, self.id)

    def use() -> None:
        store.batch_put([Careful(id=number) for number in range(10)])
        store.clear()

    run_threads([use])
    assert store.stats().evictions == 8


@pytest.fixture(autouse=True)
def _fresh_randomness() -> Iterator[None]:
    state = random.getstate()
    yield
    random.setstate(state)


def test_a_step_that_was_cut_off_at_its_very_end() -> None:
    """Where a thread has left the cells as in the middle of a step, another one still drops what it is told to."""
    store = ProcessMemoryStore()
    store.put(CutOff(1))
    store._shelves.cells._busy = threading.get_ident()
    other = threading.Thread(target=store.delete, args=[CutOff, 1])
    other.start()
    other.join()
    assert store.get(CutOff, 1) is None


@dataclasses.dataclass
class CutOff:
    __keys__ = ["number"]
    number: int
