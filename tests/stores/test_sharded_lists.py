"""Lists where the databases or the caches of a chain are sharded: what is kept of them, and which of them a write has dropped."""

import asyncio
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import Engine, create_engine, delete, insert, select
from sqlalchemy.orm import Session, sessionmaker

from stockstore import AsyncStore, ChainedStore, MemcacheStore, ProcessMemoryStore, RedisStore, ShardedStore, SqlAlchemyStore, Store
from stockstore.evidence import Outbox
from stockstore.stores.snapshots import snapshot_of
from stockstore_ext.sqlalchemy import SessionSync
from tests.aio.databases import async_engine
from tests.servers.server import wait_until
from tests.stores.halting import HaltingWrites
from tests.stores.listed import Item, Owner, bare, create_tables, empty, ids

pytestmark = pytest.mark.sa_agnostic
IDS = list(range(1, 9))


class Halting(HaltingWrites):
    """Halts the reads of lists."""

    def batch_members(self, cls: type, keys: Sequence[Any], *, session: Any = None) -> list[Any]:
        """Read, and halt before the lists reach a cache."""
        found = super().batch_members(cls, keys, session=session)
        self._halt("after_read")
        return found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Engine]]:
    """Two databases with the tables and the outbox."""
    folder = tmp_path_factory.mktemp("shards")
    engines = [create_engine(f"sqlite:///{folder / name}.db") for name in ("a", "b")]
    for engine in engines:
        create_tables(engine)
        Outbox().create(engine)
    yield engines
    for engine in engines:
        engine.dispose()


@pytest.fixture
def engines(files: list[Engine]) -> list[Engine]:
    """Two databases with two owners each."""
    for engine in files:
        empty(engine)
        with Session(engine) as session:
            session.add_all([Owner(id=1), Owner(id=2)])
            session.commit()
    return files


@pytest.fixture
def databases(engines: list[Engine]) -> ShardedStore:
    """A store over both."""
    return ShardedStore([Halting(engine=engine) for engine in engines])


Caches = Callable[[], list[Store]]


@pytest.fixture(params=["redis", "memory shards", "memcached shards"])
def caches(request: pytest.FixtureRequest) -> Caches:
    """A function that makes the same caches anew, as another process would."""
    url, namespace = request.getfixturevalue("redis_url"), uuid.uuid4().hex
    made: dict[str, Callable[[], Store]] = {
        "memory": lambda: ProcessMemoryStore(max_staleness=None),
        "redis": lambda: RedisStore(url, namespace=namespace),
        "memcached": lambda: MemcacheStore(request.getfixturevalue("memcached_address"), namespace=namespace),
        "shards": lambda: ShardedStore([RedisStore(url, namespace=f"{namespace}{at}") for at in range(3)]),
    }
    return lambda: [made[name]() for name in request.param.split()]


@pytest.fixture
def chain(caches: Caches, databases: ShardedStore) -> Iterator[ChainedStore]:
    """Caches over the databases, which have eight items of owner 1."""
    with ChainedStore([*caches(), databases]) as chain:
        chain.batch_put([Item(id=key, owner_id=1, code=str(key)) for key in IDS])
        yield chain


def home_of(databases: ShardedStore, key: int) -> int:
    """Give the shard of an item."""
    return databases.sharding.of_object(snapshot_of(Item(id=key)))


def is_cached(chain: ChainedStore, engines: list[Engine], owner: int, expected: list[int]) -> None:
    """Show that a list is right, and does not come from the databases: rows that are put there out of band stay unseen."""
    for _ in range(2):
        assert ids(chain, Item, owner_id=owner) == expected
    own, extra = bare(Item), {"tenant": 1, "kind": "none", "title": "unseen"}
    for at, engine in enumerate(engines):
        with engine.begin() as connection:
            connection.execute(insert(own).values(id=900 + at, owner_id=owner, **extra))
    assert ids(chain, Item, owner_id=owner) == expected
    for engine in engines:
        with engine.begin() as connection:
            connection.execute(delete(own).where(own.c.id >= 900))


def test_a_list_over_databases(chain: ChainedStore, databases: ShardedStore, engines: list[Engine]) -> None:
    """It has the rows of all databases in the order of their keys, and comes from the caches; so does an empty one."""
    assert {home_of(databases, key) for key in IDS} == {0, 1}
    is_cached(chain, engines, 1, IDS)
    is_cached(chain, engines, 2, [])


