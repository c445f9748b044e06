"""The backend on an asyncio client of Redis: the contract, gathered reads, whose loop it is, and who blocks."""

import asyncio
import contextlib
import gc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import redis.asyncio
import uvloop

from stockstore import AsyncStore, ChainedStore, ConfigurationError, MemcacheStore, ProcessMemoryStore, RedisStore, Store, open_store
from stockstore.backends import RedisBackend
from stockstore.backends.coherent import CoherentBackend
from stockstore.errors import CacheUnreachable
from stockstore.testing import CoherentBackendContract
from stockstore.testing.samples import PlainUser
from tests.aio.driven_backend import DrivenBackend, running
from tests.servers.redis import RedisServer


def awaited(url: str) -> str:
    """Give the URL of an asyncio client."""
    return url.replace("://", "+asyncio://", 1)


@pytest.mark.sa_agnostic
class TestAwaitedRedis(CoherentBackendContract):
    @pytest.fixture
    def loop(self) -> Iterator[asyncio.AbstractEventLoop]:
        """Of uvloop; the stores' contract runs on asyncio's own."""
        with running(uvloop.new_event_loop) as loop:
            yield loop

    @pytest.fixture
    def backend(self, redis_url: str, loop: asyncio.AbstractEventLoop) -> Iterator[CoherentBackend]:
        """By a URL."""
        with contextlib.closing(DrivenBackend(RedisBackend(awaited(redis_url)), loop)) as backend:
            yield backend

    @pytest.fixture
    def other(self, redis_url: str, loop: asyncio.AbstractEventLoop) -> Iterator[CoherentBackend]:
        """By a ready client of two connections, in the later protocol."""
        pool = redis.asyncio.ConnectionPool.from_url(redis_url, max_connections=2, protocol=3)
        client = redis.asyncio.Redis.from_pool(pool)
        yield DrivenBackend(RedisBackend(client=client), loop)
        asyncio.run_coroutine_threadsafe(client.aclose(), loop).result()


# -- gathered reads ---------------------------------------------------------------------------------


async def commands(client: "redis.asyncio.Redis") -> int:
    """Give the number of MGETs that a server has done."""
    facts = await client.info("commandstats")
    return int(facts.get("cmdstat_mget", {"calls": 0})["calls"])


@pytest.fixture
def url(redis_url: str) -> str:
    """The URL of an asyncio client."""
    return awaited(redis_url)


async def test_reads_of_one_turn_are_one_command(url: str, redis_url: str) -> None:
    """A hundred tasks that each read a key, and some the same, ask the server once; each gets its own."""
    async with AsyncStore(RedisStore(url)) as store, redis.asyncio.Redis.from_url(redis_url) as plain:
        await store.batch_put([PlainUser(id=number, email=f"{number}@x") for number in range(50)])
        before = await commands(plain)
        found = await asyncio.gather(*(store.get(PlainUser, number % 60) for number in range(100)))
        assert await commands(plain) == before + 1
        assert [user and user.email for user in found] == [f"{n % 60}@x" if n % 60 < 50 else None for n in range(100)]


async def test_more_than_a_thousand_keys_are_parted(url: str, redis_url: str) -> None:
    """No command has more than a thousand keys, of one task or of many."""
    async with AsyncStore(RedisStore(url)) as store, redis.asyncio.Redis.from_url(redis_url) as plain:
        await store.batch_put([PlainUser(id=number) for number in range(0, 2600, 100)])
        before = await commands(plain)
        (all_,) = await asyncio.gather(store.batch_get(PlainUser, range(2500)))
        assert sum(user is not None for user in all_) == 25
        assert await commands(plain) == before + 3
        many = await asyncio.gather(*(store.batch_get(PlainUser, range(at, at + 400)) for at in range(0, 2400, 400)))
        assert [sum(user is not None for user in users) for users in many] == [4] * 6
        assert await commands(plain) == before + 3 + 3


