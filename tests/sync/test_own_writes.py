"""What a session has written it reads from the database, and everything else from the caches still."""

from collections.abc import Callable

import pytest
from sqlalchemy import event, insert, text, update
from sqlalchemy.orm import Session

from tests.stores.shop import Customer, Order
from tests.sync.conftest import ON_POSTGRES, Attach
from tests.sync.paths import Path


@pytest.fixture
def seeded(attach: Attach) -> Path:
    """Two customers and an order, all of them cached, and changed since by somebody whom nobody sees."""
    path = attach(snapshot="latest")
    path.seed(Customer(id=1, email="a", name="ann"), Customer(id=2, email="b", name="bob"), Order(id=1, number="one", customer_id=1))
    assert [path.store.get(cls, key) is not None for cls, key in ((Customer, 1), (Customer, 2), (Order, 1))] == [True] * 3
    with path.other.begin() as connection:
        if path.engine.dialect.name == "postgresql":
            connection.execute(text("SELECT setval('customers_id_seq', 100)"))
        connection.execute(update(Customer).values(status="out of band"))
        connection.execute(update(Order).values(state="out of band"))
    return path


def served(path: Path, session: Session) -> dict[str, bool]:
    """Tell of each row whether the session was given what the cache has."""
    customers = path.store.batch_get(Customer, [1, 2], session=session)
    order = path.store.get(Order, 1, session=session)
    assert order is not None
    found = {customer.name: customer.status == "new" for customer in customers if customer is not None}
    return {"order": order.state == "open", "ann": found.pop("ann", found.pop("changed", False)), **found}


def rename(session: Session) -> None:
    """Change the first customer, as the database has it now, and read nothing that is not asked for."""
    customer = session.get_one(Customer, 1)
    customer.name = "changed"
    session.flush()
    session.expunge_all()


def then_add(session: Session, customer: Customer) -> None:
    """Flush twice."""
    rename(session)
    session.add(customer)
    session.flush()


def in_a_savepoint(session: Session) -> None:
    """Flush within a savepoint that is released, and begin another one."""
    with session.begin_nested():
        rename(session)
    session.begin_nested()


def back_to_a_savepoint(session: Session) -> None:
    """Flush, and take something else back."""
    rename(session)
    with session.begin_nested() as savepoint:
        session.add(Customer(name="cid"))
        session.flush()
        savepoint.rollback()


FLUSHES: dict[str, Callable[[Session], object]] = {
    "update": rename,
    "new row": lambda session: then_add(session, Customer(name="cid")),
    "two flushes": lambda session: then_add(session, Customer(id=7, name="dan")),
    "released savepoint": in_a_savepoint,
    "rolled back savepoint": back_to_a_savepoint,
}


@pytest.mark.parametrize("name", FLUSHES)
def test_rows_of_a_flush(seeded: Path, name: str) -> None:
    """The rows that a session has flushed are its own; of the others, also of their class, it is given what the cache has."""
    with seeded.maker() as session:
        FLUSHES[name](session)
        assert served(seeded, session) == {"ann": False, "bob": True, "order": True}
        session.commit()
    assert seeded.read(Customer, 1) == seeded.row(Customer, 1)


def touch_all(session: Session) -> None:
    """Write every customer, past the session."""
    session.connection().execute(update(Customer).values(name=Customer.name))


def touch_within_a_flush(session: Session) -> None:
    """Have a listener write every customer in the middle of a flush of one."""
    event.listen(session, "after_flush", lambda *_: touch_all(session), once=True)
    rename(session)


WIDE: dict[str, Callable[[Session], object]] = {
    "bulk method": lambda session: session.bulk_update_mappings(Customer.__mapper__, [{"id": 1, "name": "changed"}]),
    "statement": lambda session: session.execute(update(Customer).where(Customer.id == 1).values(name="changed")),
    "statement on the connection": touch_all,
    "text on the connection": lambda session: session.connection().execute(text("UPDATE customers SET name = name")),
    "statement after a flush": lambda session: [step(session) for step in (rename, touch_all)],
    "flush after a statement": lambda session: [step(session) for step in (touch_all, rename)],
    "within a flush": touch_within_a_flush,
}


@pytest.mark.parametrize("name", WIDE)
def test_rows_that_nobody_tells_of(seeded: Path, name: str) -> None:
    """Of what else it executes the session's reads of the whole class are taken for its own."""
    with seeded.maker() as session:
        WIDE[name](session)
        found = served(seeded, session)
        assert (found["ann"], found["bob"]) == (False, False)


@ON_POSTGRES
def test_new_row_past_the_session(seeded: Path) -> None:
    """A row that is inserted past the session, on its connection, is read by it alone, and fills no cache before it is committed."""
    with seeded.maker() as session:
        session.connection().execute(insert(Customer).values(id=9, name="new"))
        mine = seeded.store.get(Customer, 9, session=session)
        assert mine is not None
        assert mine.name == "new"
        assert seeded.read(Customer, 9) is None
        session.rollback()
    assert seeded.read(Customer, 9) is None


@ON_POSTGRES
def test_what_a_trigger_changed_along(attach: Attach) -> None:
    """A session that has written anything keeps what it loads to itself: a trigger may have changed other rows along, and nobody has seen it."""
    path = attach(read_through=True)
    path.seed(Customer(id=1, name="ann"))
    touch = "BEGIN UPDATE customers SET status = 'by a trigger' WHERE id = NEW.customer_id; RETURN NULL; END"
    with path.other.begin() as connection:
        connection.execute(text(f"CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ {touch} $$"))
        connection.execute(text("CREATE TRIGGER touch AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION touch()"))
    try:
        with path.maker() as session:
            session.add(Order(id=1, number="one", customer_id=1))
            session.flush()
            assert session.get_one(Customer, 1).status == "by a trigger"
            session.rollback()
    finally:
        with path.other.begin() as connection:
            connection.execute(text("DROP TRIGGER touch ON orders"))
            connection.execute(text("DROP FUNCTION touch()"))
    assert path.read(Customer, 1) == path.row(Customer, 1)
    with path.maker() as session:
        assert session.get_one(Customer, 1).status == "new"
