"""A chain on mappings that share tables, reach into others, or load by parts."""

import enum
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Column, Engine, Enum, ForeignKey, Table, event, text
from sqlalchemy.orm import DeclarativeBase, DynamicMapped, Mapped, Session, WriteOnlyMapped, mapped_column, relationship
from sqlalchemy.orm.collections import attribute_keyed_dict

from stockstore import ChainedStore, MappingStore, OriginError, ProcessMemoryStore, SqlAlchemyStore


class Base(DeclarativeBase):
    pass


class OtherBase(DeclarativeBase):
    """Another registry, on the same tables."""

    metadata = Base.metadata


class Colour(enum.Enum):
    RED = 1


members = Table(
    "members",
    Base.metadata,
    Column("club_id", ForeignKey("clubs.id"), primary_key=True),
    Column("user_id", ForeignKey("users.id"), primary_key=True),
)


class User(Base):
    __tablename__ = "users"
    __keys__ = ["id", "name"]
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    colour: Mapped[Colour | None] = mapped_column(Enum(Colour, native_enum=False, length=9, create_constraint=False))


class UserName(Base):
    """Another view of the same rows."""

    __table__ = User.__table__


class Club(Base):
    __tablename__ = "clubs"
    id: Mapped[int] = mapped_column(primary_key=True)
    users: Mapped[list[User]] = relationship(secondary=members)
    rooms: Mapped[list["Room"]] = relationship(back_populates="club", passive_updates=False)
    lockers: Mapped[dict[str, "Locker"]] = relationship(collection_class=attribute_keyed_dict("label"))
    visits: DynamicMapped["Visit"] = relationship()
    bills: WriteOnlyMapped["Bill"] = relationship(passive_deletes=True)


class Member(Base):
    """The rows that a relationship writes as well."""

    __table__ = members


class Room(Base):
    """The key of its club is a part of its own."""

    __tablename__ = "rooms"
    club_id: Mapped[int] = mapped_column(ForeignKey("clubs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    club: Mapped[Club] = relationship(back_populates="rooms", passive_updates=False)


class Locker(Base):
    __tablename__ = "lockers"
    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str]
    club_id: Mapped[int | None] = mapped_column(ForeignKey("clubs.id"))


class Visit(Base):
    __tablename__ = "visits"
    id: Mapped[int] = mapped_column(primary_key=True)
    club_id: Mapped[int | None] = mapped_column(ForeignKey("clubs.id"))


class Bill(Base):
    __tablename__ = "bills"
    id: Mapped[int] = mapped_column(primary_key=True)
    club_id: Mapped[int | None] = mapped_column(ForeignKey("clubs.id"))


class Poster(OtherBase):
    """Deleted with its club by the database."""

    __tablename__ = "posters"
    id: Mapped[int] = mapped_column(primary_key=True)
    club_id: Mapped[int] = mapped_column(ForeignKey("clubs.id", ondelete="CASCADE"))


class Boat(Base):
    __tablename__ = "boats"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "boat"}


class Ship(Boat):
    """Loaded along with its base."""

    __tablename__ = "ships"
    id: Mapped[int] = mapped_column(ForeignKey("boats.id"), primary_key=True)
    masts: Mapped[int]
    __mapper_args__ = {"polymorphic_identity": "ship", "polymorphic_load": "inline"}


class Ferry(Boat):
    """Not loaded along with its base."""

    __tablename__ = "ferries"
    id: Mapped[int] = mapped_column(ForeignKey("boats.id"), primary_key=True)
    cars: Mapped[int]
    __mapper_args__ = {"polymorphic_identity": "ferry"}


@pytest.fixture(scope="module")
def tables(engine: Engine) -> Iterator[Engine]:
    """The engine of a database with the tables, that enforces foreign keys."""
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda connection, _record: connection.execute("PRAGMA foreign_keys = ON"))
    Base.metadata.create_all(engine)
    yield engine
    Base.metadata.drop_all(engine)


@pytest.fixture
def chain(tables: Engine) -> ChainedStore:
    """Two caches over empty tables."""
    with tables.begin() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(table.delete())
    return ChainedStore([ProcessMemoryStore(), MappingStore({}), SqlAlchemyStore(engine=tables)])


def test_two_classes_on_one_table(chain: ChainedStore) -> None:
    """A row put or deleted as one class is not kept as it was by the other class of its table."""
    chain.put(User(id=1, name="ann"))
    read = chain.get(UserName, 1)
    assert read is not None
    chain.put(User(id=1, name="bob"))
    read = chain.get(UserName, 1)
    assert read is not None
    assert getattr(read, "name") == "bob"  # noqa: B009 - the table says that it is there
    chain.delete(User, 1)
    assert chain.get(UserName, 1) is None


def test_the_mapped_table_of_a_many_to_many_relationship(chain: ChainedStore, tables: Engine) -> None:
    """A row that a relationship adds or removes is read anew, and one of an unchanged relationship is kept."""
    chain.put(Club(id=1, users=[User(id=1)]))
    assert chain.contains(Member, (1, 1))
    with Session(tables, expire_on_commit=False) as session:
        club = session.get_one(Club, 1)
        assert club.users
    chain.put(club)
    assert chain.tiers[0].contains(Member, {"club_id": 1, "user_id": 1})
    club.users = []
    chain.put(club)
    assert chain.get(Member, (1, 1)) is None


