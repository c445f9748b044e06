"""Sharded stores: where an object goes, what is asked of whom, and what one shard's failure does."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, delete, event, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from stockstore import (
    ChainedStore,
    ConfigurationError,
    NonUniqueKeyError,
    NotKeyedError,
    NullStore,
    OriginError,
    ProcessMemoryStore,
    ShardedStore,
    SqlAlchemyStore,
    Store,
)
from stockstore.stores.snapshots import snapshot_of
from tests.stores.listed import Base as ListedBase
from tests.stores.listed import Item
from tests.stores.shop import Base, Customer, Place

EMPTY = (Customer, Place, Item)


@dataclass
class Town:
    __keys__ = ["id", "name"]
    id: int
    name: str = ""


class Shards:
    """Two databases, the store over them, and what they were sent."""

    def __init__(self, engines: list[Engine]) -> None:
        self.engines = engines
        self.sent: list[list[str]] = [[], []]

    def store(self, **options: Any) -> ShardedStore:
        """Give a store on both."""
        return ShardedStore({"red": SqlAlchemyStore(engine=self.engines[0]), "blue": SqlAlchemyStore(engine=self.engines[1])}, **options)

    def ids(self, cls: Any = Customer) -> list[list[Any]]:
        """Give the primary keys that each database has."""
        found = []
        for engine in self.engines:
            with Session(engine) as session:
                found.append(list(session.scalars(select(cls.id).order_by(cls.id))))
        return found

    def counted(self, work: Callable[[], object]) -> list[int]:
        """Give how many SELECTs each database is sent meanwhile."""
        for sent in self.sent:
            sent.clear()
        work()
        return [sum(statement.startswith("SELECT") for statement in sent) for sent in self.sent]


@pytest.fixture(scope="module")
def made_engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Engine]]:
    """Two databases."""
    made = [create_engine(f"sqlite:///{tmp_path_factory.mktemp('shards') / name}.db") for name in ("red", "blue")]
    for engine in made:
        Base.metadata.create_all(engine)
        ListedBase.metadata.create_all(engine)
    yield made
    for engine in made:
        engine.dispose()


@pytest.fixture
def shards(made_engines: list[Engine]) -> Iterator[Shards]:
    """Two databases without rows."""
    for engine in made_engines:
        with engine.begin() as connection:
            for cls in EMPTY:
                connection.execute(delete(cls))
    shards = Shards(made_engines)
    heard = []
    for engine, sent in zip(made_engines, shards.sent, strict=True):

        def hear(*args: Any, sent: list[str] = sent) -> None:
            sent.append(args[2])

        event.listen(engine, "before_cursor_execute", hear)
        heard.append((engine, hear))
    yield shards
    for engine, hear in heard:
        event.remove(engine, "before_cursor_execute", hear)


def by_tenant(_cls: type, values: Any) -> object:
    """Keep a tenant's rows together."""
    return values.get("tenant")


# -- where an object goes -----------------------------------------------------------------------


def test_the_shard_of_a_key_is_the_same_in_every_process_and_release() -> None:
    """Keys are pinned to shards by their names, whatever the hash seed: a change here would lose every row of a running site."""
    code = (
        "from stockstore.stores.sharding import Sharding\n"
        "from tests.stores.test_sharded import Town, snapshot_of\n"
        "sharding = Sharding(['red', 'blue', 'green'], None)\n"
        "print([sharding.of_object(snapshot_of(Town(n))) for n in range(12)])"
    )
    outputs = {
        subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True).stdout
        for seed in ("1", "2")
    }
    assert outputs == {"[0, 1, 2, 2, 1, 2, 0, 1, 0, 2, 1, 2]\n"}


