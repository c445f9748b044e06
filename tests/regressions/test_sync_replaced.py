"""Rows that SQLite deletes since another takes their place, and those that go along with them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, UniqueConstraint, create_engine, event, insert, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from stockstore import ChainedStore, ProcessMemoryStore, SqlAlchemyStore
from stockstore_ext.sqlalchemy import SessionSync


class Base(DeclarativeBase): ...


class Box(Base):
    __tablename__ = "boxes"
    __keys__ = ["id"]
    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str] = mapped_column(unique=True)


class Ball(Base):
    __tablename__ = "balls"
    __keys__ = ["id"]
    id: Mapped[int] = mapped_column(primary_key=True)
    box_id: Mapped[int] = mapped_column(ForeignKey("boxes.id", ondelete="CASCADE"))


class Shelf(Base):
    """Of a table that says by itself that the newer row stays."""

    __tablename__ = "shelves"
    __table_args__ = (UniqueConstraint("label", sqlite_on_conflict="REPLACE"),)
    __keys__ = ["id"]
    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str]


class Book(Base):
    __tablename__ = "books"
    __keys__ = ["id"]
    id: Mapped[int] = mapped_column(primary_key=True)
    shelf_id: Mapped[int] = mapped_column(ForeignKey("shelves.id", ondelete="CASCADE"))


TABLE: Any = Box.__table__

STATEMENTS: dict[str, tuple[Any, Any]] = {
    "insert": (insert(Box).prefix_with("OR REPLACE"), [{"id": 3, "label": "b2"}]),
    "insert into the table": (insert(TABLE).prefix_with("OR REPLACE").values(id=3, label="b2"), None),
    "update": (update(Box).prefix_with("OR REPLACE").where(Box.id == 1).values(label="b2"), None),
    "update of the table": (update(TABLE).prefix_with("OR REPLACE").where(Box.id == 1).values(label="b2"), None),
    "update by primary key": (update(Box).prefix_with("OR REPLACE"), [{"id": 1, "label": "b2"}]),
    "insert, by the table": (insert(Shelf), [{"id": 3, "label": "b2"}]),
    "update, by the table": (update(Shelf).where(Shelf.id == 1).values(label="b2"), None),
    "update by primary key, by the table": (update(Shelf), [{"id": 1, "label": "b2"}]),
}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """Give a database that heeds foreign keys, with two rows of each parent and their children."""
    made = create_engine(f"sqlite:///{tmp_path}/replaced.db")
    event.listen(made, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys = on"))
    Base.metadata.create_all(made)
    with Session(made) as session:
        session.add_all([kind(id=number, label=f"b{number}") for kind in (Box, Shelf) for number in (1, 2)])
        session.flush()
        session.add_all([Ball(id=number, box_id=number) for number in (1, 2)])
        session.add_all([Book(id=number, shelf_id=number) for number in (1, 2)])
        session.commit()
    yield made
    made.dispose()


@pytest.mark.parametrize("name", STATEMENTS)
def test_what_goes_along(engine: Engine, name: str) -> None:
    """No cache has the row that was replaced, nor those that were deleted with it."""
    statement, parameters = STATEMENTS[name]
    with ChainedStore([ProcessMemoryStore(max_staleness=None), SqlAlchemyStore(engine=engine)]) as store:
        maker: sessionmaker[Session] = sessionmaker(engine, class_=type("Watched", (Session,), {}))
        SessionSync(store).attach(maker)
        kinds: tuple[Any, ...] = (Box, Ball, Shelf, Book)
        assert all(store.get(kind, 2) is not None and store.tiers[0].contains(kind, 2) for kind in kinds)
        with maker.begin() as session:
            session.execute(statement, parameters, execution_options={"synchronize_session": False})
        with Session(engine) as session:
            rows = {kind: {*session.scalars(select(kind.id))} for kind in kinds}
        assert {kind: {number for number in (1, 2, 3) if store.get(kind, number)} for kind in kinds} == rows
        assert 2 not in rows[Ball] & rows[Book]


@pytest.mark.parametrize("number", [1, 3])
def test_put(engine: Engine, number: int) -> None:
    """Nor after a put, of a new row or of one that was there."""
    with ChainedStore([ProcessMemoryStore(max_staleness=None), SqlAlchemyStore(engine=engine)]) as store:
        assert all(store.get(kind, 2) is not None and store.tiers[0].contains(kind, 2) for kind in (Shelf, Book))
        store.put(Shelf(id=number, label="b2"))
        found = store.get(Shelf, number)
        assert found is not None
        assert found.label == "b2"
        assert (store.get(Shelf, 2), store.get(Book, 2)) == (None, None)
