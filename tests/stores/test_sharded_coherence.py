"""Sharded databases below caches, and sharded caches above a database: nothing old is read, and what was read is cached."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis
from sqlalchemy import Engine, delete, update

from stockstore import AsyncStore, ChainedStore, OriginError, ProcessMemoryStore, RedisStore, ShardedStore, SqlAlchemyStore, Store
from stockstore.stores.snapshots import snapshot_of
from tests.aio.databases import async_engine
from tests.patience import SHORT
from tests.servers.redis import RedisServer
from tests.servers.server import wait_until
from tests.stores.owed import be_told
from tests.stores.shop import Customer, create_tables, two_files
from tests.subprocesses import ending

pytestmark = pytest.mark.sa_agnostic

IDS = list(range(1, 13))


@pytest.fixture
def files(tmp_path: Path) -> Iterator[list[Engine]]:
    """Two databases in files, with the outbox."""
    with two_files(tmp_path) as engines:
        yield engines


@pytest.fixture(scope="module")
def postgres_tables(postgres_engine: Engine) -> Engine:
    """A PostgreSQL with the tables."""
    create_tables(postgres_engine)
    return postgres_engine


@pytest.fixture
def mixed(files: list[Engine], postgres_tables: Engine) -> list[Engine]:
    """A PostgreSQL, whose transaction ids are evidence, and a file, whose outbox is."""
    with postgres_tables.begin() as connection:
        connection.execute(delete(Customer))
    return [postgres_tables, files[0]]


def databases(engines: list[Engine]) -> ShardedStore:
    """Give a store over them."""
    return ShardedStore([SqlAlchemyStore(engine=engine) for engine in engines])


def homes(store: ShardedStore) -> dict[int, int]:
    """Give the shards of the customers."""
    return {key: store.sharding.of_object(snapshot_of(Customer(id=key))) for key in IDS}


def change_unseen(engines: list[Engine], name: str) -> None:
    """Write past every cache."""
    for engine in engines:
        with engine.begin() as connection:
            connection.execute(update(Customer).values(name=name))


def names(store: Store, keys: list[int]) -> list[str | None]:
    """Give the names of customers."""
    return [None if row is None else row.name for row in store.batch_get(Customer, keys)]


def fill(chain: Store, engines: list[Engine]) -> None:
    """Put all customers, and prove that they are read from caches."""
    chain.batch_put([Customer(id=key, email=str(key), name="old") for key in IDS])
    change_unseen(engines, "unseen")
    assert names(chain, IDS) == ["old"] * len(IDS)
    change_unseen(engines, "old")


def test_what_is_put_is_read_by_others(mixed: list[Engine], redis_url: str) -> None:
    """Each shard's part of a batch is marked and released with its own transaction, and another chain reads what was committed."""
    with ChainedStore([RedisStore(redis_url), databases(mixed)]) as one, ChainedStore([RedisStore(redis_url), databases(mixed)]) as two:
        fill(one, mixed)
        assert names(two, IDS) == ["old"] * len(IDS)
        one.batch_put([Customer(id=key, email=str(key), name=f"new {key}") for key in IDS])
        change_unseen(mixed, "unseen")
        assert names(two, IDS) == [f"new {key}" for key in IDS]
        assert two.batch_delete(Customer, IDS[:6]) == 6
        assert names(one, IDS) == [None] * 6 + [f"new {key}" for key in IDS[6:]]


def test_a_shard_that_refuses(mixed: list[Engine], redis_url: str) -> None:
    """The other shard's rows are new in the caches, and its own are what they were: its markers are gone."""
    store = databases(mixed)
    with ChainedStore([RedisStore(redis_url), store]) as chain:
        fill(chain, mixed)
        red, blue = ([key for key, home in homes(store).items() if home == at] for at in (0, 1))
        # The address is another row's of the same shard.
        refused = Customer(id=red[0], email=str(red[1]), name="new")
        with pytest.raises(OriginError, match="duplicate key"):
            chain.batch_put([refused, *(Customer(id=key, email=str(key), name="new") for key in blue)])
        assert names(chain, red + blue) == ["old"] * len(red) + ["new"] * len(blue)
        change_unseen(mixed, "unseen")
        assert names(chain, blue) == ["new"] * len(blue)
        assert names(chain, red[1:]) == ["old"] * len(red[1:])


@pytest.mark.parametrize("shard", [0, 1], ids=["xid", "outbox"])
def test_a_killed_writer_is_resolved_by_its_own_database(mixed: list[Engine], redis_url: str, namespace: str, shard: int) -> None:
    """While its marker stands the database answers, and within seconds the cache again: the shard's own evidence tells."""
    store = databases(mixed)
    key = next(key for key, home in homes(store).items() if home == shard)
    cache = RedisStore(redis_url, namespace=namespace)
    with ChainedStore([cache, store]) as chain:
        fill(chain, mixed)
        urls = [engine.url.render_as_string(hide_password=False) for engine in mixed]
        writer = subprocess.Popen(
            [sys.executable, "-m", "tests.stores.killed_shard_writer", redis_url, namespace, str(key), *urls],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            text=True,
        )
        with ending(writer):
            assert writer.stdout is not None
            assert writer.stdout.readline() == "marked\n"
            assert cache.get(Customer, key) is None
            assert names(chain, [key]) == ["old"]
            writer.kill()
        change_unseen(mixed, "later")
        assert names(chain, [key]) == ["later"]
        wait_until(
            lambda: names(chain, [key]) == ["later"] and cache.contains(Customer, key), "the marker of the killed writer to be resolved"
        )
        change_unseen(mixed, "again")
        assert names(chain, [key]) == ["later"]


