import enum
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import (
    BigInteger,
    Connection,
    Engine,
    ForeignKey,
    LargeBinary,
    String,
    TypeDecorator,
    Uuid,
    delete,
    insert,
    select,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from stockstore.errors import ConfigurationError
from stockstore.evidence import Outbox
from stockstore.keys import keys_of, namespace_text
from stockstore_ext.sqlalchemy import triggers


class Base(DeclarativeBase):
    __indexes__: list[Any] = []


class User(Base):
    __tablename__ = "trig_users"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str | None]
    kind: Mapped[str | None]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "user"}


class Admin(User):
    __tablename__ = "trig_admins"
    user: Mapped[int] = mapped_column(ForeignKey("trig_users.id", ondelete="CASCADE", onupdate="CASCADE"), primary_key=True)
    level: Mapped[int | None]
    __mapper_args__ = {"polymorphic_identity": "admin"}


class Tag(Base):
    __tablename__ = "trig tags"
    name: Mapped[str] = mapped_column("found", String(400), primary_key=True)
    note: Mapped[str | None]


class Place(Base):
    __tablename__ = "trig_places"
    town: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    street: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)


class Shouted(TypeDecorator[str]):
    impl = String
    cache_ok = True

    def process_result_value(self, value: str | None, dialect: object) -> str | None:
        """Change it."""
        return value and value.upper()


class Odd(Base):
    __tablename__ = "trig_odd"
    name: Mapped[str] = mapped_column(Shouted, primary_key=True)


class Raw(Base):
    __tablename__ = "trig_raw"
    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Listed(Base):
    __tablename__ = "trig_listed"
    __indexes__ = [("town", "street"), "colour"]
    id: Mapped[int] = mapped_column(primary_key=True)
    town: Mapped[int | None]
    street: Mapped[str]
    colour: Mapped[Colour | None]
    note: Mapped[str | None]


TABLES = ["trig_users", "trig_admins", "trig tags", "trig_places", "trig_odd", "trig_raw", "trig_listed"]
TAGS = Base.metadata.tables["trig tags"]
OUTBOX = Outbox()


@pytest.fixture(scope="module")
def made(postgres_engine: Engine) -> Iterator[Engine]:
    """A database with those tables, their triggers, and an outbox."""
    Base.metadata.create_all(postgres_engine)
    OUTBOX.create(postgres_engine)
    with postgres_engine.begin() as connection:
        assert triggers.install(connection, TABLES) == TABLES
    yield postgres_engine
    Base.metadata.drop_all(postgres_engine)


@pytest.fixture
def connection(made: Engine) -> Iterator[Connection]:
    """A connection with a transaction that is rolled back, after a commit's worth of writes."""
    with made.connect() as connection:
        yield connection
        connection.rollback()


def noted(connection: Connection) -> list[set[str]]:
    """Give the texts of each row of the outbox, and empty it."""
    rows = connection.execute(select(OUTBOX.definition.c.texts, OUTBOX.definition.c.ticket).order_by("id")).all()
    connection.execute(delete(OUTBOX.definition))
    assert [row.ticket for row in rows] == [None] * len(rows)
    assert all(len(row.texts.split("\n")) == len(set(row.texts.split("\n"))) for row in rows)
    return [set(row.texts.split("\n")) for row in rows]


def records(cls: type, *keys: object, namespace: str = "stockstore") -> set[str]:
    """Give the texts that a store gives to those keys."""
    lookups = [keys_of(cls).lookup(key) for key in keys]
    return {lookup.plan.record_text(namespace, lookup.native) for lookup in lookups}


def whole(cls: type, namespace: str = "stockstore") -> set[str]:
    """Give the text that names a class."""
    return {f"{namespace_text(namespace)}:{keys_of(cls).identity.label}:"}


def test_an_insert_notes_all_its_rows(connection: Connection) -> None:
    """One statement is one row of the outbox, and a statement without rows is none."""
    connection.execute(text("INSERT INTO trig_users (id) SELECT generate_series(1, 3)"))
    connection.execute(text("INSERT INTO trig_users (id) SELECT 1 WHERE false"))
    assert noted(connection) == [records(User, 1, 2, 3)]


