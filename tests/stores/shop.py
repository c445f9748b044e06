"""The mapped classes of the chain's tests: what a database does on its own is all here."""

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from itertools import compress
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Engine, ForeignKey, MetaData, Numeric, PickleType, String, create_engine, event, select
from sqlalchemy.ext.declarative import ConcreteBase
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from stockstore.evidence import Outbox

NOCASE = String().with_variant(String(collation="NOCASE"), "sqlite").with_variant(String(collation="nocase"), "postgresql")


class Base(DeclarativeBase):
    type_annotation_map = {dict[str, Any]: JSON}


class Customer(Base):
    """Generated key, server default, numeric scale, a trigger that writes ``stamp``, children of each sort."""

    __tablename__ = "customers"
    __keys__ = ["id", "email", ("tenant", "name")]
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str | None] = mapped_column(unique=True)
    tenant: Mapped[int] = mapped_column(default=7)
    name: Mapped[str] = mapped_column(default="ann")
    status: Mapped[str] = mapped_column(server_default="new")
    balance: Mapped[Decimal] = mapped_column(Numeric(8, 2), default=Decimal(0))
    prefs: Mapped[dict[str, Any] | None]
    stamp: Mapped[str | None]
    orders: Mapped[list["Order"]] = relationship(back_populates="customer", cascade="all, delete-orphan")
    notes: Mapped[list["Note"]] = relationship(back_populates="customer", passive_deletes=True)


class Order(Base):
    """Deleted with its customer, by the ORM."""

    __tablename__ = "orders"
    __keys__ = ["id", "number"]
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="open")
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    customer: Mapped[Customer] = relationship(back_populates="orders")


class Note(Base):
    """Deleted with its customer, by the database."""

    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id", ondelete="CASCADE", onupdate="CASCADE"))
    customer: Mapped[Customer] = relationship(back_populates="notes")


class Invoice(Base):
    """Keeps its customer from being deleted."""

    __tablename__ = "invoices"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))


class Place(Base):
    """A primary key of two names, in an order that is not the alphabet's, which users change; a key that is not unique."""

    __tablename__ = "places"
    __keys__ = [("row", "number"), "label"]
    row: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str | None]


class Tag(Base):
    """A primary key and another that the database compares without case."""

    __tablename__ = "tags"
    __keys__ = ["name", "code"]
    name: Mapped[str] = mapped_column(NOCASE, primary_key=True)
    code: Mapped[str] = mapped_column(NOCASE, unique=True)
    uses: Mapped[int] = mapped_column(default=0)


class Bag(Base):
    """Holds what has no encoding."""

    __tablename__ = "bags"
    id: Mapped[int] = mapped_column(primary_key=True)
    content: Mapped[Any] = mapped_column(PickleType)


class Vehicle(Base):
    """Joined inheritance."""

    __tablename__ = "vehicles"
    __keys__ = ["id", "plate"]
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    plate: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "vehicle"}


class Car(Vehicle):
    __tablename__ = "cars"
    id: Mapped[int] = mapped_column(ForeignKey("vehicles.id"), primary_key=True)
    doors: Mapped[int]
    __mapper_args__ = {"polymorphic_identity": "car"}


class Van(Vehicle):
    __tablename__ = "vans"
    id: Mapped[int] = mapped_column(ForeignKey("vehicles.id"), primary_key=True)
    load: Mapped[int]
    __mapper_args__ = {"polymorphic_identity": "van"}


class Animal(Base):
    """Single-table inheritance."""

    __tablename__ = "animals"
    __keys__ = ["id", "name"]
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}


class Dog(Animal):
    bark: Mapped[str | None]
    __mapper_args__ = {"polymorphic_identity": "dog"}


class Cat(Animal):
    purr: Mapped[str | None]
    __mapper_args__ = {"polymorphic_identity": "cat"}


class Shape(ConcreteBase, Base):
    """Concrete inheritance, loaded polymorphically."""

    __tablename__ = "shapes"
    __keys__ = ["id", "colour"]
    id: Mapped[int] = mapped_column(primary_key=True)
    colour: Mapped[str]
    __mapper_args__ = {"polymorphic_identity": "shape", "concrete": True}


class Circle(Shape):
    __tablename__ = "circles"
    id: Mapped[int] = mapped_column(primary_key=True)
    colour: Mapped[str]
    radius: Mapped[int]
    __mapper_args__ = {"polymorphic_identity": "circle", "concrete": True}


class Square(Shape):
    __tablename__ = "squares"
    id: Mapped[int] = mapped_column(primary_key=True)
    colour: Mapped[str]
    side: Mapped[int]
    __mapper_args__ = {"polymorphic_identity": "square", "concrete": True}


_SQLITE_TRIGGER = """
CREATE TRIGGER stamp_{event} AFTER {event} ON customers WHEN NEW.stamp IS NOT upper(NEW.name)
BEGIN UPDATE customers SET stamp = upper(NEW.name) WHERE id = NEW.id; END
"""
_POSTGRES_TRIGGER = [
    "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.stamp = upper(NEW.name); RETURN NEW; END $$",
    "CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION stamp()",
]
_COLLATION = "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"


def create_tables(engine: Engine) -> None:
    """Create the tables with their triggers, and make SQLite heed foreign keys as every other database does."""
    lite = engine.dialect.name == "sqlite"
    triggers = [_SQLITE_TRIGGER.format(event=name) for name in ("INSERT", "UPDATE")] if lite else _POSTGRES_TRIGGER
    if lite:
        event.listen(engine, "connect", lambda connection, _record: connection.execute("PRAGMA foreign_keys=ON"))
    with engine.begin() as connection:
        if not lite:
            connection.exec_driver_sql(_COLLATION)
        Base.metadata.create_all(connection)
        for trigger in triggers:
            connection.exec_driver_sql(trigger)


def empty(engine: Engine, metadata: MetaData = Base.metadata) -> None:
    """Delete all rows; few tables have any."""
    quoted = engine.dialect.identifier_preparer.format_table
    tables = list(reversed(metadata.sorted_tables))
    with engine.begin() as connection:
        filled = connection.exec_driver_sql("SELECT " + ", ".join(f"EXISTS (SELECT 1 FROM {quoted(table)})" for table in tables)).one()
        for table in compress(tables, filled):
            connection.execute(table.delete())


@contextmanager
def two_files(folder: Path) -> Iterator[list[Engine]]:
    """Give two databases in files, with the tables and the outbox."""
    engines = [create_engine(f"sqlite:///{folder / name}.db") for name in ("a", "b")]
    for engine in engines:
        create_tables(engine)
        Outbox().create(engine)
    yield engines
    for engine in engines:
        engine.dispose()


def row_of(engine: Engine, cls: type[Any], identity: object) -> dict[str, object] | None:
    """Give the columns of a row as a session of its own reads them."""
    with Session(engine) as session:
        row = session.get(cls, identity)
        return None if row is None else columns_of(row)


def columns_of(obj: object) -> dict[str, object]:
    """Give the loaded values of an object's columns."""
    mapper = type(obj).__mapper__  # type: ignore[attr-defined]
    return {name: obj.__dict__[name] for name in tuple(mapper.column_attrs.keys()) if name in obj.__dict__}


def count_of(engine: Engine, cls: type) -> int:
    """Give the number of rows."""
    with Session(engine) as session:
        return len(session.scalars(select(cls)).all())
