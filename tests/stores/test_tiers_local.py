"""Process memory and thread-local as tiers: bounds, threads, forks, finalizers, tenants."""

import gc
import os
import threading
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import pytest
from time_machine import Traveller

from stockstore import ConfigurationError, ProcessMemoryStore, ThreadLocalStore
from stockstore.coherence.protocol import Writes
from stockstore.stores.snapshots import ObjectSnapshot, snapshot_of
from stockstore.stores.tiers import tier_of
from tests.patience import OWN
from tests.stores.shop import Car, Circle, Shape, Van, Vehicle

BOUND = OWN[ProcessMemoryStore]["max_staleness"]


@dataclass
class Row:
    __keys__ = ["id", "name"]
    id: int
    name: str
    version: int = 0


def row(number: int, version: int = 0) -> Row:
    """Make a row."""
    return Row(number, f"n{number}", version)


def leased(tier: Any, key: Any = 1, cls: type = Row) -> Any:
    """Take a lease that is granted."""
    (answer,) = tier.lease(cls, [key])
    assert answer.lease is not None
    return answer.lease


def fill(tier: Any, obj: Any) -> bool:
    """Lease and fill."""
    return bool(tier.fill([(leased(tier, obj.id, type(obj)), snapshot_of(obj))]))


def places(tier: Any, *keys: int) -> Any:
    """Give the places of rows."""
    writes = Writes()
    for key in keys:
        writes.add(Row, {"id": key})
    return tier.locate(writes)


