"""What a flush has written: identities, old and new."""

from decimal import Decimal

import pytest
from sqlalchemy import event, insert, update
from sqlalchemy.orm import Session

from tests.sync.collect.conftest import Watch, Watching
from tests.sync.collect.models import (
    Animal,
    Cat,
    Club,
    Code,
    Dog,
    Exact,
    Fan,
    Grandchild,
    Label,
    Node,
    Numbered,
    Owned,
    Padded,
    Pair,
    Parent,
    Passive,
    Tag,
    Truck,
    Unhashable,
    Vehicle,
    Versioned,
    log,
)


def test_nothing_flushed(watch: Watch) -> None:
    """Reading, and a change that is not flushed, notes nothing."""
    parent, _ = watch.session.get_one(Parent, 1), watch.session.get_one(Tag, "red")
    parent.name = "x"
    watch.session.rollback()
    watch.expect()


def test_new(watch: Watch) -> None:
    """A new row is noted by the key that the database gave it."""
    tag, numbered = Tag(name="new"), Numbered()
    watch.session.add_all([tag, numbered])
    watch.session.flush()
    assert numbered.id is not None
    watch.expect(("Tag", "new"), ("Numbered", numbered.id))


def test_modified(watch: Watch) -> None:
    """A modified row is noted, an unchanged one is not."""
    one, two = watch.session.get_one(Parent, 1), watch.session.get_one(Parent, 2)
    one.name = "x"
    two.owned.append(Owned(id=7))
    watch.session.flush()
    watch.expect(("Parent", 1), ("Owned", 7))


def test_expression(watch: Watch) -> None:
    """A column that is set to an SQL expression makes its row modified, with a version counter or without."""
    watch.session.get_one(Tag, "red").uses = Tag.uses + 1
    watch.session.flush()
    watch.expect(("Tag", "red"))


def test_set_back(watch: Watch) -> None:
    """A row whose columns have their old values again is not written, and not noted."""
    watch.session.get_one(Tag, "blue").uses = 1
    watch.session.get_one(Tag, "blue").uses = 0
    watch.session.flush()
    watch.expect()
    watch.session.get_one(Tag, "blue").uses = 1
    watch.session.flush()
    watch.expect(("Tag", "blue"))


def test_autoflush_and_savepoint(watch: Watch) -> None:
    """So is what a query flushes, and a savepoint."""
    watch.session.get_one(Parent, 1).name = "x"
    watch.session.query(Tag).all()
    watch.expect(("Parent", 1))
    with watch.session.begin_nested():
        watch.session.get_one(Parent, 2).name = "y"
    watch.expect(("Parent", 1), ("Parent", 2))


def test_deleted_with_orphans(watch: Watch) -> None:
    """An orphan is noted as its parent's deletion is."""
    parent = watch.session.get_one(Parent, 1)
    del parent.owned[0]
    watch.session.flush()
    watch.expect(("Owned", 1))


def test_child_of_another_parent(watch: Watch) -> None:
    """A child whose foreign key the flush sets is noted, its parents are not."""
    one, two = watch.session.get_one(Parent, 1), watch.session.get_one(Parent, 2)
    two.owned = [one.owned[0]]
    watch.session.flush()
    watch.expect(("Owned", 1))


def test_changed_primary_key(watch: Watch) -> None:
    """The old and the new identity are noted, in the order of the key's names."""
    watch.session.get_one(Pair, ("z", 1)).zone = "y"
    watch.session.flush()
    watch.expect(("Pair", 1, "z"), ("Pair", 1, "y"))


def test_changed_key_that_others_follow(watch: Watch) -> None:
    """Where the database hands a change on by ON UPDATE, the classes of those rows are noted."""
    watch.session.get_one(Tag, "red").name = "crimson"
    watch.session.flush()
    watch.expect(("Tag", "red"), ("Tag", "crimson"), classes={"Label"})
    assert watch.session.get_one(Label, 1).tag_name == "crimson"


def test_key_that_nobody_changed(watch: Watch) -> None:
    """Another column of such a row concerns nobody else."""
    watch.session.get_one(Tag, "red").uses = 5
    watch.session.flush()
    watch.expect(("Tag", "red"))


def test_inheritance(watch: Watch) -> None:
    """Rows of joined and single inheritance are noted by the root, concrete ones by their own class."""
    watch.session.get_one(Dog, 2).bark = "x"
    watch.session.get_one(Cat, 3).name = "x"
    watch.session.get_one(Truck, 1).wheels = 8
    watch.session.flush()
    watch.expect(("Animal", 2), ("Animal", 3), ("Truck", 1))


