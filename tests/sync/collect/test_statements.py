"""What is noted of statements that no flush and no ORM executes: Core, bulk methods, text."""

import gc
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, column, delete, func, insert, literal, select, table, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import ExecutionContext
from sqlalchemy.orm import Session
from sqlalchemy.schema import CreateTable, DropTable

from stockstore.errors import StockstoreError
from stockstore_ext.sqlalchemy.collect import may_write
from tests.mapped.models import table_of
from tests.sync.collect.conftest import Watch, Watching
from tests.sync.collect.models import Animal, Base, Dog, Numbered, Parent, Passive, Tag, Truck, Vehicle, log, tagging

Execute = Callable[[Session], Any]
EVERY = {mapper.class_.__name__ for mapper in Base.registry.mappers} - {"Dog", "Cat"}

READS: dict[str, Execute] = {
    "select": lambda s: s.execute(select(table_of(Tag))),
    "orm": lambda s: s.scalars(select(Parent)).all(),
    "locked": lambda s: s.scalars(select(Parent).with_for_update()).all(),
    "union": lambda s: s.execute(select(Tag.name).union(select(Parent.name))),
    "cte": lambda s: s.execute(select(select(Tag.name).cte())),
    "count": lambda s: s.scalar(select(func.count()).select_from(Tag)),
    "text": lambda s: s.execute(text("SELECT count(*) FROM c_tags WHERE name IN ('update c_tags', 'x')")),
    "text with": lambda s: s.execute(text("WITH n(a) AS (SELECT name FROM c_tags) SELECT max(a) FROM n")),
    "from_statement": lambda s: s.scalars(select(Tag).from_statement(text("SELECT * FROM c_tags"))).all(),
    "driver": lambda s: s.connection().exec_driver_sql("SELECT 1"),
    "savepoint": lambda s: s.begin_nested().commit(),
    "no class": lambda s: s.execute(insert(log).values(id=1)),
    "no class, text": lambda s: s.execute(text("INSERT INTO c_log (id, line) VALUES (1, lower('X'))")),
    "secondary": lambda s: s.execute(insert(tagging).values(parent_id=2, tag_name="red")),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
def test_what_writes_nothing(watch: Watch, read: Execute) -> None:
    """Reads, and writes to tables without a class, note nothing."""
    read(watch.session)
    watch.expect()
    watch.session.rollback()


WRITES: dict[str, tuple[Execute, set[str]]] = {
    "update": (lambda s: s.execute(update(table_of(Tag)).values(uses=1)), {"Tag"}),
    "update of the key": (lambda s: s.execute(update(table_of(Tag)).where(literal(1) == 2).values(name="x")), {"Tag", "Label"}),
    "update by a dict": (lambda s: s.connection().execute(update(table_of(Vehicle)), {"wheels": 1}), {"Vehicle"}),
    "delete": (lambda s: s.execute(delete(table_of(Vehicle))), {"Vehicle"}),
    "delete with cascades": (lambda s: s.execute(delete(table_of(Passive))), {"Passive", "Grandchild"}),
    "light table": (lambda s: s.execute(update(table("c_tags", column("uses"))).values(uses=1)), {"Tag"}),
    "executemany": (
        lambda s: s.connection().execute(update(table_of(Vehicle)).where(table_of(Vehicle).c.id == 1).values(wheels=1), [{}, {}]),
        {"Vehicle"},
    ),
    "joined subclass": (lambda s: s.execute(update(table_of(Dog)).values(bark="x")), {"Animal"}),
    "joined base": (lambda s: s.execute(update(table_of(Animal)).values(name="x")), {"Animal"}),
    "concrete": (lambda s: s.execute(update(table_of(Truck)).values(wheels=1)), {"Truck"}),
    "two classes": (lambda s: s.execute(update(Base.metadata.tables["c_versioned"]).values(name="x")), {"Versioned", "Shadow"}),
    "upsert": (
        lambda s: s.execute(_upsert(s).values(name="red").on_conflict_do_update(index_elements=["name"], set_={"uses": 1})),
        {"Tag", "Label"},
    ),
    "bulk_update_mappings": (lambda s: s.bulk_update_mappings(Tag, [{"name": "red", "uses": 1}]), {"Tag"}),
    "bulk_save_objects": (lambda s: s.bulk_save_objects([_dirty(s)]), {"Tag"}),
    "driver": (lambda s: s.connection().exec_driver_sql("UPDATE c_tags SET uses = 1"), {"Tag"}),
    "text": (lambda s: s.execute(text('  update\n"c_tags" SET uses = :n'), {"n": 1}), {"Tag"}),
    "text on the connection": (lambda s: s.connection().execute(text("DELETE FROM c_clubs")), {"Club"}),
    "text with cascades": (lambda s: s.execute(text("DELETE FROM c_passive")), {"Passive", "Grandchild"}),
    "text with": (lambda s: s.execute(text("WITH n AS (SELECT 1) UPDATE c_vehicles SET wheels = 1")), {"Vehicle"}),
    "text with columns": (lambda s: s.execute(text("INSERT INTO c_log (id) SELECT uses FROM c_tags WHERE uses = 77")), {"Tag"}),
    "insert from a select": (
        lambda s: s.execute(insert(table_of(Vehicle)).from_select(["id"], select(literal(99)))),
        set(),
    ),
    "unknown function": (lambda s: s.execute(text("SELECT sinh(0)")), EVERY),
    "unknown function of a table": (
        lambda s: s.execute(text("SELECT sinh(uses) FROM c_tags")),
        EVERY,
    ),
}


def _upsert(session: Session) -> Any:
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    return dialect.insert(table_of(Tag))


def _dirty(session: Session) -> Tag:
    tag = session.get_one(Tag, "red")
    session.expunge(tag)
    tag.uses = 9
    return tag


@pytest.mark.parametrize(("write", "classes"), WRITES.values(), ids=WRITES.keys())
def test_what_writes(watch: Watch, write: Execute, classes: set[str]) -> None:
    """Every other write notes the classes of its tables, and those that the database changes along."""
    write(watch.session)
    watch.session.rollback()
    inserted = {"Vehicle"} if not classes else set()
    watch.expect(classes=classes, inserted=inserted)


INSERTS: dict[str, Execute] = {
    "core": lambda s: s.execute(insert(table_of(Numbered)), [{"name": "a"}, {"name": "b"}]),
    "returning": lambda s: s.execute(insert(table_of(Numbered)).values(name="a").returning(table_of(Numbered).c.id)).all(),
    "bulk_insert_mappings": lambda s: s.bulk_insert_mappings(Numbered, [{"name": "a"}]),
    "bulk_save_objects": lambda s: s.bulk_save_objects([Numbered(name="a")]),
    "do nothing": lambda s: s.execute(
        (postgresql if s.get_bind().dialect.name == "postgresql" else sqlite)
        .insert(table_of(Numbered))
        .values(id=1)
        .on_conflict_do_nothing()
    ),
}


@pytest.mark.parametrize("write", INSERTS.values(), ids=INSERTS.keys())
def test_inserts(watch: Watch, write: Execute) -> None:
    """New rows make nothing wrong that is cached: it is noted only that there are some."""
    write(watch.session)
    watch.session.rollback()
    watch.expect(inserted={"Numbered"})


def test_bulk_methods_before_and_after_a_flush(watch: Watch) -> None:
    """A flush tells its own rows; it does not take back what a bulk method wrote before or after it."""
    watch.session.bulk_update_mappings(Tag, [{"name": "red", "uses": 1}])
    watch.session.get_one(Parent, 1).name = "x"
    watch.session.flush()
    watch.session.bulk_update_mappings(Vehicle, [{"id": 1, "wheels": 1}])
    watch.expect(("Parent", 1), classes={"Tag", "Vehicle"})


def test_bulk_method_after_a_failed_listener(watch: Watch) -> None:
    """A flush that never began leaves no mark by which a bulk method's statements would pass for its own."""
    from sqlalchemy import event

    def fail(_session: Session, _context: object, _instances: object) -> None:
        raise RuntimeError

    event.listen(watch.session, "before_flush", fail)
    watch.session.add(Tag(name="x"))
    with pytest.raises(RuntimeError):
        watch.session.flush()
    event.remove(watch.session, "before_flush", fail)
    watch.session.expunge_all()
    watch.session.bulk_update_mappings(Tag, [{"name": "red", "uses": 1}])
    watch.expect(classes={"Tag"})


def test_flush_statements_carry_their_mappers_cache(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Statements of a flush, and no others but those of bulk methods, are executed with a compiled cache of their own."""
    from sqlalchemy import event

    seen: dict[str, bool] = {}

    def look(_connection: object, _cursor: object, sql: str, _parameters: object, context: ExecutionContext, _many: bool) -> None:
        seen[" ".join(sql.split()[:3])] = context.execution_options.get("compiled_cache") is not None

    event.listen(watch.engine, "before_cursor_execute", look)
    try:
        tag = Tag(name="new")
        watch.session.add(tag)
        watch.session.flush()
        tag.uses = 5
        watch.session.flush()
        watch.session.delete(tag)
        watch.session.flush()
        watch.session.execute(update(table_of(Parent)).values(name="x"))
        watch.session.execute(delete(Vehicle))
    finally:
        event.remove(watch.engine, "before_cursor_execute", look)
    assert seen.pop("DELETE FROM c_vehicles") is False
    assert seen.pop("UPDATE c_parents SET") is False
    own = {sql: cached for sql, cached in seen.items() if re.match("INSERT|UPDATE|DELETE", sql)}
    assert own == {"INSERT INTO c_tags": True, "UPDATE c_tags SET": True, "DELETE FROM c_tags": True}


def test_dml_in_a_common_table_expression(watch: Watch) -> None:
    """A SELECT of what an UPDATE in it returned is a write."""
    changed = update(table_of(Vehicle)).values(wheels=1).returning(table_of(Vehicle).c.id).cte()
    if watch.engine.dialect.name == "postgresql":
        watch.session.execute(select(changed))
        watch.expect(classes={"Vehicle"})
        watch.session.execute(select(Tag).from_statement(update(Tag).values(uses=2).returning(Tag)))
        assert "Tag" in watch.classes
    else:
        watch.session.execute(select(Tag).from_statement(update(Tag).values(uses=2).returning(Tag)))
        watch.expect(classes={"Tag"})


DEFINITIONS: dict[str, tuple[Execute, set[str]]] = {
    "truncate": (lambda s: s.execute(text("TRUNCATE c_trucks")), {"Truck"}),
    "truncate, cascading": (lambda s: s.execute(text("TRUNCATE c_tags CASCADE")), {"Tag", "Label"}),
    "drop": (lambda s: s.connection().execute(DropTable(table_of(Truck))), {"Truck"}),
    "alter": (lambda s: s.connection().exec_driver_sql("ALTER TABLE c_trucks ADD COLUMN extra integer"), {"Truck"}),
    "create": (lambda s: s.connection().execute(CreateTable(Table("c_scratch", MetaData(), Column("id", Integer)))), set()),
    "trigger": (
        lambda s: s.execute(text("CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $$ DELETE FROM c_fans; DELETE FROM c_tags $$")),
        set(),
    ),
    "call": (lambda s: s.execute(text("DO $$ BEGIN DELETE FROM c_fans; END $$")), EVERY),
}


@pytest.mark.parametrize(("define", "classes"), DEFINITIONS.values(), ids=DEFINITIONS.keys())
def test_definitions(postgres_watch: Watch, define: Execute, classes: set[str]) -> None:
    """What empties, drops or alters a table writes to it; what creates one does not."""
    define(postgres_watch.session)
    postgres_watch.session.rollback()
    postgres_watch.expect(classes=classes)


def test_two_phases_of_policy(watching: Watching, caplog: pytest.LogCaptureFixture) -> None:
    """Text that does not tell what it writes is refused, or logged, as the policy says."""
    strict = watching(policy="raise")
    with pytest.raises(StockstoreError, match="SELECT sinh"):
        strict.session.execute(text("SELECT sinh(0)"))
    strict.session.rollback()
    strict.session.execute(text("UPDATE c_tags SET uses = 3"))
    strict.session.execute(text("SELECT count(*) FROM c_tags"))
    assert strict.classes == {"Tag"}
    strict.close()
    with caplog.at_level(logging.WARNING):
        warned = watching(policy="warn")
        warned.session.execute(text("SELECT sinh(0)"))
    assert "SELECT sinh(0)" in caplog.text
    assert warned.classes >= {"Tag", "Parent", "Animal"}


def test_schemas(watch: Watch) -> None:
    """A table of another schema is another one, unless the schema is not known."""
    from stockstore.mapped.tables import roots_of

    metadata = MetaData()
    assert roots_of(Table("c_tags", metadata, schema="elsewhere")) == {Tag}
    assert roots_of(Table("C_TAGS", metadata)) == {Tag}

    class Local(Base):
        __tablename__ = "c_local"
        __table_args__ = {"schema": "one"}
        id: Any = Column(Integer, primary_key=True)

    try:
        assert roots_of(Table("c_local", metadata, schema="two")) == set()
        assert roots_of(Table("c_local", metadata, schema="two"), any_schema=True) == {Local}
        assert roots_of(Table("c_local", metadata, schema="one")) == {Local}
        assert roots_of(Table("c_local", metadata)) == {Local}
    finally:
        Base.metadata.remove(table_of(Local))
        Base.registry._dispose_cls(Local)
        del Local
        gc.collect()  # no later test is to find the class


def test_reads_are_let_through_at_once(watch: Watch) -> None:
    """Of a SELECT nothing is looked up but what the statement says of itself."""
    from sqlalchemy import event

    asked: list[bool] = []

    def look(_connection: object, _cursor: object, _sql: str, _parameters: object, context: ExecutionContext, _many: bool) -> None:
        asked.append(may_write(context))

    event.listen(watch.engine, "before_cursor_execute", look)
    watch.session.scalars(select(Parent)).all()
    watch.session.get(Tag, "red")
    watch.session.execute(update(Tag).where(Tag.name == "x").values(uses=1))
    event.remove(watch.engine, "before_cursor_execute", look)
    assert asked == [False, False, True]
