"""Write paths of statements: bulk statements of the ORM, bulk methods, Core, text, and what the database does along."""

from collections.abc import Callable
from typing import Any, Literal

import pytest
from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from stockstore import StockstoreError
from tests.stores.shop import Base, Car, Cat, Circle, Customer, Dog, Note, Order, Place, Shape, Tag, Van, Vehicle
from tests.sync.conftest import ON_POSTGRES, OTHER_CACHES, Attach
from tests.sync.paths import Path, Watched

Write = Callable[[Session], Any]

cars, circles, customers, notes, orders = (Base.metadata.tables[name] for name in ("cars", "circles", "customers", "notes", "orders"))
CUSTOMERS: list[Watched] = [(Customer, 1), (Customer, 2)]
ORDERS: list[Watched] = [(Order, 10), (Order, 11)]
NOTES: list[Watched] = [(Note, 20), (Note, 21)]
TAGS: list[Watched] = [(Tag, "red"), (Tag, "blue")]
VEHICLES: list[Watched] = [(Car, 5), (Van, 6)]


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


def _new(number: int) -> dict[str, Any]:
    return {"id": number, "email": f"new {number}", "name": f"new {number}", "tenant": 7, "balance": 0}


def _upsert(session: Session) -> object:
    kind = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
    statement = kind.insert(Customer).values(id=9, email="a", name="other")
    return session.execute(statement.on_conflict_do_update(index_elements=["email"], set_={"name": "upserted"}))


def _cte(session: Session) -> object:
    if session.get_bind().dialect.name == "sqlite":
        session.execute(text("UPDATE customers SET name = name"))  # so that the driver begins
        return session.execute(text("WITH one AS (SELECT 1 AS id) UPDATE customers SET name = 'cte' WHERE id IN (SELECT id FROM one)"))
    changed = update(Customer).where(Customer.id == 1).values(name="cte").returning(Customer.id).cte()
    return session.execute(select(changed.c.id)).all()


def _delete_all_below(session: Session) -> None:
    session.execute(orders.delete())
    session.execute(delete(customers).where(customers.c.id == 1))


WRITES: dict[str, tuple[Write, list[Watched]]] = {
    "orm update": (lambda s: s.execute(update(Customer).where(Customer.name == "ann").values(name="bulk")), CUSTOMERS),
    "orm update of all": (lambda s: s.execute(update(Customer).values(name=Customer.name + "!")), CUSTOMERS),
    "orm update, returning": (
        lambda s: s.scalars(update(Customer).where(Customer.id == 1).values(name="bulk").returning(Customer)).all(),
        CUSTOMERS,
    ),
    "orm update by primary key": (
        lambda s: s.execute(update(Customer), [{"id": 1, "name": "one"}, {"id": 2, "email": "new"}]),
        CUSTOMERS,
    ),
    "orm update by a primary key without case": (lambda s: s.execute(update(Tag), [{"name": "RED", "uses": 5}]), TAGS),
    "orm update, a key of two names": (lambda s: s.execute(update(Place).values(label="x")), [(Place, ("B", 7))]),
    "orm update of an alternate key": (lambda s: s.execute(update(Customer).where(Customer.id == 1).values(email="z")), CUSTOMERS),
    "orm update of a primary key": (
        lambda s: s.execute(update(Place).where(Place.row == "B").values(number=8), execution_options={"synchronize_session": False}),
        [(Place, ("B", 7)), (Place, ("B", 8))],
    ),
    "orm update of several tables": (
        lambda s: s.execute(
            update(Order).where(Order.customer_id == Customer.id, Customer.name == "ann").values(state="sent"),
            execution_options={"synchronize_session": "fetch"},
        ),
        ORDERS,
    ),
    "orm update as a select": (
        lambda s: s.scalars(select(Customer).from_statement(update(Customer).values(status="y").returning(Customer))).all(),
        CUSTOMERS,
    ),
    "orm delete": (lambda s: s.execute(delete(Order).where(Order.number == "A1")), ORDERS),
    "orm delete, returning": (lambda s: s.scalars(delete(Order).returning(Order.id)).all(), ORDERS),
    "orm insert of many": (lambda s: s.execute(insert(Customer), [_new(3), _new(4)]), [(Customer, 3), (Customer, 4)]),
    "orm insert, returning": (
        lambda s: s.scalars(insert(Customer).returning(Customer), [_new(3)]).all(),
        [(Customer, 3), (Customer, 1)],
    ),
    "upsert": (_upsert, [*CUSTOMERS, (Customer, 9)]),
    "Query.update": (lambda s: s.query(Customer).filter(Customer.id == 1).update({"name": "query"}), CUSTOMERS),
    "Query.delete": (lambda s: s.query(Order).filter(Order.id == 10).delete(), ORDERS),
    "bulk_save_objects": (lambda s: s.bulk_save_objects([Customer(**_new(3))]), [(Customer, 3), (Customer, 1)]),
    "bulk_insert_mappings": (lambda s: s.bulk_insert_mappings(Customer, [_new(3)]), [(Customer, 3), (Customer, 1)]),
    "bulk_update_mappings": (lambda s: s.bulk_update_mappings(Customer, [{"id": 1, "name": "mapped"}]), CUSTOMERS),
    "core update": (lambda s: s.execute(customers.update().where(customers.c.id == 1).values(name="core")), CUSTOMERS),
    "core update on the connection": (lambda s: s.connection().execute(customers.update().values(name=customers.c.name + "!")), CUSTOMERS),
    "core insert": (lambda s: s.execute(customers.insert().values(_new(3))), [(Customer, 3), (Customer, 1)]),
    "core delete": (lambda s: s.execute(delete(orders).where(orders.c.id == 10)), ORDERS),
    "text": (lambda s: s.execute(text("UPDATE customers SET name = :n WHERE id = 1"), {"n": "text"}), CUSTOMERS),
    "driver's SQL": (lambda s: s.connection().exec_driver_sql("UPDATE  customers  SET name = 'driver' WHERE id IN (SELECT 1)"), CUSTOMERS),
    "common table expression": (_cte, CUSTOMERS),
    "cascade of the database": (
        lambda s: s.execute(delete(Customer).where(Customer.id == 2), execution_options={"synchronize_session": False}),
        [*CUSTOMERS, *NOTES],
    ),
    "cascade of the database, core": (_delete_all_below, [*CUSTOMERS, *NOTES, *ORDERS]),
    "joined inheritance": (lambda s: s.execute(update(Car).values(doors=9)), VEHICLES),
    "joined inheritance, by the base": (lambda s: s.execute(update(Vehicle).where(Vehicle.id == 5).values(plate="x")), VEHICLES),
    "joined inheritance, by primary key": (lambda s: s.execute(update(Van), [{"id": 6, "plate": "x", "load": 1}]), VEHICLES),
    "joined inheritance, core": (lambda s: s.execute(update(cars).values(doors=9)), VEHICLES),
    "single-table inheritance": (lambda s: s.execute(update(Dog).values(name="x")), [(Dog, 7), (Cat, 8)]),
    "concrete inheritance": (lambda s: s.execute(update(circles).values(radius=9)), [(Circle, 1), (Shape, 2)]),
}


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("name", WRITES)
def test_statement(seeded: Path, name: str, end: Literal["commit", "rollback"]) -> None:
    """What a statement wrote is in the caches when it is committed, and never before or otherwise."""
    write, watched = WRITES[name]
    seeded.check(write, *watched, end=end)


