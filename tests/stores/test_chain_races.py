"""Readers and writers of one key that meet at the worst moment, one at a time, over each sort of cache and database."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, delete, insert, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from stockstore import CacheUnreachable, ChainedStore, MemcacheStore, OriginError, ProcessMemoryStore, RedisStore, SqlAlchemyStore, Store
from stockstore.stores.tiers import cache_tiers
from tests.servers.postgres import PostgresServer
from tests.stores.halting import HaltingWrites
from tests.stores.shop import Customer, Note, count_of


class Halting(HaltingWrites):
    """Halts the reads of rows."""

    def batch_fetch(self, cls: type, keys: Sequence[Any], *, session: Any = None) -> list[Any]:
        """Read, and halt before the rows reach a cache."""
        found = super().batch_fetch(cls, keys, session=session)
        self._halt("after_read")
        return found


CACHES = ["memory", "redis", "memcached", "memory redis", "memory memcached"]


@pytest.fixture(params=CACHES)
def caches(request: pytest.FixtureRequest) -> Iterator[Sequence[Store]]:
    """Each sort of cache, empty, and two of them as two levels."""
    made: dict[str, Callable[[], Store]] = {
        "memory": lambda: ProcessMemoryStore(max_staleness=None),
        "redis": lambda: RedisStore(request.getfixturevalue("redis_url"), namespace=uuid.uuid4().hex),
        "memcached": lambda: MemcacheStore(request.getfixturevalue("memcached_address"), namespace=uuid.uuid4().hex),
    }
    stores = [made[name]() for name in str(request.param).split()]
    yield stores
    for store in stores:
        store.close()


@pytest.fixture
def origin(db: Engine) -> Halting:
    """A database with one customer that no cache has seen yet."""
    origin = Halting(engine=db)
    origin.put(Customer(id=1, email="a", name="old"))
    return origin


@pytest.fixture
def chain(caches: Sequence[Store], origin: Halting) -> ChainedStore:
    """The caches over the database."""
    return ChainedStore([*caches, origin])


def name_of(store: Store, key: Any = 1) -> str | None:
    """Give the name of the customer of these tests."""
    customer = store.get(Customer, key)
    return None if customer is None else customer.name


def in_caches(chain: ChainedStore) -> set[str | None]:
    """Give what the caches have, each by itself."""
    return {name_of(tier) for tier in chain.tiers[:-1]}


def change_unseen(engine: Engine) -> None:
    """Write past every cache."""
    with engine.begin() as connection:
        connection.execute(update(Customer).values(name="unseen"))


def assert_cached(chain: ChainedStore, engine: Engine, expected: str, key: Any = 1) -> None:
    """The chain gives a value, and goes on to where the database has another: it is in the caches."""
    assert name_of(chain, key) == expected
    change_unseen(engine)
    assert name_of(chain, key) == expected
    assert in_caches(chain) == {expected}


# -- a reader between its look at the database and its fill -----------------------------------------


@pytest.mark.parametrize("key", [1, {"email": "a"}], ids=["pk", "email"])
def test_a_put_that_overtakes_a_fill(chain: ChainedStore, origin: Halting, db: Engine, key: Any) -> None:
    """The value that the reader brings is refused by every cache, and the put's stays, by whatever key."""
    origin.after_read = lambda: chain.put(Customer(id=1, email="a", name="new"))
    assert name_of(chain, key) == "old"
    assert_cached(chain, db, "new", key)


def test_a_delete_that_overtakes_a_fill(chain: ChainedStore, origin: Halting) -> None:
    """What was deleted meanwhile is in no cache."""
    origin.after_read = lambda: chain.delete(Customer, 1)
    assert name_of(chain) == "old"
    assert in_caches(chain) == {None}
    assert name_of(chain) is None


def test_a_cascade_of_the_database_that_overtakes_a_fill(chain: ChainedStore, origin: Halting) -> None:
    """A row that the database itself deletes meanwhile is in no cache."""
    origin.put(Note(id=5, text="n", customer_id=1))
    origin.after_read = lambda: chain.delete(Customer, 1)
    assert chain.get(Note, 5) is not None
    assert chain.get(Note, 5) is None


def test_a_refused_put_beside_a_fill(chain: ChainedStore, origin: Halting, db: Engine) -> None:
    """A put that the database refuses leaves the reader's value, or none, and the next one is kept."""

    def refused() -> None:
        with pytest.raises(OriginError):
            chain.batch_put([Customer(id=1, email="a", name="new"), Customer(id=2, email="a")])

    origin.after_read = refused
    assert name_of(chain) == "old"
    assert_cached(chain, db, "old")


# -- a writer between its markers, its commit and their release -------------------------------------