def test_each_object_is_on_one_shard(shards: Shards) -> None:
    """A batch is split, read back in its positions, and each row stands in one database."""
    store = shards.store()
    store.batch_put([Customer(id=n, email=str(n), name=f"c{n}") for n in range(40)])
    red, blue = shards.ids()
    assert sorted(red + blue) == list(range(40))
    assert min(len(red), len(blue)) > 8
    keys = [7, 404, {"email": "3"}, {"tenant": 7, "name": "c9"}, 7]
    assert [row and row.id for row in store.batch_get(Customer, keys)] == [7, None, 3, 9, 7]
    assert store.batch_delete(Customer, [7, {"email": "3"}, 404, {"id": 7}]) == 2
    assert sorted(n for ids in shards.ids() for n in ids) == sorted(set(range(40)) - {7, 3})


def test_a_batch_is_one_call_to_each_shard(shards: Shards) -> None:
    """By the canonical key each shard is sent one statement for its own keys; by another key each shard is sent one for all."""
    store = shards.store()
    store.batch_put([Customer(id=n, email=str(n), name=f"c{n}") for n in range(40)])
    red, blue = shards.ids()
    assert shards.counted(lambda: store.batch_get(Customer, list(range(40)))) == [1, 1]
    assert shards.counted(lambda: store.batch_get(Customer, red)) == [1, 0]
    assert shards.counted(lambda: store.get(Customer, blue[0])) == [0, 1]
    assert shards.counted(lambda: store.batch_get(Customer, [{"email": str(n)} for n in range(40)])) == [1, 1]


def test_shard_by_keeps_objects_together(shards: Shards) -> None:
    """What tells its shard by other values is asked of that shard alone; the rest of all."""
    store = shards.store(shard_by=by_tenant)
    store.batch_put([Customer(id=n, tenant=n % 5, name=f"c{n}", email=str(n)) for n in range(40)])
    for ids in shards.ids():
        assert ids
        assert {n for n in range(40) if n % 5 in {one % 5 for one in ids}} == set(ids)
    home = 0 if 3 in shards.ids()[0] else 1
    by_name = shards.counted(lambda: store.get(Customer, tenant=3, name="c3"))
    assert (by_name[home], by_name[1 - home]) == (1, 0)
    assert shards.counted(lambda: store.get(Customer, 3)) == [1, 1]
    assert [row and row.name for row in store.batch_get(Customer, [3, {"email": "4"}, {"tenant": 0, "name": "c5"}])] == ["c3", "c4", "c5"]


def test_all_of_an_index(shards: Shards) -> None:
    """Lists come from all shards, one statement each, ordered by primary key; from one where the index tells."""
    store = shards.store()
    store.batch_put([Item(id=n, tenant=n % 2, kind="book", code=str(n)) for n in range(30)])
    red, blue = shards.ids(Item)
    assert red
    assert blue
    assert [item.id for item in store.get_all(Item, tenant=1, kind="book")] == list(range(1, 30, 2))
    assert shards.counted(lambda: store.get_all(Item, tenant=1, kind="book")) == [1, 1]
    together = shards.store(shard_by=by_tenant)
    assert sum(shards.counted(lambda: together.get_all(Item, tenant=1, kind="book"))) == 1


def test_a_new_shard_moves_its_share() -> None:
    """A third shard takes a third of the keys, and moves none between the others; a named one may go as well."""
    towns = [Town(n) for n in range(3000)]
    two, three = (ShardedStore([ProcessMemoryStore() for _ in range(number)]) for number in (2, 3))
    for store in (two, three):
        store.batch_put(towns)

    def homes(store: ShardedStore) -> list[int]:
        return [next(at for at, shard in enumerate(store.shards) if shard.contains(Town, n)) for n in range(3000)]

    moved = [(old, new) for old, new in zip(homes(two), homes(three), strict=True) if old != new]
    assert {new for _, new in moved} == {2}
    assert 900 < len(moved) < 1100


def test_what_was_left_behind_is_not_seen(shards: Shards) -> None:
    """A row on a shard that is not its own, as after one was added, is found by no key, and is in no list."""
    store = shards.store()
    store.put(Item(id=1, tenant=1, code="a"))
    wrong = 1 if shards.ids(Item)[0] else 0
    with shards.engines[wrong].begin() as connection:
        connection.execute(insert(Item).values(id=1, tenant=1, kind="book", code="b", title="left"))
    assert [row and row.title for row in store.batch_get(Item, [1, {"code": "a"}, {"code": "b"}])] == ["old", "old", None]
    assert [row.title for row in store.get_all(Item, tenant=1, kind="book")] == ["old"]


