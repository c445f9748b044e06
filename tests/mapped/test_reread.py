"""Exact re-reads: what the writer's own connection sees is what the origin's store reads."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Dialect,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    TypeDecorator,
    delete,
    event,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, column_property, mapped_column, registry

from stockstore import SqlAlchemyStore
from stockstore.keys import keys_of
from stockstore.mapped import UNLOADED, plan_of, selecting
from stockstore.mapped import reread as module
from stockstore.mapped.reread import is_exact, reread
from stockstore.mapped.selecting import Row
from stockstore.stores.snapshots import RowSnapshot
from tests.mapped.models import Animal, Card, Cat, Doc, Dog, Item, Plain, Priced, Seat, Truck, User, Vehicle, table_of
from tests.statements import recorded
from tests.stores.test_column_types import cases


def as_read(engine: Engine, root: type, keys: Sequence[tuple[object, ...]]) -> dict[bytes, type]:
    """Give payloads and classes of rows as the origin's store reads them."""
    names = keys_of(root).identity.names
    with SqlAlchemyStore(engine=engine) as store:
        rows = store.batch_fetch(root, [dict(zip(names, key, strict=True)) for key in keys])
    return {row.payload(): row.cls for row in rows if isinstance(row, RowSnapshot)}


def payloads(rows: Sequence[Row]) -> dict[bytes, type]:
    """Give payloads and classes of rows that were read again."""
    return {RowSnapshot(plan, state).payload(): plan.cls for plan, state in rows}


EACH: list[tuple[type, list[tuple[object, ...]], list[type]]] = [
    (User, [(1,), (2,)], [User, User]),
    (Item, [(1,), (2,), (3,)], [Item, Item, Item]),
    (Animal, [(1,), (2,), (3,)], [Animal, Cat, Dog]),
    (Vehicle, [(1,)], [Vehicle]),
    (Truck, [(1,)], [Truck]),
    (Doc, [(1,)], [Doc]),
    (Priced, [(1,)], [Priced]),
    (Seat, [(7, "B")], [Seat]),
    (Card, [(1,)], [Card]),
    (Plain, [(1,)], [Plain]),
]


@pytest.mark.parametrize(("root", "keys", "classes"), EACH, ids=[root.__name__ for root, _, _ in EACH])
def test_mapped_classes(db: Engine, root: type, keys: list[tuple[object, ...]], classes: list[type]) -> None:
    """Rows of every inheritance kind come with the class and the values that the store reads, deferred columns unloaded; others are missing."""
    absent = [tuple(1000 if isinstance(part, int) else "?" for part in keys[0])]
    with db.begin() as connection:
        assert is_exact(connection, root)
        rows = reread(connection, root, [*keys, *absent])
    assert sorted(plan.cls.__name__ for plan, _ in rows) == sorted(cls.__name__ for cls in classes)
    assert payloads(rows) == as_read(db, root, keys)
    assert all(plan is plan_of(plan.cls) for plan, _ in rows)
    assert all((UNLOADED in state) == any(plan.mapper.column_attrs[a].deferred for a in plan.attrs) for plan, state in rows)


@pytest.fixture(scope="module")
def kinds(engine: Engine) -> Iterator[type]:
    """A mapped class with a column of each type, and a row for each value."""
    types = {name: kind for name, kind, _ in cases(engine)}
    metadata = MetaData()
    table = Table("kinds", metadata, Column("id", Integer, primary_key=True), *(Column(name, kind) for name, kind in types.items()))
    kind: type = type("Kinds", (), {"__module__": __name__, "__keys__": ["id"]})
    mappings = registry(metadata=metadata)
    mappings.map_imperatively(kind, table)
    metadata.create_all(engine)
    with engine.begin() as connection:
        for number, (name, _, value) in enumerate(cases(engine), start=1):
            connection.execute(insert(table).values({"id": number, name: value}))
    yield kind
    mappings.dispose()


