"""Every kind of tier takes each step of the protocol, and refuses what a writer has overtaken."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from stockstore import ChainedStore, ConfigurationError, NullStore, ProcessMemoryStore, RedisStore, SqlAlchemyStore, Store, ThreadLocalStore
from stockstore.backends.null import NullBackend
from stockstore.coherence.protocol import Answer, Writes
from stockstore.stores.backed import BackendStore
from stockstore.stores.snapshots import Snapshot, snapshot_of
from stockstore.stores.tiers import cache_tiers, tier_of
from stockstore.stores.tiers.backed import BackendTier
from stockstore.stores.tiers.guarded import GuardedTier
from stockstore.stores.tiers.local import LocalTier, ThreadLocalTier
from tests.coherence.dict_backend import DictBackend
from tests.stores.custom import PickleStore, ShoutingRedisStore
from tests.stores.shop import Customer, Order

KINDS = ["memory", "dict", "redis", "guarded"]
Tier = Any


@dataclass
class Item:
    """A plain object with an alternate key."""

    __keys__ = ["id", "name"]
    id: int
    name: str
    note: str = ""


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """An empty store of each kind."""
    kind = request.param
    if kind == "redis":
        made: Store = RedisStore(request.getfixturevalue("redis_url"), namespace=uuid4().hex)
    else:
        made = BackendStore(DictBackend()) if kind == "dict" else ProcessMemoryStore() if kind == "memory" else PickleStore()
    with made:
        yield made


@pytest.fixture
def tier(store: Store) -> Tier:
    """Its tier."""
    return tier_of(store)


@pytest.fixture(params=["mapped", "plain"])
def make(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Makes rows, or plain objects, by number and note."""
    if request.param == "plain":
        return lambda number, note="": Item(number, f"n{number}", note)
    return lambda number, note="": Customer(id=number, email=f"n{number}", tenant=7, name=f"n{number}", status="s", balance=0, stamp=note)


def note(obj: Any) -> str:
    """Give what tells one version of an object from the next."""
    return str(obj.note if isinstance(obj, Item) else obj.stamp)


def read(tier: Tier, cls: type, key: Any = 1) -> Answer[Snapshot]:
    """Ask for one key."""
    (answer,) = tier.lease(cls, [key])
    return answer  # type: ignore[no-any-return]


def has(tier: Tier, cls: type, key: Any = 1) -> str | None:
    """Give the version that a tier has, without looking at leases."""
    snapshot = read(tier, cls, key).snapshot
    return None if snapshot is None else note(snapshot.restore())


def leased(tier: Tier, cls: type, key: Any = 1) -> object:
    """Take a lease that is granted."""
    answer = read(tier, cls, key)
    assert answer.snapshot is None
    assert not answer.marked
    assert answer.lease is not None
    return answer.lease


def filled(tier: Tier, obj: Any) -> None:
    """Lease and fill."""
    assert tier.fill([(leased(tier, type(obj), obj.id), snapshot_of(obj))]) == 1
    assert has(tier, type(obj), obj.id) == note(obj)


def written(tier: Tier, *objects: Any, wide: type | None = None) -> object:
    """Give the places of writes."""
    writes = Writes()
    for obj in objects:
        writes.add(type(obj), {"id": obj.id})
    if wide is not None:
        writes.add_class(wide)
    return tier.locate(writes)


# -- readers -------------------------------------------------------------------------------------


def test_a_miss_gives_a_lease_and_a_fill_makes_a_hit(tier: Tier, make: Callable[..., Any]) -> None:
    """What is filled under a lease is read by every key, and counted."""
    obj = make(1, "one")
    filled(tier, obj)
    assert has(tier, type(obj), {"name" if isinstance(obj, Item) else "email": "n1"}) == "one"


def test_a_place_has_one_lease(tier: Tier, make: Callable[..., Any]) -> None:
    """A second reader gets no lease, and is told of no writer."""
    obj = make(1)
    leased(tier, type(obj))
    assert read(tier, type(obj)) == (None, None, False, False)


def test_a_lease_is_filled_once(tier: Tier, make: Callable[..., Any]) -> None:
    """The second fill of a lease is refused."""
    obj = make(1, "one")
    lease = leased(tier, type(obj))
    assert tier.fill([(lease, snapshot_of(obj))]) == 1
    assert tier.fill([(lease, snapshot_of(make(1, "two")))]) == 0
    assert has(tier, type(obj)) == "one"


