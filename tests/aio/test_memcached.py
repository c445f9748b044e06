"""memcached under asyncio: the event loop goes on, and no connection is given back in the middle of an answer."""

import asyncio
from collections.abc import Callable

from stockstore import AsyncStore, MemcacheStore
from stockstore.aio.threads import THREADS
from stockstore.testing.samples import PlainUser
from tests.aio.cancelling import cancelled_at
from tests.servers.memcached import MemcachedServer


async def test_a_server_that_hangs_does_not_stop_the_loop(start_memcached: Callable[..., MemcachedServer]) -> None:
    """While reads wait for their time-out, other tasks go on; afterwards the server is read again."""
    server = start_memcached()
    async with AsyncStore(MemcacheStore(server.address, timeout=1)) as store:
        await store.put(PlainUser(id=1, email="a"))
        server.freeze()
        reads = [asyncio.ensure_future(store.get(PlainUser, 1)) for _ in range(THREADS)]
        turns = 0
        while not any(read.done() for read in reads):
            await asyncio.sleep(0.001)
            turns += 1
        assert turns > 10
        assert await asyncio.gather(*reads) == [None] * THREADS
        server.thaw()
        found = await store.get(PlainUser, 1)
        assert found is not None
        assert found.email == "a"


async def test_a_cancelled_task_leaves_no_answer_unread(memcached_address: str, namespace: str) -> None:
    """Cancelled at each wait of reads and writes, in turn, the connections go on to answer what they are asked."""
    async with AsyncStore(MemcacheStore(memcached_address, namespace=namespace)) as store:
        await store.batch_put([PlainUser(id=number, email=f"{number}") for number in range(9)])
        for at in range(1, 6):
            await cancelled_at(store.get(PlainUser, 1), at)
            await cancelled_at(store.put(PlainUser(id=2, email="2")), at)
            found = await store.batch_get(PlainUser, range(9))
            assert [user.email for user in found if user is not None] == [f"{number}" for number in range(9)]