def put_through(tier: Any, obj: Row, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Mark and release with a value."""
    at = places(tier, obj.id)
    tier.mark(at, b"t")
    meanwhile()
    tier.release(at, b"t", committed=True, snapshots=[ObjectSnapshot(obj)])


# -- bounds --------------------------------------------------------------------------------------


def test_fills_of_an_origin_that_others_write_live_one_second(clock: Traveller) -> None:
    """Until it is told otherwise, a tier believes what it was filled with for a second from the lease."""
    store = ProcessMemoryStore(max_staleness=BOUND)
    tier: Any = tier_of(store)
    assert tier.standing().level == "bounded 1 s"
    lease = leased(tier)
    clock.shift(0.5)
    assert tier.fill([(lease, ObjectSnapshot(row(1)))]) == 1
    clock.shift(0.4)
    assert [store.get(Row, 1), store.get(Row, name="n1"), *store.batch_get(Row, [1])] == [row(1)] * 3
    clock.shift(0.2)
    assert [store.get(Row, 1), store.get(Row, name="n1"), *store.batch_get(Row, [1])] == [None] * 3


def test_a_fill_that_came_too_late_is_not_kept(clock: Traveller) -> None:
    """What was read more than a second ago is no hit any more."""
    store = ProcessMemoryStore(max_staleness=BOUND)
    lease = leased(tier_of(store))
    clock.shift(1.5)
    tier_of(store).fill([(lease, ObjectSnapshot(row(1)))])
    assert store.get(Row, 1) is None


def test_released_values_live_one_second_from_the_mark(clock: Traveller) -> None:
    """Another process may write as soon as the commit is done, however late the release is."""
    store = ProcessMemoryStore(max_staleness=10)
    put_through(tier_of(store), row(1), lambda: clock.shift(4))
    clock.shift(5)
    assert store.get(Row, 1) == row(1)
    clock.shift(1.5)
    assert store.get(Row, 1) is None


def test_a_shorter_lifetime_holds(clock: Traveller) -> None:
    """The store's own lifetime ends earlier than the bound."""
    store = ProcessMemoryStore(lifetime=2, max_staleness=10)
    fill(tier_of(store), row(1))
    clock.shift(1.5)
    assert store.get(Row, 1) == row(1)
    clock.shift(1)
    assert store.get(Row, 1) is None


@pytest.mark.parametrize("unbounded", ["not shared", "max_staleness=None"])
def test_without_other_writers_there_is_no_bound(clock: Traveller, unbounded: str) -> None:
    """Where nobody else writes the origin, fills and releases live as long as the store says, and the tier is strict."""
    store = ProcessMemoryStore(max_staleness=None if unbounded == "max_staleness=None" else 1.0)
    tier: Any = tier_of(store)
    if unbounded == "not shared":
        tier.bound_to(shared=False)
    assert tier.standing().level == "strict"
    fill(tier, row(1))
    put_through(tier, row(2))
    clock.shift(1_000_000)
    assert (store.get(Row, 1), store.get(Row, 2)) == (row(1), row(2))


def test_one_shared_origin_decides(clock: Traveller) -> None:
    """A store above two origins is bounded by the one that others write, also for what it had before."""
    store = ProcessMemoryStore(max_staleness=BOUND)
    tier: Any = tier_of(store)
    tier.bound_to(shared=False)
    fill(tier, row(1))
    tier.bound_to(shared=True)
    tier.bound_to(shared=False)
    assert tier.standing().level == "bounded 1 s"
    assert store.get(Row, 1) is None
    fill(tier, row(1))
    clock.shift(1.5)
    assert store.get(Row, 1) is None


def test_a_put_by_hand_has_no_bound(clock: Traveller) -> None:
    """What is put into the store itself lives as the store says."""
    store = ProcessMemoryStore()
    fill(tier_of(store), row(1))
    store.put(row(1, 7))
    clock.shift(1_000)
    assert store.get(Row, 1) == row(1, 7)


@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan"), True, "1"])
@pytest.mark.parametrize("kind", [ProcessMemoryStore, ThreadLocalStore])
def test_a_bound_that_is_no_time_is_refused(kind: Any, value: Any) -> None:
    """Zero, negative and infinite bounds and what is no number are ConfigurationError with the value."""
    with pytest.raises(ConfigurationError, match=rf"^max_staleness is a number of seconds above 0, or None, not {value!r}$"):
        kind(max_staleness=value)


# -- what stands there ---------------------------------------------------------------------------


def test_an_object_that_lost_its_key_gives_way_to_a_lease() -> None:
    """A shared object that was changed after its put is no hit, and is replaced."""
    store = ProcessMemoryStore()
    tier, obj = tier_of(store), row(1)
    fill(tier, obj)
    obj.id = 2
    assert fill(tier, row(1, 7))
    assert store.get(Row, 1) == row(1, 7)


def test_a_row_of_another_class_keeps_its_place() -> None:
    """A car asked for by a van's key is absent for good: the van stays, and nothing is leased."""
    store = ProcessMemoryStore()
    tier = tier_of(store)
    fill(tier, Car(id=1, kind="car", plate="b", doors=5))
    assert tier.lease(Van, [1]) == [(None, None, False, False)]
    (answer,) = tier.lease(Vehicle, [1])
    assert answer.snapshot is not None
    assert answer.snapshot.cls is Car


def test_a_concrete_subclass_is_leased_by_its_own_identity() -> None:
    """A fill of a base's key with a row of a concrete subclass is refused; by its own key it is found by both."""
    tier = tier_of(ProcessMemoryStore())
    circle = Circle(id=1, colour="red", radius=2)
    assert tier.fill([(leased(tier, 1, Shape), snapshot_of(circle))]) == 0
    assert fill(tier, circle)
    (answer,) = tier.lease(Shape, [1])
    assert answer.snapshot is not None
    assert answer.snapshot.cls is Circle


def test_a_put_takes_the_lease_of_a_reader() -> None:
    """What a user puts meanwhile is not overwritten by a slower fill, also where it is gone again."""
    store = ProcessMemoryStore()
    tier = tier_of(store)
    lease = leased(tier)
    store.put(row(1, 7))
    assert tier.fill([(lease, ObjectSnapshot(row(1)))]) == 0
    assert store.get(Row, 1) == row(1, 7)
    lease = leased(tier, 2)
    store.put(row(2, 7))
    store._spaces.cells.clear()
    assert tier.fill([(lease, ObjectSnapshot(row(2)))]) == 0
    assert store.get(Row, 2) is None


def test_tenants_do_not_meet() -> None:
    """Marks and leases stand in the namespace in which they were taken, whoever releases them."""
    tenant = ContextVar("tenant", default="a")
    store = ProcessMemoryStore(namespace=tenant.get)
    tier = tier_of(store)
    lease, at = leased(tier), places(tier, 2)
    tier.mark(at, b"t")
    tenant.set("b")
    assert fill(tier, row(1, 7))
    assert fill(tier, row(2, 7))
    assert tier.fill([(lease, ObjectSnapshot(row(1, 3)))]) == 1
    tier.release(at, b"t", committed=True, snapshots=[ObjectSnapshot(row(2, 3))])
    assert (store.get(Row, 1), store.get(Row, 2)) == (row(1, 7), row(2, 7))
    tenant.set("a")
    assert (store.get(Row, 1), store.get(Row, 2)) == (row(1, 3), row(2, 3))


def test_what_cannot_be_kept_is_released_without_a_value() -> None:
    """An object that cannot be copied, or whose lifetime is none, leaves its place absent, and nobody is told."""
    store = ProcessMemoryStore(copy=True)
    tier, bad = tier_of(store), row(1)
    bad.version = threading.Lock()  # type: ignore[assignment]
    assert not fill(tier, bad)
    put_through(tier, bad)
    assert store.get(Row, 1) is None
    assert fill(tier, row(1, 7))
    assert store.stats().errors == 2


def test_owing_is_done_at_once() -> None:
    """Memory is always in reach."""
    store = ProcessMemoryStore()
    tier = tier_of(store)
    fill(tier, row(1))
    at = places(tier, 1, 2)
    tier.mark(at, b"t")
    tier.owe(at, b"t")
    assert tier.readable(Row)
    assert fill(tier, row(1, 7))
    tier.owe(at)
    assert store.get(Row, 1) is None
    assert (tier.texts(at), tier.remote) == ([], False)


# -- processes, threads, finalizers --------------------------------------------------------------


def test_a_forked_process_has_neither_markers_nor_leases() -> None:
    """A transaction of the parent does not close a record in the child."""
    store = ProcessMemoryStore()
    tier = tier_of(store)
    at, lease = places(tier, 1), leased(tier, 2)
    tier.mark(at, b"t")
    if (child := os.fork()) == 0:
        os._exit(0 if fill(tier, row(1)) and not tier.fill([(lease, ObjectSnapshot(row(2)))]) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert tier.lease(Row, [1])[0].marked


def test_a_finalizer_may_write_in_the_middle_of_a_step() -> None:
    """A transaction that ends in a finalizer, whenever the collector runs it, leaves its value and no marker."""
    store = ProcessMemoryStore(maxsize=50)
    tier: Any = tier_of(store)
    tier.bound_to(shared=False)
    written: list[None] = []

    class Cycle:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            put_through(tier, row(1000, len(written)))
            written.append(None)

    gc.collect()
    threshold = gc.get_threshold()
    gc.set_threshold(7)
    try:
        for number in range(2000):
            Cycle()
            fill(tier, row(number % 200, number)) if store.get(Row, number % 200) is None else None
            put_through(tier, row(number % 150, number))
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert len(written) == 2000
    assert store.get(Row, 1000) in (None, row(1000, 1999))
    assert not any(answer.marked for answer in tier.lease(Row, list(range(1001))))
    assert len(store._spaces.cells) <= 50


def test_a_store_that_was_let_go_of_is_gone() -> None:
    """A store with a tier keeps nothing alive after the next collection."""
    store = ProcessMemoryStore()
    fill(tier_of(store), row(1))
    cells = store._spaces.cells
    del store
    gc.collect()
    assert not [other for other in gc.get_referrers(cells) if isinstance(other, ProcessMemoryStore)]


# -- one thread ----------------------------------------------------------------------------------


def test_the_end_of_a_threads_writing_transaction_drops_all_it_has_read(clock: Traveller) -> None:
    """A commit drops everything of its thread, a value is not kept; other threads keep theirs, for a second."""
    store = ThreadLocalStore(max_staleness=BOUND)
    tier = tier_of(store)

    def elsewhere() -> None:
        fill(tier, row(2, 3))
        put_through(tier, row(9))

    other = threading.Thread(target=elsewhere)
    fill(tier, row(1))
    fill(tier, row(2))
    other.start()
    other.join()
    assert (store.get(Row, 1), store.get(Row, 2)) == (row(1), row(2))
    put_through(tier, row(2, 7))
    assert (store.get(Row, 1), store.get(Row, 2)) == (None, None)
    fill(tier, row(1))
    clock.shift(1.5)
    assert store.get(Row, 1) is None
    assert tier.standing().level == "bounded 1 s"


def test_a_thread_reads_past_its_own_mark() -> None:
    """While its transaction commits a thread has no value, and another thread is not in the way."""
    tier = tier_of(ThreadLocalStore())
    at = places(tier, 1)
    tier.mark(at, b"t")
    assert tier.lease(Row, [1])[0].marked
    other = threading.Thread(target=lambda: tier.release(at, b"t", committed=False))
    other.start()
    other.join()
    assert not tier.lease(Row, [1])[0].marked