def test_a_key_on_two_shards_is_an_error(shards: Shards) -> None:
    """A database cannot keep a key unique over all shards; two rows of one are named, not chosen between."""
    store = shards.store(shard_by=by_tenant)
    store.batch_put([Customer(id=1, tenant=n, name=str(n), email="same") for n in range(6)])
    assert shards.ids() == [[1], [1]]
    for key in (1, {"email": "same"}):
        with pytest.raises(NonUniqueKeyError, match=r"Customer .* is on several shards"):
            store.get(Customer, key)


# -- primary keys -------------------------------------------------------------------------------


def test_a_generated_key(shards: Shards) -> None:
    """A row without a primary key has no shard, so nothing is written; with shard_by it has, and gets its key."""
    with pytest.raises(NotKeyedError, match=r"a .*Customer has no value for its primary key 'id' yet.*UUID.*shard_by="):
        shards.store().batch_put([Customer(id=1), Customer(name="new")])
    assert shards.ids() == [[], []]
    customer = Customer(tenant=3, name="new")
    shards.store(shard_by=by_tenant).put(customer)
    assert customer.id is not None
    assert sorted(map(len, shards.ids())) == [0, 1]


def test_a_key_that_changes(shards: Shards) -> None:
    """A row stays on its shard under its new key, and moves to no other database; a cache's entry moves."""
    store = shards.store()
    store.batch_put([Place(row="a", number=n, label=str(n)) for n in range(8)])
    place = store.get(Place, ("a", 1))
    assert place is not None

    def shard_of(number: int) -> int:
        return next(at for at, shard in enumerate(store.shards) if shard.contains(Place, ("a", number)))

    near = next(n for n in range(2, 8) if shard_of(n) == shard_of(1))
    far = next(n for n in range(2, 8) if shard_of(n) != shard_of(1))
    store.batch_delete(Place, [("a", near), ("a", far)])
    place.number = near
    store.put(place)
    assert [found and found.label for found in store.batch_get(Place, [("a", 1), ("a", near)])] == [None, "1"]
    place.number = far
    with pytest.raises(OriginError, match="put a new object instead, and delete the old one"):
        store.put(place)
    moved = store.get(Place, ("a", near))
    assert moved is not None
    memory = ShardedStore({"red": ProcessMemoryStore(), "blue": ProcessMemoryStore()})
    memory.put(moved)
    moved.number = far
    memory.put(moved)
    assert [found and found.label for found in memory.batch_get(Place, [("a", near), ("a", far)])] == [None, "1"]
    assert memory.delete(moved)
    assert memory.batch_get(Place, [("a", near), ("a", far)]) == [None, None]


# -- errors -------------------------------------------------------------------------------------


def test_one_shard_that_fails(shards: Shards) -> None:
    """A read of its keys raises, others are served; a write has been done on the other shard, as the error of the first tells."""
    store = shards.store()
    store.batch_put([Customer(id=n, email=str(n)) for n in range(20)])
    red, blue = shards.ids()
    taken = Customer(id=1000, email=str(red[0]))
    others = [Customer(id=n, email=str(n)) for n in range(100, 120)]
    home = next(n for n in range(1000, 1100) if store.sharding.of_object(snapshot_of(Customer(id=n))) == 0)
    taken.id = home
    with pytest.raises(OriginError, match="UNIQUE constraint failed") as raised:
        store.batch_put([taken, *others])
    assert isinstance(raised.value.__cause__, IntegrityError)
    assert shards.ids()[0] == red
    assert {n for n in shards.ids()[1] if n >= 100} == {n for n in range(100, 120) if store.contains(Customer, n)} != set()

    broken = ShardedStore({"red": SqlAlchemyStore("sqlite:////nowhere/at/all.db"), "blue": SqlAlchemyStore(engine=shards.engines[1])})
    assert [row and row.id for row in broken.batch_get(Customer, blue)] == blue
    for key in (red[0], {"email": str(blue[0])}):
        with pytest.raises(OriginError, match=r"nowhere/at/all\.db.* refused"):
            broken.get(Customer, key)


