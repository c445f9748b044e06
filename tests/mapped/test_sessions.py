"""A session reads what it wrote itself from the database."""

import contextlib
import gc
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, column, delete, event, func, insert, inspect, literal, select, table, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased
from sqlalchemy.orm.attributes import set_committed_value

from stockstore.mapped import bypasses
from stockstore.mapped import sessions as module
from stockstore.mapped.foreign_keys import dependents
from tests.mapped.models import (
    Animal,
    Base,
    Cat,
    Dog,
    Everything,
    Group,
    Item,
    Membership,
    Seat,
    Truck,
    User,
    Vehicle,
    plain_table,
    table_of,
)


@pytest.fixture
def postgres(postgres_engine: Engine) -> Engine:
    """An engine on PostgreSQL, with the table of vehicles empty."""
    Base.metadata.create_all(postgres_engine)
    with postgres_engine.begin() as connection:
        connection.execute(delete(table_of(Vehicle)))
    return postgres_engine


def bypassed(session: Session) -> list[tuple[str, Any]]:
    """Which of some rows the session would not take from a cache."""
    rows: list[tuple[type, tuple[Any, ...]]] = [
        (User, (1,)),
        (User, (2,)),
        (Item, (1,)),
        (Item, (2,)),
        (Animal, (1,)),
        (Animal, (2,)),
        (Seat, ("B", 7)),
    ]
    return [(root.__name__, identity[0]) for root, identity in rows if bypasses(session, root, identity)]


def test_reads_bypass_nothing(session: Session) -> None:
    """Loads of every kind, and harmless text, leave the caches in use."""
    user = session.get_one(User, 1)
    assert len(user.items) == 3
    session.refresh(user)
    session.execute(select(func.count()).select_from(table_of(User)))
    session.execute(select(select(User.id).cte()))
    session.execute(text("SELECT name FROM users"))
    session.scalars(select(User).from_statement(text("SELECT * FROM users"))).all()
    with session.begin_nested():
        session.get_one(Item, 1)
    assert bypassed(session) == []


def test_unflushed_change_bypasses_nothing(session: Session) -> None:
    """A change that was not flushed is in the identity map, not in the database."""
    session.get_one(Item, 1).qty = 9
    assert bypassed(session) == []


def test_flushed_update(session: Session) -> None:
    """A flushed update bypasses that row, also after its instance is gone."""
    session.get_one(Item, 1).qty = 9
    session.flush()
    gc.collect()
    assert len(session.identity_map) == 0
    assert bypassed(session) == [("Item", 1)]


def test_flushed_delete(session: Session) -> None:
    """A flushed delete bypasses that row."""
    session.delete(session.get_one(Item, 2))
    session.flush()
    assert bypassed(session) == [("Item", 2)]


def test_flushed_insert(session: Session) -> None:
    """A flushed insert bypasses the new row, whose key the database generated."""
    new = Everything()
    session.add(new)
    session.flush()
    assert bypasses(session, Everything, (new.id,))
    assert not bypasses(session, Everything, (new.id + 1,))
    assert bypassed(session) == []


def test_autoflush(session: Session) -> None:
    """A flush that a query provokes counts as well."""
    session.get_one(Item, 1).qty = 9
    session.scalars(select(User)).all()
    assert bypassed(session) == [("Item", 1)]


def test_changed_primary_key(session: Session) -> None:
    """A changed primary key bypasses the old row and the new one."""
    session.get_one(Seat, ("B", 7)).number = 8
    session.flush()
    assert bypasses(session, Seat, ("B", 7))
    assert bypasses(session, Seat, ("B", 8))
    assert not bypasses(session, Seat, ("B", 9))


def test_child_updated_by_its_relationship(session: Session) -> None:
    """A child whose foreign key a flush sets is bypassed, although no attribute of it was touched."""
    user, items = session.get_one(User, 2), list(session.scalars(select(Item).where(Item.id == 1)))
    user.items = items
    session.flush()
    assert ("Item", 1) in bypassed(session)


def test_row_that_a_flush_only_looks_at(session: Session) -> None:
    """A row that a flush reads a key from is not bypassed."""
    item = session.get_one(Item, 1)
    set_committed_value(item, "owner", session.get_one(User, 1))
    item.qty = 9
    session.flush()
    assert bypassed(session) == [("Item", 1)]


def test_subclass_counts_for_the_root(session: Session) -> None:
    """A flushed subclass is bypassed under the root's identity."""
    session.get_one(Dog, 1).bark = "wau"
    session.flush()
    assert bypassed(session) == [("Animal", 1)]