def test_column_types(engine: Engine, kinds: type) -> None:
    """Every column type comes with the very bytes that the store's read would give."""
    keys = [(number,) for number in range(1, len(cases(engine)) + 1)]
    with engine.begin() as connection:
        rows = reread(connection, kinds, keys)
    assert len(rows) == len(keys)
    assert payloads(rows) == as_read(engine, kinds, keys)
    together = [plan.pack_all([state]) for plan, state in rows]
    assert all(found in (None, [plan.pack(tuple(state))]) for found, (plan, state) in zip(together, rows, strict=True))
    assert any(together)


def test_uncommitted_values(db: Engine) -> None:
    """The rows are as the connection's own transaction has them, before it commits."""
    with db.begin() as connection:
        connection.execute(update(table_of(User)).where(table_of(User).c.id == 1).values(name="new"))
        ((plan, state),) = reread(connection, User, [(1,)])
        assert state[plan.attrs.index("name")] == "new"


def test_no_session_takes_part(db: Engine) -> None:
    """Neither a flush nor an event of a load comes of a re-read, and the session keeps the values it has."""
    loads: list[object] = []

    def note(target: object, _context: object) -> None:
        loads.append(target)

    event.listen(User, "load", note)
    try:
        with Session(db) as session:
            user = session.get_one(User, 1)
            loads.clear()
            user.name = "pending"
            ((plan, state),) = reread(session.connection(), User, [(1,)])
            assert state[plan.attrs.index("name")] == "Ann"
            assert session.is_modified(user)
            assert loads == []
    finally:
        event.remove(User, "load", note)


def test_many_keys(db: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """More keys than a statement has parameters for are read in several statements."""
    monkeypatch.setattr(selecting, "key_limit", lambda _dialect, _width: 2)
    with db.begin() as connection:
        assert len(reread(connection, Item, [(1,), (2,), (3,)])) == 3
        assert reread(connection, Item, []) == []


def test_more_keys_of_several_columns_than_a_statement_takes(db: Engine) -> None:
    """PostgreSQL has no stack for a list of 8,000 of them; they are read in several statements."""
    with db.begin() as connection:
        assert reread(connection, Seat, [(number, "A") for number in range(10_000, 18_000)]) == []


class Shifted(TypeDecorator[int]):
    """Numbers that the database has a thousand higher."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> int | None:
        """Shift what is sent."""
        return None if value is None else value + 1000

    def process_result_value(self, value: int | None, dialect: Dialect) -> int | None:
        """Shift back what comes."""
        return None if value is None else value - 1000


def test_keys_of_a_type_with_a_variant(sqlite_engine: Engine) -> None:
    """Keys are bound as the database's own variant of their type has them."""

    class Base(DeclarativeBase):
        pass

    class Piece(Base):
        __tablename__ = "pieces"
        id: Mapped[int] = mapped_column(Integer().with_variant(Shifted(), "sqlite"), primary_key=True)

    with sqlite_engine.connect() as connection:
        connection.execute(text("CREATE TEMPORARY TABLE pieces (id INTEGER PRIMARY KEY)"))
        connection.execute(text("INSERT INTO pieces VALUES (1001), (1002), (3)"))
        assert [state for _, state in reread(connection, Piece, [(1,), (2,), (3,)])] == [(1,), (2,)]
        connection.rollback()


class NumberedBase(DeclarativeBase):
    pass


class Numbered(NumberedBase):
    __tablename__ = "numbered"
    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)


def test_numbers_in_one_parameter(engine: Engine) -> None:
    """Plain numbers are given to the database in one text."""
    given: list[Any] = []
    with engine.connect() as connection:
        connection.execute(text("CREATE TEMPORARY TABLE numbered (id BIGINT PRIMARY KEY)"))
        connection.execute(text("INSERT INTO numbered VALUES (1), (-2), (3), (9223372036854775807)"))
        event.listen(connection, "before_cursor_execute", lambda _c, _cursor, _sql, parameters, *_: given.append(parameters))
        numbers = (3, -2, 2**63 - 1, 8)
        assert [state for _, state in reread(connection, Numbered, [(number,) for number in numbers])] == [(-2,), (3,), (2**63 - 1,)]
        connection.rollback()
    whole = "[3, -2, 9223372036854775807, 8]"
    assert given == [(whole,) if engine.dialect.name == "sqlite" else {"keys": f"{{{whole[1:-1]}}}"}]


