"""Rows with UUIDs, for which asyncpg has a class of its own, are cached as on any driver."""

import uuid
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import ARRAY, ForeignKey, Uuid, update
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from stockstore import AsyncStore, ChainedStore, SqlAlchemyStore, Store
from stockstore_ext.sqlalchemy import SessionSync

ONE, OTHER = uuid.UUID(int=1), uuid.UUID(int=2)
pytestmark = pytest.mark.parametrize("driver", ["asyncpg", "psycopg_async"], indirect=True)


class Base(DeclarativeBase):
    pass


class Team(Base):
    __tablename__ = "uuid_teams"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="a")
    friends: Mapped[list[uuid.UUID]] = mapped_column(ARRAY(Uuid()))
    members: Mapped[list["Member"]] = relationship(order_by="Member.id")


class Member(Base):
    __tablename__ = "uuid_members"
    __keys__ = ["id", "token"]
    __indexes__ = ["team_id"]
    id: Mapped[int] = mapped_column(primary_key=True)
    token: Mapped[uuid.UUID] = mapped_column(unique=True)
    team_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("uuid_teams.id"))


@pytest.fixture
async def store(cache: Store, db: AsyncEngine) -> AsyncIterator[AsyncStore]:
    """A chain above the tables, with a team of two."""
    async with db.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncStore(ChainedStore([cache, SqlAlchemyStore(engine=db)])) as store:
        await store.put(Team(id=ONE, friends=[OTHER]))
        await store.batch_put([Member(id=number, token=uuid.UUID(int=number), team_id=ONE) for number in (1, 2)])
        yield store


def hits(store: AsyncStore) -> int:
    """Give what the cache has answered."""
    return store.stats().tiers[0].hits


async def test_a_store_caches_them(store: AsyncStore, db: AsyncEngine) -> None:
    """A put writes them through; what a read finds by an alternate key, and lists of them, are served the second time."""
    for expected in (0, 4):
        before = hits(store)
        team, member = await store.get(Team, ONE), await store.get(Member, token=OTHER)
        assert team is not None
        assert member is not None
        assert (team.id, team.friends, member.team_id) == (ONE, [OTHER], ONE)
        assert [one.id for one in await store.get_all(Member, team_id=team.id)] == [1, 2]
        await store.put(team)
        assert hits(store) - before >= expected


async def test_sessions_are_served_them(store: AsyncStore, db: AsyncEngine) -> None:
    """What a session has loaded and changed is written through, and its list of members comes from the cache."""
    maker = async_sessionmaker(db)
    sync = SessionSync(store.store, read_through=True).attach(maker)
    for name in ("b", "c"):
        async with maker() as session:
            (await session.get_one(Team, ONE)).name = name
            (await session.get_one(Member, 2)).token = uuid.uuid4()
            await session.commit()
    async with maker() as session:
        team = await session.get_one(Team, ONE)
        assert [one.id for one in await session.run_sync(lambda _: team.members)] == [1, 2]
    before = hits(store)
    async with db.begin() as connection:
        await connection.execute(update(Team.__table__).values(name="out of band"))  # type: ignore[arg-type]
        await connection.execute(Member.__table__.delete())  # type: ignore[attr-defined]
    async with maker() as session:
        team = await session.get_one(Team, ONE)
        assert (team.name, [one.id for one in await session.run_sync(lambda _: team.members)]) == ("c", [1, 2])
    assert hits(store) > before
    sync.detach()
