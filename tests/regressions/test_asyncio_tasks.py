"""Tasks that are cancelled, or begun in the middle of the library's work, and loops and processes that end."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from textwrap import dedent

from stockstore import AsyncStore, MemcacheStore, RedisStore
from stockstore.aio.bridge import TaskLock, await_only, await_whole, greenlet_spawn, in_own_task, uncancelled
from stockstore.aio.gathering import AT_ONCE, Gathering
from stockstore.aio.threads import THREADS
from stockstore.testing.samples import PlainUser
from tests.servers.memcached import MemcachedServer

PATIENCE = 20
"""Seconds after which something hangs."""


async def _cancel_others() -> None:
    """Do as ``asyncio.run`` at its end."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.wait(others, timeout=PATIENCE)
    assert all(task.done() for task in others)


async def test_a_task_reads_while_all_are_cancelled(redis_url: str, namespace: str) -> None:
    """The gathered read that was about to begin is cancelled as well; what tasks read after that is read."""
    async with AsyncStore(RedisStore(redis_url.replace("://", "+asyncio://", 1), namespace=namespace)) as store:
        await store.put(PlainUser(id=1, email="a"))
        found = []

        async def read() -> None:
            try:
                await store.get(PlainUser, 1)
            finally:
                found.append(await store.get(PlainUser, 1))

        readers = [asyncio.ensure_future(read()) for _ in range(3)]
        await asyncio.sleep(0)
        await _cancel_others()
        assert all(reader.cancelled() for reader in readers)
        assert [user.email for user in found if user is not None] == ["a"] * 3


async def test_reads_wait_for_workers_that_are_cancelled() -> None:
    """All commands that may be under way are cancelled; what waited for one of them to end goes by another."""
    hangs = True

    async def read(keys: object) -> dict[str, bytes]:
        if hangs:
            await asyncio.Event().wait()
        return {"late": b"1"}

    gathering = Gathering(read)
    for number in range(AT_ONCE):
        gathering.ask([str(number)])
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    late = gathering.ask(["late"])
    hangs = False
    await _cancel_others()
    assert await asyncio.wait_for(late, PATIENCE) == {"late": b"1"}


async def test_a_task_begun_where_nothing_is_cancelled_can_be_cancelled() -> None:
    """An application's handler begins a task while markers are released: that one is cancelled as ever."""
    begun: list[asyncio.Task[None]] = []

    async def in_background() -> None:
        for _ in range(50 * PATIENCE):
            await greenlet_spawn(await_whole, asyncio.sleep(0.01))

    def handle() -> None:
        with uncancelled():
            begun.append(asyncio.get_running_loop().create_task(in_background()))

    await greenlet_spawn(handle)
    await asyncio.sleep(0.05)
    begun[0].cancel()
    ended, _ = await asyncio.wait(begun, timeout=PATIENCE)
    assert ended == {*begun}
    assert begun[0].cancelled()


async def test_tasks_begun_by_a_part_of_a_task_are_others() -> None:
    """What an application begins while a session works in a task of its own does not share its locks."""
    lock, log = TaskLock(), []
    begun: list[asyncio.Task[None]] = []

    def hold(number: int) -> None:
        with lock:
            log.append(number)
            await_only(asyncio.sleep(0.01))
            log.append(number)

    def begin() -> None:
        begun.extend(asyncio.get_running_loop().create_task(greenlet_spawn(hold, number)) for number in range(3))

    await greenlet_spawn(in_own_task, begin, whole=True)
    await asyncio.gather(*begun)
    assert log == [0, 0, 1, 1, 2, 2]


def test_a_store_closed_in_the_middle_of_commands_goes_on_in_another_loop(redis_url: str, namespace: str) -> None:
    """The connections that the last commands of a loop end on are of no use to the next one."""
    store = AsyncStore(RedisStore(redis_url.replace("://", "+asyncio://", 1), namespace=namespace, on_error="raise"))
    users = [PlainUser(id=number, email=f"{number}@x") for number in range(20)]

    async def close_meanwhile(turns: int) -> None:
        works = [store.put(user) if user.id % 2 else store.get(PlainUser, user.id) for user in users]
        tasks = [asyncio.ensure_future(work) for work in works]
        for _ in range(turns):
            await asyncio.sleep(0)
        await store.close()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def use() -> None:
        await asyncio.gather(*(store.put(user) for user in users))
        found = await asyncio.gather(*(store.get(PlainUser, user.id) for user in users))
        assert [user and user.email for user in found] == [user.email for user in users]
        await store.close()

    for turns in range(2, 6):
        asyncio.run(use())
        asyncio.run(close_meanwhile(turns))
    asyncio.run(use())


async def test_a_read_that_waits_for_a_thread_is_cancelled_at_once(start_memcached: Callable[..., MemcachedServer]) -> None:
    """Of a server that hangs, whose readers take all threads; who reads need not wait until they are done."""
    server = start_memcached()
    async with AsyncStore(MemcacheStore(server.address, timeout=PATIENCE)) as store:
        await store.put(PlainUser(id=1, email="a"))
        server.freeze()
        reads = [asyncio.ensure_future(store.get(PlainUser, 1)) for _ in range(2 * THREADS)]
        await asyncio.sleep(0.1)
        for read in reads:
            read.cancel()
        _, late = await asyncio.wait(reads, timeout=PATIENCE / 2)
        server.thaw()
        assert not late
        found = await store.get(PlainUser, 1)
        assert found is not None
        assert found.email == "a"


def test_memcached_is_asked_while_the_interpreter_ends(memcached_address: str, namespace: str) -> None:
    """Where no threads are begun any more, the loop itself waits for the server."""
    script = f"""
        import asyncio, atexit
        from stockstore import AsyncStore, MemcacheStore
        from stockstore.testing.samples import PlainUser

        store = AsyncStore(MemcacheStore({memcached_address!r}, namespace={namespace!r}, timeout={PATIENCE}))
        asyncio.run(store.put(PlainUser(id=1, email="a")))
        atexit.register(lambda: print(asyncio.run(store.get(PlainUser, 1)).email))
    """
    done = subprocess.run([sys.executable, "-c", dedent(script)], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("a\n", "")
