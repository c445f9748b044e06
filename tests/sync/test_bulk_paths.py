"""Write paths beside the unit of work: bulk statements of the ORM, Core, text, and what the database does along."""

from collections.abc import Callable
from typing import Any, Literal

import pytest
from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from stockstore import RedisStore
from tests.stores.shop import Car, Cat, Circle, Customer, Dog, Note, Order, Place, Shape, Tag, Van, Vehicle
from tests.sync.conftest import Attach
from tests.sync.paths import Path, Watched

Write = Callable[[Session], Any]


@pytest.fixture
def seeded(path: Path) -> Path:
    """Rows of each sort of class."""
    return seed(path)


def seed(path: Path) -> Path:
    """Insert rows of each sort of class."""
    path.seed(
        Customer(id=1, email="a", name="ann", orders=[Order(id=10, number="A1"), Order(id=11, number="A2")], notes=[Note(id=20, text="n")]),
        Customer(id=2, email="b", name="bob", notes=[Note(id=21, text="m")]),
        Place(row="B", number=7, label="window"),
        Tag(name="red", code="r"),
        Tag(name="blue", code="b"),
        Car(id=5, plate="C5", doors=3),
        Van(id=6, plate="V6", load=4),
        Dog(id=7, name="rex", bark="w"),
        Cat(id=8, name="tom"),
        Shape(id=2, colour="blue"),
        Circle(id=1, colour="red", radius=2),
    )
    return path


CUSTOMERS: tuple[Watched, ...] = ((Customer, 1), (Customer, 2))
NOTES: tuple[Watched, ...] = ((Note, 20), (Note, 21))
TAGS: tuple[Watched, ...] = ((Tag, "red"), (Tag, "blue"))


def table_of(cls: Any) -> Any:
    """Give a class's own table."""
    return cls.__table__


def _upsert(session: Session, cls: type) -> Any:
    return (postgresql if session.get_bind().dialect.name == "postgresql" else sqlite).insert(cls)


def _orphan(session: Session) -> None:
    customer = session.get_one(Customer, 1)
    customer.orders.pop(0)
    session.flush()


def _delete(session: Session) -> None:
    session.delete(session.get_one(Customer, 1))
    session.flush()


def _rename(session: Session) -> None:
    session.get_one(Customer, 1).name = "x"
    session.flush()


