"""Statements of a session of which the hook did not see what they write."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    bindparam,
    create_engine,
    delete,
    event,
    insert,
    text,
    update,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column, sessionmaker
from sqlalchemy.sql.elements import quoted_name
from sqlalchemy.sql.expression import ClauseElement, Executable

from stockstore import ChainedStore, ProcessMemoryStore, RedisStore, SqlAlchemyStore
from stockstore.mapped.statements import reading_of
from stockstore_ext.sqlalchemy import SessionSync
from tests.regressions.hooked import Chair, Hooked, Leg, Person, Seat, hook


@pytest.fixture
def hooked(engine: Engine, redis_url: str, namespace: str) -> Iterator[Hooked]:
    """Hooked sessions, with process memory above SQLite and Redis above PostgreSQL."""
    on_sqlite = engine.dialect.name == "sqlite"
    cache = ProcessMemoryStore(max_staleness=None, namespace=namespace) if on_sqlite else RedisStore(redis_url, namespace=namespace)
    with hook(engine, cache) as made:
        yield made


ON_POSTGRESQL = pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

HIDDEN = {
    "comment without a space": "WITH gone AS (--don't\nDELETE FROM persons WHERE name = 'old' AND id = 1 RETURNING id) SELECT id FROM gone",
    "comment in a comment": "WITH gone AS (/* a /* b */ don't */ DELETE FROM persons WHERE name = 'old' AND id = 1 RETURNING id) SELECT id FROM gone",
    "quote in a name": """SELECT 1 AS "a'b"; UPDATE persons SET name = 'new' WHERE id = 1""",
    "comment of a line without words": "SELECT 1;\n--\nUPDATE persons SET name = 'new' WHERE id = 1",
    "comment of a line in a table expression": "WITH gone AS (\n--\nDELETE FROM persons WHERE id = 1\nRETURNING id) SELECT id FROM gone",
    "comment that a carriage return ends": "-- what\rUPDATE persons SET name = 'new' WHERE id = 1",
    "names with dollars": "SELECT 1 AS a$b$; UPDATE persons SET name = 'new' WHERE id = 1; SELECT 2 AS d$b$",
    "statement after a function": (
        "CREATE OR REPLACE FUNCTION pg_temp.one() RETURNS int LANGUAGE sql AS $$SELECT 1; SELECT 2$$; UPDATE persons SET name = 'new' WHERE id = 1"
    ),
    "rows of a new table": (
        "CREATE TEMPORARY TABLE gone ON COMMIT DROP AS WITH gone AS (DELETE FROM persons WHERE name = 'old' AND id = 1 RETURNING id) TABLE gone"
    ),
    "name by code points": "UPDATE U&\"\\0070ersons\" SET name = 'new' WHERE id = 1",
}


@ON_POSTGRESQL
@pytest.mark.parametrize("sql", HIDDEN.values(), ids=HIDDEN)
def test_text_that_hides_its_write(hooked: Hooked, sql: str) -> None:
    """A quote within a comment or a name does not hide what follows it."""
    hooked.check(lambda session: session.connection().exec_driver_sql(sql))


@ON_SQLITE
def test_comment_before_a_write(hooked: Hooked) -> None:
    """The same on SQLite."""
    hooked.check(lambda session: session.execute(text("WITH a AS (SELECT 1 --don't\n) UPDATE persons SET name = 'new' WHERE name <> 'x'")))


COMMENTS = ["--\n-- Give the new names\n--\n", "--\n", "/* what */ ", "-- what\n", "\n  "]


@pytest.mark.parametrize("comment", COMMENTS)
@pytest.mark.parametrize("flushes", [False, True])
def test_comment_before_a_statement(hooked: Hooked, comment: str, flushes: bool) -> None:
    """It hides no write. That is committed with the session, with what is flushed after it, where SQLite's driver begins a transaction."""

    def write(session: Session) -> None:
        session.connection().exec_driver_sql(f"{comment}UPDATE persons SET name = 'new' WHERE id = {2 if flushes else 1}")
        assert hooked.name(2) == hooked.row(2)
        if flushes:
            session.get_one(Person, 1).name = "new"
            session.flush()
        assert hooked.name() == hooked.row()

    hooked.check(write)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 'it''s; update persons' FROM persons",
        "SELECT a ->> 'x' FROM persons -- what else\n",
        "SELECT a - -1 FROM persons /* it's */",
        "SELECT a FROM persons --\nWHERE a = 1 -- update persons\n",
        "SELECT $$update persons$$, $a$; delete from persons$a$",
        """SELECT "a b" FROM persons WHERE name = 'f(x)'""",
    ],
)
def test_text_that_only_looks_like_a_write(sql: str) -> None:
    """What stands in texts and comments is no write."""
    assert reading_of(sql).harmless


