"""SELECT statements that ask for rows by their keys: served, with the results of the database."""

from typing import Any

import pytest
from sqlalchemy import and_, bindparam, select, tuple_

from tests.read_through.served import Run, Served
from tests.stores.shop import Car, Cat, Customer, Dog, Place, Van, Vehicle


@pytest.fixture
def shop(served: Served) -> Served:
    """Rows of each sort."""
    served.seed(
        *(Customer(id=n, email=f"{n}@x", name=f"name {n}", prefs={"n": n}) for n in range(1, 6)),
        Place(row="a", number=1, label="one"),
        Place(row="a", number=2, label="two"),
        Place(row="b", number=1, label="one"),
        Car(id=1, plate="car", doors=4),
        Van(id=2, plate="van", load=9),
        Dog(id=1, name="dog", bark="wow"),
        Cat(id=2, name="cat", purr="rr"),
    )
    return served


def _all(statement: Any, **parameters: object) -> Run:
    return lambda session: session.scalars(statement, parameters).all()


SERVED: dict[str, Run] = {
    "primary key": _all(select(Customer).where(Customer.id == 2)),
    "alternate key": _all(select(Customer).where(Customer.email == "2@x")),
    "filter_by": _all(select(Customer).filter_by(id=3)),
    "parameter": _all(select(Customer).where(Customer.id == bindparam("wanted")), wanted=3),
    "column of the table": _all(select(Customer).where(Customer.__table__.c.id == 3)),
    "composite key": _all(select(Place).where(Place.number == 1, Place.row == "a")),
    "composite key in and_": _all(select(Place).where(and_(Place.row == "a", Place.number == 1))),
    "one row with order and limit": _all(select(Customer).where(Customer.id == 2).order_by(Customer.name.desc()).limit(1)),
    "in": _all(select(Customer).where(Customer.id.in_([4, 1, 3, 1]))),
    "in, of alternate keys": _all(select(Customer).where(Customer.email.in_(["4@x", "1@x"])).order_by(Customer.id)),
    "in, with None": _all(select(Customer).where(Customer.id.in_([4, None, 1]))),
    "in, of parameter": _all(select(Customer).where(Customer.id.in_(bindparam("wanted"))), wanted=[5, 1]),
    "in, of expanding parameter": _all(select(Customer).where(Customer.id.in_(bindparam("wanted", expanding=True))), wanted=(5, 1)),
    "in, empty": _all(select(Customer).where(Customer.id.in_([]))),
    "in, ordered": _all(select(Customer).where(Customer.id.in_([4, 1, 3])).order_by(Customer.tenant, Customer.id.desc())),
    "in, of composite keys": _all(
        select(Place).where(tuple_(Place.number, Place.row).in_([(2, "a"), (1, "b"), (2, "a")])).order_by(Place.number)
    ),
    "joined inheritance": _all(select(Car).where(Car.id == 1)),
    "joined inheritance, base": _all(select(Vehicle).where(Vehicle.id.in_([1, 2]))),
    "single-table inheritance": _all(select(Dog).where(Dog.id == 1)),
    "Query.get": lambda session: session.query(Customer).get(2),
    "Query.one": lambda session: session.query(Customer).filter_by(id=2).one(),
    "Query.first": lambda session: session.query(Customer).filter(Customer.email == "2@x").first(),
    "Query.all": lambda session: session.query(Customer).filter(Customer.id.in_([2, 1, 2])).order_by(Customer.id).all(),
    "Query.scalar": lambda session: session.query(Customer).filter_by(id=2).scalar(),
    "session.scalar": lambda session: session.scalar(select(Customer).where(Customer.id == 2)),
}


@pytest.mark.parametrize("run", SERVED.values(), ids=SERVED.keys())
def test_served(shop: Served, run: Run) -> None:
    """The statement is answered from the cache, as the database would."""
    assert shop.hits(run) is not None
