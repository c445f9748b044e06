"""The objects that are measured: plain ones of four fields, and rows of ten columns."""

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

from sqlalchemy import JSON, Engine, Numeric, String, Text, insert
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

START = dt.datetime(2024, 5, 17, 12, 34, 56, 789012)  # noqa: DTZ001 - the column is naive


@dataclass
class Product:
    """A plain class with one key."""

    __keys__: ClassVar = ["id"]

    id: int
    sku: str
    name: str
    stock: int


@dataclass
class Article:
    """The same with a second key."""

    __keys__: ClassVar = ["id", "sku"]

    id: int
    sku: str
    name: str
    stock: int


@dataclass
class Part:
    """The same with a key of two names, and as the second key another."""

    __keys__: ClassVar = [("id", "sku"), ("stock", "name")]

    id: int
    sku: str
    name: str
    stock: int


def fields(number: int) -> dict[str, Any]:
    return {"id": number, "sku": f"SKU-{number:08d}", "name": f"Product number {number}", "stock": number % 50}


class Base(DeclarativeBase):
    """The registry of the mapped classes."""


class User(Base):
    """Ten columns, and the primary key as the only key."""

    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(120), unique=True)
    name: Mapped[str] = mapped_column(String(80))
    active: Mapped[bool]
    score: Mapped[int]
    balance: Mapped[Decimal] = mapped_column(Numeric(12, 2))
    prefs: Mapped[dict[str, Any]] = mapped_column(JSON)
    bio: Mapped[str | None] = mapped_column(Text)
    created: Mapped[dt.datetime]
    seen: Mapped[dt.datetime | None]


def user_row(number: int) -> dict[str, Any]:
    return {
        "id": number,
        "email": f"user{number:06d}@example.com",
        "name": f"User Number {number}",
        "active": bool(number % 3),
        "score": number * 7 % 1000,
        "balance": Decimal(number % 100_000) / 100,
        "prefs": {"theme": "dark", "lang": "en", "n": number % 10, "tags": ["a", "b", "c"]},
        "bio": None if number % 2 else f"A short biography of user {number}, a few dozen characters.",
        "created": START + dt.timedelta(seconds=number),
        "seen": None,
    }


def fill(engine: Engine, count: int) -> None:
    """Make the table with this many rows, numbered from 1, and let the database know it: of an empty one PostgreSQL keeps plans that scan it."""
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(User), [user_row(number) for number in range(1, count + 1)])
        connection.exec_driver_sql("ANALYZE")


def columns(user: User) -> dict[str, object]:
    """Give what a mapped instance holds, to compare two of them."""
    return {name: value for name, value in vars(user).items() if not name.startswith("_sa_")}
