"""Statements drawn at random give what they give without the hook, whatever is cached, expired, changed or in the session."""

from typing import Any

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from sqlalchemy import bindparam, select, tuple_
from sqlalchemy.orm import Session

from tests.read_through.served import Run, Served
from tests.stores.shop import Car, Customer, Place, Van, Vehicle

IDS = st.sampled_from([1, 2, 3, 4, 2, 3, 4, 9, None])
ORDERS: list[Any] = [Customer.id, Customer.id.desc(), Customer.tenant, Customer.tenant.desc()]
KINDS = ["id", "ids", "email", "emails", "parameter"] * 2


@pytest.fixture(scope="module")
def shop(shared: Served) -> Served:
    """Rows of each sort, some of them cached."""
    shared.seed(
        *(Customer(id=n, email=f"{n}@x", name=f"name {n}", tenant=n % 3) for n in range(1, 7)),
        *(Place(row=row, number=n, label=f"{row}{n}") for row in "ab" for n in (1, 2)),
        *(Car(id=n, plate=f"car {n}", doors=n) for n in (1, 3)),
        Van(id=2, plate="van", load=9),
    )
    return shared


@st.composite
def statements(draw: st.DrawFn) -> Any:
    """Give a statement with an order that tells each row's place."""
    ids = draw(st.lists(IDS, min_size=2, max_size=6))
    kind = draw(st.sampled_from([*KINDS, "places", "place", "vehicles", "car"]))
    if kind in ("places", "place"):
        keys = [("ab"[(n or 0) % 2], n or 0) for n in ids]
        if kind == "places":
            return select(Place).where(tuple_(Place.row, Place.number).in_(keys)).order_by(Place.number.desc(), Place.row), {}
        row, number = keys[0]
        return select(Place).filter_by(number=number, row=row), {}
    if kind in ("vehicles", "car"):
        cls: Any = Vehicle if kind == "vehicles" else Car
        return select(cls).where(cls.id.in_(ids)).order_by(cls.id), {}
    orders = (*draw(st.lists(st.sampled_from(ORDERS), max_size=2)), Customer.id)
    columns: dict[str, Any] = {
        "id": Customer.id == ids[0],
        "ids": Customer.id.in_(ids),
        "email": Customer.email == f"{ids[0]}@x",
        "emails": Customer.email.in_([f"{n}@x" for n in ids]),
        "parameter": Customer.id.in_(bindparam("wanted", expanding=True)),
    }
    return select(Customer).where(columns[kind]).order_by(*orders), {"wanted": ids} if kind == "parameter" else {}


@st.composite
def steps(draw: st.DrawFn) -> Run:
    """Give what a session does: reads, with something done to what it has read in between."""
    drawn = [(draw(statements()), draw(st.sampled_from(["nothing", "expire", "change", "delete", "forget"]))) for _ in range(4)]

    note("\n".join(f"{statement} {statement.compile().params} {parameters}: {then}" for (statement, parameters), then in drawn))

    def run(session: Session) -> Any:
        found = []
        for (statement, parameters), then in drawn:
            rows = session.scalars(statement, parameters).all()
            found.append([(row, sorted(vars(row))) if type(row) is Customer else row for row in rows])
            for row in rows[:3]:
                if type(row) is Customer:
                    _do(session, row, then)
        return found

    return run


def _do(session: Session, row: Customer, then: str) -> None:
    if then == "expire":
        session.expire(row)
    elif then == "forget":
        session.expunge(row)
    elif then == "change":
        row.name = "changed"
    elif then == "delete":
        session.delete(row)


@settings(max_examples=40)
@given(run=steps())
def test_random_statements(shop: Served, run: Run) -> None:
    """The rows, their order, their values and what the session holds are the same."""
    ordered = shop.same(run)
    assert ordered is not None
