"""What is noted of INSERT, UPDATE and DELETE statements of the ORM: exact keys, and the class where they cannot be had."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, Executable, bindparam, create_engine, delete, event, insert, literal, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import ORMExecuteState, Session, aliased, with_loader_criteria

from stockstore.coherence.protocol import Writes
from tests.mapped.models import table_of
from tests.sync.collect.conftest import Watch, Watching
from tests.sync.collect.models import (
    Animal,
    Base,
    Cat,
    Club,
    Code,
    Dog,
    Folded,
    Label,
    Numbered,
    Pair,
    Parent,
    Passive,
    Tag,
    Truck,
    Vehicle,
    Versioned,
)

Execute = Callable[[Session], Any]


def upsert(session: Session, cls: type) -> Any:
    """Give an INSERT of the session's dialect."""
    return (postgresql if session.get_bind().dialect.name == "postgresql" else sqlite).insert(cls)


CHANGES: dict[str, tuple[Execute, set[tuple[object, ...]], set[str]]] = {
    "update": (lambda s: s.execute(update(Tag).where(Tag.uses == 0).values(uses=1)), {("Tag", "red"), ("Tag", "blue")}, set()),
    "update of none": (lambda s: s.execute(update(Tag).where(Tag.uses == 7).values(uses=1)), set(), set()),
    "by the key": (lambda s: s.execute(update(Tag).where(Tag.name == "red").values(uses=1)), {("Tag", "red")}, set()),
    "by the keys": (lambda s: s.execute(update(Tag).where(Tag.name.in_(["red", "x"])).values(uses=1)), {("Tag", "red")}, set()),
    "by two names": (lambda s: s.execute(update(Pair).values(text="x")), {("Pair", 1, "z")}, set()),
    "expression": (lambda s: s.execute(update(Tag).where(Tag.name == "red").values({Tag.uses: Tag.uses + 1})), {("Tag", "red")}, set()),
    "parameters": (
        lambda s: s.execute(update(Tag).where(Tag.name == bindparam("n")).values(uses=bindparam("u")), {"n": "red", "u": 5}),
        {("Tag", "red")},
        set(),
    ),
    "fetch": (
        lambda s: s.execute(update(Tag).where(Tag.uses == 0).values(uses=1), execution_options={"synchronize_session": "fetch"}),
        {("Tag", "red"), ("Tag", "blue")},
        set(),
    ),
    "not synchronized": (
        lambda s: s.execute(delete(Label).where(Label.id == 1), execution_options={"synchronize_session": False}),
        {("Label", 1)},
        set(),
    ),
    "delete": (lambda s: s.execute(delete(Label).where(Label.tag_name == "red")), {("Label", 1)}, set()),
    "delete with cascades": (lambda s: s.execute(delete(Passive).where(Passive.id == 3)), {("Passive", 3)}, {"Grandchild"}),
    "several tables": (
        lambda s: s.execute(update(Label).where(Label.tag_name == Tag.name, Tag.uses == 0).values(tag_name="blue")),
        {("Label", 1)},
        set(),
    ),
    "subquery": (
        lambda s: s.execute(update(Tag).where(Tag.name.in_(select(Label.tag_name))).values(uses=1)),
        {("Tag", "red")},
        set(),
    ),
    "joined base": (lambda s: s.execute(update(Animal).where(Animal.name == "rex").values(name="x")), {("Animal", 2)}, set()),
    "joined subclass": (lambda s: s.execute(update(Dog).where(Dog.bark == "w").values(bark="x")), {("Animal", 2)}, set()),
    "single": (lambda s: s.execute(update(Cat).values(name="x")), {("Animal", 3)}, set()),
    "concrete": (lambda s: s.execute(update(Truck).values(wheels=8)), {("Truck", 1)}, set()),
    "concrete base": (lambda s: s.execute(update(Vehicle).values(wheels=8)), {("Vehicle", 1)}, set()),
    "own key": (lambda s: s.execute(update(Club).where(literal(1) == 1).values(id=5)), set(), {"Club"}),
    "key that others follow": (
        lambda s: s.execute(update(Tag).where(Tag.name == "red").values(name="crimson")),
        set(),
        {"Tag", "Label"},
    ),
    "key, by a synonym": (
        lambda s: s.execute(update(Tag).where(Tag.name == "red").values(title="crimson")),
        set(),
        {"Tag", "Label"},
    ),
    "key, by a synonym's attribute": (
        lambda s: s.execute(update(Tag).where(Tag.name == "red").values({Tag.title: "crimson"})),
        set(),
        {"Tag", "Label"},
    ),
    "key, by a synonym, legacy": (
        lambda s: s.query(Tag).filter_by(name="red").update({"title": "crimson"}),
        set(),
        {"Tag", "Label"},
    ),
    "own returning": (
        lambda s: s.execute(update(Tag).where(Tag.name == "red").values(uses=1).returning(Tag.uses)).all(),
        set(),
        {"Tag"},
    ),
    "shared table": (lambda s: s.execute(update(Versioned).values(name="x")), set(), {"Versioned", "Shadow"}),
    "by primary key": (
        lambda s: s.execute(update(Tag), [{"name": "red", "uses": 1}, {"name": "blue", "uses": 2}]),
        {("Tag", "red"), ("Tag", "blue")},
        set(),
    ),
    "by primary key, joined": (lambda s: s.execute(update(Dog), [{"id": 2, "bark": "x", "name": "y"}]), {("Animal", 2)}, set()),
    "many parameters on the connection": (
        lambda s: s.connection().execute(update(Tag).where(Tag.name == bindparam("n")).values(uses=1), [{"n": "red"}, {"n": "blue"}]),
        set(),
        {"Tag"},
    ),
    "legacy update": (lambda s: s.query(Tag).filter_by(name="red").update({"uses": 4}), {("Tag", "red")}, set()),
    "legacy delete": (lambda s: s.query(Label).filter(Label.id == 1).delete(), {("Label", 1)}, set()),
    "legacy delete, fetch": (lambda s: s.query(Label).delete("fetch"), {("Label", 1)}, set()),
    "upsert": (
        lambda s: s.execute(upsert(s, Tag).values(name="red", uses=1).on_conflict_do_update(index_elements=["name"], set_={"uses": 1})),
        set(),
        {"Tag", "Label"},
    ),
    "aliased": (lambda s: s.execute(update(aliased(Tag)).values(uses=1)), set(), {"Tag"}),
    "with a subquery": (
        lambda s: s.execute(
            update(Tag).where(Tag.name.in_(select(literal("red")))).values(uses=1), execution_options={"synchronize_session": False}
        ),
        {("Tag", "red")},
        set(),
    ),
}