WRITES: dict[str, tuple[Write, tuple[Watched, ...]]] = {
    "update with criteria": (lambda s: s.execute(update(Customer).where(Customer.name == "ann").values(name="anna")), CUSTOMERS),
    "update of all": (lambda s: s.execute(update(Customer).values(balance=3)), CUSTOMERS),
    "update with returning": (
        lambda s: s.scalars(update(Customer).where(Customer.id == 1).values(status="x").returning(Customer)).all(),
        CUSTOMERS,
    ),
    "update by primary key": (
        lambda s: s.execute(update(Customer), [{"id": 1, "name": "x"}, {"id": 2, "email": "new"}]),
        CUSTOMERS,
    ),
    "update by a primary key without case": (lambda s: s.execute(update(Tag), [{"name": "RED", "uses": 5}]), TAGS),
    "update of two names": (lambda s: s.execute(update(Place).values(label="x")), ((Place, ("B", 7)),)),
    "update of a primary key": (
        lambda s: s.execute(update(Place).where(Place.row == "B").values(number=8), execution_options={"synchronize_session": False}),
        ((Place, ("B", 7)), (Place, ("B", 8))),
    ),
    "update of several tables": (
        lambda s: s.execute(
            update(Order).where(Order.customer_id == Customer.id, Customer.name == "ann").values(state="sent"),
            execution_options={"synchronize_session": "fetch"},
        ),
        ((Order, 10), (Order, 11)),
    ),
    "delete with criteria": (lambda s: s.execute(delete(Order).where(Order.number == "A1")), ((Order, 10), (Order, 11))),
    "insert": (lambda s: s.execute(insert(Customer), [{"id": 3, "name": "c"}, {"id": 4, "name": "d"}]), ((Customer, 3), (Customer, 4))),
    "insert with returning": (
        lambda s: s.scalars(insert(Customer).returning(Customer), [{"id": 3, "name": "c"}]).all(),
        ((Customer, 3), *CUSTOMERS),
    ),
    "upsert": (
        lambda s: s.execute(
            _upsert(s, Customer).values(id=9, email="a", name="other").on_conflict_do_update(index_elements=["email"], set_={"name": "x"})
        ),
        (*CUSTOMERS, (Customer, 9)),
    ),
    "legacy update": (lambda s: s.query(Customer).filter_by(id=1).update({"name": "x"}), CUSTOMERS),
    "legacy delete": (lambda s: s.query(Order).filter_by(id=10).delete(), ((Order, 10), (Order, 11))),
    "bulk_update_mappings": (lambda s: s.bulk_update_mappings(Customer, [{"id": 1, "name": "x"}]), CUSTOMERS),
    "bulk_insert_mappings": (lambda s: s.bulk_insert_mappings(Customer, [{"id": 3, "name": "x"}]), ((Customer, 3), *CUSTOMERS)),
    "bulk_save_objects": (lambda s: s.bulk_save_objects([Customer(id=3, name="x")]), ((Customer, 3), *CUSTOMERS)),
    "core update": (lambda s: s.execute(update(table_of(Customer)).values(status="x")), CUSTOMERS),
    "core update on the connection": (lambda s: s.connection().execute(update(table_of(Customer)).values(status="x")), CUSTOMERS),
    "core delete": (lambda s: s.execute(delete(table_of(Order)).where(table_of(Order).c.id == 10)), ((Order, 10), (Order, 11))),
    "core delete with cascades": (
        lambda s: (s.execute(delete(table_of(Order))), s.execute(delete(table_of(Customer)).where(table_of(Customer).c.id == 1))),
        (*CUSTOMERS, *NOTES),
    ),
    "core insert": (lambda s: s.execute(insert(table_of(Customer)).values(id=3, name="x")), ((Customer, 3), *CUSTOMERS)),
    "text": (lambda s: s.execute(text("UPDATE customers SET name = :n WHERE id = 1"), {"n": "x"}), CUSTOMERS),
    "text of the driver": (lambda s: s.connection().exec_driver_sql("DELETE FROM orders WHERE id = 10"), ((Order, 10), (Order, 11))),
    "orphan": (_orphan, ((Order, 10), (Order, 11), *CUSTOMERS)),
    "database-side cascade": (_delete, (*CUSTOMERS, *NOTES, (Order, 10))),
    "database-side cascade of a bulk delete": (
        lambda s: s.execute(delete(Customer).where(Customer.id == 2), execution_options={"synchronize_session": False}),
        (*CUSTOMERS, *NOTES),
    ),
    "joined, the base": (lambda s: s.execute(update(Vehicle).where(Vehicle.id == 5).values(plate="x")), ((Car, 5), (Van, 6))),
    "joined, the subclass": (lambda s: s.execute(update(Car).values(doors=9)), ((Car, 5), (Van, 6))),
    "joined, core": (lambda s: s.execute(update(table_of(Car)).values(doors=9)), ((Car, 5), (Van, 6))),
    "joined, by primary key": (lambda s: s.execute(update(Van), [{"id": 6, "plate": "x", "load": 1}]), ((Car, 5), (Van, 6))),
    "single": (lambda s: s.execute(update(Dog).values(name="x")), ((Dog, 7), (Cat, 8))),
    "concrete": (lambda s: s.execute(update(table_of(Circle)).values(radius=9)), ((Circle, 1), (Shape, 2))),
    "trigger": (lambda s: s.execute(update(Customer).where(Customer.id == 1).values(name="stamped")), CUSTOMERS),
    "dml in a statement that reads": (
        lambda s: s.scalars(select(Customer).from_statement(update(Customer).values(status="y").returning(Customer))).all(),
        CUSTOMERS,
    ),
}


@pytest.mark.parametrize(("write", "watched"), WRITES.values(), ids=WRITES.keys())
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_write_path(seeded: Path, write: Write, watched: tuple[Watched, ...], end: Literal["commit", "rollback"]) -> None:
    """After the commit every read gives the row as it is, after a rollback as it was."""
    seeded.check(write, *watched, end=end)


@pytest.mark.parametrize("name", ["update with criteria", "delete with criteria", "legacy update", "joined, the base"])
def test_above_the_limit(attach: Attach, name: str) -> None:
    """Above the limit of rows the whole class is invalidated."""
    write, watched = WRITES[name]
    seed(attach(bulk_limit=0)).check(write, *watched)


def test_trigger_that_changes_the_row(seeded: Path) -> None:
    """What a trigger made of the row is what is read from the cache afterwards."""
    seeded.check(_rename, *CUSTOMERS)
    assert (seeded.read(Customer, 1) or {})["stamp"] == "X"
    seeded.prove_cached(Customer, 1)


@pytest.mark.parametrize(
    "name", ["update with criteria", "update by primary key", "legacy update", "insert", "joined, the subclass", "trigger"]
)
def test_exact_rows_are_kept(seeded: Path, name: str) -> None:
    """After a commit of known rows the cache has them, as the database has them."""
    write, watched = WRITES[name]
    if seeded.engine.dialect.name == "sqlite" and isinstance(seeded.store.tiers[0], RedisStore):
        seeded.sync.create_outbox(seeded.engine)  # without which no value may follow a commit on this database
    for place in (*watched, *CUSTOMERS):  # a class of which nothing was ever read has no generation that a value could carry
        seeded.read(*place)
    with seeded.maker() as session:
        write(session)
        session.commit()
    cls, identity = watched[0]
    assert (row := seeded.row(cls, identity)) is not None
    with seeded.other.begin() as connection:
        base = cls.__mapper__.base_mapper.local_table
        connection.execute(delete(table_of(Note)))
        connection.execute(delete(table_of(Order)))
        connection.execute(delete(table_of(Car)))
        connection.execute(delete(base).where(base.c.id == identity))
    assert seeded.read(cls, identity) == row
