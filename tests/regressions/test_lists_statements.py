"""Lists, by statements that name an index otherwise than by its columns."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import CHAR, Engine, ForeignKey, String, Uuid, case, func, insert, inspect, literal, select, update
from sqlalchemy.dialects.postgresql import INET
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, composite, mapped_column, synonym

from stockstore.stores.base import Store
from tests.sync.conftest import ON_POSTGRES, ON_SQLITE, Attach, attach, cache, db, other, other_engine, shop_tables
from tests.sync.paths import Path

__all__ = ["attach", "cache", "db", "other", "other_engine", "shop_tables"]


@dataclasses.dataclass
class Place:
    row: int
    seat: int


class Base(DeclarativeBase):
    pass


class Seat(Base):
    __tablename__ = "named_seats"
    __indexes__ = ["holder", "row", "kind"]
    id: Mapped[int] = mapped_column(primary_key=True)
    holder: Mapped[int | None] = mapped_column("holder_id")
    kind: Mapped[int | None] = mapped_column(default=1)
    row: Mapped[int | None]
    seat: Mapped[int | None]
    title: Mapped[str] = mapped_column(String, default="old")
    place: Mapped[Place] = composite("row", "seat")
    owned_by = synonym("holder")

    @hybrid_property
    def doubled(self) -> Any:
        return self.holder * 2 if self.holder is not None else None

    @doubled.inplace.update_expression
    @classmethod
    def _set_doubled(cls, value: Any) -> list[tuple[Any, Any]]:
        return [(cls.holder, value // 2)]


class Card(Base):
    """A UUID has several texts, of which the database gives one; an address of the network on PostgreSQL too."""

    __tablename__ = "named_cards"
    __indexes__ = ["holder"]
    id: Mapped[str] = mapped_column(Uuid(as_uuid=False), primary_key=True)
    holder: Mapped[str] = mapped_column(Uuid(as_uuid=False))
    title: Mapped[str] = mapped_column(default="old")


class Host(Base):
    __tablename__ = "named_hosts"
    __keys__ = ["id"]
    id: Mapped[str] = mapped_column(INET().with_variant(String(), "sqlite"), primary_key=True)
    title: Mapped[str] = mapped_column(default="old")


class Code(Base):
    """A text that the database pads."""

    __tablename__ = "named_codes"
    id: Mapped[str] = mapped_column(CHAR(5), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(default="old")


class Name(Base):
    """A text that the database takes for equal to another."""

    __tablename__ = "named_names"
    id: Mapped[str] = mapped_column(String().with_variant(String(collation="NOCASE"), "sqlite"), primary_key=True)
    title: Mapped[str] = mapped_column(default="old")


class Pet(Base):
    __tablename__ = "named_pets"
    __indexes__ = ["sort"]
    id: Mapped[int] = mapped_column(primary_key=True)
    sort: Mapped[str | None]
    name: Mapped[str] = mapped_column(default="old")
    __mapper_args__ = {"polymorphic_on": "sort", "polymorphic_identity": "pet"}


class Bird(Pet):
    __indexes__ = ["cage"]
    cage: Mapped[int | None]
    __mapper_args__ = {"polymorphic_identity": "bird"}


class Tool(Base):
    __tablename__ = "named_tools"
    __indexes__ = ["box"]
    id: Mapped[int] = mapped_column(primary_key=True)
    sort: Mapped[str]
    box: Mapped[int | None]
    code: Mapped[str | None] = mapped_column(unique=True)
    __mapper_args__ = {"polymorphic_on": "sort", "polymorphic_identity": "tool"}


class Saw(Tool):
    __tablename__ = "named_saws"
    id: Mapped[int] = mapped_column(ForeignKey("named_tools.id"), primary_key=True)
    teeth: Mapped[int | None]
    __mapper_args__ = {"polymorphic_identity": "saw"}


class Axe(Tool):
    __indexes__ = ["edges"]
    edges: Mapped[int | None]
    __mapper_args__ = {"polymorphic_identity": "axe"}


class Label(Base):
    __tablename__ = "named_labels"
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str | None] = mapped_column(ForeignKey("named_tools.code", onupdate="CASCADE"))


class Step(Base):
    """A value tells the class."""

    __tablename__ = "named_steps"
    __indexes__ = ["height"]
    id: Mapped[int] = mapped_column(primary_key=True)
    height: Mapped[int] = mapped_column()
    __mapper_args__ = {"polymorphic_on": case((height.column > 5, "wall"), else_="step"), "polymorphic_identity": "step"}  # type: ignore[attr-defined]


class Wall(Step):
    __indexes__ = ["width"]
    width: Mapped[int | None]
    __mapper_args__ = {"polymorphic_identity": "wall"}


Write = Callable[[Session], object]


@pytest.fixture
def theatre(attach: Attach, db: Engine) -> Path:
    """A hooked path above four seats and a bird."""
    Base.metadata.drop_all(db)
    Base.metadata.create_all(db)
    path = attach()
    path.seed(*(Seat(id=n, holder=1 + n % 2, kind=n % 2, row=n % 2, seat=n) for n in (1, 2, 3, 4)), Bird(id=1, cage=None))
    return path


LISTS: list[tuple[type[Any], dict[str, Any]]] = [
    *((Seat, {"holder": n}) for n in (None, 1, 2, 3, 4)),
    *((Seat, {"row": n}) for n in (None, 0, 1, 7)),
    *((Seat, {"kind": n}) for n in (None, 0, 1, 7)),
    *((Bird, {"cage": n}) for n in (None, 5)),
    *((Tool, {"box": n}) for n in (None, 1, 2)),
    *((Pet, {"sort": sort}) for sort in (None, "pet", "bird")),
]


def cached(store: Store) -> list[list[int]]:
    return [[obj.id for obj in store.get_all(cls, **values)] for cls, values in LISTS]


def in_database(path: Path) -> list[list[int]]:
    with Session(path.other) as session:
        return [list(session.scalars(select(cls.id).filter_by(**values).order_by(cls.id))) for cls, values in LISTS]


def bulk_and_flush(session: Session) -> None:
    session.bulk_insert_mappings(inspect(Seat), [{"id": 9, "holder": 3}])
    session.bulk_update_mappings(inspect(Seat), [{"id": 1, "holder": 3}])
    session.add(Seat(id=10, holder=4))
    session.flush()


def replace(session: Session) -> None:
    session.delete(session.get_one(Seat, 1))
    session.add(Seat(id=1, holder=3, kind=7))
    session.flush()


WRITES: dict[str, Write] = {
    "insert with values beside the rows": lambda s: s.execute(insert(Seat).values(holder=3, row=7), [{"id": 9}, {"id": 10}]),
    "insert with an expression beside the rows": lambda s: s.execute(
        insert(Seat).values(holder=select(func.max(Seat.id)).scalar_subquery()), [{"id": 9}, {"id": 10}]
    ),
    "insert of None where there is a default": lambda s: s.execute(insert(Seat), [{"id": 9, "kind": None}, {"id": 10, "kind": None}]),
    "insert of a composite": lambda s: s.execute(insert(Seat), [{"id": 9, "place": Place(7, 1)}, {"id": 10, "place": Place(0, 1)}]),
    "insert of several values": lambda s: s.execute(insert(Seat).values([{"id": 9, "holder": 3}, {"id": 10, "holder": 4}])),
    "insert of an expression": lambda s: s.execute(insert(Seat).values(id=9, holder=select(func.max(Seat.id)).scalar_subquery())),
    "insert raw": lambda s: s.execute(
        insert(Seat), [{"id": 9, "holder_id": 3}, {"id": 10, "holder_id": 3}], execution_options={"dml_strategy": "raw"}
    ),
    "insert by columns": lambda s: s.execute(insert(Seat).values({Seat.__table__.c.holder_id: 3, Seat.__table__.c.id: 9})),
    "insert synonym": lambda s: s.execute(insert(Seat).values({Seat.owned_by: 3, Seat.id: 9})),
    "update synonym": lambda s: s.execute(update(Seat).where(Seat.id == 1).values({Seat.owned_by: 3})),
    "update synonym by name": lambda s: s.execute(update(Seat).where(Seat.id == 1).values(owned_by=3)),
    "update by parameters": lambda s: s.execute(update(Seat).where(Seat.title == "old"), {"holder_id": 3}),
    "update hybrid": lambda s: s.execute(update(Seat).where(Seat.id == 1).values({Seat.doubled: 8})),
    "update hybrid by name": lambda s: s.execute(update(Seat).where(Seat.id == 1).values(doubled=8)),
    "update composite": lambda s: s.execute(update(Seat).where(Seat.id == 1).values({Seat.place: Place(7, 7)})),
    "update composite by name": lambda s: s.execute(update(Seat).where(Seat.id == 1).values(place=Place(7, 7))),
    "update composite by key": lambda s: s.execute(update(Seat), [{"id": 1, "place": Place(7, 7)}]),
    "update ordered": lambda s: s.execute(update(Seat).where(Seat.id == 1).ordered_values((Seat.holder, 3))),
    "update ordered synonym": lambda s: s.execute(update(Seat).where(Seat.id == 1).ordered_values((Seat.owned_by, 3))),
    "bulk mappings and a flush": bulk_and_flush,
    "insert of a subclass by its base": lambda s: s.execute(insert(Pet), [{"id": 2, "sort": "bird"}, {"id": 3, "sort": "bird"}]),
    "insert of a subclass": lambda s: s.execute(insert(Bird), [{"id": 2}, {"id": 3}]),
    "insert of a subclass with its sort left out": lambda s: s.execute(insert(Bird), [{"id": 2, "sort": None}, {"id": 3, "sort": None}]),
    "insert of a subclass in two tables": lambda s: s.execute(insert(Saw), [{"id": 2, "box": 1}, {"id": 3, "box": 2}]),
    "insert of a subclass in two tables, with RETURNING": lambda s: s.scalars(insert(Saw).returning(Saw), [{"box": 1}, {"box": 2}]).all(),
    "update of a subclass": lambda s: s.execute(update(Bird).where(Bird.id == 1).values(cage=5)),
    "update of the sort": lambda s: s.execute(update(Pet).where(Pet.id == 1).values(sort="pet")),
    "a row in place of another": replace,
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_lists_are_the_databases(theatre: Path, write: Write) -> None:
    """Whatever a statement calls the columns, the lists that it changes are dropped."""
    check(theatre, write)


def check(theatre: Path, write: Write) -> None:
    before = cached(theatre.store)
    with theatre.maker() as session:
        write(session)
        assert cached(theatre.store) == before
        session.commit()
    assert cached(theatre.store) == in_database(theatre) != before


def expired(session: Session) -> None:
    tool = session.get_one(Tool, 1)
    session.expire(tool)
    tool.sort = "axe"


BECOMING: dict[str, Write] = {
    "a flush": lambda s: setattr(s.get_one(Tool, 1), "sort", "axe"),
    "a flush of what was not loaded": expired,
    "a flush of an expression": lambda s: setattr(s.get_one(Tool, 1), "sort", literal("axe")),
    "a flush of what an expression reads": lambda s: setattr(s.get_one(Step, 1), "height", 9),
    "a new row": lambda s: s.add(Tool(id=2, sort="axe")),
    "a new row by what an expression reads": lambda s: s.add(Step(id=2, height=9)),
    "an update": lambda s: s.execute(update(Tool).where(Tool.id == 1).values(sort="axe")),
    "an update of another index, too": lambda s: s.execute(update(Tool).where(Tool.id == 1).values(sort="axe", box=7)),
    "an update of what an expression reads": lambda s: s.execute(update(Step).where(Step.id == 1).values(height=9)),
    "an update by key of what an expression reads": lambda s: s.execute(update(Step), [{"id": 1, "height": 9}]),
}
ENTERED: list[tuple[type[Any], dict[str, Any]]] = [
    (Axe, {"edges": 2}),
    (Axe, {"edges": None}),
    (Wall, {"width": 2}),
    (Wall, {"width": None}),
]
IN_BOTH_CLASSES = pytest.mark.filterwarnings("ignore:Flushing object .* with incompatible polymorphic identity")


@pytest.fixture
def becoming(theatre: Path) -> Path:
    """One row of each base class, whose column of the subclass has a value."""
    theatre.seed(Tool(id=1), Axe(id=5, edges=2), Axe(id=6), Step(id=1, height=1), Wall(id=5, height=9, width=2), Wall(id=6, height=9))
    with theatre.other.begin() as connection:
        connection.exec_driver_sql("UPDATE named_tools SET edges = 2 WHERE id = 1")
        connection.exec_driver_sql("UPDATE named_steps SET width = 2 WHERE id = 1")
    assert entered(theatre) == [[5], [6], [5], [6]]
    return theatre


def entered(path: Path) -> list[list[int]]:
    return [[obj.id for obj in path.store.get_all(cls, **values)] for cls, values in ENTERED]


@IN_BOTH_CLASSES
@pytest.mark.parametrize("write", BECOMING.values(), ids=BECOMING)
def test_a_row_that_becomes_one_of_a_subclass(becoming: Path, write: Write) -> None:
    """It comes into the lists of the subclass, of which the object that was changed knows nothing."""
    with becoming.maker() as session:
        write(session)
        session.commit()
    found = entered(becoming)
    with Session(becoming.other) as session:
        assert found == [list(session.scalars(select(cls.id).filter_by(**values).order_by(cls.id))) for cls, values in ENTERED]
    assert found != [[5], [6], [5], [6]]


@IN_BOTH_CLASSES
@pytest.mark.parametrize(("cls", "changed"), [(Tool, {"sort": "axe"}), (Step, {"height": 9})])
def test_an_object_of_the_base_that_is_put_as_one_of_a_subclass(becoming: Path, cls: type[Any], changed: dict[str, Any]) -> None:
    """As a flush of a session."""
    obj = becoming.store.get(cls, 1)
    for name, value in changed.items():
        setattr(obj, name, value)
    becoming.store.put(obj)
    assert entered(becoming) == ([[1, 5], [6], [5], [6]] if cls is Tool else [[5], [6], [1, 5], [6]])


@pytest.mark.parametrize("values", [{"width": 3}, {"width": 2}])
def test_an_object_of_a_subclass_that_is_put_as_one_of_the_base(becoming: Path, values: dict[str, Any]) -> None:
    """As a flush of a session, which does not mind; what is put along with it is written as ever."""
    wall: Any = becoming.store.get(Wall, 5)
    wall.height, wall.width = 1, values["width"]
    becoming.store.batch_put([Step(id=7, height=1), wall, Wall(id=8, height=2, **values), Wall(id=9, height=9)])
    assert entered(becoming) == [[5], [6], [], [6, 9]]
    assert becoming.store.batch_get(Wall, [5, 8]) == [None, None]
    rows: list[Any] = becoming.store.batch_get(Step, [5, 7, 8])
    assert [(type(row), row.height) for row in rows] == [(Step, 1), (Step, 1), (Step, 2)]


@ON_POSTGRES
def test_two_inserts_in_one_statement(theatre: Path) -> None:
    """The rows of both come into their lists."""
    table: Any = Seat.__table__
    rows: list[dict[str, Any]] = [{"id": n, "holder_id": n - 6, "kind": 7, "row": None, "seat": n, "title": "new"} for n in (9, 10)]
    more = insert(table).from_select([*rows[1]], select(*map(literal, rows[1].values()))).cte("more")
    check(theatre, lambda session: session.execute(insert(table).values(rows[0]).add_cte(more)))


@ON_POSTGRES
def test_rows_that_change_along_with_a_list_of_rows(theatre: Path) -> None:
    """A list of rows of a subclass changes the table of its base too, and the database those that refer to that."""
    theatre.seed(Saw(id=1, box=1, code="old"))
    theatre.seed(Label(id=1, code="old"))
    assert theatre.store.get(Label, 1) is not None
    assert theatre.store.tiers[0].contains(Label, 1)
    with theatre.maker() as session:
        session.execute(update(Saw), [{"id": 1, "code": "new"}])
        session.commit()
    label = theatre.store.get(Label, 1)
    assert label is not None
    assert label.code == "new"


ONE, TWO = "0a000000-0000-0000-0000-00000000000a", "0b000000-0000-0000-0000-00000000000b"
BARE = ONE.replace("-", "")


@pytest.mark.parametrize("kept", [ONE, BARE])
@pytest.mark.parametrize("given", [ONE, BARE])
def test_lists_by_the_text_of_a_uuid(theatre: Path, kept: str, given: str) -> None:
    """There is one list, whichever text of a UUID is asked for or written."""
    theatre.seed(Card(id=ONE, holder=ONE))
    assert [card.id for card in theatre.store.get_all(Card, holder=kept)] == [ONE]
    with theatre.maker() as session:
        session.execute(insert(Card), [{"id": TWO, "holder": given}])
        session.commit()
    assert [card.id for card in theatre.store.get_all(Card, holder=kept)] == [ONE, TWO]
    with theatre.maker() as session:
        assert session.scalars(select(Card.id).where(Card.holder == given).order_by(Card.id)).all() == [ONE, TWO]


def test_update_by_another_text_of_a_uuid(theatre: Path) -> None:
    """It is the same primary key."""
    theatre.seed(Card(id=ONE, holder=ONE))
    assert theatre.store.get(Card, ONE) is not None
    with theatre.maker() as session:
        session.execute(update(Card), [{"id": BARE, "title": "new"}])
        session.commit()
    theatre.compare((Card, ONE))


@ON_POSTGRES
def test_update_by_another_text_of_an_address(theatre: Path) -> None:
    """What the database makes of it nobody here knows, nor of the one that an object was added with."""
    theatre.seed(Host(id="10.0.0.1"))
    assert theatre.store.get(Host, "10.0.0.1") is not None
    with theatre.maker(expire_on_commit=False) as session:
        session.execute(update(Host), [{"id": "10.0.0.1/32", "title": "new"}])
        session.add(added := Host(id="10.0.0.2/32"))
        session.commit()
        theatre.compare((Host, "10.0.0.1"), (Host, "10.0.0.2"))
        added.title = "newer"
        session.commit()
    theatre.compare((Host, "10.0.0.2"))


def changed_elsewhere(theatre: Path, obj: Any) -> tuple[type[Any], object]:
    """Add a row, have it cached, and change it where nobody sees it; gives its primary key."""
    theatre.seed(obj)
    with theatre.maker() as session:
        (row,) = session.scalars(select(type(obj))).all()
        watched = type(obj), inspect(row).identity
    assert (theatre.read(*watched) or {})["title"] == "old"
    with theatre.other.begin() as connection:
        connection.execute(update(type(obj)).values(title="new"))
    assert (theatre.read(*watched) or {})["title"] == "old"
    return watched


def test_invalidation_by_another_text_of_a_uuid(theatre: Path) -> None:
    """The row is the same, and the lists are those that it is in."""
    watched = changed_elsewhere(theatre, Card(id=ONE, holder=ONE))
    theatre.seed(Card(id=TWO, holder=TWO))
    assert [card.id for card in theatre.store.get_all(Card, holder=TWO)] == [TWO]
    with theatre.other.begin() as connection:
        connection.execute(update(Card).values(holder=TWO).where(Card.id == ONE))
    theatre.sync.invalidate(Card, [BARE.upper()])
    theatre.compare(watched)
    assert [card.id for card in theatre.store.get_all(Card, holder=TWO)] == [ONE, TWO]


@ON_POSTGRES
def test_invalidation_by_another_text_of_an_address(theatre: Path) -> None:
    """What the database makes of it nobody here knows."""
    watched = changed_elsewhere(theatre, Host(id="10.0.0.1"))
    theatre.sync.invalidate(Host, ["10.0.0.1/32"])
    theatre.compare(watched)


def test_invalidation_by_a_text_without_its_padding(theatre: Path) -> None:
    """How much of it there is the database decides."""
    watched = changed_elsewhere(theatre, Code(id="ab", name="Ann"))
    theatre.sync.invalidate(Code, [("ab", "Ann")])
    theatre.compare(watched)


@ON_SQLITE
def test_invalidation_by_a_text_that_is_equal(theatre: Path) -> None:
    """Its case does not tell another row."""
    watched = changed_elsewhere(theatre, Name(id="Ann"))
    theatre.sync.invalidate(Name, ["ANN"])
    theatre.compare(watched)