WRITES: dict[str, Callable[[], Any]] = {
    "orm update": lambda: update(Item).where(Item.id == 3).values(qty=1),
    "orm delete": lambda: delete(Item).where(Item.id == 3),
    "orm insert": lambda: insert(Item).values(id=9, owner_id=1, sku="s", qty=1, attrs={}, version_id=1),
    "core update": lambda: update(table_of(Item)).values(qty=1),
    "core delete": lambda: delete(table_of(Item)),
    "light table": lambda: update(table("items", column("qty"))).values(qty=1),
    "other metadata": lambda: delete(table("items", column("id"))),
    "with a select": lambda: table_of(Item).insert().from_select(["id"], select(literal(9)).where(literal(1) == 2)),
    "returning": lambda: update(Item).values(qty=1).returning(Item),
    "from_statement": lambda: select(Item).from_statement(update(Item).values(qty=1).returning(Item)),
}


@pytest.mark.parametrize("make", WRITES.values(), ids=WRITES.keys())
def test_statement_that_writes(session: Session, make: Callable[[], Any]) -> None:
    """An INSERT, UPDATE or DELETE bypasses all rows of its table, and of no other."""
    session.execute(make(), execution_options={"synchronize_session": False})
    assert bypassed(session) == [("Item", 1), ("Item", 2)]


def test_statement_on_a_table_of_the_hierarchy(session: Session) -> None:
    """A write to a subclass's table bypasses the rows of the root."""
    session.execute(update(table_of(Dog)).values(bark="x"))
    assert bypassed(session) == [("Animal", 1), ("Animal", 2)]


def test_concrete_subclasses_are_apart(session: Session) -> None:
    """A write to a concrete subclass's table concerns it and its base, a write to the base's table the base alone."""
    session.execute(update(table_of(Vehicle)).values(wheels=1))
    assert bypasses(session, Vehicle, (1,))
    assert not bypasses(session, Truck, (1,))
    session.execute(update(table_of(Truck)).values(wheels=1))
    assert bypasses(session, Truck, (1,))


UNKNOWN: list[str] = [
    "UPDATE items SET qty = 1",
    "  delete from items",
    "WITH x AS (SELECT 1) UPDATE items SET qty = 1",
    "SELECT sinh(0)",
]


@pytest.mark.parametrize("statement", UNKNOWN)
def test_text_bypasses_everything(session: Session, statement: str) -> None:
    """A textual statement that may write anything bypasses every row."""
    session.execute(text(statement))
    assert len(bypassed(session)) == 7


def test_text_inside_another_statement(session: Session) -> None:
    """Text by from_statement is text."""
    rows = select(Item).from_statement(text("UPDATE items SET qty = 5 RETURNING *"))
    assert {item.qty for item in session.scalars(rows)} == {5}
    assert len(bypassed(session)) == 7


BULK: dict[str, Callable[[Session], object]] = {
    "update": lambda session: session.bulk_update_mappings(User, [{"id": 1, "name": "N"}]),
    "insert": lambda session: session.bulk_insert_mappings(Vehicle, [{"id": 5, "wheels": 3}]),
    "save": lambda session: session.bulk_save_objects([Vehicle(id=6, wheels=3)]),
}


@pytest.mark.parametrize("bulk", BULK.values(), ids=BULK.keys())
@pytest.mark.parametrize("flushed", [False, True])
def test_bulk_methods(session: Session, bulk: Callable[[Session], object], flushed: bool) -> None:
    """The bulk methods, of which no event tells, bypass every row, whether a flush went before or not."""
    if flushed:
        session.get_one(Item, 1).qty = 9
        session.flush()
    bulk(session)
    assert len(bypassed(session)) == 7


def test_within_a_flush(session: Session) -> None:
    """During a flush every row is bypassed: which ones it wrote is known at its end."""
    seen: list[object] = []

    def look(_mapper: object, _connection: object, _target: Item) -> None:
        seen.extend(bypassed(session))

    event.listen(Item, "after_update", look)
    try:
        session.get_one(Item, 1).qty = 9
        session.flush()
    finally:
        event.remove(Item, "after_update", look)
    assert len(seen) == 7
    assert bypassed(session) == [("Item", 1)]


def test_many_to_many(session: Session) -> None:
    """A flush of a many-to-many relationship bypasses a class that is mapped to its table."""
    assert module._side_tables(inspect(User), "onupdate") == set()
    session.add(Group(id=1, seats=[session.get_one(Seat, ("B", 7))]))
    session.flush()
    assert bypasses(session, Membership, (1, "B", 7))


