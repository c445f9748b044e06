"""The short way to a miss, and what a miss must not be taken for."""

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Column, Integer, Table
from sqlalchemy.orm import registry

from stockstore import ChainedStore, MappingStore, ProcessMemoryStore
from stockstore.instrumentation import Event, hooked, unasked
from stockstore.stores.tenants import reading_for
from tests.stores.memory.readings import USER_KEYS, Clock, counts, every_reading
from tests.stores.things import Seat, Thing, User, seat, user

KEYS = pytest.mark.parametrize("key", USER_KEYS)


def warmed(**options: Any) -> ProcessMemoryStore:
    """Give a store that has one object, and has learned the short ways."""
    store = ProcessMemoryStore(**options)
    store.put(user(1))
    assert store.get(User, 404) is None
    assert User in store._finders
    return store


@pytest.mark.sa_agnostic
@KEYS
def test_a_miss_takes_the_short_way_and_is_counted(monkeypatch: pytest.MonkeyPatch, key: Callable[[int], Any]) -> None:
    """Once it was learned, nothing else is asked for it; each is counted, also among the hits of a batch."""
    store = warmed()
    monkeypatch.delattr(ProcessMemoryStore, "_get_any")
    found = every_reading(store, User, key(404))
    assert set(found) == {None}
    assert [found and found.id for found in store.batch_get(User, [1, key(404), 1, key(1)])] == [1, None, 1, 1]
    assert counts(store) == {"puts": 1, "hits": 3, "misses": len(found) + 2}


@pytest.mark.sa_agnostic
@KEYS
def test_a_miss_is_told(key: Callable[[int], Any]) -> None:
    """While there is a hook it hears of each miss, once, whatever was learned before; where nothing is to be counted, of none."""
    store, told = warmed(), Counter[str]()

    def hook(event: Event) -> None:
        told[event.kind] += event.count

    for _ in range(2):
        with hooked(hook):
            for _ in range(2):
                found = every_reading(store, User, key(404))
            with unasked():
                every_reading(store, User, key(404))
        assert told == {"miss": 2 * len(found)}
        told.clear()
        with unasked():
            every_reading(store, User, key(404))
        every_reading(store, User, key(404))
    assert not told
    assert counts(store) == {"puts": 1, "misses": 1 + 6 * len(found)}


@pytest.mark.sa_agnostic
@KEYS
def test_what_is_put_after_a_miss_is_found(key: Callable[[int], Any]) -> None:
    """By every key, after each miss, a delete and a clear."""
    store = warmed()
    for forget in (lambda: store.delete(User, 2), store.clear, lambda: store.clear(User)):
        assert set(every_reading(store, User, key(2))) == {None}
        ann = user(2)
        store.put(ann)
        assert set(every_reading(store, User, key(2))) == {ann}
        forget()


@pytest.mark.sa_agnostic
@KEYS
def test_an_expired_record_is_dropped_by_the_first_miss(clock: Clock, key: Callable[[int], Any]) -> None:
    """It is counted once as expired, and each time as missed."""
    store = warmed(lifetime=60)
    clock.now += 60
    assert store.get(User, key(1)) is store.get(User, key(1)) is None
    assert counts(store) == {"puts": 1, "misses": 3, "expirations": 1}
    assert len(store._spaces.cells) == 0


@pytest.mark.sa_agnostic
@KEYS
def test_a_chain_counts_a_miss_of_its_memory_once(key: Callable[[int], Any]) -> None:
    """The chain asks its memory twice, by the short way and for a lease."""
    memory = warmed()
    with ChainedStore([memory, MappingStore({})]) as chain:
        before = memory.stats().misses
        for times in (1, 2, 3):
            assert chain.get(User, key(404)) is None
            assert (chain.stats().misses, memory.stats().misses - before) == (times, times)


class Contact:
    """What tells until when a memory is fresh, by hand."""

    settled = threading.Event()

    def __init__(self) -> None:
        self.fresh_until = float("inf")
        self.begun = 0

    def begin(self) -> None:
        """Note that somebody would listen."""
        self.begun += 1

    def wait(self, seconds: float) -> None:
        """Wait for nothing."""

    def leave(self) -> None:
        """Do nothing."""


