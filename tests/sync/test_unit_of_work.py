"""Write paths of the unit of work: what a session flushes."""

from collections.abc import Callable
from typing import Any, Literal

import pytest
from sqlalchemy.orm import Session

from tests.stores.shop import Car, Customer, Note, Order, Place, Tag
from tests.sync.conftest import CROSSED, OTHER_CACHES, Attach
from tests.sync.paths import Path, Watched

Write = Callable[[Session], Any]


@pytest.fixture
def seeded(path: Path) -> Path:
    """Two customers, one with an order, a place and a car."""
    path.seed(
        Customer(id=1, email="a", name="ann", orders=[Order(id=10, number="A1")]),
        Customer(id=2, email="b", name="bob", notes=[Note(id=21, text="m")]),
        Place(row="B", number=7, label="window"),
        Tag(name="red", code="r"),
        Car(id=5, plate="C5", doors=3),
    )
    return path


def _insert(session: Session) -> None:
    session.add(Customer(id=3, email="c", name="cleo"))
    session.flush()


def _insert_generated(session: Session) -> None:
    session.add(Order(number="A2", customer_id=1))
    session.flush()


def _update(session: Session) -> None:
    session.get_one(Customer, 1).name = "anna"
    session.flush()


def _update_twice(session: Session) -> None:
    _update(session)
    session.get_one(Customer, 1).balance = 5  # type: ignore[assignment]
    session.flush()


def _delete(session: Session) -> None:
    session.delete(session.get_one(Customer, 2))
    session.flush()


def _orphan(session: Session) -> None:
    customer = session.get_one(Customer, 1)
    customer.orders.clear()
    session.flush()


def _delete_with_children(session: Session) -> None:
    session.delete(session.get_one(Customer, 1))
    session.flush()


def _move(session: Session) -> None:
    session.get_one(Order, 10).customer = session.get_one(Customer, 2)
    session.flush()


def _alternate_key(session: Session) -> None:
    session.get_one(Customer, 1).email = "new"
    session.flush()


def _swap_alternate_keys(session: Session) -> None:
    one, two = session.get_one(Customer, 1), session.get_one(Customer, 2)
    one.email = two.email = None
    session.flush()
    one.email, two.email = "b", "a"
    session.flush()


def _primary_key(session: Session) -> None:
    session.get_one(Place, ("B", 7)).number = 8
    session.flush()


def _merge(session: Session) -> None:
    session.merge(Customer(id=1, email="a", name="merged"))
    session.flush()


def _merge_new(session: Session) -> None:
    session.merge(Customer(id=3, email="c", name="merged"))
    session.flush()


def _delete_and_insert(session: Session) -> None:
    session.delete(session.get_one(Customer, 2))
    session.flush()
    session.add(Customer(id=2, email="b", name="again"))
    session.flush()


def _joined(session: Session) -> None:
    session.get_one(Car, 5).doors = 5
    session.flush()


def _savepoint_released(session: Session) -> None:
    session.get_one(Customer, 2).name = "kept too"
    session.flush()
    with session.begin_nested():
        session.get_one(Customer, 1).name = "kept"


def _savepoint_rolled_back(session: Session) -> None:
    session.get_one(Customer, 2).name = "kept"
    session.flush()
    with session.begin_nested() as savepoint:
        session.get_one(Customer, 1).name = "dropped"
        session.flush()
        savepoint.rollback()


def _savepoints_nested(session: Session) -> None:
    session.get_one(Place, ("B", 7)).label = "kept"
    session.flush()
    with session.begin_nested() as outer:
        session.get_one(Customer, 1).name = "dropped"
        with session.begin_nested():
            session.get_one(Customer, 2).name = "dropped too"
        outer.rollback()