@pytest.mark.parametrize(("change", "records", "classes"), CHANGES.values(), ids=CHANGES.keys())
def test_changes(watch: Watch, change: Execute, records: set[tuple[object, ...]], classes: set[str]) -> None:
    """The rows that a statement changes are noted by their keys; where these cannot be had, the class is."""
    change(watch.session)
    watch.session.rollback()
    watch.expect(*records, classes=classes)


INSERTS: dict[str, tuple[Execute, set[tuple[object, ...]]]] = {
    "keys given": (lambda s: s.execute(insert(Tag), [{"name": "x"}, {"name": "y"}]), {("Tag", "x"), ("Tag", "y")}),
    "one": (lambda s: s.execute(insert(Tag), {"name": "x"}), {("Tag", "x")}),
    "joined": (lambda s: s.execute(insert(Dog), [{"id": 9, "name": "x"}]), {("Animal", 9)}),
    "key of a type": (lambda s: s.execute(insert(Code), [{"code": "abc"}]), {("Code", "ABC")}),
    "two names": (lambda s: s.execute(insert(Pair), [{"zone": "q", "number": 4}]), {("Pair", 4, "q")}),
}


@pytest.mark.parametrize(("write", "records"), INSERTS.values(), ids=INSERTS.keys())
def test_inserts(watch: Watch, write: Execute, records: set[tuple[object, ...]]) -> None:
    """New rows are noted by the keys that were given."""
    write(watch.session)
    watch.session.rollback()
    watch.expect(*records)


UNKNOWN: dict[str, Execute] = {
    "generated": lambda s: s.execute(insert(Numbered), [{"name": "a"}, {"name": "b"}]),
    "some generated": lambda s: s.execute(insert(Numbered), [{"id": 1, "name": "a"}, {"id": None, "name": "b"}]),
    "returning": lambda s: s.scalars(insert(Numbered).returning(Numbered), [{"name": "a"}]).all(),
    "values": lambda s: s.execute(insert(Numbered).values(name="x")),
    "from a select": lambda s: s.execute(insert(Numbered).from_select(["name"], select(literal("x")))),
    "do nothing": lambda s: s.execute(upsert(s, Numbered).values(name="x").on_conflict_do_nothing()),
}


