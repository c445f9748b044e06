"""A chain whose cache dies, freezes, restarts with old data or refuses writes: no old value is readable, and no put fails."""

import logging
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import count
from typing import ClassVar, NamedTuple

import pytest
from redis import Redis
from sqlalchemy import Engine, update

from stockstore import (
    CacheUnreachable,
    ChainedStore,
    MappingStore,
    MemcacheStore,
    ProcessMemoryStore,
    RedisStore,
    ShardedStore,
    SqlAlchemyStore,
    Store,
)
from stockstore.stores.backed import BackendStore
from tests.patience import SHORT
from tests.servers.memcached import MemcachedServer
from tests.servers.redis import RedisServer
from tests.servers.server import Server
from tests.stores.owed import be_told
from tests.stores.shop import Car, Customer, Note, Tag, Vehicle

pytestmark = pytest.mark.sa_agnostic

Start = Callable[..., Server]
KEEPS = ("--appendonly", "yes", "--appendfsync", "always")
"""Options of a Redis that has its old data after a restart; one that was frozen runs the writes that it was sent meanwhile."""


@pytest.fixture(autouse=True)
def _retry_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is owed to a cache is tried at every read, not once a second."""
    monkeypatch.setattr("stockstore.coherence.recovery.RETRY_SECONDS", 0.0)


class Case(NamedTuple):
    """A cache on a server of its own, and the chain over it and a database."""

    server: Server
    cache: BackendStore
    chain: ChainedStore


def redis_cache(server: Server) -> RedisStore:
    """Give a store on a server, impatient."""
    return RedisStore(f"redis://{server.address}", connect_timeout=SHORT, read_timeout=SHORT)


def memcache_cache(server: Server) -> MemcacheStore:
    """Give a store on a server, impatient."""
    return MemcacheStore(server.address, connect_timeout=SHORT, timeout=SHORT)


@pytest.fixture(params=["redis", "memcached"])
def case(request: pytest.FixtureRequest, lite: Engine) -> Iterator[Case]:
    """Redis, that keeps its data over a restart, and memcached in turn."""
    if request.param == "redis":
        server = request.getfixturevalue("start_redis")(*KEEPS)
        cache: BackendStore = redis_cache(server)
    else:
        server = request.getfixturevalue("start_memcached")()
        cache = memcache_cache(server)
    with ChainedStore([cache, SqlAlchemyStore(engine=lite)]) as chain:
        yield Case(server, cache, chain)


def name_of(customer: Customer | None) -> str | None:
    """Give the name, of what was found."""
    return None if customer is None else customer.name


def names(store: BackendStore | ChainedStore) -> set[str | None]:
    """Give what the keys of the customer of these tests find."""
    return {name_of(customer) for customer in store.batch_get(Customer, [1, {"email": "a"}, {"tenant": 7, "name": "old"}])}


def put(chain: ChainedStore, name: str) -> None:
    """Put the customer of these tests."""
    chain.put(Customer(id=1, email="a", name=name))


def freeze(server: Server) -> Callable[[], None]:
    """Halt a server, and give what lets it run on."""
    server.freeze()
    return server.thaw


def kill(server: Server) -> Callable[[], None]:
    """Kill a server, and give what starts it again."""
    server.stop()
    return server.start


@pytest.mark.parametrize("break_", [freeze, kill])
def test_a_put_beside_a_broken_cache(case: Case, break_: Callable[[Server], Callable[[], None]], caplog: pytest.LogCaptureFixture) -> None:
    """The put succeeds, is counted and logged, and the old value is not read while the cache is down, nor when it is back."""
    put(case.chain, "old")
    assert names(case.cache) == {"old"}
    repair = break_(case.server)
    with caplog.at_level(logging.WARNING, logger="stockstore"):
        put(case.chain, "new")
    assert any(record.name.startswith("stockstore.coherence") for record in caplog.records)
    assert case.cache.stats().errors > 0
    assert case.chain.stats().errors == case.cache.stats().errors
    assert names(case.chain) == {"new", None}
    repair()
    assert names(case.chain) == {"new", None}
    assert "old" not in names(case.cache)
    assert names(case.chain) == {"new", None}


@pytest.mark.parametrize("break_", [freeze, kill])
def test_a_delete_beside_a_broken_cache(case: Case, break_: Callable[[Server], Callable[[], None]]) -> None:
    """The delete is done and says so, and nothing is readable while the cache is down, nor when it is back."""
    put(case.chain, "old")
    repair = break_(case.server)
    assert case.chain.delete(Customer, email="a") is True
    assert names(case.chain) == {None}
    repair()
    assert names(case.chain) == {None}
    assert names(case.cache) == {None}


def test_the_first_read_after_the_repair_by_a_base_class(lite: Engine, start_redis: Callable[..., RedisServer]) -> None:
    """A subclass's old row is not read by its base class either."""
    server = start_redis(*KEEPS)
    with ChainedStore([redis_cache(server), SqlAlchemyStore(engine=lite)]) as chain:
        chain.put(Car(id=1, plate="old", doors=3))
        server.stop()
        chain.put(Car(id=1, plate="new", doors=5))
        server.start()
        found = chain.get(Vehicle, 1)
        assert isinstance(found, Car)
        assert (found.plate, found.doors) == ("new", 5)
        assert chain.get(Vehicle, plate="old") is None


