import gc
import logging
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import pytest

from stockstore import ChainedStore, MappingStore, NullStore, ProcessMemoryStore, Store, ThreadLocalStore
from stockstore.errors import ConfigurationError, NotKeyedError, UnknownKeyError
from stockstore.instrumentation import Event, add_hook, emit, hooked, listening, remove_hook, unasked
from tests.instrumentation.metered import MakeShop, Part


@dataclass
class Thing:
    __keys__: ClassVar[list[str]] = ["id", "code"]
    id: int
    code: str = "x"


@pytest.fixture
def events() -> Iterator[list[Event]]:
    """What is told meanwhile."""
    events: list[Event] = []
    with hooked(events.append):
        yield events
    assert not listening


def sums(events: list[Event]) -> dict[str, int]:
    """Give the counts by the kinds of events, and forget them."""
    found: Counter[str] = Counter()
    for event in events:
        found[event.kind] += event.count
    events.clear()
    return dict(found)


@pytest.mark.parametrize("kind", [ProcessMemoryStore, ThreadLocalStore, dict])
def test_every_way_to_read_is_told(events: list[Event], kind: type) -> None:
    """By the canonical key, by another, in batches, by keywords; each read once."""
    store: Store = MappingStore({}) if kind is dict else kind()
    store.batch_put([Thing(1, "a"), Thing(2, "b")])
    for key in (1, {"id": 1}, {"code": "a"}):
        assert store.get(Thing, key) == Thing(1, "a")
        assert sums(events) == {"hit": 1}
    assert store.get(Thing, code="a") == Thing(1, "a")
    assert sums(events) == {"hit": 1}
    assert store.batch_get(Thing, [1, 2, 3]) == [Thing(1, "a"), Thing(2, "b"), None]
    assert sums(events) == {"hit": 2, "miss": 1}
    assert store.get(Thing, 9) is None
    assert sums(events) == {"miss": 1}
    assert (store.stats().hits, store.stats().misses) == (6, 2)


def test_ways_to_hits_that_were_learned_before_are_told() -> None:
    """A store and a chain that have learned the fastest way tell of hits from the hook's coming to its going, and count all."""
    memory = ProcessMemoryStore()
    chain = ChainedStore([memory, MappingStore({})])
    chain.put(Thing(1))
    events: list[Event] = []

    def read() -> None:
        for store in (memory, chain):
            assert store.get(Thing, 1) == Thing(1)
            assert store.get(Thing, 1) == Thing(1)
            assert store.batch_get(Thing, [1]) == [Thing(1)]

    read()
    assert Thing in memory._finders
    with hooked(events.append):
        read()
        assert sums(events)["hit"] == 6
        assert (Thing in memory._told_hits, memory._finders, chain._quick) == (True, {}, None)
        read()
    assert sums(events)["hit"] == 6
    read()
    assert Thing in memory._finders
    assert (events, chain._quick, memory._told_hits) == ([], memory, {})
    assert memory.stats().misses == 0


def test_bad_keys_are_refused_while_there_is_a_hook(events: list[Event]) -> None:
    """As they are without one, also where the fast way was learned."""
    memory = ProcessMemoryStore()
    for store in (memory, ChainedStore([memory, MappingStore({})])):
        store.put(Thing(1))
        assert store.get(Thing, 1) == store.get(Thing, id=1) == Thing(1)
        events.clear()
        for key in ({"id": 1, "code": "x"}, {"name": 1}, {}):
            with pytest.raises(UnknownKeyError):
                store.get(Thing, key)
        with pytest.raises(UnknownKeyError, match="given twice"):
            store.get(Thing, 1, id=1)
        with pytest.raises(NotKeyedError):
            store.get([], 1)  # type: ignore[arg-type]
    assert events == []


def test_the_first_miss_of_a_chain_is_told_once(events: list[Event]) -> None:
    """A tier that is asked twice, by the fast way and for a lease, tells once."""
    with ChainedStore([ProcessMemoryStore(), MappingStore({})]) as chain:
        assert chain.get(Thing, 1) is None
        assert sums(events) == {"miss": 2}