def test_a_reader_before_the_commit(chain: ChainedStore, origin: Halting, db: Engine) -> None:
    """Who reads while a put is about to commit gets the old value, and leaves it in no cache for afterwards."""
    seen: list[str | None] = []
    origin.before_commit = lambda: seen.append(name_of(chain))
    chain.put(Customer(id=1, email="a", name="new"))
    assert seen == ["old"]
    assert_cached(chain, db, "new")


def test_a_reader_after_the_commit(chain: ChainedStore, origin: Halting, db: Engine) -> None:
    """Who reads between a put's commit and its end gets the new value; in a shared cache without evidence the old one at the most."""
    name_of(chain)
    seen: list[str | None] = []
    origin.after_commit = lambda: seen.append(name_of(chain))
    chain.put(Customer(id=1, email="a", name="new"))
    fast = db.dialect.name == "sqlite" and any(tier.remote for tier in cache_tiers(chain))
    assert seen == ["new"] or (fast and seen == ["old"])
    assert_cached(chain, db, "new")


def test_a_writer_that_overtakes_another(chain: ChainedStore, origin: Halting, db: Engine) -> None:
    """A put that commits after another one and ends before it is not undone by that one's value."""
    origin.after_commit = lambda: chain.put(Customer(id=1, email="a", name="second"))
    chain.put(Customer(id=1, email="a", name="first"))
    assert_cached(chain, db, "second")


def test_a_delete_that_overtakes_a_put(chain: ChainedStore, origin: Halting, db: Engine) -> None:
    """What was deleted before a put's end does not come back with it."""
    origin.after_commit = lambda: chain.delete(Customer, 1)
    chain.put(Customer(id=1, email="a", name="new"))
    assert name_of(chain) is None
    assert count_of(db, Customer) == 0
    assert in_caches(chain) == {None}


# -- how a commit ends ------------------------------------------------------------------------------


class Base(DeclarativeBase):
    pass


class Node(Base):
    """Refers to its parent, which has to be there at the commit only."""

    __tablename__ = "nodes"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("nodes.id", deferrable=True, initially="DEFERRED"))


@pytest.fixture
def nodes(postgres_engine: Engine) -> Iterator[Engine]:
    """The table, with one node."""
    Base.metadata.create_all(postgres_engine)
    with postgres_engine.begin() as connection:
        connection.execute(delete(Node))
        connection.execute(insert(Node), {"id": 1, "name": "old"})
    yield postgres_engine
    Base.metadata.drop_all(postgres_engine)


def test_a_commit_that_the_database_refuses(nodes: Engine, caches: Sequence[Store]) -> None:
    """A constraint that fails at the commit is an error of a write that was not done: no marker is left, and the row is cached again."""
    chain = ChainedStore([*caches, SqlAlchemyStore(engine=nodes)])
    assert chain.get(Node, 1) is not None
    with pytest.raises(OriginError, match=r"refused: .*foreign key"):
        chain.put(Node(id=1, name="new", parent_id=404))
    for _ in range(2):
        node = chain.get(Node, 1)
        assert node is not None
        assert node.name == "old"
        with nodes.begin() as connection:
            connection.execute(update(Node).values(name="unseen"))


def test_an_interrupted_commit(nodes: Engine, caches: Sequence[Store]) -> None:
    """Where it is not known whether the database has committed, what it has is read, at once and later."""
    origin = Halting(engine=nodes)
    chain = ChainedStore([*caches, origin])
    chain.put(Node(id=1, name="first"))

    def interrupt() -> None:
        raise KeyboardInterrupt

    origin.after_commit = interrupt
    with pytest.raises(KeyboardInterrupt):
        chain.put(Node(id=1, name="new"))
    for _ in range(2):
        node = chain.get(Node, 1)
        assert node is not None
        assert node.name == "new"


def test_a_write_that_fails_between_its_markers_and_its_commit(origin: Halting, caches: Sequence[Store]) -> None:
    """It is undone, and what it would have written is in no cache."""
    chain = ChainedStore([*caches, origin])

    def fail() -> None:
        raise CacheUnreachable("no")

    origin.before_commit = fail
    with pytest.raises(CacheUnreachable):
        chain.put(Customer(id=1, email="a", name="new"))
    assert name_of(chain) == "old"
    assert in_caches(chain) <= {"old", None}


def test_a_database_that_was_away_at_the_first_write(start_postgres: Callable[[], PostgresServer]) -> None:
    """A put that finds no database is refused, and the next one is done."""
    server = start_postgres()
    with ChainedStore([ProcessMemoryStore(), SqlAlchemyStore(server.url)]) as chain:
        database = chain.tiers[1]
        assert isinstance(database, SqlAlchemyStore)
        Base.metadata.create_all(database.engine)
        server.stop()
        with pytest.raises(OriginError):
            chain.put(Node(id=1, name="lost"))
        server.start()
        chain.put(Node(id=1, name="kept"))
        node = chain.get(Node, 1)
        assert node is not None
        assert node.name == "kept"