def test_rows_that_the_database_deleted_along(lite: Engine, start_redis: Callable[..., RedisServer]) -> None:
    """A row that went by ``ON DELETE CASCADE`` while the cache was down is not read when it is back."""
    server = start_redis(*KEEPS)
    with ChainedStore([redis_cache(server), SqlAlchemyStore(engine=lite)]) as chain:
        chain.put(Customer(id=1, notes=[Note(id=5, text="n")]))
        assert chain.get(Note, 5) is not None
        server.stop()
        chain.delete(Customer, 1)
        server.start()
        assert chain.get(Note, 5) is None


def test_what_is_owed_stands_in_the_namespace_of_its_put(lite: Engine, start_redis: Callable[..., RedisServer]) -> None:
    """A tenant's old value goes though another tenant reads first."""
    tenant = ContextVar("tenant", default="north")
    server = start_redis(*KEEPS)
    cache = RedisStore(server.url, namespace=tenant.get, connect_timeout=SHORT, read_timeout=SHORT)
    with ChainedStore([cache, SqlAlchemyStore(engine=lite)]) as chain:
        put(chain, "old")
        server.stop()
        put(chain, "new")
        server.start()
        tenant.set("south")
        assert name_of(chain.get(Customer, 1)) == "new"
        tenant.set("north")
        assert names(chain) == {"new", None}
        assert "old" not in names(cache)


def test_other_classes_are_served_by_a_cache_that_owes(lite: Engine, start_redis: Callable[..., RedisServer]) -> None:
    """A cache that is back serves classes of which it missed nothing."""
    server = start_redis()
    cache = redis_cache(server)
    with ChainedStore([cache, SqlAlchemyStore(engine=lite)]) as chain:
        chain.put(Tag(name="Red", code="R1"))
        put(chain, "old")
        server.freeze()
        put(chain, "new")
        server.thaw()
        assert chain.get(Tag, "Red") is not None
        assert chain.stats().tiers[1].hits == 0


def test_a_cache_that_is_full_keeps_no_old_value(lite: Engine, start_redis: Callable[..., RedisServer]) -> None:
    """A Redis that refuses writes for want of memory loses the old value at once, and takes new ones when it can."""
    server = start_redis()
    cache = redis_cache(server)
    with ChainedStore([cache, SqlAlchemyStore(engine=lite)]) as chain, Redis.from_url(server.url) as admin:
        put(chain, "old")
        admin.config_set("maxmemory-policy", "noeviction")
        admin.config_set("maxmemory", "1")
        put(chain, "new")
        assert cache.stats().errors > 0
        assert names(cache) == {None}
        assert names(chain) == {"new", None}
        admin.config_set("maxmemory", "0")
        be_told(cache)
        assert names(chain) == {"new", None}
        assert names(cache) == {"new", None}


def test_memory_above_a_broken_cache_is_right(lite: Engine, start_redis: Callable[..., RedisServer]) -> None:
    """A tier above one that cannot be written has the new value, and loses what was deleted."""
    server = start_redis()
    memory = ProcessMemoryStore(channel=None, max_staleness=60)  # with one it is passed by as long as Redis is away
    with ChainedStore([memory, redis_cache(server), SqlAlchemyStore(engine=lite)]) as chain:
        put(chain, "old")
        server.stop()
        put(chain, "new")
        assert name_of(memory.get(Customer, 1)) == "new"
        assert names(chain) == {"new", None}
        assert chain.delete(Customer, 1) is True
        assert memory.get(Customer, 1) is None