def test_an_update_notes_old_and_new_keys(connection: Connection) -> None:
    """A changed primary key has two."""
    connection.execute(text("INSERT INTO trig_users (id) VALUES (1), (2)"))
    noted(connection)
    connection.execute(text("UPDATE trig_users SET name = 'x' WHERE id = 1"))
    connection.execute(text("UPDATE trig_users SET id = id + 10"))
    connection.execute(text("UPDATE trig_users SET name = 'y' WHERE id = 99"))
    assert noted(connection) == [records(User, 1), records(User, 1, 2, 11, 12)]


def test_a_delete_and_its_cascade_are_noted(connection: Connection) -> None:
    """The joined table's rows name the root's records, also by a key column of another name."""
    connection.execute(text("INSERT INTO trig_users (id, kind) VALUES (1, 'admin'), (2, 'user')"))
    connection.execute(text('INSERT INTO trig_admins ("user", level) VALUES (1, 1)'))
    assert noted(connection) == [records(User, 1, 2), records(User, 1)]
    connection.execute(text("DELETE FROM trig_users"))
    assert set.union(*noted(connection)) == records(User, 1, 2)
    connection.execute(text("INSERT INTO trig_users (id, kind) VALUES (1, 'admin')"))
    connection.execute(text('INSERT INTO trig_admins ("user", level) VALUES (1, 1)'))
    noted(connection)
    connection.execute(text("UPDATE trig_admins SET level = 2"))
    assert noted(connection) == [records(User, 1)]


def test_a_cascade_alone_is_noted(connection: Connection) -> None:
    """Without a trigger on the parent's table the child's tells of what the database deleted there."""
    connection.execute(text("INSERT INTO trig_users (id, kind) VALUES (1, 'admin')"))
    connection.execute(text('INSERT INTO trig_admins ("user") VALUES (1)'))
    connection.execute(text("ALTER TABLE trig_users DISABLE TRIGGER USER"))
    noted(connection)
    connection.execute(text("DELETE FROM trig_users"))
    assert noted(connection) == [records(User, 1)]


def test_an_upsert_notes_both_kinds(connection: Connection) -> None:
    """What it inserted and what it updated."""
    connection.execute(text("INSERT INTO trig_users (id) VALUES (1)"))
    noted(connection)
    connection.execute(text("INSERT INTO trig_users (id) VALUES (1), (2) ON CONFLICT (id) DO UPDATE SET name = 'x'"))
    assert set.union(*noted(connection)) == records(User, 1, 2)
    connection.execute(text("INSERT INTO trig_users (id) VALUES (1) ON CONFLICT DO NOTHING"))
    assert noted(connection) == []


def test_a_write_within_a_query_is_noted(connection: Connection) -> None:
    """A common table expression that writes, and a function that does."""
    connection.execute(text("INSERT INTO trig_users (id) VALUES (1), (2)"))
    connection.execute(
        text("CREATE FUNCTION pg_temp.touch() RETURNS void LANGUAGE sql AS $$ UPDATE trig_users SET name = 'x' WHERE id = 1 $$")
    )
    noted(connection)
    connection.execute(text("WITH gone AS (DELETE FROM trig_users WHERE id = 2 RETURNING id) SELECT * FROM gone"))
    connection.execute(text("SELECT pg_temp.touch()"))
    assert noted(connection) == [records(User, 2), records(User, 1)]


def test_a_truncate_notes_the_class(connection: Connection) -> None:
    """There are no rows to be told; what it truncates beside is noted too."""
    connection.execute(text("TRUNCATE trig_users CASCADE"))
    assert noted(connection) == [whole(User), whole(User)]


def test_a_copy_is_noted(connection: Connection) -> None:
    """COPY is an insert."""
    driver = connection.connection.driver_connection
    assert driver is not None
    with driver.cursor() as cursor, cursor.copy("COPY trig_users (id) FROM STDIN") as copy:
        copy.write_row([5])
    assert noted(connection) == [records(User, 5)]