def test_a_fill_of_another_record_is_refused(tier: Tier, make: Callable[..., Any]) -> None:
    """A lease is good for its own record alone."""
    obj = make(2, "two")
    assert tier.fill([(leased(tier, type(obj)), snapshot_of(obj))]) == 0
    assert has(tier, type(obj), 2) is None


def test_a_batch_is_answered_in_its_positions(tier: Tier, make: Callable[..., Any]) -> None:
    """Hits, leases and markers stand where their keys do."""
    one, cls = make(1, "one"), type(make(1))
    filled(tier, one)
    places = written(tier, make(3))  # who lets go of these lets go of what was marked in memory
    tier.mark(places, b"db.1")
    answers = tier.lease(cls, [2, 1, 3, 1])
    assert [None if a.snapshot is None else note(a.snapshot.restore()) for a in answers] == [None, "one", None, "one"]
    assert [a.marked for a in answers] == [False, False, True, False]
    assert [a.lease is not None for a in answers] == [True, False, False, False]
    assert tier.fill([(answers[0].lease, snapshot_of(make(2, "two")))]) == 1
    assert has(tier, cls, 2) == "two"


def test_an_unknown_alternate_key_gives_no_lease(tier: Tier, make: Callable[..., Any]) -> None:
    """Where nothing tells which record a key means, none can be leased."""
    obj = make(1)
    assert read(tier, type(obj), {"name" if isinstance(obj, Item) else "email": "n1"}) == (None, None, False, False)


def test_what_was_read_in_a_callers_transaction_is_not_filled(tier: Tier) -> None:
    """A row that is not to be shared fills nothing."""
    snapshot: Any = snapshot_of(Customer(id=1, email="a", tenant=1, name="a", status="s", balance=0))
    snapshot.shared = False
    assert tier.fill([(leased(tier, Customer), snapshot)]) == 0
    assert has(tier, Customer) is None


# -- one writer ------------------------------------------------------------------------------------


def test_a_marked_record_is_bypassed(tier: Tier, make: Callable[..., Any]) -> None:
    """What is marked is no hit, is not leased, and fills nothing above; other records are read as ever."""
    one, two = make(1, "one"), make(2, "two")
    filled(tier, one)
    filled(tier, two)
    places = written(tier, one)
    tier.mark(places, b"db.1")
    assert read(tier, type(one)) == (None, None, True, False)
    assert has(tier, type(one), 2) == "two"


def test_an_exact_value_follows_a_sole_marker(tier: Tier, make: Callable[..., Any]) -> None:
    """After a commit the value is there; what was written without one is absent, and can be leased."""
    one, two = make(1, "new"), make(2)
    filled(tier, make(1, "old"))
    filled(tier, make(2, "old"))
    places = written(tier, one, two)
    tier.mark(places, b"db.1")
    tier.release(places, b"db.1", committed=True, snapshots=[snapshot_of(one)])
    assert has(tier, type(one)) == "new"
    assert has(tier, type(one), {"name" if isinstance(one, Item) else "email": "n1"}) == "new"
    leased(tier, type(one), 2)


def test_nothing_follows_a_rollback(tier: Tier, make: Callable[..., Any]) -> None:
    """Without a commit nothing stands, also where a value is given."""
    obj = make(1, "never")
    places = written(tier, obj)
    tier.mark(places, b"db.1")
    tier.release(places, b"db.1", committed=False, snapshots=[snapshot_of(obj)])
    leased(tier, type(obj))


def test_a_fill_that_a_mark_overtook_is_refused(tier: Tier, make: Callable[..., Any]) -> None:
    """A reader paused between lease and fill fills neither beside the marker nor after it."""
    old, new = make(1, "old"), make(1, "new")
    lease, places = leased(tier, type(old)), written(tier, new)
    tier.mark(places, b"db.1")
    assert tier.fill([(lease, snapshot_of(old))]) == 0
    assert read(tier, type(old)).marked
    tier.release(places, b"db.1", committed=True, snapshots=[])
    assert tier.fill([(lease, snapshot_of(old))]) == 0
    assert has(tier, type(old)) is None


def test_a_fill_that_a_whole_write_overtook_is_refused(tier: Tier, make: Callable[..., Any]) -> None:
    """A reader paused over mark and release finds the value that followed, and leaves it."""
    old, new = make(1, "old"), make(1, "new")
    lease, places = leased(tier, type(old)), written(tier, new)
    tier.mark(places, b"db.1")
    tier.release(places, b"db.1", committed=True, snapshots=[snapshot_of(new)])
    assert tier.fill([(lease, snapshot_of(old))]) == 0
    assert has(tier, type(old)) == "new"


