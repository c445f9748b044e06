"""A PostgreSQL that takes no connections, by drivers that have errors of their own for it."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from sqlalchemy import URL, Engine, select, text
from sqlalchemy.ext.asyncio import async_sessionmaker

from stockstore import AsyncStore, ChainedStore, OriginError, ProcessMemoryStore, RedisStore, SqlAlchemyStore, StockstoreError
from stockstore_ext.sqlalchemy import SessionSync
from tests.aio.databases import async_engine
from tests.regressions.cut import way_to
from tests.stores.shop import Customer

pytestmark = pytest.mark.parametrize("driver", ["asyncpg", "psycopg_async"])


async def test_a_database_that_takes_no_more_connections(plain: Engine, driver: str, redis_url: str, namespace: str) -> None:
    """Whatever a driver raises then, the hook is attached and commits succeed; once the database can be asked they are strict."""
    url = plain.url
    with way_to(url.render_as_string(hide_password=False)) as way:
        engine = async_engine(url.set(host="127.0.0.1", port=urlsplit(way.url).port), driver)
        store = RedisStore(redis_url.replace("://", "+asyncio://", 1), namespace=namespace)
        maker = async_sessionmaker(engine)
        async with AsyncStore(ChainedStore([store, SqlAlchemyStore(engine=engine)])) as chain, maker() as session:
            await session.execute(select(1))
            way.refuse()
            sync = SessionSync(chain.store).attach(maker)
            (tier,) = sync.guarantee.tiers
            assert "could not be asked: " in str(tier)
            session.add(Customer(id=1, email="a"))
            await session.commit()
            way.mend()
            assert sync.guarantee.is_strict
            assert await chain.get(Customer, 1) is not None
            sync.detach()
        await engine.dispose()


@pytest.fixture
def crowded(plain: Engine) -> Iterator[URL]:
    """The database for a user to whom it gives no connection."""
    with plain.begin() as connection:
        connection.execute(text("CREATE ROLE stockstore_crowded LOGIN CONNECTION LIMIT 0"))
    yield plain.url.set(username="stockstore_crowded")
    with plain.begin() as connection:
        connection.execute(text("DROP ROLE stockstore_crowded"))


async def test_the_outbox_where_no_connection_is_left(crowded: URL, driver: str) -> None:
    """Is not made, and whatever the driver raises is the cause of the library's own error."""
    engine = async_engine(crowded, driver)
    chain = ChainedStore([ProcessMemoryStore(), SqlAlchemyStore(engine=engine)])
    told = r"^the table stockstore_outbox was not made in postgresql.*: .*too many connections for role .*; check the database, or"
    with pytest.raises(OriginError, match=told) as raised:
        SessionSync(chain).create_outbox(engine)
    assert not isinstance(raised.value.__cause__, StockstoreError)
    await engine.dispose()