@pytest.mark.parametrize(
    "sql",
    [
        "/*M! DELETE FROM persons */",
        "SELECT 1 /*M!100100 INTO OUTFILE 'x' */",
        "SET @x = archive()",
        "CREATE TABLE x AS SELECT archive()",
        "CREATE TABLE x SELECT archive()",
        "CREATE TEMPORARY TABLE x AS EXECUTE archive",
        "CREATE MATERIALIZED VIEW x AS SELECT archive()",
        "CREATE TRIGGER x AFTER UPDATE ON y FOR EACH ROW EXECUTE FUNCTION z(); DELETE FROM persons",
        "CREATE FUNCTION x() RETURNS int LANGUAGE sql AS $$SELECT '\\d'$$; DELETE FROM persons",
        "CREATE FUNCTION x() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; END; DELETE FROM persons",
        "CREATE OR REPLACE TABLE persons (id int)",
        "CREATE OR REPLACE VIEW persons AS SELECT 1 AS id",
        "EXPLAIN ANALYZE EXECUTE archive",
        "EXPLAIN (ANALYZE) CREATE TABLE x AS EXECUTE archive",
        "ANALYZE SELECT archive()",
        "COPY (SELECT archive()) TO STDOUT",
        r"SELECT 'it\'s; create ', archive()",
        r"WITH x AS (SELECT E'it\'s; create '), y AS (DELETE FROM persons) SELECT 1",
    ],
)
def test_text_that_may_write(sql: str) -> None:
    """What is executed of a comment or an explained statement, called for a value or new rows, or stands behind a routine or an odd text."""
    assert not reading_of(sql).harmless


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE x AS (SELECT count(*) FROM persons)",
        "CREATE VIEW x AS SELECT archive()",
        "SET SESSION sql_mode = (SELECT REPLACE(@@sql_mode, 'ONLY_FULL_GROUP_BY', ''))",
        "SET LOCAL search_path TO one, two",
        "COPY (SELECT count(*) FROM persons) TO STDOUT",
        "EXPLAIN ANALYZE SELECT count(*) FROM persons",
        "CREATE FUNCTION x() RETURNS text LANGUAGE sql AS $a$SELECT '\\d'; DELETE FROM persons$a$",
        "CREATE FUNCTION x() RETURNS int LANGUAGE sql BEGIN ATOMIC DELETE FROM persons; SELECT 1; END",
        "CREATE TABLE x (a int, b int GENERATED ALWAYS AS (a + f(1)) STORED) WITH (fillfactor = 70)",
        "CREATE FUNCTION x() RETURNS TABLE (a int) LANGUAGE sql AS $$SELECT archive(); DELETE FROM persons$$",
        "CREATE TRIGGER x AFTER UPDATE ON y BEGIN UPDATE persons SET name = 'new'; DELETE FROM persons; END",
    ],
)
def test_text_that_only_defines(sql: str) -> None:
    """What is executed later is none of this transaction's."""
    assert reading_of(sql).harmless


class Rename(Executable, ClauseElement):
    """A construct of an application's own."""

    inherit_cache = False


@compiles(Rename)
def _rename(_rename: Rename, _compiler: Any, **_options: Any) -> str:
    return "UPDATE persons SET name = 'new' WHERE id = 1"


def test_construct_of_an_application(hooked: Hooked) -> None:
    """What an application compiles by itself is read as text."""
    hooked.check(lambda session: session.execute(Rename()))


def test_cache_of_compiled_statements(hooked: Hooked) -> None:
    """A statement in a mapper's event, with a cache of compiled statements of the application's own, is not one of the flush."""

    def rename(_mapper: object, connection: Any, person: Person) -> None:
        if person.id == 2:
            connection.execution_options(compiled_cache={}).execute(update(Person).where(Person.id == 1).values(name="new"))

    def write(session: Session) -> None:
        session.get_one(Person, 2).name = "changed"
        session.flush()

    event.listen(Person, "after_update", rename)
    try:
        hooked.check(write)
    finally:
        event.remove(Person, "after_update", rename)