def test_other_keys_of_a_number(sqlite_engine: Engine) -> None:
    """Keys that are no plain numbers are given to the database each by itself."""
    given: list[Any] = []
    with sqlite_engine.connect() as connection:
        connection.execute(text("CREATE TEMPORARY TABLE numbered (id BIGINT PRIMARY KEY)"))
        connection.execute(text("INSERT INTO numbered VALUES (1), (2)"))
        event.listen(connection, "before_cursor_execute", lambda _c, _cursor, _sql, parameters, *_: given.append(tuple(parameters)))
        assert [state for _, state in reread(connection, Numbered, [(True,), ("2",)])] == [(1,), (2,)]
        connection.rollback()
    assert given == [(True, "2")]


def test_one_statement(db: Engine) -> None:
    """Any number of rows of a class without tables of subclasses takes one SELECT."""
    with db.begin() as connection:
        is_exact(connection, Item)
        with recorded(connection) as sent:
            reread(connection, Item, [(1,), (2,), (3,)])
            assert len(sent) == 1
            assert is_exact(connection, Item)
            assert len(sent) == 1


LOCKS: list[tuple[str, bool]] = [
    ("SELECT FROM animals WHERE id = 1 FOR NO KEY UPDATE NOWAIT", False),
    ("SELECT FROM dogs WHERE id = 1 FOR NO KEY UPDATE NOWAIT", False),
    ("SELECT FROM animals WHERE id = 2 FOR NO KEY UPDATE NOWAIT", True),
    ("SELECT FROM animals WHERE id = 1 FOR KEY SHARE NOWAIT", True),
]


@pytest.mark.parametrize(("other", "free"), LOCKS)
def test_rows_are_locked(postgres_tables: Engine, other: str, free: bool) -> None:
    """Until the transaction ends nobody else changes any part of the row, and children may refer to it all the same."""
    with postgres_tables.connect() as connection, postgres_tables.connect() as another:
        reread(connection, Animal, [(1,)])
        if free:
            another.execute(text(other))
        else:
            with pytest.raises(OperationalError, match="could not obtain lock"):
                another.execute(text(other))


@pytest.fixture
def postgres_tables(postgres_engine: Engine) -> Engine:
    """PostgreSQL with a dog and a cat."""
    Animal.metadata.create_all(postgres_engine, tables=[table_of(Animal), table_of(Dog)])
    with Session(postgres_engine) as session:
        session.execute(delete(table_of(Animal)))
        session.add_all([Dog(id=1, name="rex", bark="woof"), Cat(id=2, name="tom")])
        session.commit()
    return postgres_engine


class OtherBase(DeclarativeBase):
    pass


class Node(OtherBase):
    __tablename__ = "reread_nodes"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("reread_nodes.id", deferrable=True, initially="DEFERRED"))
    label: Mapped[str | None] = mapped_column(String(20))


Node.shout = column_property(Node.label + "!")

STATES: dict[str, tuple[list[str], bool]] = {
    "deferred foreign key": ([], True),
    "trigger at once": (["CREATE TRIGGER touch AFTER UPDATE ON reread_nodes FOR EACH ROW EXECUTE FUNCTION reread_touch()"], True),
    "deferred trigger": (
        [
            "CREATE CONSTRAINT TRIGGER touch AFTER UPDATE ON reread_nodes DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION reread_touch()"
        ],
        False,
    ),
    "trigger that can be deferred": (
        ["CREATE CONSTRAINT TRIGGER touch AFTER UPDATE ON reread_nodes DEFERRABLE FOR EACH ROW EXECUTE FUNCTION reread_touch()"],
        False,
    ),
    "view": (["ALTER TABLE reread_nodes RENAME TO reread_kept", "CREATE VIEW reread_nodes AS SELECT * FROM reread_kept"], False),
    "no table": (["ALTER TABLE reread_nodes RENAME TO reread_kept"], False),
}


