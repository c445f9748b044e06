"""The chain over its tiers: which one is asked, filled and written, and for how long."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from sqlalchemy import Engine, update
from time_machine import Traveller

from stockstore import (
    ChainedStore,
    CodecError,
    ConfigurationError,
    MappingStore,
    NullStore,
    OriginError,
    ProcessMemoryStore,
    SqlAlchemyStore,
    Store,
    ThreadLocalStore,
)
from tests.stores.conftest import Shop
from tests.stores.custom import RecordingStore, ShoutingRedisStore
from tests.stores.shop import Bag, Car, Circle, Customer, Order, Shape, Vehicle, count_of


@dataclass
class Thing:
    __keys__: ClassVar = ["id", "name"]
    id: int
    name: str = ""
    lifetime: float = 60


@dataclass
class Animal:
    __keys__: ClassVar = ["id", "name"]
    id: int
    name: str


@dataclass
class Dog(Animal):
    __keys__: ClassVar = ["chip"]
    chip: str = ""


@dataclass
class Cat(Animal):
    lives: int = 9


class Opaque:
    __keys__: ClassVar = ["id"]

    def __init__(self, number: int, content: object) -> None:
        self.id = number
        self.content = content


def hits(store: Store) -> list[int]:
    """Give the hits of each tier."""
    return [tier.hits for tier in store.stats().tiers]


# -- reading ----------------------------------------------------------------------------------------


def test_get_asks_tier_by_tier_and_fills_those_above(shop: Shop) -> None:
    """Each tier answers once the ones above are empty, and fills all of them; what changes in the database unseen stays unseen."""
    SqlAlchemyStore(engine=shop.engine).put(Customer(id=1, email="a@b.c", name="ann"))
    assert shop.chain.get(Customer, 1) is not None
    assert hits(shop.chain) == [0, 0, 1]
    with shop.engine.begin() as connection:
        connection.execute(update(Customer).values(name="changed"))
    for cleared, expected in ((None, [1, 0, 1]), (shop.memory, [1, 1, 1]), (None, [2, 1, 1])):
        if cleared is not None:
            cleared.clear()
        found = shop.chain.get(Customer, 1)
        assert found is not None
        assert (found.name, found.stamp) == ("ann", "ANN")
        assert hits(shop.chain) == expected
    shop.memory.clear()
    shop.redis.clear()
    found = shop.chain.get(Customer, 1)
    assert found is not None
    assert (found.name, found.stamp) == ("changed", "CHANGED")
    assert hits(shop.chain) == [2, 1, 2]


def test_a_fill_writes_every_key(shop: Shop) -> None:
    """What was read by one key is found in the tiers above by every other."""
    SqlAlchemyStore(engine=shop.engine).put(Customer(id=1, email="a@b.c", name="ann", tenant=3))
    shop.chain.get(Customer, email="a@b.c")
    for key in (1, {"email": "a@b.c"}, {"name": "ann", "tenant": 3}):
        memory, redis, *_ = shop.readings(Customer, key)
        assert memory == redis
        assert memory is not None
        assert (memory["id"], memory["name"]) == (1, "ann")


def test_a_batch_asks_each_tier_only_for_what_is_missing() -> None:
    """A tier is asked for what no tier above has, each key once, and not at all where nothing is missing."""
    memory, middle, origin = ProcessMemoryStore(), RecordingStore(), RecordingStore()
    origin.batch_put([Thing(1), Thing(2), Thing(3)])
    middle.put(Thing(2))
    memory.put(Thing(1))
    chain = ChainedStore([memory, middle, origin])
    found = chain.batch_get(Thing, [1, 2, 3, 2, 404])
    assert [None if thing is None else thing.id for thing in found] == [1, 2, 3, 2, None]
    assert middle.asked == [[2, 3, 404]]
    assert origin.asked == [[3, 404]]
    chain.batch_get(Thing, [3, 2, 1])
    chain.batch_get(Thing, [])
    assert middle.asked == [[2, 3, 404]]
    assert origin.asked == [[3, 404]]
    assert middle.get(Thing, 3) == Thing(3)


def test_one_key_in_two_forms_is_asked_once() -> None:
    """Forms of one key in a batch are one question."""
    origin = RecordingStore()
    origin.put(Thing(1))
    found = ChainedStore([NullStore(), origin]).batch_get(Thing, [1, {"id": 1}, True])
    assert found == [Thing(1)] * 3
    assert [len(keys) for keys in origin.asked] == [1]


def test_stats_sum_the_tiers_and_keep_each(shop: Shop) -> None:
    """A chain's hits are its tiers', its misses are those of no tier, and each tier's own counts are in it."""
    shop.chain.put(Customer(id=1))
    shop.chain.batch_get(Customer, [1, 404])
    shop.chain.delete(Customer, 1)
    stats = shop.chain.stats()
    assert (stats.hits, stats.misses, stats.puts, stats.deletes, stats.errors) == (1, 1, 1, 1, 0)
    assert [(tier.hits, tier.misses) for tier in stats.tiers] == [(1, 1), (0, 1), (0, 1)]
    assert [tier.puts for tier in stats.tiers] == [1, 1, 1]
    assert [tier.name.split("(")[0] for tier in stats.tiers] == ["ProcessMemoryStore", "RedisStore", "SqlAlchemyStore"]