def test_a_rollback_notes_nothing(made: Engine) -> None:
    """Neither of the transaction nor of a savepoint."""
    with made.connect() as connection:
        connection.execute(text("INSERT INTO trig_users (id) VALUES (1)"))
        connection.rollback()
        with connection.begin():
            point = connection.begin_nested()
            connection.execute(text("INSERT INTO trig_users (id) VALUES (2)"))
            point.rollback()
            connection.execute(text("INSERT INTO trig_users (id) VALUES (3)"))
            assert noted(connection) == [records(User, 3)]
        connection.execute(text("DELETE FROM trig_users"))
        noted(connection)
        connection.commit()


def test_a_statement_of_many_rows_notes_the_class(connection: Connection) -> None:
    """A thousand rows are keys, one more is the class."""
    connection.execute(text("INSERT INTO trig_users (id) SELECT generate_series(1, 1000)"))
    connection.execute(text("DELETE FROM trig_users"))
    assert noted(connection) == [records(User, *range(1, 1001))] * 2
    connection.execute(text("INSERT INTO trig_users (id) SELECT generate_series(1, 1001)"))
    connection.execute(text("UPDATE trig_users SET name = 'x' WHERE id <= 501"))
    assert noted(connection) == [whole(User), whole(User)]


@pytest.mark.parametrize("number", [0, -1, 10**18 - 1, -(10**18) + 1])
def test_numbers_are_written_as_the_stores_do(connection: Connection, number: int) -> None:
    """As far as they are written in decimal."""
    connection.execute(insert(User), {"id": number})
    assert noted(connection) == [records(User, number)]


@pytest.mark.parametrize("number", [10**18, -(10**18), 2**63 - 1, -(2**63)])
def test_larger_numbers_note_the_class(connection: Connection, number: int) -> None:
    """They are written otherwise."""
    connection.execute(insert(User), {"id": number})
    assert noted(connection) == [whole(User)]


TEXTS = [
    "",
    "plain",
    "Az09@.+-_~",
    "a b",
    "a:b/c",
    "100%",
    "ü",
    "日本",
    "🎈",
    "e\u0301",
    "\n",
    "a\n\tb\r",
    "\\1",
    "'; DROP TABLE trig_users; --",
    '"',
    "$stockstore$",
    "%",
    "\u2028",
    "\x7f",
    "[a-z]*",
    "^$",
    "\u0131",
    "x" * 190,
    "ü" * 30,
]


@pytest.mark.parametrize("value", TEXTS)
def test_texts_are_written_as_the_stores_do(connection: Connection, value: str) -> None:
    """Escapes and all; the column bears the name of a variable, the table's has a space."""
    connection.execute(insert(TAGS), {"found": value})
    assert noted(connection) == [records(Tag, value)]
    assert max(map(len, records(Tag, value))) < 250


def test_every_character_is_written_as_the_stores_do(connection: Connection) -> None:
    """All of the first thousand, and one of each later sort."""
    values = [chr(point) for point in [*range(1, 1000), 0xD7FF, 0xE000, 0xFFFD, 0xFFFF, 0x10000, 0x10FFFF]]
    connection.execute(insert(TAGS), [{"found": value} for value in values])
    assert set.union(*noted(connection)) == records(Tag, *values)


@pytest.mark.parametrize("length", [194, 195, 196, 197, 198, 199, 200, 201, 202, 203, 204, 205, 206, 207, 208, 209, 210, 260])
def test_a_text_too_long_for_a_key_notes_the_class(connection: Connection, length: int) -> None:
    """A key that ends in a digest is not to be told in SQL; the border is where the stores have it."""
    connection.execute(insert(TAGS), {"found": "x" * length})
    exact = records(Tag, "x" * length)
    assert noted(connection) == [exact if max(map(len, exact)) < 250 else whole(Tag)]


def test_a_key_of_several_parts_is_written_in_the_stores_order(connection: Connection) -> None:
    """By name: number, street, town."""
    town = uuid.UUID("00112233-4455-6677-8899-AABBCCDDEEFF")
    connection.execute(insert(Place), {"town": town, "street": "Am Weg: 3", "number": -7})
    assert noted(connection) == [records(Place, {"town": town, "street": "Am Weg: 3", "number": -7})]


