"""An asyncio client of a Redis Cluster: the contract, and what a store makes of it. How slots move and nodes fail is in ``tests/backends``."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import pytest
import redis.asyncio

from stockstore import AsyncStore, ChainedStore, ConfigurationError, ProcessMemoryStore, RedisStore
from stockstore.backends import RedisBackend
from stockstore.backends.coherent import CoherentBackend
from stockstore.errors import CacheUnreachable
from stockstore.stores.tiers import tier_of
from stockstore.testing.coherent_generations import CoherentGenerations
from stockstore.testing.coherent_markers import CoherentMarkers
from stockstore.testing.samples import PlainUser
from tests.aio.driven_backend import DrivenBackend, running
from tests.patience import SECONDS

pytestmark = pytest.mark.sa_agnostic


async def client_of(url: str) -> "redis.asyncio.RedisCluster":
    """Give a client in the loop that it belongs to."""
    return redis.asyncio.RedisCluster.from_url(url, socket_timeout=SECONDS, socket_connect_timeout=SECONDS)


class TestAwaitedCluster(CoherentMarkers, CoherentGenerations):
    """Of the contract what takes all steps; the scripts are those of a blocking client."""

    @pytest.fixture
    def loop(self) -> Iterator[asyncio.AbstractEventLoop]:
        """For all clients."""
        with running(asyncio.new_event_loop) as loop:
            yield loop

    @pytest.fixture
    def backend(self, redis_cluster_url: str, loop: asyncio.AbstractEventLoop) -> Iterator[CoherentBackend]:
        """By a client of its own."""
        with _connected(redis_cluster_url, loop) as backend:
            yield backend

    @pytest.fixture
    def other(self, redis_cluster_url: str, loop: asyncio.AbstractEventLoop) -> Iterator[CoherentBackend]:
        """By another one."""
        with _connected(redis_cluster_url, loop) as backend:
            yield backend


@contextlib.contextmanager
def _connected(url: str, loop: asyncio.AbstractEventLoop) -> Iterator[CoherentBackend]:
    client = asyncio.run_coroutine_threadsafe(client_of(url), loop).result()
    try:
        yield DrivenBackend(RedisBackend(client=client), loop)
    finally:
        asyncio.run_coroutine_threadsafe(client.aclose(), loop).result()


@pytest.fixture
async def client(redis_cluster_url: str) -> "AsyncIterator[redis.asyncio.RedisCluster]":
    """A client of the cluster."""
    async with await client_of(redis_cluster_url) as client:
        yield client


def users(count: int) -> list[PlainUser]:
    """Give some users."""
    return [PlainUser(id=number, email=f"{number}@x") for number in range(count)]


async def test_many_tasks(client: "redis.asyncio.RedisCluster", namespace: str) -> None:
    """More tasks than connections read and write at once, and each gets its own; a cleared class is gone from all nodes."""
    store = RedisStore(client=client, namespace=namespace)
    assert store.io == "awaited"
    async with AsyncStore(store) as awaited:
        await awaited.batch_put(users(300))
        found = await asyncio.gather(*(awaited.get(PlainUser, number % 310) for number in range(620)))
        assert [user and user.id for user in found] == [number if number < 300 else None for number in (*range(310), *range(310))]
        await asyncio.gather(*(awaited.put(PlainUser(id=number, email="new")) for number in range(100)))
        assert {user and user.email for user in await awaited.batch_get(PlainUser, list(range(100)))} == {"new"}
        await awaited.clear(PlainUser)
        assert not any(await awaited.batch_get(PlainUser, list(range(300))))


async def test_who_is_cancelled_leaves_no_answer_behind(client: "redis.asyncio.RedisCluster", namespace: str) -> None:
    """Reads and writes that are cancelled at any moment give nobody else a wrong answer."""
    async with AsyncStore(RedisStore(client=client, namespace=namespace)) as store:
        await store.batch_put(users(50))
        for step in range(40):
            asked = [asyncio.create_task(store.batch_get(PlainUser, [number])) for number in range(20)]
            asked += [asyncio.create_task(store.batch_get(PlainUser, list(range(50))))]
            await asyncio.sleep(step / 20_000)
            for task in asked[::2]:
                task.cancel()
            answers = await asyncio.gather(*asked, return_exceptions=True)
            for number, answer in enumerate(answers[:20]):
                assert isinstance(answer, asyncio.CancelledError) or [user and user.id for user in cast("Any", answer)] == [number]


async def test_blocking_code_is_refused(client: "redis.asyncio.RedisCluster", namespace: str) -> None:
    """A blocking call is told what to do; so is a pipeline."""
    store = RedisStore(client=client, namespace=namespace)
    with pytest.raises(ConfigurationError, match="was called by blocking code"):
        store.batch_get(PlainUser, [1])
    with pytest.raises(ConfigurationError, match="a pipeline does nothing before its execute"):
        RedisBackend(client=client.pipeline())  # type: ignore[arg-type]
    strategies = getattr(redis.cluster, "LoadBalancingStrategy", None)  # not in older versions of redis-py
    reading_elsewhere: Any = {"load_balancing_strategy": strategies.ROUND_ROBIN} if strategies else {"read_from_replicas": True}
    with pytest.raises(ConfigurationError, match="reads from replicas"):
        RedisBackend(client=redis.asyncio.RedisCluster("localhost", 1, **reading_elsewhere))


async def test_what_is_asked_elsewhere(client: "redis.asyncio.RedisCluster") -> None:
    """What the server evicts is told to blocking code, and in a greenlet, before the first use and after it."""
    backend = RedisBackend(client=client)
    assert await asyncio.to_thread(backend.maxmemory_policy) == "noeviction"
    assert backend.telling_loss() is None
    await client.initialize()
    assert await asyncio.to_thread(backend.maxmemory_policy) == "noeviction"


async def test_a_cluster_that_is_not_there(namespace: str) -> None:
    """A read is a miss, and a write says that it is out of reach."""
    client = redis.asyncio.RedisCluster("localhost", 1)
    async with AsyncStore(RedisStore(client=client, namespace=namespace)) as store:
        assert await store.get(PlainUser, 1) is None
        with pytest.raises(CacheUnreachable, match="did not do what was asked"):
            await store.put(PlainUser(id=1, email="1"))


async def test_memory_hears_of_it(client: "redis.asyncio.RedisCluster", namespace: str) -> None:
    """Process memory above it has its channel, and drops what another store writes."""
    memory = ProcessMemoryStore(max_staleness=30)
    async with AsyncStore(ChainedStore([memory, RedisStore(client=client, namespace=namespace)])) as chain:
        other = AsyncStore(RedisStore(client=client, namespace=namespace))
        await chain.put(PlainUser(id=1, email="old"))
        assert (await chain.get(PlainUser, 1)) is not None
        assert "ClusterChannel" in tier_of(memory).standing().reason
        assert memory.get(PlainUser, 1) is not None
        await other.put(PlainUser(id=1, email="new"))
        await asyncio.wait_for(_until_new(chain), 20)


async def _until_new(store: AsyncStore) -> None:
    while (found := await store.get(PlainUser, 1)) is None or found.email != "new":  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0.01)