@pytest.mark.sa_agnostic
@pytest.mark.parametrize(
    ("cls", "there", "absent"),
    [(User, key(1), key(404)) for key in USER_KEYS] + [(Seat, (1, "p1"), (1, "p2")), (Seat, {"number": "n1"}, {"number": 1})],
)
def test_memory_that_is_not_fresh_misses_and_begins_to_listen(clock: Clock, cls: type, there: Any, absent: Any) -> None:
    """Neither a hit nor a miss is answered by what may be out of date: each such look counts a miss and asks for the channel."""
    store, contact = ProcessMemoryStore(), Contact()
    store.batch_put([user(1), seat(1)])
    store.listen(contact)
    for _ in range(2):
        assert None not in every_reading(store, cls, there)
        assert set(every_reading(store, cls, absent)) == {None}
    assert contact.begun == 0
    contact.fresh_until, before = clock.now, counts(store)
    for asked in (there, absent):
        contact.begun = 0
        assert store.get(cls, asked) is store.get(cls, asked) is None
        assert contact.begun == 2
    assert counts(store) == {**before, "misses": before["misses"] + 4}
    assert store.get(cls, there, strict=True) is None
    contact.fresh_until = clock.now + 1
    assert store.get(cls, there) is not None
    assert store.get(cls, there, strict=True) is None


# -- what was learned and holds no longer -----------------------------------------------------------------


def test_a_class_that_is_mapped_after_it_was_missed() -> None:
    """What was asked for as a plain object is found as a row."""

    class Late(Thing):
        __keys__ = ["id", "name", ("name", "id")]

    store, mappings = ProcessMemoryStore(), registry()
    keys = (1, {"id": 1}, {"name": 2}, {"name": 2, "id": 1})
    for key in keys * 2:
        assert store.get(Late, key) is None
    assert Late in store._finders
    table = Table("late", mappings.metadata, Column("id", Integer, primary_key=True), Column("name", Integer))
    mappings.map_imperatively(Late, table)
    try:
        store.put(Late(id=1, name=2))
        for key in keys:
            assert [found is None or found.name for found in every_reading(store, Late, key)] == [2] * len(every_reading(store, Late, key))
    finally:
        mappings.dispose()


class Room(Thing):
    __keys__ = ["id"]


def sweep(store: ProcessMemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a tenant's first object sweep the tenants away that have none."""
    before = store._spaces.sweeps
    monkeypatch.setattr(store._spaces, "_sweep_at", 0)
    with reading_for("tenant"):
        store.put(Room(id=5))
    assert store._spaces.sweeps == before + 1


@pytest.mark.sa_agnostic
@KEYS
def test_a_store_that_was_empty_when_tenants_were_swept_away(monkeypatch: pytest.MonkeyPatch, key: Callable[[int], Any]) -> None:
    """Its dictionaries went with those of the tenants that have nothing left; what is put next is found."""
    store, ann = ProcessMemoryStore(), user(1)
    for _ in range(2):
        assert set(every_reading(store, User, key(1))) == {None}
    sweep(store, monkeypatch)
    store.put(ann)
    assert set(every_reading(store, User, key(1))) == {ann}


@pytest.mark.sa_agnostic
def test_what_is_learned_while_tenants_are_swept_away_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader who was given dictionaries that go before it comes to the lock learns the new ones later."""
    store, ann = ProcessMemoryStore(), user(1)
    compiled = ProcessMemoryStore._compile

    def swept_meanwhile(*args: Any, **kwargs: Any) -> Any:
        hits = compiled(*args, **kwargs)
        monkeypatch.setattr(ProcessMemoryStore, "_compile", compiled)
        sweep(store, monkeypatch)
        return hits

    monkeypatch.setattr(ProcessMemoryStore, "_compile", swept_meanwhile)
    assert store.get(User, 1) is None
    assert User not in store._finders
    store.put(ann)
    assert set(every_reading(store, User, 1)) == {ann}