def test_a_key_that_only_python_knows_notes_the_class(connection: Connection) -> None:
    """A type of the application's, and bytes."""
    connection.execute(text("INSERT INTO trig_odd VALUES ('a')"))
    connection.execute(text("INSERT INTO trig_raw VALUES ('a'), ('b')"))
    assert noted(connection) == [whole(Odd), whole(Raw)]


def test_a_column_that_is_not_of_the_models_type_notes_the_class(made: Engine) -> None:
    """What the database has decides: blanks and cases that it adds or ignores are not known here."""
    with made.connect() as connection:
        connection.execute(text('ALTER TABLE "trig tags" ALTER found TYPE char(10)'))
        triggers.install(connection, ["trig tags"])
        connection.execute(text("""INSERT INTO "trig tags" VALUES ('a')"""))
        assert noted(connection) == [whole(Tag)]
        connection.rollback()


def test_several_namespaces_are_noted(made: Engine) -> None:
    """Each cache has its own."""
    with made.connect() as connection:
        triggers.install(connection, ["trig_users"], namespaces=["one", "two words"])
        connection.execute(text("INSERT INTO trig_users (id) VALUES (1)"))
        connection.execute(text("TRUNCATE trig_users CASCADE"))
        keys = records(User, 1, namespace="one") | records(User, 1, namespace="two words")
        classes = whole(User, "one") | whole(User, "two words")
        assert noted(connection) == [keys, classes, whole(User)]
        connection.rollback()


def test_a_writer_may_say_that_nobody_needs_it(made: Engine) -> None:
    """For the one transaction; the next one on the same connection is noted."""
    with made.connect() as connection:
        connection.execute(triggers.SKIP)
        connection.execute(text("INSERT INTO trig_users (id) VALUES (1)"))
        assert noted(connection) == []
        connection.rollback()
        connection.execute(text("INSERT INTO trig_users (id) VALUES (1)"))
        assert noted(connection) == [records(User, 1)]
        connection.rollback()


def test_a_role_needs_no_right_to_the_outbox(made: Engine) -> None:
    """And its search path may be any."""
    with made.connect() as connection:
        schema = connection.execute(text("SELECT current_schema()")).scalar()
        connection.execute(text("CREATE ROLE stockstore_clerk"))
        connection.execute(text(f"GRANT USAGE ON SCHEMA {schema} TO stockstore_clerk"))
        connection.execute(text("GRANT INSERT ON trig_users TO stockstore_clerk"))
        connection.execute(text("SET LOCAL ROLE stockstore_clerk"))
        connection.execute(text("SET LOCAL search_path = pg_temp"))
        connection.execute(text(f"INSERT INTO {schema}.trig_users (id) VALUES (1)"))
        connection.execute(text("RESET ROLE"))
        connection.execute(text(f"SET LOCAL search_path = {schema}"))
        assert noted(connection) == [records(User, 1)]
        connection.rollback()


def test_triggers_are_shown_and_removed(made: Engine) -> None:
    """Installed twice they are there once; removed, nothing of them is left, and no other trigger went."""
    with made.connect() as connection:
        triggers.install(connection, ["trig_users"])
        names = [f"stockstore_outbox_{kind}" for kind in ("delete", "insert", "truncate", "update")]
        assert [(t.table, t.trigger) for t in triggers.installed(connection, ["trig_users"])] == [("trig_users", name) for name in names]
        assert len(triggers.installed(connection)) == 4 * len(TABLES)
        functions = text("SELECT count(*) FROM pg_proc WHERE starts_with(proname, 'stockstore_outbox_') AND pg_function_is_visible(oid)")
        assert connection.execute(functions).scalar() == 4 * len(TABLES)
        assert len(triggers.remove(connection, TABLES)) == 4 * len(TABLES)
        assert triggers.installed(connection) == []
        assert connection.execute(functions).scalar() == 0
        connection.execute(text("INSERT INTO trig_users (id) VALUES (1)"))
        assert noted(connection) == []
        connection.rollback()