WRITES: dict[str, tuple[Write, list[Watched]]] = {
    "insert": (_insert, [(Customer, 3), (Customer, 1)]),
    "insert with a generated key": (_insert_generated, [(Order, 11), (Customer, 1)]),
    "update": (_update, [(Customer, 1), (Customer, 2)]),
    "update twice": (_update_twice, [(Customer, 1)]),
    "delete, cascade of the database": (_delete, [(Customer, 2), (Customer, 1), (Note, 21)]),
    "orphan": (_orphan, [(Order, 10), (Customer, 1)]),
    "delete with children": (_delete_with_children, [(Customer, 1), (Order, 10), (Customer, 2)]),
    "move to another parent": (_move, [(Order, 10), (Customer, 1), (Customer, 2)]),
    "alternate key": (_alternate_key, [(Customer, 1)]),
    "alternate keys swapped": (_swap_alternate_keys, [(Customer, 1), (Customer, 2)]),
    "primary key": (_primary_key, [(Place, ("B", 7)), (Place, ("B", 8))]),
    "merge": (_merge, [(Customer, 1)]),
    "merge of a new row": (_merge_new, [(Customer, 3)]),
    "delete and insert": (_delete_and_insert, [(Customer, 2)]),
    "joined inheritance": (_joined, [(Car, 5)]),
    "savepoint released": (_savepoint_released, [(Customer, 1), (Customer, 2)]),
    "savepoint rolled back": (_savepoint_rolled_back, [(Customer, 1), (Customer, 2)]),
    "savepoints nested": (_savepoints_nested, [(Customer, 1), (Customer, 2), (Place, ("B", 7))]),
}


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("name", WRITES)
def test_unit_of_work(seeded: Path, name: str, end: Literal["commit", "rollback"]) -> None:
    """What a flush wrote is in the caches when it is committed, and never before or otherwise."""
    write, watched = WRITES[name]
    seeded.check(write, *watched, end=end)


@pytest.mark.parametrize("name", ["insert", "update", "delete with children", "savepoint released"])
def test_closed(seeded: Path, name: str) -> None:
    """Nor is it in the caches where the session is closed, which rolls back."""
    write, watched = WRITES[name]
    seeded.check(write, *watched, end="close")


@OTHER_CACHES
@pytest.mark.parametrize("name", ["insert", "update", "delete with children", "alternate key", "savepoint rolled back"])
def test_over_every_cache(seeded: Path, name: str) -> None:
    """Which cache it is makes no difference."""
    write, watched = WRITES[name]
    seeded.check(write, *watched)


@pytest.mark.parametrize("options", [{"consistency": "fast"}, {"write": "invalidate"}, {"outbox": True}], ids=str)
@pytest.mark.parametrize("name", ["insert", "update", "delete and insert", "alternate key", "primary key"])
def test_options(attach: Attach, name: str, options: dict[str, object]) -> None:
    """The same with other consistency, other writes, and with the outbox."""
    path = attach(**options)
    path.seed(Customer(id=1, email="a", name="ann"), Customer(id=2, email="b", name="bob"), Place(row="B", number=7, label="window"))
    write, watched = WRITES[name]
    path.check(write, *watched)


def test_committed_values_are_put(seeded: Path) -> None:
    """What was committed is in the cache right after the commit, exactly, with what a trigger made of it: no read is needed."""
    seeded.check(_update, (Customer, 1))
    with seeded.maker() as session:
        session.get_one(Customer, 1).name = "once more"
        session.commit()
    wanted = seeded.row(Customer, 1)
    assert wanted is not None
    assert wanted["stamp"] == "ONCE MORE"
    with seeded.other.begin() as connection:
        connection.exec_driver_sql("UPDATE customers SET status = 'unseen'")
    assert seeded.read(Customer, 1) == wanted


@CROSSED
def test_first_rows_of_a_class_are_put(path: Path) -> None:
    """Also the first commit to a class that nobody has read yet leaves its rows in the cache."""
    with path.maker() as session:
        session.add(Customer(id=1, email="a", name="ann"))
        session.commit()
    wanted = path.row(Customer, 1)
    with path.other.begin() as connection:
        connection.exec_driver_sql("UPDATE customers SET status = 'unseen'")
    assert path.read(Customer, 1) == wanted


@pytest.mark.parametrize("expire", [True, False])
def test_expire_on_commit(attach: Attach, expire: bool) -> None:
    """Whether the session expires its objects makes no difference."""
    path = attach(expire_on_commit=expire)
    path.seed(Customer(id=1, email="a", name="ann"))
    path.check(_update, (Customer, 1))


def test_several_commits_of_one_session(seeded: Path) -> None:
    """Each transaction of a session is its own."""
    with seeded.maker() as session:
        for name in ("one", "two", "three"):
            session.get_one(Customer, 1).name = name
            session.commit()
            assert (seeded.read(Customer, 1) or {})["name"] == name
            session.get_one(Customer, 1).name = "dropped"
            session.flush()
            session.rollback()
            assert (seeded.read(Customer, 1) or {})["name"] == name
