"""One-to-many relationships, and statements by an index, from lists that the caches keep."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, event, insert, select, text
from sqlalchemy.orm import Session, selectinload

from tests.stores.listed import Animal, Cat, Dog, Item, Mark, Owner, bare, change_unseen, create_tables, empty
from tests.sync.conftest import ON_POSTGRES, Attach
from tests.sync.paths import Path


@pytest.fixture
def listed(attach: Attach, db: Engine) -> Path:
    """A database with three owners, of whom two have items, and sessions that read through the caches."""
    create_tables(db)
    empty(db)
    path = attach(read_through=True)
    path.seed(*(Owner(id=n) for n in (1, 2, 3)))
    path.seed(*(Item(id=n, owner_id=1 + n % 2) for n in (4, 3, 2, 1)))
    path.seed(*(Mark(id=n, owner_id=1) for n in (2, 1)))
    return path


@pytest.fixture
def asked(listed: Path) -> Iterator[list[str]]:
    """The SELECTs sent to the database from now on."""
    sent: list[str] = []

    def record(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.startswith("SELECT"):
            sent.append(statement)

    event.listen(listed.engine, "before_cursor_execute", record)
    yield sent
    event.remove(listed.engine, "before_cursor_execute", record)


def lazily(session: Session, owner: int = 1) -> list[int]:
    """Load a collection by looking at it."""
    return [item.id for item in session.get_one(Owner, owner).items]


def at_once(session: Session) -> list[list[int]]:
    """Load the collections of all owners by the loader of relationships."""
    owners = session.scalars(select(Owner).where(Owner.id.in_([3, 1, 2])).options(selectinload(Owner.items)))
    return [[item.id for item in owner.items] for owner in owners]


def by_statement(session: Session) -> list[int]:
    """Select by the index."""
    return [item.id for item in session.scalars(select(Item).where(Item.owner_id == 1).order_by(Item.id.desc()))]


def by_many(session: Session) -> list[int]:
    """Select by many values of the index."""
    return sorted(item.id for item in session.scalars(select(Item).where(Item.owner_id.in_([1, 2, 3]))))


WAYS = [(lazily, [2, 4]), (at_once, [[2, 4], [1, 3], []]), (by_statement, [4, 2]), (by_many, [1, 2, 3, 4])]


@pytest.mark.parametrize(("way", "expected"), WAYS, ids=["lazily", "at once", "by a statement", "by many"])
def test_served(listed: Path, asked: list[str], way: Any, expected: Any) -> None:
    """The first read takes as many SELECTs as SQLAlchemy's own, the third none; what comes in unseen stays unseen, what is written by a session is seen."""
    with Session(listed.other) as session:
        assert way(session) == expected
    for _ in range(2):
        with listed.maker() as session:
            assert way(session) == expected
    asked.clear()
    with listed.other.begin() as connection:
        connection.execute(insert(bare(Item)).values(id=9, owner_id=1, tenant=1, kind="book", title="x"))
    with listed.maker() as session:
        assert way(session) == expected
        assert not any("listed_items" in statement for statement in asked)
        assert all(item in session for item in session.identity_map.values())
    with listed.other.begin() as connection:
        connection.execute(text("DELETE FROM listed_items WHERE id = 9"))
    with listed.maker.begin() as session:
        session.add(Item(id=10, owner_id=1))
        session.get_one(Item, 1).owner_id = 3
    with Session(listed.other) as plain, listed.maker() as session:
        assert way(session) == way(plain) != expected


def test_first_read_takes_one_select(listed: Path, asked: list[str]) -> None:
    """A list that no cache has is read with its rows, as the statement itself would."""
    with listed.maker() as session:
        assert by_statement(session) == [4, 2]
    assert len(asked) == 1


def test_own_writes_are_seen(listed: Path) -> None:
    """Within its transaction a session sees the rows that it has added and moved, flushed or to be flushed; others do not."""
    for _ in range(2):
        with listed.maker() as session:
            by_statement(session)
    with listed.maker() as session:
        session.add(Item(id=10, owner_id=1))
        session.get_one(Item, 2).owner_id = 2
        assert by_statement(session) == [10, 4]
        with listed.maker() as other:
            assert by_statement(other) == [4, 2]
        session.rollback()
        assert by_statement(session) == [4, 2]