def test_get_or_load_fills_every_tier() -> None:
    """A loaded object is in each tier, by each key."""
    memory, mapping = ProcessMemoryStore(), MappingStore({})
    chain = ChainedStore([memory, mapping])
    assert chain.get_or_load(Thing, {"name": "x"}, lambda: Thing(1, "x")) == Thing(1, "x")
    assert memory.get(Thing, 1) == mapping.get(Thing, name="x") == Thing(1, "x")


# -- which tier is the origin -----------------------------------------------------------------------


def test_unmapped_classes_skip_the_database(shop: Shop, statements: list[str]) -> None:
    """A plain object lives in the caches of a chain, and the database is never asked for it."""
    shop.chain.put(Thing(1, "x"))
    assert shop.chain.get(Thing, name="x") == shop.redis.get(Thing, 1) == Thing(1, "x")
    assert shop.chain.get(Thing, 404) is None
    assert shop.chain.delete(Thing, 1) is True
    assert shop.chain.batch_get(Thing, [1, {"name": "x"}]) == [None, None]
    assert statements == []


def test_a_batch_goes_to_the_origin_of_each_class(shop: Shop) -> None:
    """Mapped and plain objects of one batch go each to its own origin, and are deleted together."""
    customer, thing = Customer(id=1), Thing(1)
    shop.chain.batch_put([thing, customer])
    assert count_of(shop.engine, Customer) == 1
    assert shop.redis.get(Thing, 1) == thing
    assert shop.chain.batch_delete([thing, customer]) == 2
    assert count_of(shop.engine, Customer) == 0
    assert shop.chain.get(Thing, 1) is None


def test_a_class_that_no_tier_holds_is_refused(db: Engine) -> None:
    """A chain of a database alone says what a plain class needs."""
    chain = ChainedStore([SqlAlchemyStore(engine=db)])
    for call in (lambda: chain.put(Thing(1)), lambda: chain.get(Thing, 1), lambda: chain.delete(Thing, 1)):
        with pytest.raises(ConfigurationError, match=r"no tier of ChainedStore.* holds .*Thing; a plain class needs a cache tier"):
            call()


@pytest.mark.parametrize("stores", [[], (), iter([])])
def test_an_empty_chain_is_refused(stores: object) -> None:
    """A chain needs a tier, and the message shows one."""
    with pytest.raises(ValueError, match="a chain needs at least one store, the fastest first"):
        ChainedStore(stores)  # type: ignore[arg-type]


@pytest.mark.parametrize("stores", ["memory://", b"x", None, 7, ProcessMemoryStore()])
def test_what_is_no_list_of_stores_is_refused(stores: object) -> None:
    """A chain is made of a list."""
    with pytest.raises(ConfigurationError, match="a chain is made of a list of stores, not"):
        ChainedStore(stores)  # type: ignore[arg-type]