def test_deleted_subclass(watch: Watch) -> None:
    """A part of the row that the database deletes by the key of inheritance is the same record."""
    watch.session.delete(watch.session.get_one(Dog, 2))
    watch.session.delete(watch.session.get_one(Vehicle, 1))
    watch.session.flush()
    watch.expect(("Animal", 2), ("Vehicle", 1))


def test_unhashable(watch: Watch) -> None:
    """Objects that are equal, and have no hash, are rows of their own."""
    watch.session.get_one(Unhashable, 1).name = "same"
    watch.session.add(Unhashable(id=2, name="same"))
    watch.session.flush()
    watch.expect(("Unhashable", 1), ("Unhashable", 2))


def test_class_beside(watch: Watch) -> None:
    """Another class that has its rows in the same table is noted as a whole."""
    watch.session.get_one(Versioned, 1).name = "x"
    watch.session.flush()
    watch.expect(("Versioned", 1), classes={"Shadow"})


def test_merge(watch: Watch) -> None:
    """merge() writes as any flush does."""
    watch.session.merge(Parent(id=2, name="merged"))
    watch.session.merge(Tag(name="fresh"))
    watch.session.flush()
    watch.expect(("Parent", 2), ("Tag", "fresh"))


def test_many_to_many(watch: Watch) -> None:
    """The table of a many-to-many relationship is nobody's, unless a class is mapped to it."""
    parent, tag, club = watch.session.get_one(Parent, 1), watch.session.get_one(Tag, "red"), watch.session.get_one(Club, 1)
    parent.tags.append(tag)
    watch.session.flush()
    watch.expect()
    parent.memberships.append(club)
    watch.session.flush()
    watch.expect(inserted={"Membership"})
    parent.memberships.clear()
    watch.session.flush()
    watch.expect(classes={"Membership"}, inserted={"Membership"})


def test_key_stored_otherwise(watch: Watch) -> None:
    """A key that its type changes on the way is noted as the database has it."""
    watch.session.add(Code(code="abc"))
    watch.session.flush()
    watch.expect(("Code", "ABC"))


@pytest.mark.parametrize(
    "new", [Padded(code="ab"), Exact(amount=Decimal("1.5")), Tag(name="x"), Parent(id=7)], ids=lambda o: type(o).__name__
)
def test_key_that_the_database_may_round(watch: Watch, new: Padded | Exact | Tag | Parent) -> None:
    """Where the database may store a key as another value, the class is noted."""
    copy = type(new)(**{name: getattr(new, name) for name in type(new).__mapper__.columns.keys() if getattr(new, name) is not None})  # noqa: SIM118
    watch.session.add(copy)
    watch.session.flush()
    rounds = isinstance(new, (Padded, Exact))
    assert watch.classes == ({type(new).__name__} if rounds else set())
    assert len(watch.records) == (0 if rounds else 1)


def test_key_of_another_type(watch: Watch) -> None:
    """A key given as another type than the column's is not believed."""
    watch.session.add(Club(id="7"))
    watch.session.flush()
    watch.expect(classes={"Club"})


def test_write_in_an_event(watch: Watch) -> None:
    """What a mapper's event executes during the flush is noted, and is no statement of the flush."""

    def write(_mapper: object, connection: object, _target: object) -> None:
        connection.execute(update(Vehicle.__table__).values(wheels=3))  # type: ignore[attr-defined, arg-type]
        connection.execute(insert(log).values(line="x"))  # type: ignore[attr-defined]

    event.listen(Parent, "after_update", write)
    try:
        watch.session.get_one(Parent, 1).name = "x"
        watch.session.flush()
    finally:
        event.remove(Parent, "after_update", write)
    watch.expect(("Parent", 1), classes={"Vehicle"})


def test_failed_flush(watch: Watch) -> None:
    """A flush that failed leaves the classes that it may have written, until its savepoint is forgotten."""
    watch.session.add(Tag(name="red"))
    with pytest.raises(Exception, match=r"(?i)unique"):
        watch.session.flush()
    watch.session.rollback()
    watch.expect(inserted={"Tag"})


def test_held_classes_only(watching: Watching) -> None:
    """Classes that no cache holds are not noted."""
    watch = watching(holds=lambda root: root is Tag)
    watch.session.add_all([Tag(name="x"), Numbered()])
    watch.session.delete(watch.session.get_one(Parent, 1))
    watch.session.execute(update(Vehicle).values(wheels=3))
    watch.session.execute(update(Vehicle.__table__).values(wheels=3))  # type: ignore[arg-type]
    watch.session.flush()
    watch.expect(("Tag", "x"))


