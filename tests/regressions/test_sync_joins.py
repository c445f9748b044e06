"""Rows that several objects have: of a class mapped to a join, and of classes of other registries."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, create_engine, join, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, column_property, mapped_column, sessionmaker

from stockstore import ChainedStore, ProcessMemoryStore, SqlAlchemyStore
from stockstore_ext.sqlalchemy import SessionSync


class Base(DeclarativeBase): ...


class Order(Base):
    __tablename__ = "joined_orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    buyer: Mapped[str] = mapped_column(default="old")


class Line(Base):
    __tablename__ = "joined_lines"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("joined_orders.id"))


ORDERS: Any = Order.__table__
LINES: Any = Line.__table__


class Bought(Base):
    __table__ = join(ORDERS, LINES)
    __keys__ = [("line_id", "order_id")]
    line_id: Mapped[int] = LINES.c.id
    order_id: Mapped[int] = column_property(ORDERS.c.id, LINES.c.order_id)
    buyer: Mapped[str]


class Elsewhere(DeclarativeBase): ...


class SameOrder(Elsewhere):
    """As a program has it that maps the database by a part of its own."""

    __tablename__ = "joined_orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    buyer: Mapped[str]


class Unusable(DeclarativeBase): ...


class NoOrder(Unusable):
    """Which no store takes."""

    __tablename__ = "joined_orders"
    __keys__ = ["missing"]
    id: Mapped[int] = mapped_column(primary_key=True)


KEY = {"line_id": 2, "order_id": 1}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A database in which two lines are of one order."""
    engine = create_engine(f"sqlite:///{tmp_path}/joined.db")
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add_all([Order(id=1), Line(id=1, order_id=1), Line(id=2, order_id=1)])
    yield engine
    engine.dispose()


@pytest.fixture
def chain(engine: Engine) -> Iterator[ChainedStore]:
    """A chain that has the second object, as a write by another connection shows."""
    with ChainedStore([ProcessMemoryStore(max_staleness=None), SqlAlchemyStore(engine=engine)]) as store:
        store.get(Bought, KEY)
        store.get(SameOrder, 1)
        for buyer in ("unseen", "old"):
            with engine.begin() as connection:
                connection.execute(update(ORDERS).values(buyer=buyer))
            assert (store.get(Bought, KEY) or Bought()).buyer == (store.get(SameOrder, 1) or SameOrder()).buyer == "old"
        yield store


def _flush(store: ChainedStore, engine: Engine) -> None:
    maker: sessionmaker[Session] = sessionmaker(engine, class_=type("Joined", (Session,), {}))
    sync = SessionSync(store).attach(maker)
    with maker() as session:
        session.get_one(Bought, (1, 1)).buyer = "new"
        session.commit()
    sync.detach()


def _put(store: ChainedStore, _engine: Engine) -> None:
    bought = store.get(Bought, {"line_id": 1, "order_id": 1})
    assert bought is not None
    bought.buyer = "new"
    store.put(bought)


@pytest.mark.parametrize("write", [_flush, _put])
def test_other_objects_of_a_changed_row_are_told(
    chain: ChainedStore, engine: Engine, write: Callable[[ChainedStore, Engine], None]
) -> None:
    """The second object of the row that was changed by the first is read anew, and so is that of a class of another registry."""
    write(chain, engine)
    assert (chain.get(Bought, KEY) or Bought()).buyer == "new"
    assert (chain.get(SameOrder, 1) or SameOrder()).buyer == "new"