def test_a_write_drops_the_lists_that_it_concerns(chain: ChainedStore, engines: list[Engine]) -> None:
    """New, changed and deleted rows of either database, by the chain; the lists are kept again by the next read."""
    is_cached(chain, engines, 1, IDS)
    is_cached(chain, engines, 2, [])
    chain.batch_put([Item(id=key, owner_id=1) for key in (9, 10, 11, 12)])
    is_cached(chain, engines, 1, [*IDS, 9, 10, 11, 12])
    moved = chain.batch_get(Item, [9, 10, 11, 12])
    for item in moved:
        assert item is not None
        item.owner_id = 2
    chain.batch_put([item for item in moved if item is not None])
    is_cached(chain, engines, 1, IDS)
    is_cached(chain, engines, 2, [9, 10, 11, 12])
    chain.batch_delete(Item, [1, 2, 3, 12])
    is_cached(chain, engines, 1, IDS[3:])
    is_cached(chain, engines, 2, [9, 10, 11])


@pytest.mark.parametrize("shard", [0, 1])
def test_a_fill_that_a_writer_has_overtaken_is_refused(chain: ChainedStore, databases: ShardedStore, shard: int) -> None:
    """What was read of the databases before a row came to either is not kept after it."""
    new = next(key for key in range(100, 200) if home_of(databases, key) == shard)
    for reads in databases.shards:
        assert isinstance(reads, Halting)
        reads.after_read = lambda: chain.put(Item(id=new, owner_id=2))
        ids(chain, Item, owner_id=2)
        for _ in range(3):
            assert ids(chain, Item, owner_id=2) == [new]
        chain.delete(Item, new)
        assert ids(chain, Item, owner_id=2) == []
        chain.clear()


@pytest.mark.parametrize("caches", ["redis", "shards", "memcached shards"], indirect=True)
def test_what_another_process_writes(caches: Caches, chain: ChainedStore, databases: ShardedStore, engines: list[Engine]) -> None:
    """It drops the list in the shared caches."""
    with ChainedStore([*caches(), databases]) as other:
        is_cached(chain, engines, 1, IDS)
        other.put(Item(id=20, owner_id=1))
        is_cached(chain, engines, 1, [*IDS, 20])


def test_a_session_on_one_database(chain: ChainedStore, databases: ShardedStore, engines: list[Engine]) -> None:
    """What it commits there drops the list."""
    maker: sessionmaker[Session] = sessionmaker(class_=type("Watched", (Session,), {}))
    sync = SessionSync(chain).attach(maker)
    try:
        is_cached(chain, engines, 1, IDS)
        for shard, engine in enumerate(engines):
            gone = next(key for key in IDS if home_of(databases, key) == shard)
            with maker(bind=engine) as session:
                session.get_one(Item, gone).owner_id = 2
                session.commit()
            left = [key for key in ids(chain, Item, owner_id=1) if key != gone]
            is_cached(chain, engines, 1, left)
            assert gone in ids(chain, Item, owner_id=2)
    finally:
        sync.detach()


def test_memory_hears_of_lists_by_the_shards_below(databases: ShardedStore, redis_url: str, namespace: str) -> None:
    """Process memory keeps lists for as long as the shard's own channel tells nothing of them, and hears of each that changes."""

    def chained() -> ChainedStore:
        shards = ShardedStore([RedisStore(redis_url, namespace=f"{namespace}{at}") for at in range(2)])
        return ChainedStore([ProcessMemoryStore(max_staleness=30), shards, databases])

    with chained() as one, chained() as two:
        one.batch_put([Item(id=key, owner_id=1) for key in IDS])

        def is_held() -> bool:
            hits = two.tiers[0].stats().hits
            assert ids(two, Item, owner_id=1) == IDS
            return two.tiers[0].stats().hits == hits + 1 + len(IDS)

        # What is still told of the first write takes rows away once more.
        wait_until(is_held, "memory")
        one.put(Item(id=20, owner_id=1))
        wait_until(lambda: ids(two, Item, owner_id=1) == [*IDS, 20], "the list to be heard of")