@OTHER_CACHES
@pytest.mark.parametrize("name", ["orm update", "core update", "orm insert of many"])
def test_over_every_cache(seeded: Path, name: str) -> None:
    """Which cache it is makes no difference."""
    write, watched = WRITES[name]
    seeded.check(write, *watched)


@pytest.mark.parametrize("name", ["orm update of all", "orm delete", "Query.update", "joined inheritance, by the base"])
def test_above_the_limit(attach: Attach, name: str) -> None:
    """Above bulk_limit the whole class is told, and it is the same to readers."""
    write, watched = WRITES[name]
    seed(attach(bulk_limit=0)).check(write, *watched)


@pytest.mark.parametrize("name", ["orm update", "orm update by primary key", "Query.update", "orm insert of many"])
def test_exact_rows_are_kept(seeded: Path, name: str) -> None:
    """After a commit of known rows the cache has them, as the database has them."""
    write, watched = WRITES[name]
    for place in (*watched, *CUSTOMERS):  # a class of which nothing was ever read has no generation that a value could carry
        seeded.read(*place)
    with seeded.maker() as session:
        write(session)
        session.commit()
    (cls, identity), *_ = watched
    row = seeded.row(cls, identity)
    assert row is not None
    _remove(seeded, cls, identity)
    assert seeded.row(cls, identity) is None
    assert seeded.read(cls, identity) == row


def _remove(path: Path, cls: Any, identity: object) -> None:
    base = cls.__mapper__.base_mapper.local_table
    with path.other.begin() as connection:
        for table in (notes, orders):
            connection.execute(table.delete())
        connection.execute(delete(base).where(base.c.id == identity))


@ON_POSTGRES
def test_truncate(seeded: Path) -> None:
    """TRUNCATE is text that names its table."""
    seeded.check(lambda session: session.execute(text("TRUNCATE customers CASCADE")), *CUSTOMERS, (Order, 10), (Note, 20))


def test_raw_sql_refused(attach: Attach) -> None:
    """With on_raw_sql="raise", text that does not tell what it writes is refused before it runs."""
    path = seed(attach(on_raw_sql="raise"))
    with path.maker() as session:
        untold = "REINDEX customers" if path.engine.dialect.name == "sqlite" else "DO $$ BEGIN UPDATE customers SET name = 'do'; END $$"
        with pytest.raises(StockstoreError):
            session.execute(text(untold))
    path.compare(*CUSTOMERS)


def test_concrete_base(seeded: Path) -> None:
    """A concrete subclass found by its base is as fresh as by its own class."""
    seeded.check(lambda session: session.execute(update(circles).values(colour="green")), (Circle, 1))
    found = seeded.store.get(Shape, 1)
    assert found is not None
    assert found.colour == "green"


@pytest.mark.parametrize("keys", [[1], [{"colour": "red"}], None])
def test_concrete_base_invalidated(seeded: Path, keys: list[object] | None) -> None:
    """What is told of a base by hand holds for an object of a concrete subclass, which has an identity of its own."""
    assert getattr(seeded.store.get(Shape, 1), "radius", None) == 2
    with seeded.other.begin() as connection:
        connection.execute(update(circles).values(radius=3))
    assert getattr(seeded.store.get(Shape, 1), "radius", None) == 2
    seeded.sync.invalidate(Shape, keys)
    assert getattr(seeded.store.get(Shape, 1), "radius", None) == 3
    assert getattr(seeded.store.get(Circle, 1), "radius", None) == 3
