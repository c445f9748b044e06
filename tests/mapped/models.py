"""Mapped classes of every sort, on one declarative base."""

import dataclasses
import datetime as dt
import decimal
import enum
import uuid
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Enum,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    PickleType,
    String,
    Table,
    Text,
    TypeDecorator,
    func,
    inspect,
)
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.ext.mutable import MutableComposite, MutableDict
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    column_property,
    composite,
    mapped_column,
    query_expression,
    reconstructor,
    registry,
    relationship,
    synonym,
)

NOON = dt.datetime(2024, 5, 17, 12, 0, 0, 789012)


class Base(DeclarativeBase):
    type_annotation_map = {dict[str, Any]: JSON}


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(120), unique=True)
    name: Mapped[str] = mapped_column(String(80))
    active: Mapped[bool]
    balance: Mapped[decimal.Decimal] = mapped_column(Numeric(12, 2))
    prefs: Mapped[dict[str, Any]]
    bio: Mapped[str | None] = mapped_column(Text)
    created: Mapped[dt.datetime]
    items: Mapped[list["Item"]] = relationship(back_populates="owner")


class Item(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    sku: Mapped[str] = mapped_column(String(40))
    qty: Mapped[int]
    attrs: Mapped[dict[str, Any]]
    version_id: Mapped[int] = mapped_column(Integer)
    owner: Mapped[User] = relationship(back_populates="items")
    __mapper_args__ = {"version_id_col": version_id}


class Animal(Base):
    __tablename__ = "animals"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    name: Mapped[str] = mapped_column(String(10))
    big: Mapped[str | None] = mapped_column(Text, deferred=True)
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}


Animal.upper = column_property(func.upper(Animal.__table__.c.name))


class Dog(Animal):
    __tablename__ = "dogs"
    id: Mapped[int] = mapped_column(ForeignKey("animals.id", ondelete="CASCADE"), primary_key=True)
    bark: Mapped[str] = mapped_column(String(10))
    __mapper_args__ = {"polymorphic_identity": "dog"}


class Cat(Animal):
    purr: Mapped[str | None] = mapped_column(String(10))
    __mapper_args__ = {"polymorphic_identity": "cat"}


class Vehicle(Base):
    __tablename__ = "vehicles"
    id: Mapped[int] = mapped_column(primary_key=True)
    wheels: Mapped[int]


class Truck(Vehicle):
    __tablename__ = "trucks"
    id: Mapped[int] = mapped_column(primary_key=True)
    wheels: Mapped[int]
    load: Mapped[int]
    __mapper_args__ = {"concrete": True}


@dataclasses.dataclass
class Point(MutableComposite):
    x: int
    y: int

    def __setattr__(self, key: str, value: object) -> None:
        object.__setattr__(self, key, value)
        self.changed()


class Doc(Base):
    __tablename__ = "docs"
    id: Mapped[int] = mapped_column("doc_id", primary_key=True)
    data: Mapped[dict[str, Any]] = mapped_column(MutableDict.as_mutable(JSON))
    spot: Mapped[Point] = composite(mapped_column("spot_x"), mapped_column("spot_y"))
    title: Mapped[str] = mapped_column("t", String(20))
    heading = synonym("title")

    def __init__(self, **values: object) -> None:
        self.made_by = "init"
        super().__init__(**values)

    @reconstructor
    def rebuild(self) -> None:
        """Leave a trace of the load."""
        self.made_by = "reconstructor"

    @hybrid_property
    def shout(self) -> str:
        """The title in capitals."""
        return self.title.upper()


class Priced(Base):
    __tablename__ = "priced"
    id: Mapped[int] = mapped_column(primary_key=True)
    net: Mapped[int]
    gross: Mapped[int | None] = query_expression()


class Seat(Base):
    __tablename__ = "seats"
    row: Mapped[str] = mapped_column("r", String(2), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    taken: Mapped[bool] = mapped_column(default=False)


class Membership(Base):
    __tablename__ = "memberships"
    group_id: Mapped[int] = mapped_column(ForeignKey("groups.id"), primary_key=True)
    row: Mapped[str] = mapped_column(String(2), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    __table_args__ = (ForeignKeyConstraint(["row", "number"], ["seats.r", "seats.number"]),)


class Group(Base):
    __tablename__ = "groups"
    id: Mapped[int] = mapped_column(primary_key=True)
    seats: Mapped[list[Seat]] = relationship(secondary="memberships")


class DataBase(MappedAsDataclass, DeclarativeBase):
    metadata = Base.metadata


class Card(DataBase):
    __tablename__ = "cards"
    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    label: Mapped[str] = mapped_column(String(20))
    count: Mapped[int] = mapped_column(default=3)
    note: Mapped[str | None] = mapped_column(String(20), default="none")
    hidden: Mapped[str | None] = mapped_column(String(20), default="h", deferred=True)


class Plain:
    """Mapped imperatively; one column has no attribute."""

    id: int
    label: str

    def __init__(self) -> None:
        raise AssertionError("a load calls no __init__")


plain_table = Table(
    "plains",
    Base.metadata,
    Column("id", Integer, primary_key=True),
    Column("label", String(20)),
    Column("secret", String(20), default="s"),
)
registry(metadata=Base.metadata).map_imperatively(Plain, plain_table, exclude_properties=["secret"])


class Colour(enum.Enum):
    RED = "r"
    CRIMSON = "r"  # noqa: PIE796 - an alias
    BLUE = "b"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Shade(enum.IntEnum):
    DARK = 1


class Money(TypeDecorator[decimal.Decimal]):
    """Cents in the database, a Decimal in Python: its python_type does not tell."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: object) -> int | None:
        """Give the cents."""
        return None if value is None else int(value * 100)

    def process_result_value(self, value: Any, dialect: object) -> decimal.Decimal | None:
        """Give the amount."""
        return None if value is None else decimal.Decimal(value) / 100


class Everything(Base):
    """One column of every type that SQLAlchemy gives a Python value, on any database."""

    __tablename__ = "everything"
    id: Mapped[int] = mapped_column(primary_key=True)
    big: Mapped[int | None] = mapped_column(BigInteger)
    real: Mapped[float | None]
    exact: Mapped[decimal.Decimal | None] = mapped_column(Numeric(20, 6))
    text: Mapped[str | None]
    blob: Mapped[bytes | None] = mapped_column(LargeBinary)
    flag: Mapped[bool | None]
    key: Mapped[uuid.UUID | None]
    day: Mapped[dt.date | None]
    clock: Mapped[dt.time | None]
    moment: Mapped[dt.datetime | None]
    aware: Mapped[dt.datetime | None] = mapped_column(DateTime(timezone=True))
    span: Mapped[dt.timedelta | None] = mapped_column(Interval)
    colour: Mapped[Colour | None]
    word: Mapped[str | None] = mapped_column(Enum("one", "two", name="word"))
    price: Mapped[decimal.Decimal | None] = mapped_column(Money)
    pickled: Mapped[Any] = mapped_column(PickleType, nullable=True)
    doc: Mapped[Any] = mapped_column(JSON, nullable=True)


def table_of(cls: type) -> Any:
    """The class's table, without the guess of a type checker that it might be another selectable."""
    return inspect(cls).local_table