@pytest.mark.parametrize("write", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_inserts_of_unknown_keys(watch: Watch, write: Execute) -> None:
    """Of new rows whose keys the database makes it is noted that they are there."""
    write(watch.session)
    watch.session.rollback()
    watch.expect(inserted={"Numbered"})


def test_the_caller_sees_nothing_of_it(watch: Watch) -> None:
    """Count, objects in the session and their values are as they are without a hook."""
    tag, blue = watch.session.get_one(Tag, "red"), watch.session.get_one(Tag, "blue")
    result: Any = watch.session.execute(update(Tag).where(Tag.name == "red").values(uses=7))
    assert result.rowcount == 1
    assert (tag.uses, blue.uses) == (7, 0)
    result = watch.session.execute(update(Tag).where(Tag.uses > 100).values(uses=7))
    assert result.rowcount == 0
    assert watch.session.query(Label).filter_by(id=1).delete() == 1
    assert watch.session.scalars(select(Label)).all() == []


def test_own_returning_is_the_callers(watch: Watch) -> None:
    """A RETURNING that the caller wrote gives what it says."""
    rows = watch.session.execute(update(Tag).where(Tag.name == "red").values(uses=7).returning(Tag.uses, Tag.name)).all()
    assert [tuple(row) for row in rows] == [(7, "red")]
    assert [t.uses for t in watch.session.scalars(update(Tag).values(uses=8).returning(Tag))] == [8, 8]


def test_changes_before_it_are_flushed(watch: Watch) -> None:
    """What is flushed for the statement counts."""
    watch.session.get_one(Parent, 1).name = "b"
    watch.session.execute(update(Parent).where(Parent.name == "b").values(name="c"))
    watch.expect(("Parent", 1), ("Parent", 2))


@pytest.mark.parametrize(("limit", "exact"), [(2, True), (1, False)])
def test_limit(watching: Watching, limit: int, exact: bool) -> None:
    """Above the limit the class is noted, and no keys are fetched."""
    watch = watching(limit=limit)
    watch.session.execute(update(Tag).values(uses=1))
    watch.expect(*([("Tag", "red"), ("Tag", "blue")] if exact else []), classes=set() if exact else {"Tag"})
    assert any("RETURNING" in sql for sql in watch.sql) is exact
    watch.session.execute(update(Vehicle), [{"id": number, "wheels": 2} for number in (1, 1, 1)[: limit + 1]])
    assert "Vehicle" in watch.classes


def test_a_key_needs_no_count(watch: Watch) -> None:
    """Where the WHERE names the rows, they are not counted first."""
    watch.session.execute(update(Tag).where(Tag.name == "red").values(uses=1))
    assert len([sql for sql in watch.sql if sql.startswith("SELECT")]) == 0
    watch.session.execute(update(Tag).where(Tag.uses == 5).values(uses=1))
    assert len([sql for sql in watch.sql if sql.startswith("SELECT")]) == 1


def test_criteria_that_a_listener_adds(watch: Watch) -> None:
    """Criteria that another listener of the application adds are heeded."""

    def only_red(execution: ORMExecuteState) -> None:
        execution.statement = execution.statement.options(with_loader_criteria(Tag, Tag.name == "red"))

    event.listen(watch.session, "do_orm_execute", only_red)
    watch.session.execute(update(Tag).values(uses=1), execution_options={"synchronize_session": False})
    watch.expect(("Tag", "red"))


def test_failure_in_mid_way(watch: Watch) -> None:
    """A statement that was executed and failed afterwards has written all the same."""

    def fail(_session: object, *_rest: object) -> None:
        raise RuntimeError

    event.listen(watch.engine, "after_cursor_execute", fail)
    try:
        with pytest.raises(RuntimeError):
            watch.session.execute(update(Tag).where(Tag.name == "red").values(uses=1))
    finally:
        event.remove(watch.engine, "after_cursor_execute", fail)
    watch.expect(classes={"Tag"})


def test_statement_that_the_orm_refuses(watch: Watch) -> None:
    """What is refused before it is executed raises as it does without a hook."""
    with pytest.raises(InvalidRequestError):
        watch.session.execute(
            update(Tag).where(Tag.uses == 1), [{"name": "red", "uses": 1}], execution_options={"synchronize_session": "evaluate"}
        )


def test_autocommit(watching: Watching) -> None:
    """Where each statement commits by itself it is noted before, as a whole, since its keys are known only after."""
    watch = watching()
    noted: list[set[str]] = []
    watch.session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})

    def look(*_arguments: object) -> None:
        noted.append(watch.classes)

    event.listen(watch.engine, "before_cursor_execute", look)
    watch.session.execute(update(Tag).values(uses=1))
    event.remove(watch.engine, "before_cursor_execute", look)
    assert noted == [{"Tag"}]


