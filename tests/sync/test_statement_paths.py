"""Write paths of statements: bulk statements of the ORM, bulk methods, Core, text, and what the database does on its own."""

from collections.abc import Callable
from typing import Any, Literal

import pytest
from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from stockstore import StockstoreError
from tests.stores.shop import Base, Car, Circle, Customer, Dog, Note, Order, Shape, Vehicle
from tests.sync.conftest import Attach
from tests.sync.paths import Path, Watched

circles = Base.metadata.tables["circles"]
customers = Base.metadata.tables["customers"]
ONE: list[Watched] = [(Customer, 1), (Customer, 2)]


@pytest.fixture
def seeded(path: Path) -> Path:
    """Two customers, one with an order and a note, and some of each inheritance."""
    return _seed(path)


def _seed(path: Path) -> Path:
    path.seed(
        Customer(id=1, email="a", name="ann", orders=[Order(id=10, number="A1")], notes=[Note(id=20, text="n")]),
        Customer(id=2, email="b", name="bob", notes=[Note(id=21, text="m")]),
        Car(id=5, plate="C5", doors=3),
        Dog(id=6, name="rex", bark="woof"),
        Circle(id=7, colour="red", radius=1),
    )
    return path


def _upsert(session: Session) -> object:
    kind = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
    statement = kind.insert(Customer).values(id=1, email="a", name="upserted", tenant=7, balance=0)
    return session.execute(statement.on_conflict_do_update(index_elements=["id"], set_={"name": "upserted"}))


def _cte(session: Session) -> object:
    if session.get_bind().dialect.name == "sqlite":
        session.execute(text("UPDATE customers SET name = name"))  # so that the driver begins
        return session.execute(text("WITH one AS (SELECT 1 AS id) UPDATE customers SET name = 'cte' WHERE id IN (SELECT id FROM one)"))
    changed = update(Customer).where(Customer.id == 1).values(name="cte").returning(Customer.id).cte()
    return session.execute(select(changed.c.id)).all()


def _delete(session: Session) -> None:
    session.delete(session.get_one(Customer, 2))
    session.flush()


