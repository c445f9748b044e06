"""Mapped classes that are listed by other columns than their keys."""

import enum
import uuid
from decimal import Decimal
from typing import Any

from sqlalchemy import CHAR, Computed, Engine, ForeignKey, Numeric, String, event, table, update
from sqlalchemy import column as sql_column
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from stockstore.stores.base import Store
from tests.stores import shop

NOCASE = String().with_variant(String(collation="NOCASE"), "sqlite").with_variant(String(collation="listed_nocase"), "postgresql")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Base(DeclarativeBase):
    __indexes__: list[Any] = []


class Owner(Base):
    """Has items, which the ORM deletes along, and marks, which the database does."""

    __tablename__ = "listed_owners"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="ann")
    items: Mapped[list["Item"]] = relationship(back_populates="owner", cascade="all, delete-orphan", order_by="Item.id")
    marks: Mapped[list["Mark"]] = relationship(passive_deletes=True, order_by="Mark.id")


class Item(Base):
    __tablename__ = "listed_items"
    __keys__ = ["id", "code"]
    __indexes__ = ["owner_id", ("tenant", "kind"), "colour"]
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("listed_owners.id"))
    tenant: Mapped[int] = mapped_column(default=1)
    kind: Mapped[str] = mapped_column(default="book")
    colour: Mapped[Colour | None]
    code: Mapped[str | None] = mapped_column(unique=True)
    title: Mapped[str] = mapped_column(default="old")
    owner: Mapped[Owner | None] = relationship(back_populates="items")


class Mark(Base):
    """Goes with its owner by the database's own cascade; without the item that it is about."""

    __tablename__ = "listed_marks"
    __indexes__ = ["owner_id", "item_id"]
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("listed_owners.id", ondelete="CASCADE"))
    item_id: Mapped[int | None] = mapped_column(ForeignKey("listed_items.id", ondelete="SET NULL"))
    text: Mapped[str] = mapped_column(default="old")


class Animal(Base):
    __tablename__ = "listed_animals"
    __indexes__ = ["owner_id"]
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int]
    kind: Mapped[str]
    name: Mapped[str] = mapped_column(default="old")
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}


class Dog(Animal):
    __tablename__ = "listed_dogs"
    __indexes__ = ["breed"]
    id: Mapped[int] = mapped_column(ForeignKey("listed_animals.id"), primary_key=True)
    breed: Mapped[str]
    __mapper_args__ = {"polymorphic_identity": "dog"}


class Cat(Animal):
    __indexes__ = ["lives"]
    lives: Mapped[int | None]
    __mapper_args__ = {"polymorphic_identity": "cat"}


class Odd(Base):
    """Listed by what a database takes for equal, or has otherwise, than Python does."""

    __tablename__ = "listed_odd"
    __indexes__ = ["padded", "price", "loose", "token", "twice", "first"]
    first: Mapped[int] = mapped_column(primary_key=True)
    second: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    padded: Mapped[str | None] = mapped_column(CHAR(4))
    price: Mapped[Decimal | None] = mapped_column(Numeric(8, 2))
    loose: Mapped[str | None] = mapped_column(NOCASE)
    token: Mapped[uuid.UUID | None]
    twice: Mapped[int | None] = mapped_column(Computed('"first" * 2', persisted=True))
    text: Mapped[str] = mapped_column(default="old")


def _create_collation(_metadata: object, connection: Any, **_: object) -> None:
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(
            "CREATE COLLATION IF NOT EXISTS listed_nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
        )


event.listen(Base.metadata, "before_create", _create_collation)


def create_tables(engine: Engine) -> None:
    """Make the tables."""
    Base.metadata.create_all(engine)


def empty(engine: Engine) -> None:
    """Delete all rows."""
    shop.empty(engine, Base.metadata)


def bare(cls: type[Any]) -> Any:
    """Give a class's table as one that no mapper knows, without defaults."""
    own = cls.__mapper__.local_table
    return table(own.name, *(sql_column(column.name, column.type) for column in own.columns))


def ids(store: Store, cls: type[Any], **values: Any) -> list[Any]:
    """Give the identities of what a store lists."""
    return [obj.first if isinstance(obj, Odd) else obj.id for obj in store.get_all(cls, **values)]


def prove_listed(store: Store, unseen: Engine, cls: type[Any], **values: Any) -> list[Any]:
    """Show that a list does not come from the database: a row that another connection adds out of band stays unseen. Take it away again."""
    before = ids(store, cls, **values)
    own = bare(cls)
    extra = {"id": 999_999, **_REQUIRED.get(cls, {}), **values}
    extra = {name: value.name if isinstance(value, enum.Enum) else value for name, value in extra.items()}
    with unseen.begin() as connection:
        connection.execute(own.insert().values(extra))
    try:
        assert ids(store, cls, **values) == before
    finally:
        with unseen.begin() as connection:
            connection.execute(own.delete().where(own.c.id == extra["id"]))
    return before


_REQUIRED: dict[type, dict[str, object]] = {
    Item: {"tenant": 99, "kind": "none", "title": "unseen"},
    Mark: {"owner_id": 1, "text": "unseen"},
    Animal: {"owner_id": 99, "kind": "animal", "name": "unseen"},
}


def change_unseen(unseen: Engine, cls: type[Any], identity: int, **values: object) -> None:
    """Change a row by a connection that nobody watches."""
    own = bare(cls)
    with unseen.begin() as connection:
        assert connection.execute(update(own).where(own.c.id == identity).values(values)).rowcount == 1
