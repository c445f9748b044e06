"""A database with rows of every mapped class, and a record of the statements that it gets."""

import decimal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, insert
from sqlalchemy.orm import Session

from stockstore.mapped import MappedPlan, plan_of
from tests.mapped.models import NOON, Animal, Base, Card, Cat, Doc, Dog, Item, Point, Priced, Seat, Truck, User, Vehicle, plain_table
from tests.statements import Statements, recorded


@pytest.fixture(scope="module")
def tables(engine: Engine) -> Engine:
    """The engine of a database that has the tables."""
    Base.metadata.create_all(engine)
    return engine


@pytest.fixture
def db(tables: Engine) -> Engine:
    """The engine of a database that has the rows below and no others."""
    with tables.begin() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(table.delete())
        connection.execute(insert(plain_table), [{"id": 1, "label": "p"}])
    with Session(tables) as session:
        session.add_all(_rows())
        session.commit()
    return tables


def _rows() -> Iterator[object]:
    prefs = {"theme": "dark", "n": 1, "tags": ["a", "b"]}
    common = {"active": True, "balance": decimal.Decimal("12.50"), "prefs": prefs, "bio": None, "created": NOON}
    yield User(id=1, email="ann@example.com", name="Ann", **common)
    yield User(id=2, email="bob@example.com", name="Bob", **common)
    for number in (1, 2, 3):
        yield Item(id=number, owner_id=1, sku=f"SKU-{number}", qty=number, attrs={"dims": [1, 2]}, version_id=1)
    yield Dog(id=1, name="rex", bark="woof", big="B")
    yield Cat(id=2, name="tom", purr="prr")
    yield Animal(id=3, name="it")
    yield Vehicle(id=1, wheels=2)
    yield Truck(id=1, wheels=6, load=9)
    yield Doc(id=1, data={"a": 1}, spot=Point(3, 4), title="t")
    yield Priced(id=1, net=100)
    yield Seat(row="B", number=7, taken=True)
    card = Card(label="c")
    card.id = 1
    yield card


@pytest.fixture
def sql(db: Engine) -> Iterator[Statements]:
    """The statements sent to the database from now on."""
    with recorded(db) as sent:
        yield sent


@pytest.fixture
def session(db: Engine) -> Iterator[Session]:
    """A session on the database, closed after the test."""
    with Session(db) as session:
        yield session


Cached = Callable[..., tuple[MappedPlan, bytes]]


@pytest.fixture
def cached(db: Engine) -> Cached:
    """A function of a class and an identity that gives the plan and the payload of that row."""

    def payload_of(cls: type, identity: object) -> tuple[MappedPlan, bytes]:
        with Session(db) as session:
            obj = session.get(cls, identity)
            plan = plan_of(type(obj))
            return plan, plan.pack(plan.dehydrate(obj))

    return payload_of


# Tests read the attributes of whatever class they asked for.
Attach = Callable[..., Any]


@pytest.fixture(params=["one", "batch", "familiar"])
def put_in(request: pytest.FixtureRequest, cached: Cached) -> Attach:
    """A function of a session, class and identity that attaches the row from its payload, by one call, by the batch and as a row that is known in turn."""

    def into(session: Session, cls: type, identity: object) -> Any:
        plan, payload = cached(cls, identity)
        owner, state = plan_of(cls).unpack(payload)
        assert owner is plan
        if request.param == "one":
            return owner.attach(session, state)
        states = plan.unpack_all([payload])
        if request.param == "familiar" and states is not None:
            for _ in range(2):
                plan.familiar.note([payload], states)
            known = plan.familiar.find([payload])
            if known is not None:
                return plan.attach_familiar(session, known)[0]
        return plan.attach_many(session, [state])[0] if states is None else plan.attach_whole(session, states)[0]

    return into