def test_a_child_whose_key_the_orm_moves_along() -> None:
    """A child that gets its parent's new key by the ORM is found under that key alone."""
    # A database that enforced the foreign key would refuse it.
    with SqlAlchemyStore("sqlite://") as database, ChainedStore([ProcessMemoryStore(), MappingStore({}), database]) as chain:
        Base.metadata.create_all(database.engine)
        chain.put(Club(id=1, rooms=[Room(number=1)]))
        chain.put(Room(club_id=1, number=1))
        club = chain.get(Club, 1)
        assert club is not None
        club.id = 2
        chain.put(club)
        assert chain.batch_get(Room, [(1, 1)]) == [None]
        assert chain.contains(Room, (2, 1))


def test_a_class_that_is_mapped_after_the_first_delete(chain: ChainedStore, tables: Engine) -> None:
    """Rows that the database deletes along are gone from the caches, whenever their class was mapped."""

    class Own(DeclarativeBase):
        pass

    class Dock(Own):
        __tablename__ = "docks"
        id: Mapped[int] = mapped_column(primary_key=True)

    Own.metadata.create_all(tables)
    chain.put(Dock(id=1))
    chain.delete(Dock, 1)

    class Flag(Own):
        __tablename__ = "flags"
        id: Mapped[int] = mapped_column(primary_key=True)
        dock_id: Mapped[int] = mapped_column(ForeignKey("docks.id", ondelete="CASCADE"))

    Own.metadata.create_all(tables)
    chain.put(Dock(id=1))
    chain.put(Flag(id=1, dock_id=1))
    with Session(tables) as session:
        session.delete(session.get_one(Dock, 1))
        session.flush()
        assert chain.get(Flag, 1, session=session) is None
    chain.delete(Dock, 1)
    assert chain.get(Flag, 1) is None
    Own.metadata.drop_all(tables)


def test_a_class_of_another_registry(chain: ChainedStore) -> None:
    """Rows that the database deletes along are gone from the caches, whichever registry maps them."""
    chain.put(Club(id=1))
    chain.put(Poster(id=1, club_id=1))
    chain.delete(Club, 1)
    assert chain.get(Poster, 1) is None


@pytest.mark.parametrize("base", [Boat, Ferry])
def test_a_subclass_that_is_not_loaded_along(chain: ChainedStore, base: type[Boat]) -> None:
    """A subclass's own columns are read by its base too, where the mapping loads only another subclass along."""
    chain.batch_put([Ship(id=1, masts=3), Ferry(id=2, cars=40)])
    chain.clear()
    for _ in range(2):
        ferry = chain.get(base, 2)
        assert isinstance(ferry, Ferry)
        assert ferry.cars == 40


def test_an_object_of_the_base_class_over_a_subclass_row(chain: ChainedStore) -> None:
    """A base class's object changes the subclass's row in every tier, and gets the values that it has attributes for."""
    chain.put(Ship(id=1, masts=3))
    boat = Boat(id=1, kind="ship")
    chain.put(boat)
    assert (boat.id, boat.kind) == (1, "ship")
    for tier in chain.tiers:
        ship = tier.get(Boat, 1)
        assert isinstance(ship, Ship)
        assert ship.masts == 3


def test_collections_that_are_never_in_memory(chain: ChainedStore) -> None:
    """What was added to dynamic and write-only relationships is saved along, of a new object and of one that was read."""
    club = Club(id=1)
    club.visits.add(Visit(id=1))
    club.bills.add(Bill(id=1))
    chain.put(club)
    again = chain.get(Club, 1)
    assert again is not None
    again.bills.add(Bill(id=2))
    chain.put(again)
    saved = [*chain.batch_get(Bill, [1, 2]), *chain.batch_get(Visit, [1])]
    assert [row and row.club_id for row in saved] == [1, 1, 1]


def test_a_dict_whose_members_changed_their_keys(chain: ChainedStore) -> None:
    """A member of a collection by key that has another key now is saved."""
    club = Club(id=1, lockers={"a": Locker(id=1, label="a")})
    chain.put(club)
    club.lockers["a"].label = "b"
    chain.put(club)
    locker = chain.get(Locker, 1)
    assert locker is not None
    assert (locker.label, locker.club_id) == ("b", 1)


def test_a_column_that_its_type_cannot_read(chain: ChainedStore, tables: Engine) -> None:
    """A value that the column's type does not take is an OriginError."""
    with tables.begin() as connection:
        connection.execute(text("INSERT INTO users (id, colour) VALUES (1, 'GREEN')"))
    with pytest.raises(OriginError, match="'GREEN' is not among the defined enum values"):
        chain.get(User, 1)


@pytest.mark.parametrize("call", [lambda chain: chain.get(User, name="\ud800"), lambda chain: chain.put(User(name="\ud800"))])
def test_text_that_is_no_unicode(chain: ChainedStore, call: Callable[[ChainedStore], object]) -> None:
    """Text that has no encoding is an OriginError."""
    with pytest.raises(OriginError, match="surrogates not allowed"):
        call(chain)
