"""Mapped classes with habits that need care, each in tables that no other test has."""

from itertools import count

from sqlalchemy import Column, ForeignKey, Integer, String, Table, literal_column
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

_ticks = count(1)


class Base(DeclarativeBase):
    pass


labels = Table(
    "odd_labels",
    Base.metadata,
    Column("shelf_id", ForeignKey("odd_shelves.id"), primary_key=True),
    Column("tag_id", ForeignKey("odd_tags.id"), primary_key=True),
)
"""A table without a class, between two that have one."""


class Tag(Base):
    __tablename__ = "odd_tags"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(20), default="")


class Shelf(Base):
    __tablename__ = "odd_shelves"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(20), default="")
    tags: Mapped[list[Tag]] = relationship(secondary=labels)
    books: Mapped[list["Book"]] = relationship(secondary="odd_places")


class Book(Base):
    __tablename__ = "odd_books"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(20), default="")


class Place(Base):
    """Maps the table between shelves and books."""

    __tablename__ = "odd_places"
    __keys__ = [("shelf_id", "book_id")]
    shelf_id: Mapped[int] = mapped_column(ForeignKey("odd_shelves.id"), primary_key=True)
    book_id: Mapped[int] = mapped_column(ForeignKey("odd_books.id"), primary_key=True)
    text: Mapped[str] = mapped_column(String(20), server_default="")


class Versioned(Base):
    __tablename__ = "odd_versioned"
    __keys__ = ["id", "name"]
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(String(20), unique=True)
    text: Mapped[str] = mapped_column(String(20), default="")
    version: Mapped[int] = mapped_column(Integer, nullable=False)
    __mapper_args__ = {"version_id_col": version}


class Touched(Base):
    """Has columns that an UPDATE changes which does not name them: by Python, and by SQL."""

    __tablename__ = "odd_touched"
    __keys__ = ["id", "tick"]
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(20), default="")
    tick: Mapped[int] = mapped_column(unique=True, default=lambda: next(_ticks), onupdate=lambda: next(_ticks))
    changes: Mapped[int] = mapped_column(default=0, onupdate=literal_column("changes + 1"))


class Unhashable(Base):
    __tablename__ = "odd_unhashable"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(20), default="")

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unhashable) and other.text == self.text


class Keyless(Base):
    """Declares no keys: its primary key is the only one."""

    __tablename__ = "odd_keyless"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(20), default="")


class Whole(Base):
    """The base of joined inheritance."""

    __tablename__ = "odd_wholes"
    __keys__ = ["id", "text"]
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    text: Mapped[str] = mapped_column(String(20), default="")
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "whole"}


class Part(Whole):
    """Has its rows in two tables."""

    __tablename__ = "odd_parts"
    id: Mapped[int] = mapped_column(ForeignKey("odd_wholes.id"), primary_key=True)
    size: Mapped[int] = mapped_column(default=1)
    __mapper_args__ = {"polymorphic_identity": "part"}


def rows() -> list[object]:
    """Give some of each."""
    books, tags = [Book(id=1), Book(id=2)], [Tag(id=1), Tag(id=2)]
    shelves = [Shelf(id=1, books=books, tags=tags), Shelf(id=2)]
    return [
        *shelves,
        Versioned(id=1, name="one", text="one"),
        Versioned(id=2, name="two", text="two"),
        Touched(id=1),
        Touched(id=2),
        Unhashable(id=1),
        Unhashable(id=2),
        Keyless(id=1),
        Keyless(id=2),
        Part(id=1, text="p"),
        Whole(id=2, text="w"),
    ]