async def test_who_is_cancelled_cancels_nobody_else(url: str) -> None:
    """Tasks whose keys went with those of a task that was cancelled get their objects."""
    async with AsyncStore(RedisStore(url)) as store:
        await store.batch_put([PlainUser(id=number) for number in range(10)])
        tasks = [asyncio.ensure_future(store.get(PlainUser, number)) for number in range(10)]
        for turns in range(4):
            await asyncio.sleep(0)
            tasks[turns].cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(one, asyncio.CancelledError) for one in found] == [True] * 4 + [False] * 6
        assert [user.id for user in found if isinstance(user, PlainUser)] == list(range(4, 10))


async def test_an_error_reaches_every_waiter(start_redis: Callable[..., RedisServer]) -> None:
    """A server that is gone is each reader's error, or its miss, and they go on when it is back."""
    server = start_redis()
    raising, missing = (AsyncStore(RedisStore(awaited(server.url), on_error=way)) for way in ("raise", "miss"))
    await raising.put(PlainUser(id=1))
    assert await missing.get(PlainUser, 1) is not None
    server.stop()
    found = await asyncio.gather(*(raising.get(PlainUser, number) for number in range(20)), return_exceptions=True)
    assert {type(one) for one in found} == {CacheUnreachable}
    assert not any(await asyncio.gather(*(missing.get(PlainUser, number) for number in range(20))))
    assert missing.stats().errors == 20
    server.start()
    await raising.put(PlainUser(id=1))
    assert await missing.get(PlainUser, 1) is not None
    await raising.close()
    await missing.close()


async def test_many_tasks_share_few_connections(url: str, redis_url: str) -> None:
    """The pool is bounded, and what is more than it waits: none of 200 tasks that write fails."""
    own = AsyncStore(RedisStore(f"{url}?client_name=many"))
    async with own as store, redis.asyncio.Redis.from_url(redis_url) as plain:
        await asyncio.gather(*(store.put(PlainUser(id=number, visits=number)) for number in range(200)))
        assert 1 < sum(client["name"] == "many" for client in await plain.client_list()) <= 32
        found = await store.batch_get(PlainUser, range(200))
        assert [user.visits for user in found if user is not None] == list(range(200))
    few = redis.asyncio.Redis.from_pool(redis.asyncio.ConnectionPool.from_url(redis_url, max_connections=2))
    given = AsyncStore(RedisStore(client=few))
    await asyncio.gather(*(given.put(PlainUser(id=number)) for number in range(20)))
    await few.aclose()


# -- whose loop, and who blocks -----------------------------------------------------------------------


BLOCKING: Sequence[Callable[[Any], object]] = [
    lambda store: store.get(PlainUser, 1),
    lambda store: store.batch_get(PlainUser, [1]),
    lambda store: store.put(PlainUser(id=1)),
    lambda store: store.delete(PlainUser, 1),
    lambda store: store.clear(),
    lambda store: store.close(),
]


@pytest.mark.parametrize("verb", BLOCKING)
async def test_a_blocking_call_is_refused(verb: Callable[[Any], object]) -> None:
    """Of a store on an asyncio client, and of a chain with it, beside a running loop; nothing is sent."""
    store = RedisStore("redis+asyncio://localhost:1", on_error="miss")
    for one in (store, ChainedStore([ProcessMemoryStore(), store])):
        with pytest.raises(ConfigurationError, match=r"called by blocking code; await AsyncStore\(store\) instead"):
            verb(one)


@pytest.mark.parametrize("kind", ["redis", "memcached", "memory"])
def test_what_no_event_loop_of_asyncio_runs_is_refused(url: str, memcached_address: str, kind: str) -> None:
    """As under trio: neither does anything block there, nor is it an error that says nothing of stores. Hits in process memory need no loop."""
    made: dict[str, Callable[[], Store]] = {
        "redis": lambda: RedisStore(url),
        "memcached": lambda: MemcacheStore([memcached_address]),
        "memory": ProcessMemoryStore,
    }
    store = AsyncStore(made[kind]())
    verbs: list[Callable[[], Any]] = [lambda: store.put(PlainUser(id=1)), lambda: store.delete(PlainUser, 1), store.close]
    if kind != "memory":
        verbs += [lambda: store.get(PlainUser, 1), lambda: store.batch_get(PlainUser, [1])]
    for verb in verbs:
        with pytest.raises(ConfigurationError, match="no event loop of asyncio runs this"):
            verb().send(None)