def test_what_cannot_be_installed_is_said(made: Engine, sqlite_engine: Engine) -> None:
    """An unknown table, one that no class has, a missing outbox, another database."""
    with made.connect() as connection:
        with pytest.raises(ConfigurationError, match=r"no mapped class has its rows in a table 'nowhere'; .*trig_users"):
            triggers.install(connection, ["nowhere"])
        with pytest.raises(ConfigurationError, match="the database has no table nowhere"):
            triggers.remove(connection, ["nowhere"])
        connection.execute(text("DROP TABLE trig_raw"))
        with pytest.raises(ConfigurationError, match="the database has no table trig_raw"):
            triggers.install(connection, ["trig_raw", "trig_listed"])
        connection.execute(text("DROP TABLE stockstore_outbox"))
        with pytest.raises(ConfigurationError, match=r"no table stockstore_outbox, which the triggers write to"):
            triggers.install(connection, ["trig_users"])
        connection.rollback()
    with sqlite_engine.connect() as connection, pytest.raises(ConfigurationError, match="not on sqlite"):
        triggers.install(connection, ["trig_users"])


# -- lists ------------------------------------------------------------------------------------------


def lists(*values: tuple[object, str], namespace: str = "stockstore") -> set[str]:
    """Give the texts of the lists of these towns and streets."""
    lookups = [keys_of(Listed).listed({"town": town, "street": street}) for town, street in values]
    return {lookup.plan.record_text(namespace, lookup.native) for lookup in lookups}


def test_lists_that_rows_come_into_and_leave_are_noted(connection: Connection) -> None:
    """An insert and a delete note the lists of their rows, an update those that it has moved rows between; where SQL cannot tell a list, the class."""
    connection.execute(text("INSERT INTO trig_listed (id, town, street) VALUES (1, 7, 'a b'), (2, NULL, 'c:ü'), (3, 7, 'x')"))
    every = lists((7, "a b"), (None, "c:ü"), (7, "x"))
    assert noted(connection) == [records(Listed, 1, 2, 3) | every | whole(Listed)]
    connection.execute(text("UPDATE trig_listed SET note = 'new'"))
    assert noted(connection) == [records(Listed, 1, 2, 3)]
    connection.execute(text("UPDATE trig_listed SET town = 8, note = 'x' WHERE id < 3"))
    assert noted(connection) == [records(Listed, 1, 2) | lists((7, "a b"), (8, "a b"), (None, "c:ü"), (8, "c:ü"))]
    connection.execute(text("UPDATE trig_listed SET colour = 'RED' WHERE id = 1"))
    assert noted(connection) == [records(Listed, 1) | whole(Listed)]
    connection.execute(text("UPDATE trig_listed SET id = 30 WHERE id = 3"))
    assert noted(connection) == [records(Listed, 3, 30) | lists((7, "x")) | whole(Listed)]
    connection.execute(text("DELETE FROM trig_listed WHERE id = 1"))
    assert noted(connection) == [records(Listed, 1) | lists((8, "a b")) | whole(Listed)]


def test_lists_of_the_class_that_a_row_becomes_one_of_are_noted(connection: Connection) -> None:
    """What its base has listed nowhere comes into a list by its discriminator alone."""

    class Own(DeclarativeBase):
        pass

    class Thing(Own):
        __tablename__ = "trig_things"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "thing"}

    class Box(Thing):
        __indexes__ = ["shelf"]
        shelf: Mapped[int | None]
        __mapper_args__ = {"polymorphic_identity": "box"}

    Own.metadata.create_all(connection)
    triggers.install(connection, ["trig_things"])
    connection.execute(text("INSERT INTO trig_things (id, kind, shelf) VALUES (1, 'thing', 7)"))
    noted(connection)
    connection.execute(text("UPDATE trig_things SET kind = 'box'"))
    shelf = keys_of(Box).listed({"shelf": 7})
    assert noted(connection) == [records(Thing, 1) | {shelf.plan.record_text("stockstore", shelf.native)}]
