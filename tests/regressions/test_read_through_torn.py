"""Rows whose keys have gone to one another between two looks of one statement."""

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from sqlalchemy import Engine, create_engine, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from stockstore import ChainedStore, ProcessMemoryStore, SqlAlchemyStore
from stockstore_ext.sqlalchemy import SessionSync


class Base(DeclarativeBase):
    pass


class Boat(Base):
    __tablename__ = "boats_at_berths"
    __keys__: ClassVar[list[Any]] = ["id", "berth"]
    id: Mapped[int] = mapped_column(primary_key=True)
    berth: Mapped[str] = mapped_column(unique=True)


@pytest.fixture
def boats(engine: Engine, namespace: str) -> Iterator[sessionmaker[Session]]:
    """Hooked sessions above two boats, of which the first is cached."""
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    store = ChainedStore([ProcessMemoryStore(max_staleness=None, namespace=namespace), SqlAlchemyStore(engine=engine)])
    maker: sessionmaker[Session] = sessionmaker(engine, class_=type("Watched", (Session,), {}))
    with Session(engine) as session:
        session.add_all([Boat(id=1, berth="east"), Boat(id=2, berth="west")])
        session.commit()
    sync = SessionSync(store, read_through=True).attach(maker)
    with maker() as session:
        session.get_one(Boat, 1)
    yield maker
    sync.detach()
    store.close()


def test_no_row_is_given_for_two_keys(engine: Engine, boats: sessionmaker[Session]) -> None:
    """What is cached under one key and what the database has under the other may be one row at two moments: then the statement is executed."""
    other = create_engine(engine.url)
    with other.begin() as connection:
        for number, berth in ((1, "nowhere"), (2, "east"), (1, "west")):
            connection.execute(text("UPDATE boats_at_berths SET berth = :berth WHERE id = :id"), {"berth": berth, "id": number})
    other.dispose()
    with boats() as session:
        assert session.scalars(select(Boat).where(Boat.berth == "east")).one().id == 1
    with boats() as session:
        found = session.scalars(select(Boat).where(Boat.berth.in_(["east", "west"]))).all()
        assert {(boat.id, boat.berth) for boat in found} == {(1, "west"), (2, "east")}