def test_what_was_left_behind_is_in_no_list(chain: ChainedStore, databases: ShardedStore, engines: list[Engine]) -> None:
    """A row on a shard that is not its own is not listed, once nor twice."""
    own, extra = bare(Item), {"tenant": 1, "kind": "none", "title": "stray"}
    for key in (1, 30):
        with engines[1 - home_of(databases, key)].begin() as connection:
            connection.execute(insert(own).values(id=key, owner_id=1, **extra))
    for _ in range(3):
        assert ids(chain, Item, owner_id=1) == IDS


def test_rows_that_are_kept_together(engines: list[Engine], redis_url: str, namespace: str) -> None:
    """A list of one database is asked of that one alone, and cached."""
    databases = ShardedStore([Halting(engine=engine) for engine in engines], shard_by=lambda _cls, values: values.get("owner_id"))
    with ChainedStore([RedisStore(redis_url, namespace=namespace), databases]) as chain:
        chain.batch_put([Item(id=key, owner_id=1) for key in IDS])
        is_cached(chain, engines, 1, IDS)
        asked: list[int] = []
        for at, shard in enumerate(databases.shards):
            assert isinstance(shard, Halting)
            shard.after_read = partial(asked.append, at)
        chain.put(Item(id=9, owner_id=1))
        assert ids(chain, Item, owner_id=1) == [*IDS, 9]
        assert len(asked) == 1


def test_awaited(engines: list[Engine], redis_url: str, namespace: str) -> None:
    """AsyncStore reads lists of sharded databases through sharded caches."""

    async def work() -> None:
        awaited = [async_engine(engine.url, "aiosqlite") for engine in engines]
        url = redis_url.replace("://", "+asyncio://", 1)
        caches = ShardedStore([RedisStore(url, namespace=f"{namespace}{at}") for at in range(2)])
        async with AsyncStore(ChainedStore([caches, ShardedStore([SqlAlchemyStore(engine=engine) for engine in awaited])])) as store:
            await store.batch_put([Item(id=key, owner_id=1) for key in IDS])
            for _ in range(2):
                assert [item.id for item in await store.get_all(Item, owner_id=1)] == IDS
            await asyncio.to_thread(_delete_unseen, engines)
            assert [item.id for item in await store.get_all(Item, owner_id=1)] == IDS
            await store.put(Item(id=9, owner_id=1))
            assert [item.id for item in await store.get_all(Item, owner_id=1)] == [9]
        for engine in awaited:
            await engine.dispose()

    asyncio.run(work())


def _delete_unseen(engines: list[Engine]) -> None:
    for engine in engines:
        with engine.begin() as connection:
            connection.execute(delete(bare(Item)))


def test_chains_as_shards_are_read(engines: list[Engine], redis_url: str, namespace: str) -> None:
    """What is a chain itself keeps its own lists; above it none are kept."""
    shards = [
        ChainedStore([RedisStore(redis_url, namespace=f"{namespace}{at}"), SqlAlchemyStore(engine=engine)])
        for at, engine in enumerate(engines)
    ]
    with ShardedStore(shards) as store:
        store.batch_put([Item(id=key, owner_id=1) for key in IDS])
        for _ in range(2):
            assert ids(store, Item, owner_id=1) == IDS
        hits = [shard.stats().tiers[0].hits for shard in shards]
        assert ids(store, Item, owner_id=1) == IDS
        assert all(shard.stats().tiers[0].hits > before for shard, before in zip(shards, hits, strict=True))


def test_a_session_keeps_a_list_on_a_shard_without_rows_of_others(engines: list[Engine], redis_url: str, namespace: str) -> None:
    """The rows that were read along with it stand where they belong, or nowhere."""
    shards = ShardedStore([RedisStore(redis_url, namespace=f"{namespace}{at}") for at in range(3)])
    with ChainedStore([shards, SqlAlchemyStore(engine=engines[0])]) as chain, Redis.from_url(redis_url) as client:
        chain.batch_put([Item(id=number, owner_id=1) for number in IDS])
        chain.clear()
        maker: sessionmaker[Session] = sessionmaker(engines[0], class_=type("Reading", (Session,), {}))
        sync = SessionSync(chain, read_through=True).attach(maker)
        with maker() as session:
            assert len(session.scalars(select(Item).where(Item.owner_id == 1)).all()) == len(IDS)
        sync.detach()
        kept = [key for key in client.scan_iter(f"{namespace}*") if b":id:" in key or b":*owner_id:" in key]
        assert [b":*owner_id:" in key for key in kept] == [True]
