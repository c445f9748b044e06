"""The shop's rows: ordinary SQLAlchemy classes that declare their unique keys."""

import enum
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import JSON, Enum, ForeignKey, Numeric, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

CUSTOMERS, PRODUCTS, ORDERS = 300, 100, 200
START = datetime(2024, 1, 1)  # noqa: DTZ001 - SQLite keeps no time zones


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "stockstore_demo_customers"
    __table_args__ = (UniqueConstraint("country", "username"),)
    __keys__ = ["id", "email", ("country", "username")]

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(200), unique=True)
    country: Mapped[str] = mapped_column(String(2))
    username: Mapped[str] = mapped_column(String(50))
    since: Mapped[datetime]
    settings: Mapped[dict[str, object]] = mapped_column(JSON)


class Product(Base):
    __tablename__ = "stockstore_demo_products"
    __keys__ = ["id", "sku"]

    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str] = mapped_column(String(20), unique=True)
    name: Mapped[str] = mapped_column(String(100))
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    tags: Mapped[list[str]] = mapped_column(JSON)


class Status(enum.Enum):
    PLACED = "placed"
    PAID = "paid"
    SENT = "sent"


class Order(Base):
    """No ``__keys__``: the primary key is a key in any case."""

    __tablename__ = "stockstore_demo_orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey(Customer.id))
    status: Mapped[Status] = mapped_column(Enum(Status, name="stockstore_demo_status"))
    placed: Mapped[datetime]
    total: Mapped[Decimal] = mapped_column(Numeric(10, 2))


def customers() -> Iterator[Customer]:
    for number in range(1, CUSTOMERS + 1):
        yield Customer(
            id=number,
            email=f"customer{number}@example.org",
            country=("de", "fr", "jp")[number % 3],
            username=f"customer {number}",
            since=START + timedelta(hours=number, microseconds=number),
            settings={"newsletter": number % 2 == 0, "sizes": [number, number / 2, None]},
        )


def products() -> Iterator[Product]:
    for number in range(1, PRODUCTS + 1):
        yield Product(
            id=number,
            sku=f"SKU-{number:05}",
            name=f"Product {number}",
            price=Decimal(number) + Decimal("0.99"),
            tags=["new", f"shelf {number}"],
        )


def orders() -> Iterator[Order]:
    chance = random.Random(1)
    for number in range(1, ORDERS + 1):
        yield Order(
            id=number,
            customer_id=chance.randint(1, CUSTOMERS),
            status=chance.choice(list(Status)),
            placed=START + timedelta(minutes=number),
            total=Decimal(chance.randint(100, 99_999)) / 100,
        )
