"""Stores that cannot compare and set: fills and writers of this process in order, errors of anybody's class kept from readers."""

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import pytest
from time_machine import Traveller

from stockstore import CacheUnreachable, ChainedStore, MappingStore, ProcessMemoryStore, ShardedStore
from stockstore.coherence.protocol import Writes
from stockstore.stores.snapshots import ObjectSnapshot
from stockstore.stores.tiers import tier_of
from stockstore.stores.tiers.guarded import GuardedTier
from tests.stores.custom import PickleStore
from tests.stores.things import Code


@dataclass
class Row:
    __keys__ = ["id"]
    id: int
    version: int = 0


@dataclass
class Wide(Row):
    """Kept under an identity of its own."""


class SlowStore(PickleStore):
    """Lets a test come in between, and fails where it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.before_put: Callable[[], object] = lambda: None
        self.broken = False

    def _work(self) -> None:
        if self.broken:
            raise ZeroDivisionError("a mistake of its author")

    def batch_put(self, objects: Iterable[object]) -> None:
        """Put, after the test has come in once."""
        self._work()
        come_in, self.before_put = self.before_put, lambda: None
        come_in()
        super().batch_put(objects)

    def batch_get(self, cls: Any, keys: Any, *, session: Any = None) -> Any:
        """Get."""
        self._work()
        return super().batch_get(cls, keys, session=session)

    def batch_delete(self, targets: Any, keys: Any = None) -> int:
        """Delete."""
        self._work()
        return super().batch_delete(targets, keys)

    def clear(self, cls: type | None = None) -> None:
        """Clear."""
        self._work()
        super().clear(cls)


@pytest.fixture
def store() -> SlowStore:
    """An empty one."""
    return SlowStore()


@pytest.fixture
def tier(store: SlowStore) -> Any:
    """Its tier."""
    return tier_of(store)


def snapshot(key: int, version: int) -> ObjectSnapshot:
    """Make a version of a row."""
    return ObjectSnapshot(Row(key, version))


def places(tier: Any, *keys: int, wide: bool = False) -> Any:
    """Give the places of rows."""
    writes = Writes()
    for key in keys:
        writes.add(Row, {"id": key})
    if wide:
        writes.add_class(Row)
    return tier.locate(writes)


def has(tier: Any, key: int) -> int | None:
    """Give the version that the tier has."""
    (answer,) = tier.lease(Row, [key])
    return None if answer.snapshot is None else answer.snapshot.value.version


def leased(tier: Any, key: int) -> Any:
    """Take a lease that is granted."""
    (answer,) = tier.lease(Row, [key])
    assert answer.lease is not None
    return answer.lease


@pytest.mark.parametrize("wide", [False, True])
def test_a_fill_that_lands_after_a_whole_write_leaves_nothing(tier: Any, store: SlowStore, wide: bool) -> None:
    """A writer that comes and goes while a fill is on its way into the store: what lands is bypassed until it is removed."""
    answers = []

    def writer() -> None:
        at = places(tier, *(() if wide else (1,)), wide=wide)
        tier.mark(at, b"t")
        tier.release(at, b"t", committed=True, snapshots=[] if wide else [snapshot(1, 2)])
        answers.append(tier.lease(Row, [1])[0])

    lease = leased(tier, 1)
    store.before_put = writer
    assert tier.fill([(lease, snapshot(1, 1))]) == 0
    assert answers == [(None, None, True, False)]
    assert store.get(Row, 1) is None
    assert tier.fill([(leased(tier, 1), snapshot(1, 2))]) == 1
    assert has(tier, 1) == 2


def test_a_fill_that_lands_after_an_invalidation_leaves_nothing(tier: Any, store: SlowStore) -> None:
    """As after a write; other records of the batch are filled again at their next read."""
    leases = [(leased(tier, 1), snapshot(1, 1)), (leased(tier, 2), snapshot(2, 1))]
    store.before_put = lambda: tier.invalidate(places(tier, 1))
    tier.fill(leases)
    assert (has(tier, 1), store.rows) == (None, {})
    leased(tier, 2)


def test_a_value_that_lands_after_the_next_writers_mark_leaves_nothing(tier: Any, store: SlowStore) -> None:
    """A value is released beside the marker of the next writer, which has committed something newer by then."""
    one, two = places(tier, 1), places(tier, 1)
    tier.mark(one, b"t1")
    store.before_put = lambda: tier.mark(two, b"t2")
    tier.release(one, b"t1", committed=True, snapshots=[snapshot(1, 1)])
    assert tier.lease(Row, [1]) == [(None, None, True, False)]
    tier.release(two, b"t2", committed=False)
    assert has(tier, 1) is None


class SlowMapping(dict[str, bytes]):
    """Lets a test come in before anything is set."""

    before_set: Callable[[], object] = staticmethod(lambda: None)

    def __setitem__(self, key: str, value: bytes) -> None:
        come_in, self.before_set = self.before_set, lambda: None
        come_in()
        super().__setitem__(key, value)


@pytest.mark.parametrize("polymorphic", [True, False])
def test_a_fill_of_a_subclass_that_lands_after_all_of_its_base_was_invalidated(polymorphic: bool) -> None:
    """It leaves nothing where look-ups of the base find it, nor does one whose lease was granted before."""
    entries = SlowMapping()
    store = MappingStore(entries, polymorphic=polymorphic)
    tier: Any = tier_of(store)
    early, late = (tier.lease(Wide, [key])[0].lease for key in (1, 2))
    entries.before_set = lambda: tier.invalidate(places(tier, wide=True))
    kept = 0 if polymorphic else 1
    assert tier.fill([(early, ObjectSnapshot(Wide(1)))]) == kept
    assert tier.fill([(late, ObjectSnapshot(Wide(2)))]) == kept
    assert [store.contains(Wide, key) for key in (1, 2)] == [not polymorphic] * 2
    (answer,) = tier.lease(Wide, [1])
    assert (answer.lease is not None) is polymorphic


@pytest.mark.parametrize("cls", [Row, None])
@pytest.mark.parametrize("sharded", [False, True])
def test_a_fill_that_lands_after_a_chain_was_cleared_leaves_nothing(cls: type | None, sharded: bool) -> None:
    """Whoever has written past the chain clears it: what was read before that is not kept afterwards."""
    entries, lower = SlowMapping(), MappingStore({})
    upper = ShardedStore([MappingStore(entries), MappingStore(entries)]) if sharded else MappingStore(entries)
    chain = ChainedStore([upper, lower])

    def change() -> None:
        chain.clear(cls)
        lower.put(Row(1, 2))

    lower.put(Row(1, 1))
    entries.before_set = change
    assert chain.get(Row, 1) == Row(1, 1)
    assert chain.get(Row, 1) == chain.get(Row, 1) == Row(1, 2)


def test_a_chain_above_sharded_chains_is_cleared() -> None:
    """They are no tiers, and clear their own."""
    shards = [ChainedStore([ProcessMemoryStore(), MappingStore({})]) for _ in range(2)]
    chain = ChainedStore([ProcessMemoryStore(), ShardedStore(shards)])
    for cls in (Row, None):
        chain.put(Row(1))
        assert chain.get(Row, 1) == Row(1)
        chain.clear(cls)
        assert chain.get(Row, 1) is None


def test_a_lease_from_before_a_chain_was_cleared_is_refused(tier: Any, store: SlowStore) -> None:
    """As the reader may have read before that, too; other classes' leases stand."""
    lease, other = leased(tier, 1), tier.lease(Code, [1])[0].lease
    ChainedStore([store]).clear(Row)
    assert tier.fill([(lease, snapshot(1, 1))]) == 0
    assert tier.fill([(other, ObjectSnapshot(Code(code=1)))]) == 1


