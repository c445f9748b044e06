"""SELECT statements that ask for rows by their keys: served, with the results of the database."""

from typing import Any

import pytest
from sqlalchemy import String, TypeDecorator, and_, bindparam, func, literal_column, or_, select, text, tuple_, union_all
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import aliased, defer, joinedload, load_only, raiseload, with_loader_criteria

from tests.read_through.served import Run, Served, is_error
from tests.stores.shop import Car, Cat, Customer, Dog, Order, Place, Van, Vehicle


@pytest.fixture(scope="module")
def shop(shared: Served) -> Served:
    """Rows of each sort, all of them cached."""
    shared.seed(
        *(Customer(id=n, email=f"{n}@x", name=f"name {n}", prefs={"n": n}) for n in range(1, 6)),
        Order(id=1, number="1", customer_id=2),
        Place(row="a", number=1, label="one"),
        Place(row="a", number=2, label="two"),
        Place(row="b", number=1, label="one"),
        Car(id=1, plate="car", doors=4),
        Van(id=2, plate="van", load=9),
        Dog(id=1, name="dog", bark="wow"),
        Cat(id=2, name="cat", purr="rr"),
    )
    shared.cache()
    return shared


class Lower(TypeDecorator[str]):
    """Gives the database something else than it is given."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Give lower case."""
        return value and value.lower()


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


@pytest.mark.filterwarnings("ignore:The Query.get")
@pytest.mark.parametrize("run", SERVED.values(), ids=SERVED.keys())
def test_served(shop: Served, run: Run) -> None:
    """The statement is answered from the cache, as the database would."""
    assert shop.hits(run) is not None


BY_ID = select(Customer).where(Customer.id == 2)