# -- what the database deletes along ------------------------------------------------------------------


def test_database_side_cascades(watch: Watch) -> None:
    """Rows that the database deletes or sets to NULL are noted one by one, at any depth; other parents' are not."""
    watch.session.delete(watch.session.get_one(Parent, 1))
    watch.session.flush()
    watch.expect(("Parent", 1), ("Owned", 1), ("Owned", 2), ("Passive", 1), ("Passive", 2), ("Grandchild", 1), ("Fan", 1))
    locks = {sql.split("FROM ")[1].split()[0]: sql.rpartition("FOR ")[2] for sql in watch.sql if "FOR " in sql}
    if watch.engine.dialect.name == "postgresql":
        assert locks == {"c_parents": "UPDATE", "c_passive": "UPDATE", "c_grandchildren": "UPDATE", "c_fans": "NO KEY UPDATE"}
    assert watch.session.query(Passive.id).all() == [(3,)]
    assert watch.session.get_one(Fan, 1).parent_id is None


def test_cascade_within_one_table(watch: Watch) -> None:
    """A table that refers to itself is followed to the end."""
    watch.session.delete(watch.session.get_one(Node, 1))
    watch.session.flush()
    watch.expect(("Node", 1), ("Node", 2), ("Node", 3))


def test_wide_cascade(watching: Watching) -> None:
    """Above the limit the classes are noted."""
    watch = watching(limit=3)
    watch.session.delete(watch.session.get_one(Parent, 1))
    watch.session.flush()
    assert watch.classes == {"Passive", "Grandchild", "Fan"}


def test_more_deletions_than_the_limit(watching: Watching) -> None:
    """The classes are noted, and nothing is looked up: a statement would have no room for any number of keys."""
    watch = watching(limit=3)
    watch.session.add_all([Parent(id=number) for number in range(11, 15)])
    watch.session.flush()
    watch.sql.clear()
    with watch.session.no_autoflush:
        for number in range(11, 15):
            watch.session.delete(watch.session.get_one(Parent, number))
    watch.session.flush()
    assert watch.classes == {"Passive", "Grandchild", "Fan"}
    assert not [sql for sql in watch.sql if "FOR UPDATE" in sql]


def test_orphan_with_cascades(watch: Watch) -> None:
    """Of an orphan it is not known before the flush that it goes: the classes below it are noted."""
    parent = watch.session.get_one(Parent, 1)
    parent.passive.remove(watch.session.get_one(Passive, 1))
    watch.session.flush()
    watch.expect(("Passive", 1), classes={"Grandchild"})


def test_cascade_is_not_asked_twice(watch: Watch) -> None:
    """A class that is noted anyway is not looked up."""
    watch.writes.add_class(Passive)
    watch.writes.add_class(Grandchild)
    watch.writes.add_class(Fan)
    parent = watch.session.get_one(Parent, 1)
    parent.owned, parent.tags, parent.memberships  # noqa: B018 - loads them
    watch.sql.clear()
    watch.session.delete(parent)
    watch.session.flush()
    assert not [sql for sql in watch.sql if "FROM c_grandchildren" in sql]


def test_child_that_comes_too_late(watch: Watch) -> None:
    """Between the look-up and the deletion nobody can give a parent another child."""
    watch.session.delete(watch.session.get_one(Parent, 1))
    blocked: list[str] = []

    def add_child(_session: Session, _context: object, _instances: object) -> None:
        with watch.engine.connect() as connection:
            if watch.engine.dialect.name == "postgresql":
                connection.exec_driver_sql("SET LOCAL lock_timeout = '50ms'")
            else:
                connection.exec_driver_sql("PRAGMA busy_timeout = 0")
            try:
                connection.execute(insert(Passive.__table__).values(id=9, parent_id=1))  # type: ignore[arg-type]
                connection.commit()
            except Exception as error:  # noqa: BLE001 - of either driver
                blocked.append(str(error))

    event.listen(watch.session, "before_flush", add_child)
    watch.session.flush()
    assert len(blocked) == 1
    assert "lock" in blocked[0]


def test_owned_children_are_the_orms(watch: Watch) -> None:
    """Children that the ORM deletes itself are noted as it does."""
    watch.session.delete(watch.session.get_one(Owned, 1))
    watch.session.flush()
    watch.expect(("Owned", 1))


def test_animal_of_the_base(watch: Watch) -> None:
    """A plain row of a root is one record."""
    watch.session.delete(watch.session.get_one(Animal, 1))
    watch.session.flush()
    watch.expect(("Animal", 1))