def test_what_is_no_store_is_refused() -> None:
    """The element that is none is named."""
    with pytest.raises(ConfigurationError, match="'redis://' is no store; a chain is made of stores"):
        ChainedStore([ProcessMemoryStore(), "redis://"])  # type: ignore[list-item]


@pytest.mark.parametrize("nested", [False, True])
def test_a_store_that_is_listed_twice_is_refused(nested: bool) -> None:
    """A tier that is its own tier above would owe itself what it refuses."""
    memory = ProcessMemoryStore()
    with pytest.raises(ConfigurationError, match=r"ProcessMemoryStore\(.*\) is listed twice; a chain has each store once"):
        ChainedStore([memory, ChainedStore([NullStore(), memory]) if nested else memory])


def test_nested_chains_are_one_flat_chain() -> None:
    """Chains in a chain count as their tiers, and each tier is closed and counted once."""
    a, b, c = ProcessMemoryStore(), MappingStore({}), RecordingStore()
    chain = ChainedStore([a, ChainedStore([ChainedStore([b]), c])])
    assert chain.tiers == (a, b, c)
    chain.put(Thing(1))
    assert a.get(Thing, 1) == b.get(Thing, 1) == c.get(Thing, 1) == Thing(1)
    assert len(chain.stats().tiers) == 3


def test_a_subclass_of_a_chain_is_one_tier() -> None:
    """A chain whose verbs a subclass overrides is asked through them, for reads, writes and deletes."""
    calls: list[str] = []

    class Audited(ChainedStore):
        def batch_get(self, cls, keys, *, session=None):  # type: ignore[no-untyped-def, override] # noqa: ANN001, ANN202
            calls.append("get")
            return super().batch_get(cls, keys, session=session)

        def batch_put(self, objects):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
            calls.append("put")
            super().batch_put(objects)

        def batch_delete(self, targets, keys=None):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
            calls.append("delete")
            return super().batch_delete(targets, keys)

    memory = ProcessMemoryStore()
    chain = ChainedStore([memory, Audited([MappingStore({})])])
    chain.put(Thing(1))
    memory.clear()
    assert chain.get(Thing, 1) == Thing(1)
    assert chain.delete(Thing, 1) is True
    assert chain.get(Thing, 1) is None
    assert calls == ["put", "get", "delete", "get"]


# -- writing ----------------------------------------------------------------------------------------


def test_put_is_in_every_tier(shop: Shop) -> None:
    """After a put every tier by itself has the same row by every key."""
    shop.chain.put(Customer(email="a@b.c", name="ann"))
    for key in ({"email": "a@b.c"}, {"tenant": 7, "name": "ann"}):
        memory, redis, database, chained = shop.readings(Customer, key)
        assert memory == redis == database == chained
        assert memory is not None
        assert memory["stamp"] == "ANN"


def test_put_replaces_in_every_tier(shop: Shop) -> None:
    """A later put leaves no older value in any tier, and the old value of a key finds nothing."""
    shop.chain.put(Customer(id=1, email="old"))
    shop.chain.put(Customer(id=1, email="new", name="bob"))
    for reading in shop.readings(Customer, 1):
        assert reading is not None
        assert (reading["email"], reading["name"], reading["stamp"]) == ("new", "bob", "BOB")
    assert shop.readings(Customer, {"email": "old"}) == [None] * 4


def test_a_delete_leaves_nothing_in_any_tier(shop: Shop) -> None:
    """After a delete, by whatever key, no tier has the row by any."""
    for key in (1, {"email": "a"}, {"tenant": 7, "name": "ann"}):
        shop.chain.put(Customer(id=1, email="a"))
        assert shop.chain.delete(Customer, key) is True
        for each in (1, {"email": "a"}, {"tenant": 7, "name": "ann"}):
            assert shop.readings(Customer, each) == [None] * 4


def test_a_delete_reaches_caches_that_lack_the_alias(shop: Shop) -> None:
    """A delete by a key that a cache has no alias for still drops the record there."""
    shop.chain.put(Customer(id=1, email="a"))
    with shop.engine.begin() as connection:
        connection.execute(update(Customer).values(email="b"))
    assert shop.chain.delete(Customer, email="b") is True
    assert shop.readings(Customer, 1) == [None] * 4