NOT_SERVED: dict[str, Run] = {
    "another column": _all(select(Customer).where(Customer.name == "name 2")),
    "a key and more": _all(select(Customer).where(Customer.id == 2, Customer.name == "name 2")),
    "a key and another": _all(select(Customer).where(Customer.id == 2, Customer.email == "2@x")),
    "a key twice": _all(select(Customer).where(Customer.id == 2, Customer.id == 3)),
    "a key that may not be unique": _all(select(Place).where(Place.label == "one").order_by(Place.row)),
    "part of a key": _all(select(Place).where(Place.row == "a").order_by(Place.number)),
    "inequality": _all(select(Customer).where(Customer.id != 2).order_by(Customer.id)),
    "is null": _all(select(Customer).where(Customer.email.is_(None))),
    "null": _all(select(Customer).where(Customer.email == bindparam("wanted")), wanted=None),
    "not": _all(select(Customer).where(~Customer.id.in_([1, 2])).order_by(Customer.id)),
    "or": _all(select(Customer).where(or_(Customer.id == 2, Customer.id == 3)).order_by(Customer.id)),
    "an expression": _all(select(Customer).where(Customer.id == literal_column("1") + 1)),
    "another column's value": _all(select(Customer).where(Customer.id == Customer.id).order_by(Customer.id)),
    "of another class": _all(select(Vehicle).where(Car.id == 1, Vehicle.id == Car.id)),
    "a value of another type": _all(select(Customer).where(Customer.email == bindparam("wanted", type_=Lower)), wanted="2@X"),
    "a value that overrides": _all(BY_ID, id_1=3),
    "subquery": _all(select(Customer).where(Customer.id.in_(select(Order.customer_id)))),
    "join": _all(select(Customer).join(Customer.orders).where(Customer.id == 2)),
    "outer join": _all(select(Customer).outerjoin(Customer.orders).where(Customer.id == 2)),
    "select_from": _all(select(Customer).select_from(Order).join(Order.customer).where(Customer.id == 2)),
    "aliased": _all(select(aliased(Customer, name="other")).where(literal_column("other.id") == 2)),
    "common table expression": _all(select(Customer).where(Customer.id == 2).add_cte(select(Order.id).cte("unused"))),
    "with_for_update": _all(BY_ID.with_for_update(read=True)),
    "populate_existing": _all(BY_ID.execution_options(populate_existing=True)),
    "yield_per": _all(BY_ID.execution_options(yield_per=1)),
    "stream_results": _all(BY_ID.execution_options(stream_results=True)),
    "unknown execution option": _all(BY_ID.execution_options(of_the_application=1)),
    "limit of many": _all(select(Customer).where(Customer.id.in_([1, 2, 3])).order_by(Customer.id).limit(2)),
    "limit of none": _all(BY_ID.limit(0)),
    "offset": _all(BY_ID.limit(1).offset(1)),
    "distinct": _all(select(Order).where(Order.id == 1).distinct()),
    "group by": _all(BY_ID.group_by(Customer.id)),
    "having": _all(BY_ID.group_by(Customer.id).having(func.count() > 0)),
    "prefix": _all(BY_ID.prefix_with("ALL")),
    "suffix": _all(BY_ID.suffix_with("/* end */")),
    "hint": _all(BY_ID.with_hint(Customer, "x", "mysql")),
    "statement hint": _all(BY_ID.with_statement_hint("x", "mysql")),
    "order by text": _all(select(Customer).where(Customer.id.in_([1, 2])).order_by(Customer.name)),
    "order by an expression": _all(BY_ID.order_by(func.lower(Customer.name))),
    "nulls last": _all(BY_ID.order_by(Customer.id.nulls_last())),
    "columns": lambda session: session.execute(select(Customer.id, Customer.name).where(Customer.id == 2)).all(),
    "entity and column": lambda session: session.execute(select(Customer, Customer.name).where(Customer.id == 2)).all(),
    "key and entity": lambda session: session.execute(select(Customer.id, Customer).where(Customer.id == 2)).all(),
    "two entities": lambda session: session.execute(
        select(Customer, Order).where(Customer.id == 2, Order.customer_id == Customer.id)
    ).all(),
    "load_only": _all(BY_ID.options(load_only(Customer.name))),
    "defer": _all(BY_ID.options(defer(Customer.name))),
    "joinedload": lambda session: session.scalars(BY_ID.options(joinedload(Customer.orders))).unique().all(),
    "raiseload": _all(BY_ID.options(raiseload("*"))),
    "with_loader_criteria": _all(BY_ID.options(with_loader_criteria(Customer, Customer.name == "none"))),
    "union": lambda session: session.scalars(select(Customer).from_statement(union_all(BY_ID, BY_ID))).all(),
    "text": lambda session: session.scalars(select(Customer).from_statement(text("SELECT * FROM customers WHERE id = 2"))).all(),
    "asked not to": lambda session: session.scalars(BY_ID, execution_options={"stockstore": False}).all(),
    "neither asked to nor not": lambda session: session.scalars(BY_ID, execution_options={"stockstore": 0}).all(),
    "statement that asks not to": _all(BY_ID.execution_options(stockstore=False)),
    "Query.with_for_update": lambda session: session.query(Customer).filter_by(id=2).with_for_update(read=True).one(),
    "Query.populate_existing": lambda session: session.query(Customer).filter_by(id=2).populate_existing().one(),
    "Query.yield_per": lambda session: list(session.query(Customer).filter_by(id=2).yield_per(1)),
    "Query.only_return_tuples": lambda session: session.query(Customer).filter_by(id=2).only_return_tuples(value=True).all(),
    "Query.count": lambda session: session.query(Customer).filter_by(id=2).count(),
    "Query.exists": lambda session: session.query(session.query(Customer).filter_by(id=2).exists()).scalar(),
    "a bind of its own": lambda session: session.scalars(BY_ID, bind_arguments={"bind": session.get_bind(Customer)}).all(),
}


@pytest.mark.parametrize("run", NOT_SERVED.values(), ids=NOT_SERVED.keys())
def test_not_served(shop: Served, run: Run) -> None:
    """The statement goes to the database, with all rows cached."""
    shop.misses(run)


ERRORS: dict[str, Run] = {
    "no row": lambda session: session.scalars(select(Customer).where(Customer.id == 99)).one(),
    "many rows": lambda session: session.scalars(select(Customer).where(Customer.id.in_([1, 2]))).one(),
    "many rows, or none": lambda session: session.scalars(select(Customer).where(Customer.id.in_([1, 2]))).one_or_none(),
    "Query.one": lambda session: session.query(Customer).filter(Customer.id.in_([1, 2])).one(),
    "no such name": lambda session: session.execute(BY_ID).one().other,
}


@pytest.mark.parametrize("run", ERRORS.values(), ids=ERRORS.keys())
def test_errors(shop: Served, run: Run) -> None:
    """What raises, raises the same."""
    assert is_error(shop.same(run))
