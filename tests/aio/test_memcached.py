"""memcached under asyncio: the event loop goes on, and no connection is given back in the middle of an answer."""

import asyncio
from collections.abc import Callable

from stockstore import AsyncStore, MemcacheStore
from stockstore.aio.threads import THREADS
from stockstore.testing.samples import PlainUser
from tests.aio.cancelling import cancelled_at
from tests.patience import SHORT
from tests.servers.memcached import MemcachedServer


async def test_a_server_that_hangs_does_not_stop_the_loop(start_memcached: Callable[..., MemcachedServer]) -> None:
    """While reads wait for it, other tasks go on."""
    server = start_memcached()
    async with AsyncStore(MemcacheStore(server.address)) as store:
        await store.put(PlainUser(id=1, email="a"))
        server.freeze()
        reads = [asyncio.ensure_future(store.get(PlainUser, 1)) for _ in range(THREADS)]
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert not any(read.done() for read in reads)
        server.thaw()
        assert [user and user.email for user in await asyncio.gather(*reads)] == ["a"] * THREADS


async def test_a_server_that_hung_is_read_again(start_memcached: Callable[..., MemcachedServer]) -> None:
    """Reads that have given up are misses, and leave no answer for others."""
    server = start_memcached()
    async with AsyncStore(MemcacheStore(server.address)) as patient, AsyncStore(MemcacheStore(server.address, timeout=SHORT)) as hasty:
        await patient.batch_put([PlainUser(id=1, email="a"), PlainUser(id=2, email="b")])
        server.freeze()
        assert await asyncio.gather(*(hasty.get(PlainUser, 1) for _ in range(THREADS))) == [None] * THREADS
        server.thaw()
        while (found := await hasty.get(PlainUser, 2)) is None:
            pass
        assert found.email == "b"


async def test_a_cancelled_task_leaves_no_answer_unread(memcached_address: str, namespace: str) -> None:
    """Cancelled at each wait of reads and writes, in turn, the connections go on to answer what they are asked."""
    async with AsyncStore(MemcacheStore(memcached_address, namespace=namespace)) as store:
        await store.batch_put([PlainUser(id=number, email=f"{number}") for number in range(9)])
        for at in range(1, 6):
            await cancelled_at(store.get(PlainUser, 1), at)
            await cancelled_at(store.put(PlainUser(id=2, email="2")), at)
            found = await store.batch_get(PlainUser, range(9))
            assert [user.email for user in found if user is not None] == [f"{number}" for number in range(9)]