def test_a_delete_by_a_key_that_only_the_origin_knows() -> None:
    """A delete by a key that the origin got behind the chain's back drops the record of every cache."""
    memory, origin = ProcessMemoryStore(), RecordingStore()
    chain = ChainedStore([memory, origin])
    chain.put(Thing(1, "old"))
    origin.put(Thing(1, "new"))
    assert chain.delete(Thing, name="new") is True
    assert chain.batch_get(Thing, [1, {"name": "old"}, {"name": "new"}]) == [None] * 3


@pytest.mark.parametrize("key", [{"id": 1}, {"name": "a"}])
@pytest.mark.parametrize("animal", [Dog(1, "a", chip="x"), Cat(1, "a")])
def test_a_delete_by_a_key_of_a_base_class(animal: Animal, key: dict[str, object]) -> None:
    """What a polymorphic chain finds by a base it deletes by it, where the object's class has an identity of its own."""
    chain = ChainedStore([ProcessMemoryStore(polymorphic=True), MappingStore({}, polymorphic=True)])
    chain.put(animal)
    assert chain.get(Animal, key) == animal
    assert chain.delete(Animal, key) is True
    assert [tier.get(cls, id=1) for tier in chain.tiers for cls in (Animal, type(animal))] == [None] * 4


def test_clear_empties_the_caches_only(shop: Shop) -> None:
    """Clearing a chain leaves the rows, and no cache has what it cleared."""
    shop.chain.batch_put([Customer(id=1), Thing(1)])
    shop.chain.clear(Customer)
    assert shop.readings(Customer, 1)[:2] == [None, None]
    assert count_of(shop.engine, Customer) == 1
    assert shop.chain.get(Thing, 1) == Thing(1)
    shop.chain.clear()
    assert shop.chain.get(Thing, 1) is None


@pytest.mark.parametrize("cache", [ProcessMemoryStore, lambda: MappingStore({})])
def test_clear_of_a_base_class_reaches_concrete_subclasses(cache: Callable[[], Store]) -> None:
    """What is found by a base is cleared with it, though it has an identity of its own; the base's own are not cleared with it."""
    chain = ChainedStore([cache()])
    chain.batch_put([Shape(id=1, colour="blue"), Circle(id=2, colour="red", radius=2)])
    chain.clear(Circle)
    assert [chain.contains(Shape, 1), chain.contains(Shape, 2), chain.contains(Circle, 2)] == [True, False, False]
    chain.put(Circle(id=2, colour="red", radius=2))
    assert chain.contains(Shape, 2)
    chain.clear(Shape)
    assert [chain.contains(Shape, 1), chain.contains(Shape, 2), chain.contains(Circle, 2)] == [False] * 3


@pytest.mark.parametrize(
    "made",
    [
        lambda: (Car(id=1, plate="a", doors=4), Vehicle(id=1, plate="b")),
        lambda: (Circle(id=1, colour="a", radius=2), Shape(id=1, colour="b")),
    ],
    ids=["joined", "concrete"],
)
def test_an_object_of_the_base_is_not_put_over_a_row_in_a_table_of_its_own(shop: Shop, made: Callable[[], Any]) -> None:
    """Half of the row would be of another class, which no session can load then; or the subclass's row would be written in its place."""
    row, obj = made()
    cls = type(row)
    shop.chain.put(row)
    with pytest.raises(OriginError, match=f"is one of .*{cls.__name__}, which has a table of its own"):
        shop.chain.put(obj)
    for asked in (cls, type(obj)):
        found = shop.chain.get(asked, 1)
        assert (type(found), getattr(found, "colour" if cls is Circle else "plate")) == (cls, "a")


@pytest.mark.parametrize("content", [object(), lambda: None, {"deep": [object()]}])
def test_a_mapped_object_that_cannot_be_encoded_is_not_written(shop: Shop, content: object) -> None:
    """A row that no cache can keep is refused before the database commits it: nothing of its batch stands anywhere."""
    bag = Bag(id=2, content=set(range(3)))
    bag.content = _Opaque() if callable(content) else content if not isinstance(content, dict) else {"deep": [_Opaque()]}
    with pytest.raises(CodecError, match=r"Bag\.content"):
        shop.chain.batch_put([Bag(id=1, content=1), bag])
    assert count_of(shop.engine, Bag) == 0
    assert shop.readings(Bag, 1) == [None] * 4
    assert shop.readings(Bag, 2) == [None] * 4


