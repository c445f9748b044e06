"""What is served is a result as SQLAlchemy gives it, whatever is done with it, and what becomes of the session is the same."""

from typing import Any

import pytest
from sqlalchemy import Result, event, select
from sqlalchemy.orm import Session

from tests.read_through.served import Run, Served, is_error
from tests.stores.shop import Customer

ONE = select(Customer).where(Customer.id == 2)
MANY = select(Customer).where(Customer.id.in_([3, 1, 2, 1])).order_by(Customer.id)
NONE = select(Customer).where(Customer.id == 99)


@pytest.fixture(scope="module")
def shop(shared: Served) -> Served:
    """Some customers, all of them cached."""
    shared.seed(*(Customer(id=n, email=f"{n}@x", name=f"name {n}") for n in range(1, 6)))
    shared.cache()
    return shared


USES: dict[str, Any] = {
    "all": lambda result: result.all(),
    "first": lambda result: result.first(),
    "one": lambda result: result.one(),
    "one_or_none": lambda result: result.one_or_none(),
    "scalar": lambda result: result.scalar(),
    "scalar_one": lambda result: result.scalar_one(),
    "scalar_one_or_none": lambda result: result.scalar_one_or_none(),
    "scalars": lambda result: result.scalars().all(),
    "scalars, first": lambda result: result.scalars().first(),
    "scalars, one": lambda result: result.scalars().one(),
    "scalars, unique": lambda result: result.scalars().unique().all(),
    "unique": lambda result: result.unique().all(),
    "unique by a function": lambda result: result.unique(lambda row: 1).all(),
    "mappings": lambda result: result.mappings().all(),
    "mappings, one": lambda result: result.mappings().one(),
    "by the class": lambda result: [row._mapping[Customer] for row in result],
    "by name": lambda result: [row.Customer for row in result],
    "keys": lambda result: list(result.keys()),
    "columns": lambda result: result.columns(0, "Customer").all(),
    "columns by the class": lambda result: result.columns(Customer).all(),
    "tuples": lambda result: result.tuples().all(),
    "iterated": list,
    "unpacked": lambda result: [customer for (customer,) in result],
    "fetchone": lambda result: [result.fetchone(), result.fetchone(), result.fetchone(), result.fetchone(), result.fetchone()],
    "fetchmany": lambda result: [result.fetchmany(2), result.fetchmany(2), result.fetchmany(2)],
    "yield_per": lambda result: list(result.yield_per(2)),
    "partitions": lambda result: list(result.partitions(2)),
    "partitions of scalars": lambda result: list(result.scalars().partitions(2)),
    "unique, with yield_per": lambda result: result.yield_per(2).unique().all(),
    "closed": lambda result: [result.closed, result.close(), result.closed],
    "read twice": lambda result: [result.all(), result.all()],
    "read when closed": lambda result: [result.close(), result.all()],
    "frozen": lambda result: result.freeze()().all(),
    "merged": lambda result: result.merge().all(),
    "returns_rows": lambda result: getattr(result, "returns_rows", "none"),
    "a name that is none": lambda result: result.columns("other").all(),
}


@pytest.mark.parametrize("statement", [ONE, MANY, NONE], ids=["one row", "many rows", "no row"])
def test_results(shop: Served, statement: Any) -> None:
    """Each way to read a result gives the same, or raises the same."""
    for name, use in USES.items():

        def run(session: Session, use: Any = use) -> Any:
            result: Result[Any] = session.execute(statement)
            return use(result)

        expected = shop.same(run)
        assert name not in ("all", "iterated") or not is_error(expected)


def _twice(session: Session) -> Any:
    one, many = session.scalars(ONE).one(), session.scalars(MANY).all()
    return one is many[1], one is session.get(Customer, 2), session.in_transaction(), len(session.identity_map)