def test_bulk_method_in_a_flush(hooked: Hooked) -> None:
    """A bulk method that is called by a listener of before_flush, after the hook's own, is not forgotten when the flush tells its rows."""

    def write(session: Session) -> None:
        event.listen(session, "before_flush", lambda flushing, *_: flushing.bulk_update_mappings(Person, [{"id": 1, "name": "new"}]))
        session.get_one(Person, 2).name = "changed"
        session.flush()

    hooked.check(write)


_CHAIRS: Any = Chair.__table__
QUOTED: dict[str, Executable] = {
    "core": update(_CHAIRS).values(name="new"),
    "core, of the table of another name space": update(Table(quoted_name("Chairs", True), MetaData(), Column("name", String))).values(
        name="new"
    ),
    "text": text("""UPDATE "Chairs" SET name = 'new'"""),
    "cascade of text": text("""DELETE FROM "Chairs" """),
}


@pytest.mark.parametrize("write", QUOTED.values(), ids=QUOTED)
def test_table_whose_name_is_quoted(hooked: Hooked, write: Executable) -> None:
    """It has capitals, which SQLAlchemy does not take away."""
    with Session(hooked.other) as session:
        session.add(Chair(id=1))
        session.flush()
        session.add(Leg(id=1, chair=1, name="leg"))
        session.commit()
    for cls in (Chair, Leg):
        assert hooked.store.get(cls, 1) is not None
        assert hooked.store.tiers[0].contains(cls, 1)
    with hooked.maker() as session:
        if hooked.engine.dialect.name == "sqlite":
            session.execute(text("PRAGMA foreign_keys = on"))
        session.execute(write)
        session.commit()
    with Session(hooked.other) as session:
        classes: tuple[type[Any], ...] = (Chair, Leg)
        for cls in classes:
            row, cached = session.get(cls, 1), hooked.store.get(cls, 1)
            assert (row and row.name) == (cached and cached.name) != "old"


@ON_SQLITE
@pytest.mark.parametrize("table", ["'persons'", "main.'persons'", "or ignore 'persons'"])
def test_table_in_the_quotes_of_texts(hooked: Hooked, table: str) -> None:
    """SQLite takes a text for a name where it stands for one."""
    hooked.check(lambda session: session.execute(text(f"UPDATE {table} SET name = 'new' WHERE id = 1")))


@ON_SQLITE
@pytest.mark.parametrize("by_flush", [True, False])
def test_row_that_another_takes_the_place_of(hooked: Hooked, by_flush: bool) -> None:
    """ON CONFLICT REPLACE in a table's definition deletes a row that no statement names."""
    with Session(hooked.other) as session:
        session.add(Seat(id=1, number=7))
        session.commit()
    assert hooked.store.get(Seat, 1) is not None
    assert hooked.store.tiers[0].contains(Seat, 1)
    with hooked.maker() as session:
        if by_flush:
            session.add(Seat(id=2, number=7))
        else:
            session.execute(insert(Seat), [{"id": 2, "number": 7}])
        session.commit()
    assert hooked.store.get(Seat, 1) is None


def test_a_cascade_to_a_class_that_is_mapped_later(sqlite_url: str) -> None:
    """A statement that was executed before tells of it as well."""
    base: Any = type("Apart", (DeclarativeBase,), {})
    columns: dict[str, Any] = {"__tablename__": "boxes", "__cache__": False, "id": mapped_column(Integer, primary_key=True)}
    box: Any = type("Box", (base,), columns)
    engine = create_engine(sqlite_url)
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys = on"))
    base.metadata.create_all(engine)
    store = ChainedStore([ProcessMemoryStore(max_staleness=None), SqlAlchemyStore(engine=engine)])
    maker = sessionmaker(engine)
    SessionSync(store).attach(maker)
    gone = delete(box).where(box.id == bindparam("wanted"))
    with maker.begin() as session:
        session.execute(gone, {"wanted": 1})
        session.add(box(id=1))
    key = ForeignKey("boxes.id", ondelete="CASCADE")
    ball: Any = type("Ball", (base,), {"__tablename__": "balls", "id": mapped_column(Integer, key, primary_key=True)})
    base.metadata.create_all(engine)
    with maker.begin() as session:
        session.add(ball(id=1))
    assert store.get(ball, 1) is not None
    with maker.begin() as session:
        session.execute(gone, {"wanted": 1})
    assert store.get(ball, 1) is None
    engine.dispose()