@pytest.mark.parametrize("kind", [ProcessMemoryStore, ThreadLocalStore])
def test_a_row_that_memory_cannot_keep_is_not_written(db: Engine, kind: type[ProcessMemoryStore | ThreadLocalStore]) -> None:
    """It is refused above a database as by a server, and as by the memory alone."""
    bag = Bag(id=1, content=_Opaque())
    for store in (kind(), ChainedStore([kind(), SqlAlchemyStore(engine=db)])):
        with pytest.raises(CodecError, match=r"Bag\.content"):
            store.put(bag)
    assert count_of(db, Bag) == 0


class _Opaque:
    """Can be pickled by the database's column type, and has no encoding."""


def test_a_plain_object_that_cannot_be_encoded_is_not_written(shop: Shop) -> None:
    """One plain object that cannot be encoded keeps the whole batch out of every tier, the database too."""
    with pytest.raises(CodecError, match=r"Opaque.*content|content.*Opaque"):
        shop.chain.batch_put([Customer(id=1), Opaque(1, "fine"), Opaque(2, object())])
    assert count_of(shop.engine, Customer) == 0
    assert shop.memory.batch_get(Opaque, [1, 2]) == [None, None]
    assert shop.redis.batch_get(Opaque, [1, 2]) == [None, None]


@pytest.mark.parametrize("lifetime", [True, "60", float("nan")])
def test_a_bad_lifetime_is_refused_before_anything_is_written(db: Engine, lifetime: Any) -> None:
    """A lifetime of an upper tier that is none keeps the row out of the database."""
    memory, database = ProcessMemoryStore(lifetime=lambda _: lifetime), SqlAlchemyStore(engine=db)
    with pytest.raises((TypeError, ValueError), match="lifetime"):
        ChainedStore([memory, database]).put(Customer(id=1))
    assert count_of(db, Customer) == 0