def test_a_fill_of_a_subclass_in_a_store_of_anybodys(tier: Any, store: SlowStore) -> None:
    """Whether its look-ups of a base find subclasses nobody knows: all of the base is all of them."""
    store.put(Wide(3))
    early, late = (tier.lease(Wide, [key])[0].lease for key in (1, 2))
    store.before_put = lambda: tier.invalidate(places(tier, wide=True))
    assert tier.fill([(early, ObjectSnapshot(Wide(1)))]) == tier.fill([(late, ObjectSnapshot(Wide(2)))]) == 0
    assert store.rows == {}


def test_an_error_of_the_store_is_no_error_of_a_read(tier: Any, store: SlowStore) -> None:
    """What the store cannot answer or keep is a miss without a lease, and counted."""
    lease = leased(tier, 1)
    store.broken = True
    assert tier.lease(Row, [1, 2]) == [(None, None, False, False)] * 2
    assert tier.fill([(lease, snapshot(1, 1))]) == 0
    assert store.stats().errors == 2


def test_an_error_of_the_store_is_one_of_the_cache(tier: Any, store: SlowStore) -> None:
    """Writers are told by CacheUnreachable with the store's error as its cause; the marker stays."""
    tier.fill([(leased(tier, 1), snapshot(1, 1))])
    at = places(tier, 1)
    store.broken = True
    steps: list[Callable[[], object]] = [
        lambda: tier.mark(at, b"t"),
        lambda: tier.release(at, b"t", committed=True, snapshots=[snapshot(1, 2)]),
        lambda: tier.release(at, b"t", committed=True),
        lambda: tier.invalidate(at),
        lambda: tier.mark(places(tier, wide=True), b"t"),
    ]
    for step in steps:
        with pytest.raises(CacheUnreachable, match="a mistake of its author") as raised:
            step()
        assert isinstance(raised.value.__cause__, ZeroDivisionError)
    store.broken = False
    assert tier.lease(Row, [1]) == [(None, None, True, False)]


