"""What a cache could not be told is told by a thread, in the loop of the cache's client."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from stockstore import AsyncStore, ChainedStore, RedisStore, SqlAlchemyStore
from stockstore.aio.bridge import greenlet_spawn
from stockstore.aio.home import Home
from stockstore.stores.tiers import tier_of
from tests.servers.redis import RedisServer
from tests.servers.server import wait_until
from tests.stores.shop import Customer

pytestmark = pytest.mark.parametrize("driver", ["aiosqlite"], indirect=True)


async def test_an_owed_removal_is_delivered_without_a_reader(
    start_redis: Callable[..., RedisServer], db: AsyncEngine, plain: Engine
) -> None:
    """A write commits while the server is gone; when it is back the thread tells it, and nobody has to ask."""
    server = start_redis()
    remote = RedisStore(server.url.replace("://", "+asyncio://", 1))
    tier: Any = tier_of(remote)
    async with AsyncStore(ChainedStore([remote, SqlAlchemyStore(engine=db)])) as store:
        await store.put(Customer(id=1, email="a", name="old"))
        assert await store.get(Customer, 1) is not None
        server.stop()
        await store.put(Customer(id=1, email="a", name="new"))
        assert tier.debts.recovery.owes()
        server.start()
        await asyncio.to_thread(wait_until, lambda: not tier.debts.recovery.owes(), "the server to be told")
        found = await store.get(Customer, 1)
        assert found is not None
        assert found.name == "new"


def test_a_thread_does_work_in_the_clients_loop(driver: str) -> None:
    """From a thread, while the loop runs; it waits for neither a loop that stands still, nor one that is closed, nor its own."""
    home, loop = Home(object(), bool), asyncio.new_event_loop()
    with pytest.raises(ConnectionError, match="does not run"):
        home.run(threading.get_ident)

    async def use() -> tuple[int, int]:
        await greenlet_spawn(home.enter)
        with pytest.raises(ConnectionError, match="does not run"):
            home.run(threading.get_ident)
        return await asyncio.to_thread(home.run, threading.get_ident), await greenlet_spawn(home.run, threading.get_ident)

    assert loop.run_until_complete(use()) == (threading.get_ident(), threading.get_ident())
    with pytest.raises(ConnectionError, match="does not run"):
        home.run(threading.get_ident)
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    with pytest.raises(ConnectionError, match="does not run"):
        home.run(threading.get_ident)


def test_a_thread_gives_up_a_loop_that_is_too_busy(driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for a time, and the work is cancelled."""
    monkeypatch.setattr("stockstore.aio.home.WAIT", 0.05)
    home, loop = Home(object(), bool), asyncio.new_event_loop()

    async def use() -> None:
        from stockstore.aio.bridge import await_only

        await greenlet_spawn(home.enter)
        with pytest.raises(ConnectionError, match="did not do it in"):
            await asyncio.to_thread(home.run, lambda: await_only(asyncio.Event().wait()))

    loop.run_until_complete(use())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