def test_what_is_read_for_nobody_is_not_told(events: list[Event]) -> None:
    """A chain's own looks, as when it deletes by another key, are nobody's reads."""
    with ChainedStore([ProcessMemoryStore(), ProcessMemoryStore()]) as chain:
        chain.put(Thing(1, "a"))
        events.clear()
        assert chain.delete(Thing, code="a")
        assert {"hit", "miss"}.isdisjoint(sums(events))
    with unasked():
        assert NullStore().get(Thing, 1) is None
        assert ProcessMemoryStore().batch_get(Thing, [1]) == [None]
    assert events == []


def test_a_hook_that_raises_changes_nothing(make_shop: MakeShop, caplog: pytest.LogCaptureFixture) -> None:
    """Reads, fills and commits go on; it is logged once, and the next hook is told as ever."""

    def broken(event: Event) -> None:
        raise ZeroDivisionError(event.kind)

    with hooked(broken), caplog.at_level(logging.ERROR):
        shop = make_shop()
        shop.add(1)
        assert [part and part.name for part in shop.chain.batch_get(Part, [1])] == ["old"]
        shop.write(1)
        assert [part and part.name for part in shop.chain.batch_get(Part, [1])] == ["new"]
    assert {kind for _, kind, _ in shop.told()} == {"miss", "fill", "hit", "mark", "release", "keep"}
    assert [record.getMessage().split(" failed")[0] for record in caplog.records] == [f"the hook {broken!r}"]


def test_a_hook_that_reads_is_told_nothing_of_that(events: list[Event]) -> None:
    """There is no recursion, and no other hook hears of it."""
    store = ProcessMemoryStore()
    with hooked(lambda event: store.get(Thing, 1)):
        assert NullStore().get(Thing, 1) is None
    assert [event.store for event in events] == ["NullStore()"]


async def _awaited(event: Event) -> None:
    del event


def test_wrong_hooks() -> None:
    """What cannot be called, would have to be awaited, or is a hook already, is refused; a hook that is none can be removed."""
    seen: list[Event] = []
    with pytest.raises(ConfigurationError, match=r"_awaited at .* is a coroutine function; give a plain one"):
        add_hook(_awaited)
    with pytest.raises(ConfigurationError, match=r"'x' cannot be called"):
        add_hook("x")  # type: ignore[arg-type]
    with hooked(seen.append), pytest.raises(ConfigurationError, match="is a hook already"):
        add_hook(seen.append)
    remove_hook(seen.append)
    assert not listening


def test_stores_are_not_kept_alive() -> None:
    """A store that nobody has any more goes at once, also where a hook came and went."""
    store = ProcessMemoryStore()
    with hooked(lambda event: None):
        store.put(Thing(1))
        assert store.get(Thing, 1) == Thing(1)
    assert [store.get(Thing, 1) for _ in range(2)] == [Thing(1)] * 2
    assert Thing in store._finders
    gone = weakref.ref(store)
    gc.disable()
    try:
        del store
        assert gone() is None
    finally:
        gc.enable()


def test_hooks_are_told_in_the_thread_of_the_event(events: list[Event]) -> None:
    """Threads tell at the same time, and lose nothing."""
    del events
    threads: Counter[int] = Counter()
    lock = threading.Lock()

    def count(event: Event) -> None:
        with lock:
            threads[threading.get_ident()] += event.count

    def read() -> None:
        for key in range(500):
            NullStore().get(Thing, key)

    with hooked(count):
        readers = [threading.Thread(target=read) for _ in range(4)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
    assert sum(threads.values()) == 2000
    assert threading.get_ident() not in threads


def test_no_event_is_told_of_nothing(events: list[Event]) -> None:
    """A count of zero is told of an outbox alone, which is empty then."""
    emit("hit", NullStore(), "Thing", 0)
    emit("outbox lag", NullStore(), count=0)
    assert [(event.kind, event.count) for event in events] == [("outbox lag", 0)]