@pytest.mark.parametrize("wide", [False, True])
def test_what_is_owed_is_removed_when_the_store_works_again(tier: Any, store: SlowStore, clock: Traveller, wide: bool) -> None:
    """Until then the class is not read; then the old value is gone and nobody's marker is left."""
    tier.fill([(leased(tier, 1), snapshot(1, 1))])
    at = places(tier, 1, wide=wide)
    store.broken = True
    with pytest.raises(CacheUnreachable):
        tier.mark(at, b"t")
    tier.owe(at, b"t")
    assert not tier.readable(Row)
    clock.shift(1.5)
    assert not tier.readable(Row)
    store.broken = False
    clock.shift(1.5)
    assert tier.readable(Row)
    assert store.rows == {}
    assert tier.fill([(leased(tier, 1), snapshot(1, 2))]) == 1


def test_a_fill_that_cannot_be_undone_is_owed(tier: Any, store: SlowStore, clock: Traveller) -> None:
    """Where the store breaks between a fill and its removal the class is not read."""

    def writer() -> None:
        at = places(tier, 1)
        tier.mark(at, b"t")
        tier.release(at, b"t", committed=True)
        store.broken = True

    lease = leased(tier, 1)
    store.before_put = writer
    assert tier.fill([(lease, snapshot(1, 1))]) == 0
    assert not tier.readable(Row)
    store.broken = False
    clock.shift(1.5)
    assert tier.readable(Row)
    assert has(tier, 1) is None


def test_tenants_writes_are_undone_in_their_namespace() -> None:
    """What was located for a tenant is removed there, whoever's turn it is."""
    tenant = ContextVar("tenant", default="a")

    class Loud(ProcessMemoryStore):
        def batch_get(self, *arguments: Any, **options: Any) -> Any:
            return super().batch_get(*arguments, **options)

    store = Loud(namespace=tenant.get)
    tier: Any = tier_of(store)
    assert type(tier) is GuardedTier
    store.put(Row(1, 1))
    at = places(tier, 1)
    tenant.set("b")
    store.put(Row(1, 2))
    tier.mark(at, b"t")
    assert has(tier, 1) == 2
    tenant.set("a")
    assert tier.lease(Row, [1]) == [(None, None, True, False)]
    tier.release(at, b"t", committed=True)
    assert store.get(Row, 1) is None


def test_a_backend_without_compare_and_set_is_guarded() -> None:
    """A mapping is read and filled in order within the process, and says that it is weak."""
    tier: Any = tier_of(MappingStore({}))
    lease = leased(tier, 1)
    at = places(tier, 1)
    tier.mark(at, b"t")
    assert tier.fill([(lease, snapshot(1, 1))]) == 0
    tier.release(at, b"t", committed=True, snapshots=[snapshot(1, 2)])
    assert has(tier, 1) == 2
    level, reason = tier.standing()
    assert level == "weak"
    assert "within this process alone" in reason