def test_query_delete(session: Session) -> None:
    """The legacy Query.delete bypasses its table."""
    session.query(Seat).delete()
    assert bypassed(session) == [("Seat", "B")]


def test_rows_that_the_database_changes_along(db: Engine, session: Session) -> None:
    """A delete from a table with ON DELETE CASCADE bypasses the tables that depend on it."""
    session.execute(delete(table_of(Dog)))
    session.rollback()
    assert dependents(table_of(Animal), "ondelete") == {"dogs"}
    assert dependents(table_of(Animal), "onupdate") == set()
    assert dependents(table_of(User), "ondelete") == set()


ENDS: dict[str, Callable[[Session], object]] = {
    "commit": Session.commit,
    "rollback": Session.rollback,
    "close": Session.close,
    "reset": Session.reset,
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
@pytest.mark.parametrize("nested", [False, True])
def test_end_of_the_transaction(session: Session, end: Callable[[Session], object], nested: bool) -> None:
    """When the transaction ends, also from within a savepoint, the caches serve the session again."""
    if nested:
        session.begin_nested()
    session.get_one(Item, 1).qty = 9
    session.flush()
    session.execute(text("UPDATE users SET active = active"))
    end(session)
    assert bypassed(session) == []
    assert session not in module._journals


def test_begin_block(db: Engine) -> None:
    """A session.begin() block ends what it began."""
    with Session(db) as session:
        with session.begin():
            session.get_one(Item, 1).qty = 9
            session.flush()
            assert bypassed(session) == [("Item", 1)]
        assert bypassed(session) == []


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_savepoints_keep(session: Session, end: str) -> None:
    """What was flushed before or in a savepoint stays bypassed after it, whichever way it ended."""
    session.get_one(Item, 1).qty = 9
    savepoint = session.begin_nested()
    session.get_one(Item, 2).qty = 9
    session.flush()
    getattr(savepoint, end)()
    assert bypassed(session) == [("Item", 1), ("Item", 2)]


def test_failed_flush(session: Session) -> None:
    """After a failed flush, of which nothing is known, every row is bypassed."""
    with contextlib.suppress(IntegrityError), session.begin_nested():
        session.add(Item(id=1, owner_id=1, sku="twice", qty=1, attrs={}, version_id=1))
        session.flush()
    assert len(bypassed(session)) == 7


def test_two_phase(postgres: Engine) -> None:
    """A two-phase session is like any other."""
    with Session(postgres, twophase=True) as session:
        session.add(Vehicle(id=1, wheels=2))
        session.flush()
        assert bypasses(session, Vehicle, (1,))
        session.rollback()
        assert not bypasses(session, Vehicle, (1,))


def test_write_within_a_write(postgres: Engine) -> None:
    """A DELETE in a common table expression of an INSERT counts."""
    gone = delete(Truck).returning(Truck.id, Truck.wheels).cte()
    with Session(postgres) as session:
        session.execute(insert(Vehicle).from_select(["id", "wheels"], select(gone.c.id, gone.c.wheels)))
        assert bypasses(session, Vehicle, (1,))
        assert bypasses(session, Truck, (1,))
        assert not bypasses(session, Item, (1,))


def test_sessions_are_apart(db: Engine, session: Session) -> None:
    """What one session wrote does not concern another one."""
    session.get_one(Item, 1).qty = 9
    session.flush()
    with Session(db) as other:
        assert bypassed(other) == []


def test_a_dropped_session_is_forgotten(db: Engine) -> None:
    """A session that is dropped without a close leaves nothing behind."""
    session = Session(db)
    session.get_one(Item, 1).qty = 9
    session.flush()
    before = len(module._journals)
    connection = session.connection()
    del session
    gc.collect()
    assert len(module._journals) == before - 1
    connection.close()


def test_aliased_and_imperative_tables(session: Session) -> None:
    """An alias tells its table, and a class mapped imperatively is found by its table."""
    from tests.mapped.models import Plain

    session.execute(update(plain_table).values(label="x"))
    assert bypasses(session, Plain, (1,))
    session.execute(select(aliased(Item)))
    assert bypassed(session) == []


def test_single_table_sibling(session: Session) -> None:
    """A flushed sibling in one table leaves the others to the caches."""
    session.get_one(Cat, 2).purr = "loud"
    session.flush()
    assert bypassed(session) == [("Animal", 2)]