def test_sharded_caches_of_which_one_is_out_of_reach(
    start_redis: Callable[..., RedisServer], files: list[Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its keys are read from the database, the others' from their cache; what it missed it is told before it is read again."""
    monkeypatch.setattr("stockstore.coherence.recovery.RETRY_SECONDS", 0.0)
    engine = files[0]
    servers = [start_redis(), start_redis()]
    stores = [RedisStore(f"redis://{server.address}", connect_timeout=SHORT, read_timeout=SHORT) for server in servers]
    caches = ShardedStore(stores)
    with ChainedStore([caches, SqlAlchemyStore(engine=engine)]) as chain:
        fill(chain, [engine])
        near, far = ([key for key, home in homes(caches).items() if home == at] for at in (0, 1))
        for server, keys in zip(servers, (near, far), strict=True):
            with Redis.from_url(f"redis://{server.address}") as client:
                assert sum(text.rpartition(b":")[2][1:].isdigit() for text in client.scan_iter("*:id:i*")) == len(keys)
        servers[1].freeze()
        change_unseen([engine], "unseen")
        assert names(chain, near) == ["old"] * len(near)
        assert names(chain, far[:1]) == ["unseen"]
        chain.put(Customer(id=far[0], email=str(far[0]), name="new"))
        assert names(chain, [far[0], near[0]]) == ["new", "old"]
        servers[1].thaw()
        be_told(*stores)
        assert names(chain, [far[0]]) == ["new"]
        chain.put(Customer(id=far[1], email=str(far[1]), name="newer"))
        assert names(chain, far[:2]) == ["new", "newer"]
        change_unseen([engine], "again")
        assert names(chain, far[:2]) == ["new", "newer"]


def test_by_other_keys_and_lists(files: list[Engine], redis_url: str) -> None:
    """What was found by another key is cached where it belongs, and a key that moves to a row of another shard is not believed."""
    caches = ShardedStore([RedisStore(redis_url, namespace=name) for name in ("a", "b", "c")])
    with ChainedStore([ProcessMemoryStore(max_staleness=None), caches, databases(files)]) as chain:
        fill(chain, files)
        caches.clear()
        chain.tiers[0].clear()
        assert [chain.get(Customer, email=str(key)) is not None for key in IDS] == [True] * len(IDS)
        chain.tiers[0].clear()
        change_unseen(files, "unseen")
        assert names(chain, IDS) == ["old"] * len(IDS)
        assert [(row := chain.get(Customer, email=str(key))) and row.name for key in IDS] == ["old"] * len(IDS)
        first, second = IDS[0], next(key for key, home in homes(caches).items() if home != homes(caches)[IDS[0]])
        chain.batch_put([Customer(id=first, email="moved"), Customer(id=second, email=str(first), name="taker")])
        found = chain.get(Customer, email=str(first))
        assert found is not None
        assert (found.id, found.name) == (second, "taker")


def test_what_other_shards_had_before_one_was_added(files: list[Engine], redis_url: str) -> None:
    """A row whose shard is another one now is not found where it was left, by no key."""
    two, three = (ShardedStore([RedisStore(redis_url, namespace=name) for name in group]) for group in ("ab", "abc"))
    database = databases(files)
    with ChainedStore([two, database]) as before, ChainedStore([three, database]) as after:
        fill(before, files)
        moved = [key for key, home in homes(three).items() if home == 2]
        assert moved
        after.batch_put([Customer(id=key, email=str(key), name="new") for key in moved])
        for keys in (moved, [{"email": str(key)} for key in moved]):
            assert [row and row.name for row in after.batch_get(Customer, keys)] == ["new"] * len(moved)


def test_awaited(files: list[Engine], redis_url: str) -> None:
    """AsyncStore serves a chain on sharded async databases."""

    async def work() -> None:
        engines = [async_engine(engine.url, "aiosqlite") for engine in files]
        database = ShardedStore([SqlAlchemyStore(engine=engine) for engine in engines])
        redis = RedisStore(redis_url.replace("redis://", "redis+asyncio://", 1))
        async with AsyncStore(ChainedStore([redis, database])) as store:
            await store.batch_put([Customer(id=key, email=str(key), name="old") for key in IDS])
            change_unseen(files, "unseen")
            assert {row and row.name for row in await store.batch_get(Customer, IDS)} == {"old"}
            await store.put(Customer(id=3, email="3", name="new"))
            found = await store.get(Customer, email="3")
            assert found is not None
            assert found.name == "new"
        for engine in engines:
            await engine.dispose()

    asyncio.run(work())