def test_reads_fall_through_a_broken_cache(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    """By default a cache that does not answer is a miss that is counted and logged, and the database answers."""
    put(case.chain, "old")
    case.server.freeze()
    with caplog.at_level(logging.WARNING, logger="stockstore"):
        assert name_of(case.chain.get(Customer, 1)) == "old"
    assert case.cache.stats().errors > 0
    assert any(said in caplog.text for said in ("was not read; the tiers below are", "did not answer a read; it counts as a miss"))
    case.server.thaw()


@pytest.mark.parametrize("good", range(6))
def test_a_namespace_that_is_missing_after_the_commit_fails_nobody(lite: Engine, good: int) -> None:
    """A put whose callable fails at any of its calls is an error and not done, or done and no error; nothing old is read afterwards."""
    calls = count(good - 1_000_000)

    def namespace() -> str:
        if next(calls) >= good:
            raise LookupError("no tenant")
        return "one"

    with ChainedStore([MappingStore({}, namespace=namespace), SqlAlchemyStore(engine=lite)]) as chain:
        put(chain, "old")
        calls = count()
        try:
            put(chain, "new")
        except LookupError:
            expected = "old"
        else:
            expected = "new"
        calls = count(good - 1_000_000)
        assert name_of(SqlAlchemyStore(engine=lite).get(Customer, 1)) == name_of(chain.get(Customer, 1)) == expected


def test_a_read_that_was_not_answered_is_one_line_of_a_log(
    start_redis: Callable[..., RedisServer], caplog: pytest.LogCaptureFixture
) -> None:
    """The line says why, without a traceback of the driver's."""
    server = start_redis()
    with redis_cache(server) as cache:
        server.stop()
        assert cache.get(Customer, 1) is None
    (told,) = [record for record in caplog.records if "counts as a miss" in record.message]
    assert told.message.startswith(f"{cache!r} did not answer a read; it counts as a miss: Redis at ")
    assert told.exc_info is None


@pytest.mark.parametrize("chained", [False, True])
def test_reads_of_an_outage_are_one_line_a_second(
    lite: Engine, start_redis: Callable[..., RedisServer], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, chained: bool
) -> None:
    """The first read that is not answered is told at once, and a second later how many more were not; each store tells of itself."""
    server, now = start_redis(), [1000.0]
    monkeypatch.setattr("stockstore.stores.outages._now", lambda: now[0])
    stores = [redis_cache(server), redis_cache(server)]
    readers = [ChainedStore([store, SqlAlchemyStore(engine=lite)]) for store in stores] if chained else stores
    server.stop()

    def told(reads: int) -> list[str]:
        caplog.clear()
        for reader in readers * reads:
            reader.get(Customer, 1)
        lines = [record.message for record in caplog.records if "was not read" in record.message or "did not answer" in record.message]
        return [line.partition(" (")[2] for line in lines]

    assert told(reads=1) == ["", ""]
    assert told(reads=4) == []
    now[0] += 1.0
    assert told(reads=2) == ["and 4 more since the last such warning)"] * 2
    now[0] += 1.0
    assert told(reads=1) == ["and 1 more since the last such warning)"] * 2
    now[0] += 1.0
    assert told(reads=1) == ["", ""]
    assert [store.stats().errors >= 9 for store in stores] == [True, True]
    for reader in readers:
        reader.close()


def test_get_or_load_in_an_outage_is_one_line_a_second(
    start_redis: Callable[..., RedisServer], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was loaded and could not be kept is told as seldom."""
    monkeypatch.setattr("stockstore.stores.outages._now", lambda: 1000.0)
    server = start_redis()
    with redis_cache(server) as cache:
        server.stop()
        for number in range(3):
            assert cache.get_or_load(Note, number, lambda key: Note(id=key)) is not None
    assert [record.message.partition(": ")[0] for record in caplog.records if "keep" in record.message] == [
        f"{cache!r} does not keep what was loaded"
    ]


def test_a_delete_by_another_key_of_a_cache_origin_is_not_lost(start_redis: Callable[..., RedisServer]) -> None:
    """Where the origin is the cache itself, a delete that could not ask it what stands there is an error, not a miss."""
    server = start_redis()
    memory = ProcessMemoryStore(channel=None, max_staleness=60)  # with one it is passed by as long as Redis is away
    with ChainedStore([memory, redis_cache(server)]) as chain:
        put(chain, "old")
        server.freeze()
        with pytest.raises(CacheUnreachable):
            chain.delete(Customer, email="a")
        assert name_of(memory.get(Customer, 1)) == "old"
        server.thaw()
        assert chain.delete(Customer, email="a") is True
        assert names(chain) == {None}


def test_reads_raise_where_asked_to(lite: Engine, start_redis: Callable[..., RedisServer], start_memcached: Start) -> None:
    """With ``on_error="raise"`` a read of a dead server is an error that names it; a put still succeeds."""
    redis, memcached = start_redis(), start_memcached()
    stores = (
        RedisStore(redis.url, on_error="raise", connect_timeout=SHORT, read_timeout=SHORT),
        MemcacheStore(memcached.address, on_error="raise", connect_timeout=SHORT, timeout=SHORT),
    )
    for server, cache in zip((redis, memcached), stores, strict=True):
        with ChainedStore([cache, SqlAlchemyStore(engine=lite)]) as chain:
            put(chain, "old")
            server.stop()
            for store in (chain, cache):
                with pytest.raises(CacheUnreachable, match=server.address) as caught:
                    store.batch_get(Customer, [1, {"email": "a"}])
                assert caught.value.__cause__ is not None
            put(chain, "new")
            assert name_of(chain.get(Customer, 1)) == "new"


@dataclass
class Rate:
    __keys__: ClassVar = ["currency"]
    currency: str
    per_euro: float = 1.08


OVER: dict[str, Callable[[Store], Store]] = {
    "alone": lambda cache: cache,
    "in a chain": lambda cache: ChainedStore([ProcessMemoryStore(), cache]),
    "as a shard": lambda cache: ShardedStore([cache]),
}


@pytest.mark.parametrize("over", OVER.values(), ids=OVER)
def test_what_was_loaded_is_given_beside_a_broken_cache(
    over: Callable[[Store], Store], start_redis: Callable[..., RedisServer], caplog: pytest.LogCaptureFixture
) -> None:
    """``get_or_load`` gives what it has loaded, and tells that it is not kept; a cache that was told to raise does."""
    server = start_redis()
    raising_cache = RedisStore(server.url, on_error="raise", connect_timeout=SHORT, read_timeout=SHORT)
    with over(redis_cache(server)) as store, over(raising_cache) as raising:
        server.stop()
        assert store.get_or_load(Rate, "USD", lambda: Rate("USD")) == Rate("USD")
        assert f"{store!r} does not keep what was loaded: Redis at {server.address}" in caplog.text
        assert store.stats().errors > 0
        with pytest.raises(CacheUnreachable, match=server.address):
            raising.get_or_load(Rate, "USD", lambda: Rate("USD"))


def test_what_was_loaded_is_given_where_a_cache_refuses_writes(start_redis: Callable[..., RedisServer]) -> None:
    """So it is where reads are answered, be it by a replica."""
    server = start_redis()
    with RedisStore(server.url) as store, RedisStore(server.url, on_error="raise") as raising, Redis.from_url(server.url) as client:
        client.replicaof("127.0.0.1", "1")
        client.config_set("replica-serve-stale-data", "yes")
        assert store.get_or_load(Rate, "USD", lambda: Rate("USD")) == Rate("USD")
        with pytest.raises(CacheUnreachable, match="read only replica"):
            raising.get_or_load(Rate, "USD", lambda: Rate("USD"))


def test_a_cache_alone_raises_on_writes(start_redis: Callable[..., RedisServer]) -> None:
    """A write that reached no server is an error where there is no origin to have taken it, after a second try."""
    server = start_redis()
    with redis_cache(server) as cache:
        server.stop()
        writes: list[Callable[[], object]] = [
            lambda: put_alone(cache),
            lambda: cache.delete(Customer, 1),
            lambda: cache.delete(Customer, email="a"),
            cache.clear,
        ]
        for write in writes:
            before = cache.stats().errors
            with pytest.raises(CacheUnreachable, match=server.address):
                write()
            assert cache.stats().errors == before + 2


def put_alone(cache: BackendStore) -> None:
    """Put a row that no database has."""
    cache.put(Customer(id=1, email="a", name="old"))


def test_one_of_three_memcacheds_dies(lite: Engine, memcached_cluster: Callable[[int], list[MemcachedServer]]) -> None:
    """Keys of the dead server are misses, those of the others hits, and no old value comes back with it."""
    servers = memcached_cluster(3)
    cache = MemcacheStore([server.address for server in servers], connect_timeout=SHORT, timeout=SHORT)
    with ChainedStore([cache, SqlAlchemyStore(engine=lite)]) as chain:
        chain.batch_put([Customer(id=n, email=str(n), name="old") for n in range(20)])
        servers[0].stop()
        chain.batch_put([Customer(id=n, email=str(n), name="new") for n in range(20)])
        assert {name_of(customer) for customer in chain.batch_get(Customer, list(range(20)))} == {"new"}
        servers[0].start()
        for keys in (list(range(20)), [{"email": str(n)} for n in range(20)]):
            assert {name_of(customer) for customer in chain.batch_get(Customer, keys)} == {"new"}
            assert "old" not in {name_of(customer) for customer in cache.batch_get(Customer, keys)}


def test_a_restarted_cache_is_filled_again(case: Case, lite: Engine) -> None:
    """After a restart the same store serves from the cache again."""
    put(case.chain, "old")
    case.server.restart()
    case.chain.clear()
    assert names(case.chain) == {"old"}
    with lite.begin() as connection:
        connection.execute(update(Customer).values(balance=5))
    customer = case.chain.get(Customer, 1)
    assert customer is not None
    assert customer.balance == 0
