"""Mapped classes whose loads do more than fill columns, each with one oddity."""

import uuid
from typing import Any

from sqlalchemy import ForeignKey, Text, TypeDecorator, func
from sqlalchemy import String as SqlString
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    column_property,
    composite,
    deferred,
    mapped_column,
    reconstructor,
    relationship,
    synonym,
)
from sqlalchemy.types import JSON

from tests.sync.paths import OUT_OF_BAND

OUT_OF_BAND.update(dict.fromkeys(("authors", "books", "readers", "shelves", "guarded", "priced", "parcels"), ("name", "out of band")))


class Base(DeclarativeBase):
    """The library's own tables."""


class Place:
    """A composite."""

    def __init__(self, x: int, y: int) -> None:
        self.x, self.y = x, y

    def __composite_values__(self) -> tuple[int, int]:
        """Give the columns."""
        return self.x, self.y

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Place) and (other.x, other.y) == (self.x, self.y)


class Author(Base):
    """Deferred columns, one of which may not be loaded; a synonym; trackers that live by the load event."""

    __tablename__ = "authors"
    __keys__ = ["id", "email"]
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="ann")
    email: Mapped[str | None] = mapped_column(unique=True)
    prefs: Mapped[dict[str, Any] | None] = mapped_column(MutableDict.as_mutable(JSON))
    bio: Mapped[str | None] = deferred(mapped_column(Text, default="bio"))
    secret: Mapped[str | None] = deferred(mapped_column(Text, default="secret"), raiseload=True)
    x: Mapped[int] = mapped_column(default=1)
    y: Mapped[int] = mapped_column(default=2)
    place: Mapped[Place] = composite("x", "y")
    number = synonym("id")
    books: Mapped[list["Book"]] = relationship(back_populates="author", foreign_keys="Book.author_id")

    @reconstructor
    def rebuild(self) -> None:
        """Leave a trace of the load."""
        self.made_by = "load"


class Book(Base):
    """Many-to-one relationships: a plain one, and one that may not emit SQL."""

    __tablename__ = "books"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="book")
    author_id: Mapped[int | None] = mapped_column(ForeignKey("authors.id"))
    author: Mapped[Author | None] = relationship(back_populates="books", foreign_keys=author_id)
    shelf_id: Mapped[int | None] = mapped_column(ForeignKey("shelves.id"))
    shelf: Mapped["Shelf | None"] = relationship(lazy="raise_on_sql")


class Reader(Base):
    """Loads a relationship along."""

    __tablename__ = "readers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="reader")
    book_id: Mapped[int | None] = mapped_column(ForeignKey("books.id"))
    book: Mapped[Book | None] = relationship(lazy="joined")


class Shelf(Base):
    """What other classes refer to."""

    __tablename__ = "shelves"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="shelf")
    author_id: Mapped[int | None] = mapped_column(ForeignKey("authors.id"))


class Guarded(Base):
    """Not to be kept by caches."""

    __tablename__ = "guarded"
    __cache__ = False
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="guarded")


class Priced(Base):
    """An attribute that the database computes at each load."""

    __tablename__ = "priced"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="priced")


Priced.upper = column_property(func.upper(Priced.__table__.c.name))


class Hex(TypeDecorator[uuid.UUID]):
    """A UUID as text: its Python type does not tell."""

    impl = SqlString(32)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: object) -> str | None:
        """Give the text, also of what is text already."""
        return None if value is None else uuid.UUID(str(value)).hex

    def process_result_value(self, value: Any, dialect: object) -> uuid.UUID | None:
        """Give the UUID."""
        return None if value is None else uuid.UUID(value)


class Parcel(Base):
    """A key of a type of the application's own."""

    __tablename__ = "parcels"
    id: Mapped[uuid.UUID] = mapped_column(Hex, primary_key=True)
    name: Mapped[str] = mapped_column(default="parcel")