def test_identity_map_wins(listed: Path) -> None:
    """An instance that is there is given, with what it holds."""
    for _ in range(2):
        with listed.maker() as session:
            lazily(session)
    with listed.maker() as session, session.no_autoflush:
        item = session.get_one(Item, 2)
        item.title = "mine"
        items = session.get_one(Owner, 1).items
        assert items[0] is item
        assert [each.title for each in items] == ["mine", "old"]
        assert items[0].owner is session.get_one(Owner, 1)


def test_a_list_that_was_overtaken_is_the_databases(listed: Path) -> None:
    """Where a row is known to be elsewhere by now, the statement is executed as it is, and the list is kept anew."""
    for _ in range(2):
        with listed.maker() as session:
            by_statement(session)
    change_unseen(listed.other, Item, 2, owner_id=2)
    for tier in listed.store.tiers[:-1]:
        tier.delete(Item, 2)
    for _ in range(3):
        with listed.maker() as session:
            assert by_statement(session) == [4]


@pytest.mark.parametrize("options", [{"stockstore": False}, {"stockstore_refresh": True}], ids=["bypass", "refresh"])
def test_options(listed: Path, options: dict[str, bool]) -> None:
    """One reads the database alone; the other has the caches keep what it has read there."""
    statement = select(Item).where(Item.owner_id == 1)
    for _ in range(2):
        with listed.maker() as session:
            session.scalars(statement).all()
    change_unseen(listed.other, Item, 1, owner_id=1)
    with listed.maker() as session:
        assert [item.id for item in session.scalars(statement)] == [2, 4]
    with listed.maker() as session:
        assert sorted(item.id for item in session.scalars(statement, execution_options=options)) == [1, 2, 4]
    with listed.maker() as session:
        expected = [1, 2, 4] if "stockstore_refresh" in options else [2, 4]
        assert [item.id for item in session.scalars(statement)] == expected


@pytest.mark.parametrize(
    "statement",
    [
        select(Item).where(Item.owner_id == 1).order_by(Item.title),
        select(Item).where(Item.owner_id == 1).limit(1),
        select(Item).where(Item.owner_id == 1, Item.title == "old"),
        select(Item).where(Item.owner_id.is_(None)),
        select(Item).where(Item.owner_id == 1).with_for_update(),
        select(Item.id).where(Item.owner_id == 1),
    ],
    ids=["order of text", "limit", "more criteria", "null", "for update", "columns"],
)
def test_what_is_not_served(listed: Path, asked: list[str], statement: Any) -> None:
    """What a list does not tell for certain is read from the database each time."""
    for _ in range(2):
        with listed.maker() as session:
            session.execute(statement).all()
    asked.clear()
    with listed.maker() as session:
        session.execute(statement).all()
    assert len(asked) == 1


def test_a_hierarchy(listed: Path, asked: list[str]) -> None:
    """The list of the base gives the rows of a subclass alone to who asks for it."""
    listed.seed(Dog(id=1, owner_id=1, breed="pug"), Cat(id=2, owner_id=1))
    for _ in range(3):
        asked.clear()
        with listed.maker() as session:
            assert [type(one) for one in session.scalars(select(Animal).where(Animal.owner_id == 1).order_by(Animal.id))] == [Dog, Cat]
            assert [one.id for one in session.scalars(select(Cat).where(Cat.owner_id == 1))] == [2]
    assert asked == []


@ON_POSTGRES
def test_nothing_is_kept_from_an_old_snapshot(listed: Path) -> None:
    """A list that a session reads in REPEATABLE READ is kept by no cache."""
    with listed.maker() as session:
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        session.execute(text("SELECT count(*) FROM listed_owners")).all()
        change_unseen(listed.other, Item, 1, owner_id=1)
        by_statement(session)
        by_statement(session)
    with listed.maker() as session:
        assert by_statement(session) == [4, 2, 1]