def test_every_shard_is_cleared_and_closed() -> None:
    """One that fails keeps none of the others from it; its error is raised at the end."""
    done: list[str] = []

    class Failing(ProcessMemoryStore):
        def clear(self, cls: type | None = None) -> None:
            del cls
            done.append("failed")
            raise OriginError("not now")

        def close(self) -> None:
            done.append("closed")

    class Last(ProcessMemoryStore):
        def clear(self, cls: type | None = None) -> None:
            done.append("cleared")
            super().clear(cls)

    store = ShardedStore([Failing(), Last()])
    with pytest.raises(OriginError, match="not now"):
        store.clear(Town)
    assert done == ["failed", "cleared"]
    store.close()
    assert done[-1] == "closed"


# -- set-up -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ShardedStore([]), "needs at least one store"),
        (lambda: ShardedStore(NullStore()), "takes a list of stores"),  # type: ignore[arg-type]
        (lambda: ShardedStore(["redis://localhost"]), "a shard is a store"),  # type: ignore[list-item]
        (lambda: ShardedStore({1: NullStore()}), "a shard is a store under a name"),  # type: ignore[arg-type]
        (lambda: ShardedStore([ShardedStore([NullStore()])]), "is sharded itself"),
        (lambda: ShardedStore([NullStore(), SqlAlchemyStore("sqlite://")]), "some of them are databases and others are caches"),
        (lambda: ShardedStore([SqlAlchemyStore("sqlite://"), SqlAlchemyStore("sqlite+aiosqlite://")]), "some are for asyncio and others"),
        (lambda: ShardedStore([NullStore()], shard_by="tenant"), "shard_by is a callable"),  # type: ignore[arg-type]
    ],
)
def test_a_set_up_that_does_not_fit(make: Callable[[], Store], message: str) -> None:
    """Each mistake is named when the store is made."""
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_its_repr_and_its_counts() -> None:
    """Shards are named, without passwords; counts are sums, and each shard's own stand beside."""
    store = ShardedStore({"eu": SqlAlchemyStore("postgresql+psycopg://ann:secret@eu/shop"), "us": SqlAlchemyStore("sqlite://")})
    assert repr(store) == (
        "ShardedStore({'eu': SqlAlchemyStore('postgresql+psycopg://ann:***@eu/shop'), 'us': SqlAlchemyStore('sqlite://')})"
    )
    assert repr(ShardedStore([NullStore()])) == "ShardedStore([NullStore()])"
    memory = ShardedStore([ProcessMemoryStore(), ProcessMemoryStore()])
    memory.batch_put([Town(n, str(n)) for n in range(10)])
    memory.batch_get(Town, [1, 2, 99, {"name": "3"}, {"name": "x"}])
    stats = memory.stats()
    assert (stats.hits, stats.misses, stats.puts, len(stats.tiers)) == (3, 2, 10, 2)
    assert sum(shard.puts for shard in stats.tiers) == 10


def test_chains_as_shards(shards: Shards) -> None:
    """Each shard may have caches of its own; a read proves that they were used."""
    caches = [ProcessMemoryStore(max_staleness=None) for _ in range(2)]
    chains = [ChainedStore([cache, SqlAlchemyStore(engine=engine)]) for cache, engine in zip(caches, shards.engines, strict=True)]
    store = ShardedStore(chains)
    store.batch_put([Customer(id=n, email=str(n), name="old") for n in range(10)])
    for engine in shards.engines:
        with engine.begin() as connection:
            connection.execute(update(Customer).values(name="unseen"))
    assert {row and row.name for row in store.batch_get(Customer, list(range(10)))} == {"old"}
    assert {cache.stats().hits > 0 for cache in caches} == {True}
    store.put(Customer(id=3, email="3", name="new"))
    assert [row and row.name for row in store.batch_get(Customer, [{"email": "3"}, 4])] == ["new", "old"]