def _pending(session: Session) -> Any:
    session.add(Customer(id=99, email="99@x", name="new"))
    found = session.scalars(select(Customer).where(Customer.id.in_([99, 1])).order_by(Customer.id)).all()
    return [(customer.id, customer.name) for customer in found], len(session.new)


def _changed(session: Session) -> Any:
    one = session.scalars(ONE).one()
    one.name = "changed"
    again = session.scalars(ONE).one()
    return again is one, again.name, session.scalars(select(Customer).where(Customer.email == "2@x")).one().name


def _changed_unflushed(session: Session) -> Any:
    one = session.scalars(ONE).one()
    one.name = "changed"
    with session.no_autoflush:
        again = session.scalars(ONE).one()
        return again is one, again.name, one in session.dirty


def _deleted(session: Session) -> Any:
    session.delete(session.scalars(ONE).one())
    return session.scalars(ONE).first()


def _failing_flush(session: Session) -> Any:
    session.add(Customer(id=1, email="1@x"))
    return session.scalars(ONE).one()


def _failed(session: Session) -> Any:
    session.add(Customer(id=1, email="1@x"))
    try:
        session.flush()
    except Exception:  # noqa: BLE001 - both databases' drivers have their own
        return session.scalars(select(Customer).where(Customer.id.in_([]))).all()


def _rolled_back(session: Session) -> Any:
    one = session.scalars(ONE).one()
    name = one.name
    session.rollback()
    return "name" in vars(one), one.name == name


def _detached(session: Session) -> Any:
    one = session.scalars(ONE).one()
    session.expunge(one)
    return one.name, session.scalars(ONE).one() is one


def _expired(session: Session) -> Any:
    one = session.scalars(ONE).one()
    session.expire(one)
    found = session.scalars(ONE).one()
    return found is one, "name" in vars(found), sorted(vars(found))


def _partly_expired(session: Session) -> Any:
    one = session.scalars(ONE).one()
    one.status = "changed"
    session.expire(one, ["name", "email"])
    with session.no_autoflush:
        found = session.scalars(MANY).all()[1]
    return found is one, sorted(vars(found)), found.status, one in session.dirty


SESSIONS: dict[str, Run] = {
    "identity map": _twice,
    "pending object": _pending,
    "changed object": _changed,
    "changed object, not flushed": _changed_unflushed,
    "deleted object": _deleted,
    "autoflush that fails": _failing_flush,
    "session that waits for a rollback": _failed,
    "rolled back": _rolled_back,
    "detached": _detached,
    "expired": _expired,
    "expired in part": _partly_expired,
}


@pytest.mark.parametrize("run", SESSIONS.values(), ids=SESSIONS.keys())
def test_sessions(shop: Served, run: Run) -> None:
    """The session is left as SQLAlchemy would leave it; it is rolled back in the end."""
    shop.same(run)


EVENTS = ("load", "refresh")


def _heard(session: Session) -> Any:
    heard: list[Any] = []

    def load(customer: Customer, _context: object) -> None:
        heard.append(("load", customer.id))

    def refresh(customer: Customer, _context: object, names: set[str]) -> None:
        heard.append(("refresh", customer.id, sorted(names)))

    def persistent(_session: Session, customer: Customer) -> None:
        heard.append(("persistent", customer.id))

    event.listen(Customer, "load", load)
    event.listen(Customer, "refresh", refresh)
    event.listen(session, "loaded_as_persistent", persistent)
    try:
        one = session.scalars(ONE).one()
        everybody = session.scalars(MANY).all()
        session.expire(one, ["name"])
        session.scalars(ONE).one()
        session.expire(one)
        heard.append(one.name)
    finally:
        event.remove(Customer, "load", load)
        event.remove(Customer, "refresh", refresh)
    return heard, len(everybody)


def test_events(shop: Served) -> None:
    """The events of loads are fired as SQLAlchemy fires them, with the names of the attributes."""
    heard, _ = shop.same(_heard)
    assert ["load", 2] in heard