def test_keys_that_equal_others(watch: Watch) -> None:
    """A list of keys is not believed where the database takes them for equal to others."""
    watch.session.execute(insert(Folded), [{"name": "a"}])
    watch.session.execute(update(Folded), [{"name": "A" if watch.engine.dialect.name == "sqlite" else "a", "uses": 1}])
    watch.expect(("Folded", "a"), classes={"Folded"} if watch.engine.dialect.name == "sqlite" else set())


# -- databases without RETURNING --------------------------------------------------------------------


@pytest.fixture
def without_returning(postgres_watch: Watch) -> Iterator[Watch]:
    """A watched session on a PostgreSQL whose RETURNING is not used, with two tags."""
    engine = create_engine(postgres_watch.engine.url)
    engine.dialect.update_returning = engine.dialect.delete_returning = False
    with Session(engine) as session:
        session.add_all([Tag(name="red"), Tag(name="blue", uses=5)])
        session.commit()
    watch = Watch(engine, postgres_watch.collecting)
    yield watch
    watch.close()
    engine.dispose()


@pytest.mark.parametrize(
    ("write", "lock"),
    [(update(Tag).where(Tag.uses == 0).values(uses=1), "FOR NO KEY UPDATE"), (delete(Tag).where(Tag.uses == 0), "FOR UPDATE")],
    ids=["update", "delete"],
)
def test_locked_before(without_returning: Watch, write: Executable, lock: str) -> None:
    """Without RETURNING the rows are looked for first, and locked as the statement locks them."""
    without_returning.session.execute(write)
    without_returning.expect(("Tag", "red"))
    assert any(lock in sql for sql in without_returning.sql)
    assert not any("RETURNING" in sql for sql in without_returning.sql)


def _match_meanwhile(watch: Watch, other: Engine, marker: str) -> list[int]:
    """Have a row of another connection start to match just before a statement."""
    done: list[int] = []

    def change(_connection: object, _cursor: object, sql: str, *_rest: object) -> None:
        if sql.startswith(marker) and not done:
            done.append(1)
            with other.begin() as connection:
                connection.execute(update(table_of(Tag)).where(table_of(Tag).c.name == "blue").values(uses=0))

    event.listen(watch.engine, "before_cursor_execute", change)
    return done


def test_row_that_starts_to_match(without_returning: Watch, postgres_engine: Engine) -> None:
    """A row that another transaction makes match between the look and the change is not missed: the class is noted."""
    done = _match_meanwhile(without_returning, postgres_engine, "UPDATE")
    without_returning.session.execute(update(Tag).where(Tag.uses == 0).values(uses=1))
    assert done == [1]
    without_returning.expect(classes={"Tag"})


def test_row_that_starts_to_match_with_returning(postgres_watch: Watch, postgres_engine: Engine) -> None:
    """With RETURNING such a row is noted as the others are."""
    with Session(postgres_engine) as session:
        session.add_all([Tag(name="red"), Tag(name="blue", uses=5)])
        session.commit()
    postgres_watch.writes = Writes()
    other = create_engine(postgres_engine.url)
    done = _match_meanwhile(postgres_watch, other, "UPDATE")
    postgres_watch.session.execute(update(Tag).where(Tag.uses == 0).values(uses=1))
    other.dispose()
    assert done == [1]
    postgres_watch.expect(("Tag", "red"), ("Tag", "blue"))


@pytest.fixture
def mariadb_watch(mariadb_engine: Engine) -> Iterator[Watch]:
    """A watched session on MariaDB, which has RETURNING for some statements, with two tags."""
    tables = [table_of(Tag), table_of(Label), table_of(Vehicle)]
    Base.metadata.create_all(mariadb_engine, tables=tables)
    with mariadb_engine.begin() as connection:
        for table in (table_of(Label), table_of(Tag), table_of(Vehicle)):
            connection.execute(table.delete())
    with Session(mariadb_engine) as session:
        session.add_all([Tag(name="red"), Tag(name="blue", uses=5), Vehicle(id=1)])
        session.commit()
    watch = Watch(mariadb_engine, Watch.every())
    yield watch
    watch.close()


def test_mariadb(mariadb_watch: Watch) -> None:
    """On MariaDB the rows of UPDATE and DELETE are noted one by one; texts may equal others, so a list of them is not believed."""
    mariadb_watch.session.execute(update(Tag).where(Tag.uses == 0).values(uses=1))
    mariadb_watch.session.execute(delete(Vehicle))
    mariadb_watch.expect(("Tag", "red"), ("Vehicle", 1))
    mariadb_watch.session.execute(update(Tag), [{"name": "BLUE", "uses": 1}])
    mariadb_watch.expect(("Tag", "red"), ("Vehicle", 1), classes={"Tag"})