@pytest.mark.parametrize(("statements", "exact"), STATES.values(), ids=STATES.keys())
def test_what_is_exact(postgres_engine: Engine, statements: list[str], exact: bool) -> None:
    """A row can change between the re-read and the COMMIT where a trigger may be deferred; checks alone change nothing."""
    with postgres_engine.connect() as connection:
        OtherBase.metadata.create_all(connection)
        connection.execute(text("CREATE FUNCTION reread_touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"))
        for statement in statements:
            connection.execute(text(statement))
        module._checked.clear()
        assert is_exact(connection, Node) is exact
        connection.rollback()


def test_what_may_not_be_locked(postgres_engine: Engine) -> None:
    """Rows that this user may not lock are left alone: an error would end the application's transaction."""
    with postgres_engine.connect() as connection:
        OtherBase.metadata.create_all(connection)
        connection.execute(text("CREATE ROLE reread_only_reads"))
        schema = connection.scalar(text("SELECT current_schema()"))
        connection.execute(text(f"GRANT USAGE ON SCHEMA {schema} TO reread_only_reads"))
        connection.execute(text("GRANT SELECT, INSERT ON reread_nodes TO reread_only_reads"))
        connection.execute(text("SET LOCAL ROLE reread_only_reads"))
        module._checked.clear()
        assert not is_exact(connection, Node)
        connection.rollback()
    module._checked.clear()


def test_what_is_exact_is_asked_again(postgres_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trigger that is added later is seen within a minute."""
    now = 1000.0
    monkeypatch.setattr(module, "_now", lambda: now)
    module._checked.clear()
    with postgres_engine.connect() as connection:
        OtherBase.metadata.create_all(connection)
        assert is_exact(connection, Node)
        connection.execute(text("CREATE FUNCTION reread_touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"))
        connection.execute(
            text("CREATE CONSTRAINT TRIGGER touch AFTER UPDATE ON reread_nodes DEFERRABLE FOR EACH ROW EXECUTE FUNCTION reread_touch()")
        )
        assert is_exact(connection, Node)
        now += 61
        assert not is_exact(connection, Node)
        connection.rollback()
    module._checked.clear()


def test_class_without_a_table(sqlite_engine: Engine) -> None:
    """A class mapped to a query has no rows to lock."""
    mappings = registry()
    query = select(table_of(User).c.id, table_of(User).c.name).subquery()
    found: type = type("Found", (), {"__module__": __name__})
    mappings.map_imperatively(found, query, primary_key=[query.c.id])
    with sqlite_engine.connect() as connection:
        assert not is_exact(connection, found)
    mappings.dispose()


def test_class_told_by_nothing(sqlite_engine: Engine) -> None:
    """Where an expression tells the class, no row is exact."""

    class Base(DeclarativeBase):
        pass

    class Pet(Base):
        __tablename__ = "pets"
        id: Mapped[int] = mapped_column(primary_key=True)
        legs: Mapped[int] = mapped_column()
        kind = column_property(legs + 0)
        __mapper_args__ = {"polymorphic_on": kind, "polymorphic_identity": 2}

    class Bird(Pet):
        __mapper_args__ = {"polymorphic_identity": 4}

    with sqlite_engine.connect() as connection:
        assert not is_exact(connection, Pet)


def test_mapping_that_grows(sqlite_engine: Engine) -> None:
    """A subclass and a column that are mapped later are read as well."""

    class Base(DeclarativeBase):
        pass

    class Part(Base):
        __tablename__ = "parts"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(5))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "part"}

    def read(connection: Connection) -> list[tuple[type, tuple[Any, ...]]]:
        return [(plan.cls, state) for plan, state in reread(connection, Part, [(1,), (2,)])]

    with sqlite_engine.connect() as connection:
        connection.execute(text("CREATE TEMPORARY TABLE parts (id INTEGER PRIMARY KEY, kind TEXT, size INTEGER)"))
        connection.execute(text("INSERT INTO parts VALUES (1, 'part', 3), (2, 'bolt', 4)"))
        assert read(connection) == [(Part, (1, "part"))]

        class Bolt(Part):
            size: Mapped[int | None]
            __mapper_args__ = {"polymorphic_identity": "bolt"}

        assert read(connection) == [(Part, (1, "part")), (Bolt, (2, "bolt", 4))]
        connection.rollback()