def test_a_fill_that_an_invalidation_overtook_is_refused(tier: Tier, make: Callable[..., Any]) -> None:
    """Invalidation takes leases too."""
    old = make(1, "old")
    lease = leased(tier, type(old))
    tier.invalidate(written(tier, old))
    assert tier.fill([(lease, snapshot_of(old))]) == 0
    assert has(tier, type(old)) is None


def test_invalidation_removes_what_is_there(tier: Tier, make: Callable[..., Any]) -> None:
    """The records named are absent, others stay."""
    one, two = make(1, "one"), make(2, "two")
    filled(tier, one)
    filled(tier, two)
    tier.invalidate(written(tier, one))
    assert (has(tier, type(one), 1), has(tier, type(one), 2)) == (None, "two")


def test_no_value_follows_an_invalidation_of_a_marker(tier: Tier, make: Callable[..., Any]) -> None:
    """The marker stays until its release, which leaves nothing."""
    obj = make(1, "older")
    places = written(tier, obj)
    tier.mark(places, b"db.1")
    tier.invalidate(written(tier, obj))
    assert read(tier, type(obj)).marked
    tier.release(places, b"db.1", committed=True, snapshots=[snapshot_of(obj)])
    leased(tier, type(obj))


def test_a_put_beside_a_marker_is_not_seen(tier: Tier, store: Store, make: Callable[..., Any]) -> None:
    """A put straight to the store leaves the marker alone."""
    obj = make(1, "put")
    places = written(tier, obj)
    tier.mark(places, b"db.1")
    store.put(obj)
    assert read(tier, type(obj)) == (None, None, True, False)
    tier.release(places, b"db.1", committed=True, snapshots=[])
    assert has(tier, type(obj)) is None


def test_a_delete_by_hand_is_an_invalidation(tier: Tier, store: Store, make: Callable[..., Any]) -> None:
    """Who deletes or clears in a store leaves no lease and lets no value follow."""
    if isinstance(tier, GuardedTier):
        return  # a store's own verbs are not seen there
    for remove in (lambda obj: store.delete(type(obj), obj.id), lambda obj: store.clear(type(obj)), lambda obj: store.clear()):
        old, other = make(1, "old"), make(2, "older")
        lease, places = leased(tier, type(old)), written(tier, other)
        tier.mark(places, b"db.1")
        remove(old)
        remove(other)
        assert tier.fill([(lease, snapshot_of(old))]) == 0
        assert read(tier, type(old), 2).marked
        tier.release(places, b"db.1", committed=True, snapshots=[snapshot_of(other)])
        assert has(tier, type(old), 2) is None
        store.clear()


# -- several writers -------------------------------------------------------------------------------


def test_no_value_follows_two_writers(tier: Tier, make: Callable[..., Any]) -> None:
    """Of two writers of a record neither leaves a value, and the record is bypassed until both have ended."""
    one, two = make(1, "one"), make(1, "two")
    first, second = written(tier, one), written(tier, two)
    tier.mark(first, b"db.1")
    tier.mark(second, b"db.2")
    tier.release(first, b"db.1", committed=True, snapshots=[snapshot_of(one)])
    assert read(tier, type(one)) == (None, None, True, False)
    tier.release(second, b"db.2", committed=True, snapshots=[snapshot_of(two)])
    assert has(tier, type(one)) is None


def test_a_lost_marker_leaves_nothing_old(tier: Tier, store: Store, make: Callable[..., Any]) -> None:
    """Where a marker was lost, the release of a commit removes what came after it, leases too; a rollback leaves it."""
    old, new = make(1, "old"), make(1, "new")
    filled(tier, old)
    lease = leased(tier, type(old), 2)
    places = written(tier, new, make(2))
    tier.release(places, b"db.1", committed=False)
    assert has(tier, type(old)) == "old"
    tier.release(places, b"db.1", committed=True, snapshots=[snapshot_of(new)])
    assert has(tier, type(old)) is None
    if not isinstance(tier, GuardedTier):
        assert tier.fill([(lease, snapshot_of(make(2, "old")))]) == 0


# -- whole classes ---------------------------------------------------------------------------------