def test_a_client_belongs_to_one_loop(url: str) -> None:
    """In another loop it is an error that says so; once it was closed it may be used by another one."""
    store = AsyncStore(RedisStore(url))
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    first.run_until_complete(store.put(PlainUser(id=1)))
    with pytest.raises(ConfigurationError, match="belongs to the event loop that it was first used in, and this is another one"):
        second.run_until_complete(store.get(PlainUser, 1))
    first.run_until_complete(store.close())
    assert second.run_until_complete(store.get(PlainUser, 1)) is not None
    second.run_until_complete(store.close())
    first.close()
    second.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_client_whose_loop_was_closed_goes_on_in_the_next_one(url: str) -> None:
    """As where each task of a queue has a loop of its own; what was open in a loop that was closed is no use to anybody."""
    store = AsyncStore(RedisStore(url, on_error="raise"))
    users = [PlainUser(id=number) for number in range(50)]

    async def use(visits: int) -> None:
        await asyncio.gather(*(store.put(PlainUser(id=user.id, visits=visits)) for user in users))
        found = await asyncio.gather(*(store.get(PlainUser, user.id) for user in users))
        assert [user and user.visits for user in found] == [visits] * len(users)

    for visits in range(1, 5):
        asyncio.run(use(visits))
    asyncio.run(store.close())
    gc.collect()  # what nobody has closed is told of here


async def test_a_close_leaves_alone_what_other_tasks_are_at(start_redis: Callable[..., RedisServer]) -> None:
    """A command that is under way is answered, and its connection is closed then; nothing is left open."""
    server = start_redis()
    inner = RedisStore(f"redis+asyncio://{server.address}")
    store, pool = AsyncStore(inner), inner.backend.client.connection_pool  # type: ignore[attr-defined]
    await store.put(PlainUser(id=1))
    server.freeze()
    writing = asyncio.create_task(store.put(PlainUser(id=1, visits=7)))
    while not pool._in_use_connections:  # noqa: ASYNC110 - the pool tells of nothing
        await asyncio.sleep(0)
    (connection,) = pool._in_use_connections
    await store.close()
    assert connection.is_connected
    server.thaw()
    await writing
    assert not connection.is_connected
    assert await store.get(PlainUser, 1) == PlainUser(id=1, visits=7)
    await store.close()


def test_a_url_opens_an_asyncio_client() -> None:
    """With and without TLS, by a unix socket, and in open_store; what is wrong with it is told without the password."""
    for url in ("redis+asyncio://localhost", "rediss+asyncio://localhost/1", "unix+asyncio:///tmp/redis.sock?db=1"):
        assert open_store(url).io == "awaited"
        assert RedisStore(url).io == "awaited"
    assert RedisStore("redis://localhost").io == "blocking"
    for url in ("redis+asyncio://:s3cret@localhost/zero", "redis+asyncio://:s3cret@localhost?colour=red", "unix+asyncio://"):
        with pytest.raises(ConfigurationError) as caught:
            RedisStore(url)
        assert "s3cret" not in str(caught.value)


def test_what_evicts_markers_is_told_outside_the_loop(start_redis: Callable[..., RedisServer]) -> None:
    """The server is asked on a connection of its own, so that the client belongs to no loop by it."""
    server = start_redis("--maxmemory-policy", "allkeys-lru")
    backend = RedisBackend(awaited(server.url))
    assert "allkeys-lru" in str(backend.marker_loss())
    assert RedisBackend(awaited("redis://localhost:1")).marker_loss() is None
