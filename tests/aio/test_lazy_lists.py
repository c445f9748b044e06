"""Lazy loads of one-to-many relationships in AsyncSessions, which need no statement where they are hits."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.ext.asyncio import AsyncAttrs, AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session

from stockstore import AsyncStore, ChainedStore, SqlAlchemyStore, Store
from stockstore_ext.sqlalchemy import SessionSync
from tests.read_through.racks import Base, Rack, rows
from tests.read_through.test_lazy_lists import built_from_now
from tests.stores.shop import empty

Maker = async_sessionmaker[AsyncSession]


@pytest.fixture
async def maker(cache: Store, db: AsyncEngine, plain: Engine) -> AsyncIterator[Maker]:
    """Makes sessions that read through."""
    Base.metadata.create_all(plain)
    empty(plain, Base.metadata)
    with Session(plain) as session:
        session.add_all(rows())
        session.commit()
    store = ChainedStore([cache, SqlAlchemyStore(engine=db)])
    maker = async_sessionmaker(db)
    sync = SessionSync(store, read_through=True).attach(maker)
    yield maker
    sync.detach()
    await AsyncStore(store).close()


async def _awaited(session: AsyncSession) -> list[tuple[int, str]]:
    rack = await session.get_one(Rack, 1)
    bottles = await AsyncAttrs.awaitable_attrs.__get__(rack).bottles
    return [(bottle.id, bottle.label) for bottle in bottles]


async def _within(session: AsyncSession) -> list[tuple[int, str]]:
    def look(inner: Session) -> Any:
        return [(bottle.id, bottle.label) for bottle in inner.get_one(Rack, 1).bottles]

    return await session.run_sync(look)


@pytest.mark.parametrize("load", [_awaited, _within], ids=["awaitable_attrs", "run_sync"])
async def test_needs_no_statement(maker: Maker, plain: Engine, monkeypatch: pytest.MonkeyPatch, load: Any) -> None:
    """Both ways to load lazily give what the database gave before it was changed unseen."""
    for _ in range(3):
        async with maker() as session:
            expected = await load(session)
    with plain.begin() as connection:
        connection.execute(text("UPDATE lazy_bottles SET label = 'unseen'"))
    built = built_from_now(monkeypatch)
    async with maker() as session:
        assert await load(session) == expected == [(2, "old"), (4, "old"), (6, "old"), (8, "old")]
    assert built == []
