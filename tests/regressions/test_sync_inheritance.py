"""Rows of joined inheritance of which two transactions write a table each: none waits at its COMMIT for the other."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, String, create_engine, event, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from stockstore import ChainedStore, ProcessMemoryStore, SqlAlchemyStore
from stockstore_ext.sqlalchemy import SessionSync

IMPATIENT = {"postgresql": ("options", "{} -c lock_timeout=1s"), "mariadb": ("init_command", "SET innodb_lock_wait_timeout = 1")}
"""What fails after a second would wait for ever: the other transaction ends after it."""


class Base(DeclarativeBase): ...


class Boat(Base):
    __tablename__ = "locked_boats"
    __indexes__ = ["berth"]
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    length: Mapped[int] = mapped_column(default=0)
    berth: Mapped[int] = mapped_column(default=0)
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "boat"}


class Ferry(Boat):
    __tablename__ = "locked_ferries"
    id: Mapped[int] = mapped_column(ForeignKey("locked_boats.id"), primary_key=True)
    cars: Mapped[int] = mapped_column(default=0)
    __mapper_args__ = {"polymorphic_identity": "ferry"}


class Shop:
    """A chain and sessions with the hook."""

    def __init__(self, engine: Engine) -> None:
        self.maker = sessionmaker(engine)
        self.store = ChainedStore([ProcessMemoryStore(max_staleness=600), SqlAlchemyStore(engine=engine)])
        self.sync = SessionSync(self.store).attach(self.maker)
        self.store.put(Ferry(id=1))

    def ferry(self) -> tuple[int, int]:
        """Give what the caches have."""
        ferry = self.store.get(Ferry, 1)
        assert ferry is not None
        return ferry.length, ferry.cars


@pytest.fixture(params=["postgres", "mariadb"])
def shop(request: pytest.FixtureRequest) -> Iterator[Shop]:
    """With one ferry."""
    database: Engine = request.getfixturevalue(f"{request.param}_engine")
    Base.metadata.create_all(database)
    name, value = IMPATIENT[database.dialect.name]
    engine = create_engine(database.url, connect_args={name: value.format(database.url.query.get(name))})
    shop = Shop(engine)
    yield shop
    shop.sync.detach()
    shop.store.close()
    engine.dispose()
    Base.metadata.drop_all(database)


def by_session(shop: Shop) -> None:
    """Write the base's table, and commit."""
    with shop.maker() as session:
        ferry = session.get_one(Ferry, 1)
        ferry.length, ferry.berth = 7, 3
        session.commit()


def by_put(shop: Shop) -> None:
    """The same by the store."""
    ferry: Any = shop.store.get(Ferry, 1)
    ferry.length, ferry.berth = 7, 3
    shop.store.put(ferry)


def write_cars(session: Session) -> None:
    """Write the subclass's table, and leave the transaction open."""
    session.get_one(Ferry, 1).cars = 5
    session.flush()


@pytest.mark.parametrize("write", [by_session, by_put])
def test_two_commits(shop: Shop, write: Callable[[Shop], None]) -> None:
    """The first does not wait for what the second has locked, and nobody reads what either has not committed."""
    assert shop.store.get_all(Boat, berth=3) == []
    with shop.maker() as second:
        write_cars(second)
        write(shop)
        assert shop.ferry() == (7, 0)
        assert [boat.id for boat in shop.store.get_all(Boat, berth=3)] == [1]
        second.commit()
    assert [shop.ferry(), shop.ferry()] == [(7, 5), (7, 5)]


def test_second_of_two_commits(shop: Shop) -> None:
    """Nor where it is the base's table that the other one has locked."""
    with shop.maker() as second:
        second.get_one(Ferry, 1).length = 9
        second.flush()
        with shop.maker() as first:
            write_cars(first)
            first.commit()
        assert shop.ferry() == (0, 5)
        second.commit()
    assert shop.ferry() == (9, 5)


@pytest.mark.parametrize("shop", ["postgres"], indirect=True)
def test_a_trigger_moves_a_row_that_is_not_read_back(shop: Shop, postgres_engine: Engine) -> None:
    """It comes into the list that only the database knows."""
    with postgres_engine.begin() as connection:
        connection.execute(
            text("CREATE FUNCTION moor() RETURNS trigger AS $$BEGIN NEW.berth := NEW.length; RETURN NEW; END$$ LANGUAGE plpgsql")
        )
        connection.execute(text("CREATE TRIGGER moor BEFORE UPDATE ON locked_boats FOR EACH ROW EXECUTE FUNCTION moor()"))
    assert shop.store.get_all(Boat, berth=7) == []
    with shop.maker() as second:
        write_cars(second)
        by_session(shop)
        assert [boat.id for boat in shop.store.get_all(Boat, berth=7)] == [1]


@pytest.mark.parametrize("shop", ["postgres"], indirect=True)
def test_a_put_reads_from_a_snapshot(shop: Shop, postgres_engine: Engine) -> None:
    """What others have changed since in another table it need not lock, which PostgreSQL would refuse."""

    def change_cars(*_: object) -> None:
        with postgres_engine.begin() as connection:
            connection.execute(text("UPDATE locked_ferries SET cars = 5"))

    engine = postgres_engine.execution_options(isolation_level="REPEATABLE READ")
    store = ChainedStore([ProcessMemoryStore(), SqlAlchemyStore(engine=engine)])
    ferry: Any = store.get(Ferry, 1)
    ferry.length = 7
    event.listen(Session, "after_flush", change_cars)
    try:
        store.put(ferry)
    finally:
        event.remove(Session, "after_flush", change_cars)
    found = store.get(Ferry, 1)
    assert found is not None
    assert (found.length, found.cars) == (7, 5)
    store.close()
