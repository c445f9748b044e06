"""Rows of which a load does not give all columns at once: cached rows may lack some, objects out of a store and refreshed ones do not."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Column, Engine, ForeignKey, Integer, String, Table, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, load_only, mapped_column, relationship, selectinload, sessionmaker
from sqlalchemy.pool import StaticPool

from stockstore import ChainedStore, ProcessMemoryStore, SqlAlchemyStore
from stockstore_ext.sqlalchemy import SessionSync


class PlantBase(DeclarativeBase):
    """The registry of the plants."""


_PLANTS = Table("plants", PlantBase.metadata, Column("id", Integer, primary_key=True), Column("kind", String), Column("name", String))
_TREES = Table("trees", PlantBase.metadata, Column("id", ForeignKey(_PLANTS.c.id), primary_key=True), Column("height", Integer))
_OAKS = Table("oaks", PlantBase.metadata, Column("id", ForeignKey(_TREES.c.id), primary_key=True), Column("acorns", Integer))


class Plant(PlantBase):
    """What any plant is selected from has trees, but no oaks."""

    __table__ = _PLANTS
    id: Mapped[int]
    name: Mapped[str]
    __mapper_args__: Any = {
        "polymorphic_on": _PLANTS.c.kind,
        "polymorphic_identity": "plant",
        "with_polymorphic": ("*", _PLANTS.outerjoin(_TREES)),
    }


class Tree(Plant):
    __table__ = _TREES
    height: Mapped[int]
    __mapper_args__: Any = {"polymorphic_identity": "tree"}


class Oak(Tree):
    __table__ = _OAKS
    acorns: Mapped[int]
    __mapper_args__: Any = {"polymorphic_identity": "oak"}


class Branch(PlantBase):
    """Has leaves, sorted by columns that cached rows of these may lack."""

    __tablename__ = "branches"
    id: Mapped[int] = mapped_column(primary_key=True)
    by_place: Mapped[list["Leaf"]] = relationship(viewonly=True, order_by="Leaf.place")
    by_size: Mapped[list["Leaf"]] = relationship(viewonly=True, order_by="Leaf.size")


class Leaf(PlantBase):
    """Stands on a branch."""

    __tablename__ = "leaves"
    __indexes__ = ["branch_id"]
    id: Mapped[int] = mapped_column(primary_key=True)
    branch_id: Mapped[int] = mapped_column(ForeignKey(Branch.id))
    place: Mapped[int] = mapped_column(deferred=True)
    size: Mapped[int]


Plants = tuple[ProcessMemoryStore, ChainedStore, sessionmaker[Session]]


@pytest.fixture
def plants() -> Iterator[Plants]:
    """A chain with process memory above plants, and hooked sessions."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    PlantBase.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Oak(id=1, name="old", height=30, acorns=900), Tree(id=2, name="tall", height=50), Branch(id=1)])
        session.flush()
        session.add_all([Leaf(id=number, branch_id=1, place=9 - number, size=20 - number) for number in (1, 2, 3)])
        session.commit()
    memory = ProcessMemoryStore()
    store = ChainedStore([memory, SqlAlchemyStore(engine=engine)])
    maker: sessionmaker[Session] = sessionmaker(engine, class_=type("PlantSession", (Session,), {}))
    sync = SessionSync(store, read_through=True).attach(maker)
    yield memory, store, maker
    sync.detach()
    engine.dispose()


def _written_elsewhere(maker: sessionmaker[Session], statement: str) -> None:
    engine = maker.kw["bind"]
    assert isinstance(engine, Engine)
    with engine.begin() as connection:
        connection.connection.driver_connection.execute(statement)  # type: ignore[union-attr]


def test_a_store_gives_the_columns_that_the_mapping_does_not_select_at_once(plants: Plants) -> None:
    """Rows of subclasses have all their columns, from the database and from memory."""
    _, store, maker = plants
    for _ in range(2):
        oak, tree = store.batch_get(Plant, [1, 2])
        assert isinstance(oak, Oak)
        assert (oak.name, oak.height, oak.acorns) == ("old", 30, 900)
        assert isinstance(tree, Tree)
        assert tree.height == 50
        _written_elsewhere(maker, "UPDATE oaks SET acorns = 1")


def test_a_refresh_reads_the_column_that_a_cached_row_lacks(plants: Plants) -> None:
    """An expired attribute that the cached row was put without is read from the database."""
    memory, _, maker = plants
    with Session(maker.kw["bind"]) as session:
        memory.put(session.scalars(select(Tree).where(Tree.id == 2).options(load_only(Tree.name))).one())
    _written_elsewhere(maker, "UPDATE plants SET name = 'unseen'")
    with maker() as session:
        tree = session.get_one(Plant, 2)
        assert isinstance(tree, Tree)
        assert tree.name == "tall"
        assert tree.height == 50
        session.expire(tree)
        assert (tree.height, tree.name) == (50, "unseen")


_ORDERED: dict[str, Callable[[Session, str], list[Leaf]]] = {
    "lazy": lambda session, name: getattr(session.get_one(Branch, 1), f"by_{name}"),
    "selectinload": lambda session, name: getattr(
        session.scalars(select(Branch).options(selectinload(getattr(Branch, f"by_{name}")))).one(), f"by_{name}"
    ),
    "by an index": lambda session, name: [*session.scalars(select(Leaf).where(Leaf.branch_id == 1).order_by(getattr(Leaf, name)))],
    "by keys": lambda session, name: [*session.scalars(select(Leaf).where(Leaf.id.in_([1, 2, 3])).order_by(getattr(Leaf, name)))],
}


@pytest.mark.parametrize("read", _ORDERED)
@pytest.mark.parametrize("name", ["place", "size"])
def test_rows_that_lack_what_they_are_sorted_by(plants: Plants, read: str, name: str) -> None:
    """The database sorts by a deferred column, and where one of the rows was put without the column."""
    memory, _, maker = plants
    for _ in range(3):
        with maker() as session:
            assert [leaf.id for leaf in _ORDERED[read](session, name)] == [3, 2, 1]
    with Session(maker.kw["bind"]) as session:
        memory.put(session.scalars(select(Leaf).where(Leaf.id == 2).options(load_only(Leaf.branch_id))).one())
    for _ in range(2):
        with maker() as session:
            leaves = _ORDERED[read](session, name)
            assert [(leaf.id, leaf.place, leaf.size) for leaf in leaves] == [(3, 6, 17), (2, 7, 18), (1, 8, 19)]
