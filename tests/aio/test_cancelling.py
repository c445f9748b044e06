"""A task that is cancelled, at each of its waits in turn, leaves neither markers nor connections behind, and no wrong value."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeAlias

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.orm import Session

from stockstore import AsyncStore, ChainedStore, SqlAlchemyStore, Store
from stockstore.aio.bridge import _background
from stockstore.coherence.resolver import Resolver
from stockstore_ext.sqlalchemy import SessionSync
from tests.aio.cancelling import cancelled_at
from tests.aio.conftest import CACHES
from tests.stores.shop import Customer

Work: TypeAlias = Callable[["Shop", int], Coroutine[Any, Any, object]]
MOST_WAITS = 200
NUMBERS = [1, 2, 3]


class Shop:
    """A chain, sessions that its hook is attached to, and what tells what is left."""

    def __init__(self, store: AsyncStore, db: AsyncEngine, plain: Engine) -> None:
        self.store, self.db, self.plain = store, db, plain
        self.maker = async_sessionmaker(db, expire_on_commit=False)
        self.sync = SessionSync(store.store).attach(self.maker)

    def reset(self) -> None:
        """Have three rows in the database, whatever was there."""
        with Session(self.plain) as session:
            for number in NUMBERS:
                session.merge(Customer(id=number, email=f"{number}@x", name="before", status="new"))
            session.commit()

    async def check(self, *, filled: bool) -> None:
        """See that everything is as the database has it, cached again, and no connection is missing."""
        for _ in range(2):
            await self.store.batch_get(Customer, NUMBERS)
        before = self.store.stats().tiers[0]
        found = await self.store.batch_get(Customer, NUMBERS)
        after = self.store.stats().tiers[0]
        with Session(self.plain) as session:
            rows = {row.id: row.name for row in session.scalars(select(Customer))}
        assert {customer.id: customer.name for customer in found if customer} == rows
        # Nothing is marked then, and nothing is owed; who was cancelled between lease and fill has left the lease, for ten seconds.
        assert after.bypasses == before.bypasses
        assert not filled or after.hits - before.hits == len(rows)
        # What a cancelled task had begun comes to its end beside it.
        await asyncio.wait_for(asyncio.gather(*_background, return_exceptions=True), 20)
        assert self.db.pool.checkedout() == 0  # type: ignore[attr-defined]


@pytest.fixture
async def shop(cache: Store, db: AsyncEngine, plain: Engine, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shop]:
    """On each driver; markers of transactions that have ended are resolved by the first reader who meets them."""
    monkeypatch.setattr(Resolver.__init__, "__kwdefaults__", {"after": 0.0})
    monkeypatch.setattr("stockstore.coherence.resolver._EVERY", 0.0)
    async with AsyncStore(ChainedStore([cache, SqlAlchemyStore(engine=db)])) as store:
        shop = Shop(store, db, plain)
        shop.reset()
        yield shop
        shop.sync.detach()


async def put(shop: Shop, at: int) -> None:
    """Store one object."""
    await shop.store.put(Customer(id=1, email="1@x", name=f"put {at}"))


async def put_batch(shop: Shop, at: int) -> None:
    """Store several."""
    await shop.store.batch_put([Customer(id=number, email=f"{number}@x", name=f"batch {at}") for number in NUMBERS])


async def delete(shop: Shop, _: int) -> None:
    """Delete one."""
    await shop.store.delete(Customer, {"email": "2@x"})


async def read(shop: Shop, _: int) -> None:
    """Read what is in no cache: leases, the database, fills."""
    await shop.sync.async_invalidate(Customer, NUMBERS)
    await asyncio.gather(shop.store.batch_get(Customer, NUMBERS), shop.store.get(Customer, email="1@x"))


async def commit(shop: Shop, at: int) -> None:
    """Commit a session."""
    async with shop.maker() as session:
        # One alone: psycopg fails by an assertion of its own where many are interrupted.
        (await session.get_one(Customer, 1)).name = f"session {at}"
        await session.commit()


async def rollback(shop: Shop, _: int) -> None:
    """Roll a session back."""
    async with shop.maker() as session:
        (await session.get_one(Customer, 1)).name = "never"
        await session.flush()
        await session.rollback()


async def cancel_at_each_wait(shop: Shop, work: Work) -> None:
    """Cancel at the first wait, at the second, and so on until it comes to its end."""
    await shop.store.batch_get(Customer, NUMBERS)
    for at in range(1, MOST_WAITS):
        shop.reset()
        await shop.sync.async_invalidate(Customer)
        await shop.store.batch_get(Customer, NUMBERS)
        was_cancelled = await cancelled_at(work(shop, at), at)
        await shop.check(filled=work is not read)
        if not was_cancelled:
            assert at > 1
            return
    pytest.fail("it never ended")


CROSSED = pytest.mark.parametrize("cache", CACHES, indirect=True)
# An AsyncSession that is cancelled is SQLAlchemy's and the driver's: aiosqlite keeps an interrupted statement's lock for a while.
ON_POSTGRES = pytest.mark.parametrize("driver", ["asyncpg", "psycopg_async"], indirect=True)


@CROSSED
async def test_nothing_is_left_by_a_cancelled_put(shop: Shop) -> None:
    """With every cache, on every driver."""
    await cancel_at_each_wait(shop, put)


@pytest.mark.parametrize("work", [put_batch, delete, read])
async def test_nothing_is_left_by_a_cancelled_verb(shop: Shop, work: Work) -> None:
    """So it is with the other verbs."""
    await cancel_at_each_wait(shop, work)


@CROSSED
@ON_POSTGRES
async def test_nothing_is_left_by_a_cancelled_commit(shop: Shop) -> None:
    """Of a session; cancelled in the middle of COMMIT its end is unknown, and left to the resolver."""
    await cancel_at_each_wait(shop, commit)


@ON_POSTGRES
async def test_nothing_is_left_by_a_cancelled_rollback(shop: Shop) -> None:
    """Of a session that has written."""
    await cancel_at_each_wait(shop, rollback)