def test_a_whole_hierarchy_is_bypassed_while_it_is_marked(tier: Tier) -> None:
    """Of a class that a writer may have changed all over nothing is read or leased, and nothing of before is left."""
    old, order = _customer(1, "old"), Order(id=1, number="a", state="s", customer_id=1)
    filled(tier, old)
    assert tier.fill([(leased(tier, Order), snapshot_of(order))]) == 1
    lease = leased(tier, Customer, 2)
    places = written(tier, wide=Customer)
    tier.mark(places, b"db.1")
    assert read(tier, Customer) == (None, None, True, False)
    assert read(tier, Customer, {"email": "n1"}) == (None, None, True, False)
    assert read(tier, Order).snapshot is not None
    assert tier.fill([(lease, snapshot_of(_customer(2, "old")))]) == 0 or has(tier, Customer, 2) is None
    tier.release(places, b"db.1", committed=True, snapshots=[])
    assert (has(tier, Customer, 1), has(tier, Customer, 2)) == (None, None)
    tier.fill([(lease, snapshot_of(_customer(2, "old")))])
    assert has(tier, Customer, 2) is None


def test_no_value_survives_anothers_mark_of_its_class(tier: Tier) -> None:
    """A value released after another writer marked its whole class, or has released that mark, is not read."""
    for still_there in (True, False):
        new = _customer(1, "new")
        places, wide = written(tier, new), written(tier, wide=Customer)
        tier.mark(places, b"db.1")
        tier.mark(wide, b"db.2")
        if not still_there:
            tier.release(wide, b"db.2", committed=True)
        tier.release(places, b"db.1", committed=True, snapshots=[snapshot_of(new)])
        if still_there:
            assert read(tier, Customer).marked
            tier.release(wide, b"db.2", committed=True)
        assert has(tier, Customer) is None


def test_an_invalidation_of_a_class_leaves_nothing_of_it(tier: Tier) -> None:
    """Values, leases, and values to come of a hierarchy are gone."""
    filled(tier, _customer(1, "old"))
    lease, new = leased(tier, Customer, 2), _customer(3, "older")
    places = written(tier, new)
    tier.mark(places, b"db.1")
    tier.invalidate(written(tier, wide=Customer))
    tier.fill([(lease, snapshot_of(_customer(2, "old")))])
    tier.release(places, b"db.1", committed=True, snapshots=[snapshot_of(new)])
    assert [has(tier, Customer, number) for number in (1, 2, 3)] == [None, None, None]


def test_a_whole_plain_class_is_removed(tier: Tier) -> None:
    """Plain classes have no generation: their records are removed by their prefix."""
    filled(tier, Item(1, "a", "old"))
    tier.invalidate(written(tier, wide=Item))
    assert has(tier, Item) is None


# -- which tier ------------------------------------------------------------------------------------


def test_each_store_has_one_tier_of_its_kind(redis_url: str) -> None:
    """What compares and sets takes part itself; everything else is guarded."""
    kinds: dict[Store, type] = {
        ProcessMemoryStore(): LocalTier,
        ThreadLocalStore(): ThreadLocalTier,
        BackendStore(DictBackend()): BackendTier,
        RedisStore(redis_url): BackendTier,
        BackendStore(NullBackend()): GuardedTier,
        ShoutingRedisStore(redis_url): GuardedTier,
        PickleStore(): GuardedTier,
        NullStore(): GuardedTier,
    }
    for store, kind in kinds.items():
        assert type(tier_of(store)) is kind
        assert tier_of(store) is tier_of(store)
        assert tier_of(store).remote is (kind is BackendTier)
        assert cache_tiers(store) == (tier_of(store),)
        assert (tier_of(store).standing().level == "weak") is (kind is GuardedTier and type(store) is not NullStore)


def test_a_chain_gives_its_caches_without_its_database() -> None:
    """The tiers of a chain are those of its caches, from the top down."""
    memory, shared = ProcessMemoryStore(), BackendStore(DictBackend())
    chain = ChainedStore([memory, shared, SqlAlchemyStore("sqlite://")])
    assert cache_tiers(chain) == (tier_of(memory), tier_of(shared))


@pytest.mark.parametrize("store", [SqlAlchemyStore("sqlite://"), ChainedStore([SqlAlchemyStore("sqlite://")]), "redis://", None])
def test_what_is_no_cache_is_refused(store: Any) -> None:
    """A database alone, and what is no store, are ConfigurationError saying what to give."""
    with pytest.raises(ConfigurationError, match="cache"):
        cache_tiers(store)


def _customer(number: int, stamp: str) -> Customer:
    return Customer(id=number, email=f"n{number}", tenant=7, name=f"n{number}", status="s", balance=0, stamp=stamp)
