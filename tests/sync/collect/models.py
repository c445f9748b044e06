"""Mapped classes for every way to write a row."""

from decimal import Decimal
from typing import Any

from sqlalchemy import CHAR, Column, ForeignKey, Integer, Numeric, String, Table, TypeDecorator
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, synonym


class Base(DeclarativeBase):
    pass


tagging = Table(
    "c_tagging",
    Base.metadata,
    Column("parent_id", ForeignKey("c_parents.id"), primary_key=True),
    Column("tag_name", ForeignKey("c_tags.name", onupdate="CASCADE"), primary_key=True),
)
log = Table("c_log", Base.metadata, Column("id", Integer, primary_key=True), Column("line", String(40)))
"""A table without a class."""


class Parent(Base):
    __tablename__ = "c_parents"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20), default="")
    owned: Mapped[list["Owned"]] = relationship(cascade="all, delete-orphan")
    passive: Mapped[list["Passive"]] = relationship(cascade="all, delete-orphan", passive_deletes=True)
    fans: Mapped[list["Fan"]] = relationship(passive_deletes="all")
    tags: Mapped[list["Tag"]] = relationship(secondary=tagging)
    memberships: Mapped[list["Club"]] = relationship(secondary="c_memberships")


class Owned(Base):
    """Deleted by the ORM."""

    __tablename__ = "c_owned"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int] = mapped_column(ForeignKey("c_parents.id"))


class Passive(Base):
    """Deleted by the database."""

    __tablename__ = "c_passive"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int] = mapped_column(ForeignKey("c_parents.id", ondelete="CASCADE"))


class Grandchild(Base):
    __tablename__ = "c_grandchildren"
    id: Mapped[int] = mapped_column(primary_key=True)
    passive_id: Mapped[int] = mapped_column(ForeignKey("c_passive.id", ondelete="CASCADE"))


class Fan(Base):
    """Set to NULL by the database."""

    __tablename__ = "c_fans"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("c_parents.id", ondelete="SET NULL"))


class Node(Base):
    """Refers to its own table."""

    __tablename__ = "c_nodes"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("c_nodes.id", ondelete="CASCADE"))


class Tag(Base):
    __tablename__ = "c_tags"
    name: Mapped[str] = mapped_column(String(20), primary_key=True)
    uses: Mapped[int] = mapped_column(default=0)
    title: Mapped[str] = synonym("name")


class Label(Base):
    """Follows the name of its tag."""

    __tablename__ = "c_labels"
    id: Mapped[int] = mapped_column(primary_key=True)
    tag_name: Mapped[str] = mapped_column(ForeignKey("c_tags.name", onupdate="CASCADE"))


class Club(Base):
    __tablename__ = "c_clubs"
    id: Mapped[int] = mapped_column(primary_key=True)


class Membership(Base):
    """Maps the table by which parents and clubs are related."""

    __tablename__ = "c_memberships"
    parent_id: Mapped[int] = mapped_column(ForeignKey("c_parents.id"), primary_key=True)
    club_id: Mapped[int] = mapped_column(ForeignKey("c_clubs.id"), primary_key=True)


class Animal(Base):
    __tablename__ = "c_animals"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    name: Mapped[str] = mapped_column(String(20), default="")
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}


class Dog(Animal):
    __tablename__ = "c_dogs"
    id: Mapped[int] = mapped_column(ForeignKey("c_animals.id", ondelete="CASCADE"), primary_key=True)
    bark: Mapped[str] = mapped_column(String(20), default="")
    __mapper_args__ = {"polymorphic_identity": "dog"}


class Cat(Animal):
    __mapper_args__ = {"polymorphic_identity": "cat"}


class Vehicle(Base):
    __tablename__ = "c_vehicles"
    id: Mapped[int] = mapped_column(primary_key=True)
    wheels: Mapped[int] = mapped_column(default=4)


class Truck(Vehicle):
    __tablename__ = "c_trucks"
    id: Mapped[int] = mapped_column(primary_key=True)
    wheels: Mapped[int] = mapped_column(default=6)
    __mapper_args__ = {"concrete": True}


class Versioned(Base):
    __tablename__ = "c_versioned"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20), default="")
    version: Mapped[int] = mapped_column(nullable=False)
    __mapper_args__ = {"version_id_col": version}


class Unhashable(Base):
    __tablename__ = "c_unhashable"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20), default="")

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unhashable) and other.name == self.name


class Pair(Base):
    """Its primary key is in another order than its names are."""

    __tablename__ = "c_pairs"
    zone: Mapped[str] = mapped_column(String(5), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(20), default="")


class Upper(TypeDecorator[str]):
    impl = String(20)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: object) -> Any:
        """Give capitals."""
        return None if value is None else value.upper()


class Code(Base):
    """Its key is stored in capitals."""

    __tablename__ = "c_codes"
    code: Mapped[str] = mapped_column(Upper, primary_key=True)
    text: Mapped[str] = mapped_column(String(20), default="")


class Padded(Base):
    __tablename__ = "c_padded"
    code: Mapped[str] = mapped_column(CHAR(5), primary_key=True)


class Exact(Base):
    __tablename__ = "c_exact"
    amount: Mapped[Decimal] = mapped_column(Numeric(8, 2), primary_key=True)


class Numbered(Base):
    """Its keys are the database's."""

    __tablename__ = "c_numbered"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(String(20))


class Folded(Base):
    """Its key is compared without case, on SQLite."""

    __tablename__ = "c_folded"
    name: Mapped[str] = mapped_column(String().with_variant(String(collation="NOCASE"), "sqlite"), primary_key=True)
    uses: Mapped[int] = mapped_column(default=0)


class Shadow(Base):
    """Has its rows in the table of another class."""

    __table__ = Base.metadata.tables["c_versioned"]
    __mapper_args__ = {"include_properties": ["id", "name"]}