WRITES: dict[str, tuple[Callable[[Session], Any], list[Watched]]] = {
    "orm update": (lambda s: s.execute(update(Customer).where(Customer.name == "ann").values(name="bulk")), ONE),
    "orm update of all": (lambda s: s.execute(update(Customer).values(name=Customer.name + "!")), ONE),
    "orm update, returning": (
        lambda s: s.scalars(update(Customer).where(Customer.id == 1).values(name="bulk").returning(Customer.name)).all(),
        ONE,
    ),
    "orm update by primary key": (lambda s: s.execute(update(Customer), [{"id": 1, "name": "one"}, {"id": 2, "name": "two"}]), ONE),
    "orm update of an alternate key": (lambda s: s.execute(update(Customer).where(Customer.id == 1).values(email="z")), ONE),
    "orm delete": (lambda s: s.execute(delete(Order).where(Order.number == "A1")), [(Order, 10), (Customer, 1)]),
    "orm delete, returning": (lambda s: s.scalars(delete(Order).returning(Order.id)).all(), [(Order, 10)]),
    "orm insert": (lambda s: s.execute(insert(Customer).values(id=3, email="c", name="new")), [(Customer, 3)]),
    "orm insert of many": (
        lambda s: s.execute(insert(Customer), [{"id": 3, "email": "c", "name": "x"}, {"id": 4, "email": "d", "name": "y"}]),
        [(Customer, 3), (Customer, 4)],
    ),
    "orm insert, returning": (
        lambda s: s.scalars(insert(Order).values(id=11, number="N", customer_id=1).returning(Order)).all(),
        [(Order, 11)],
    ),
    "upsert": (_upsert, ONE),
    "Query.update": (lambda s: s.query(Customer).filter(Customer.id == 1).update({"name": "query"}), ONE),
    "Query.delete": (lambda s: s.query(Order).filter(Order.id == 10).delete(), [(Order, 10)]),
    "bulk_save_objects": (lambda s: s.bulk_save_objects([Customer(id=3, email="c", name="saved")]), [(Customer, 3), (Customer, 1)]),
    "bulk_insert_mappings": (lambda s: s.bulk_insert_mappings(Customer, [{"id": 3, "email": "c", "name": "saved"}]), [(Customer, 3)]),
    "bulk_update_mappings": (lambda s: s.bulk_update_mappings(Customer, [{"id": 1, "name": "mapped"}]), ONE),
    "core update": (lambda s: s.execute(customers.update().where(customers.c.id == 1).values(name="core")), ONE),
    "core update on the connection": (lambda s: s.connection().execute(customers.update().values(name=customers.c.name + "!")), ONE),
    "core insert": (lambda s: s.execute(customers.insert().values(id=3, email="c", name="core", tenant=7, balance=0)), [(Customer, 3)]),
    "core delete": (lambda s: s.execute(Base.metadata.tables["orders"].delete()), [(Order, 10)]),
    "text": (lambda s: s.execute(text("UPDATE customers SET name = 'text' WHERE id = 1")), ONE),
    "text that names no table known": (lambda s: s.execute(text("UPDATE  customers  SET name='x' WHERE id IN (SELECT 1)")), ONE),
    "driver's SQL": (lambda s: s.connection().exec_driver_sql("UPDATE customers SET name = 'driver' WHERE id = 1"), ONE),
    "common table expression": (_cte, ONE),
    "cascade of the database": (lambda s: s.execute(delete(Customer).where(Customer.id == 2)), [(Customer, 2), (Note, 21), (Note, 20)]),
    "cascade of the database, by the unit of work": (
        _delete,
        [(Customer, 2), (Note, 21), (Note, 20)],
    ),
    "joined inheritance": (lambda s: s.execute(update(Car).where(Car.id == 5).values(doors=5)), [(Car, 5)]),
    "base of joined inheritance": (lambda s: s.execute(update(Vehicle).values(plate="X")), [(Car, 5)]),
    "single-table inheritance": (lambda s: s.execute(update(Dog).values(bark="wau")), [(Dog, 6)]),
    "concrete inheritance": (lambda s: s.execute(update(circles).values(radius=2)), [(Circle, 7)]),
}


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("name", WRITES)
def test_statement(seeded: Path, name: str, end: Literal["commit", "rollback"]) -> None:
    """What a statement wrote is in the caches when it is committed, and never before or otherwise."""
    write, watched = WRITES[name]
    seeded.check(write, *watched, end=end)


def test_above_the_limit(attach: Attach) -> None:
    """Above bulk_limit the whole class is told, and it is the same to readers."""
    path = _seed(attach(bulk_limit=1))
    path.check(lambda session: session.execute(update(Customer).values(name=Customer.name + "!")), *ONE)


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_truncate(seeded: Path) -> None:
    """TRUNCATE is text that names its table."""
    seeded.check(lambda session: session.execute(text("TRUNCATE customers CASCADE")), *ONE, (Order, 10), (Note, 20))


def test_raw_sql_refused(attach: Attach) -> None:
    """With on_raw_sql="raise", text that does not tell what it writes is refused before it runs."""
    path = _seed(attach(on_raw_sql="raise"))
    with path.maker() as session:
        untold = "REINDEX customers" if path.engine.dialect.name == "sqlite" else "DO $$ BEGIN UPDATE customers SET name = 'do'; END $$"
        with pytest.raises(StockstoreError):
            session.execute(text(untold))
    path.compare(*ONE)


def test_concrete_base(seeded: Path) -> None:
    """A concrete subclass found by its base is as fresh as by its own class."""
    seeded.check(lambda session: session.execute(update(circles).values(colour="blue")), (Circle, 7))
    found = seeded.store.get(Shape, 7)
    assert found is not None
    assert found.colour == "blue"