def test_an_upper_tier_that_fails_does_not_fail_the_put(db: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """A cache of somebody's own that raises whatever it likes is reported, and is not read until its old value is gone."""

    class Broken(RecordingStore):
        broken = False

        def batch_put(self, objects):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
            if self.broken:
                raise ZeroDivisionError("the cache")
            super().batch_put(objects)

        def batch_delete(self, targets, keys=None):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
            if self.broken:
                raise ZeroDivisionError("the cache")
            return super().batch_delete(targets, keys)

    broken = Broken()
    chain = ChainedStore([broken, SqlAlchemyStore(engine=db)])
    chain.put(Customer(id=1, name="old"))
    broken.broken = True
    with caplog.at_level(logging.WARNING):
        chain.put(Customer(id=1, name="new"))
    assert "ZeroDivisionError" in caplog.text
    found = chain.get(Customer, 1)
    assert found is not None
    assert found.name == "new"
    assert chain.delete(Customer, 1) is True
    assert chain.get(Customer, 1) is None


# -- lifetimes --------------------------------------------------------------------------------------


def test_a_value_pulled_up_does_not_outlive_what_it_had_below(clock: Traveller) -> None:
    """What is left of a lifetime below is all that an upper tier keeps it for."""
    memory, mapping = ProcessMemoryStore(), MappingStore({}, lifetime=10)
    chain = ChainedStore([memory, mapping])
    chain.put(Thing(1))
    memory.clear()
    clock.shift(6)
    assert chain.get(Thing, 1) == Thing(1)
    clock.shift(3.5)
    assert memory.get(Thing, 1) == Thing(1)
    clock.shift(1)
    assert memory.get(Thing, 1) is None
    assert chain.get(Thing, 1) is None


def test_a_put_keeps_an_upper_tier_no_longer_than_the_origin(clock: Traveller) -> None:
    """A value that its cache origin drops is gone from the tiers above."""
    memory = ProcessMemoryStore(lifetime=60)
    chain = ChainedStore([memory, MappingStore({}, lifetime=10)])
    chain.put(Thing(1))
    clock.shift(9)
    assert chain.get(Thing, 1) == Thing(1)
    clock.shift(2)
    assert memory.get(Thing, 1) is None


def test_an_upper_tier_may_keep_a_value_shorter(clock: Traveller) -> None:
    """The shorter lifetime counts in each tier, and a fill starts it anew."""
    memory, mapping = ProcessMemoryStore(lifetime=5), MappingStore({}, lifetime=60)
    chain = ChainedStore([memory, mapping])
    chain.put(Thing(1))
    clock.shift(6)
    assert memory.get(Thing, 1) is None
    assert chain.get(Thing, 1) == Thing(1)
    clock.shift(4)
    assert memory.get(Thing, 1) == Thing(1)


def test_a_callable_decides_in_its_own_tier(clock: Traveller) -> None:
    """A callable lifetime is asked about what is filled as about what is put."""
    memory, mapping = ProcessMemoryStore(lifetime=lambda thing: thing.lifetime), MappingStore({})
    chain = ChainedStore([memory, mapping])
    chain.batch_put([Thing(1, lifetime=5), Thing(2, lifetime=50)])
    memory.clear()
    chain.batch_get(Thing, [1, 2])
    clock.shift(6)
    assert memory.batch_get(Thing, [1, 2]) == [None, Thing(2, lifetime=50)]


def test_a_lifetime_of_zero_removes_the_older_value(db: Engine) -> None:
    """A put that a tier is not to keep leaves no older value there, and the tiers below answer."""
    memory = ProcessMemoryStore(lifetime=lambda customer: 0 if customer.name == "secret" else 60)
    chain = ChainedStore([memory, MappingStore({}), SqlAlchemyStore(engine=db)])
    chain.put(Customer(id=1, email="a", name="open"))
    chain.put(Customer(id=1, email="a", name="secret"))
    assert memory.batch_get(Customer, [1, {"email": "a"}]) == [None, None]
    found = chain.get(Customer, email="a")
    assert found is not None
    assert found.name == "secret"


def test_an_origin_that_does_not_keep_a_value_keeps_it_nowhere() -> None:
    """A put into a cache origin whose lifetime is zero removes the older value from every tier."""
    memory = ProcessMemoryStore()
    chain = ChainedStore([memory, MappingStore({}, lifetime=lambda thing: thing.lifetime)])
    chain.put(Thing(1, "x"))
    chain.put(Thing(1, "x", lifetime=0))
    assert memory.batch_get(Thing, [1, {"name": "x"}]) == [None, None]
    assert chain.batch_get(Thing, [1, {"name": "x"}]) == [None, None]


def test_a_subclass_that_overrides_a_read_keeps_lifetimes(redis_url: str, clock: Traveller) -> None:
    """A value pulled up through an overridden verb has what was left of its lifetime, plain or mapped."""
    memory, redis = ProcessMemoryStore(), ShoutingRedisStore(redis_url, lifetime=10)
    with ChainedStore([memory, redis]) as chain:
        chain.batch_put([Thing(1), Order(id=1, number="n", state="s", customer_id=1)])
        memory.clear()
        clock.shift(6)
        assert chain.get(Thing, 1) == Thing(1)
        assert chain.get(Order, 1) is not None
        assert redis.calls == 2
        clock.shift(5)
        assert memory.get(Thing, 1) is None
        assert memory.get(Order, 1) is None


def test_a_subclass_that_overrides_a_write_keeps_lifetimes(db: Engine, clock: Traveller) -> None:
    """A fill through an overridden put lasts no longer than the value it came from."""

    class Audited(ProcessMemoryStore):
        def batch_put(self, objects):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
            super().batch_put(objects)

    memory, mapping = Audited(), MappingStore({}, lifetime=10)
    chain = ChainedStore([memory, mapping])
    chain.put(Thing(1))
    memory.clear()
    clock.shift(6)
    assert chain.get(Thing, 1) == Thing(1)
    clock.shift(5)
    assert memory.get(Thing, 1) is None
