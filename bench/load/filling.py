"""The shop's rows in a database."""

from typing import Any

from sqlalchemy import URL, create_engine, insert
from sqlalchemy.pool import NullPool

from bench.load.rows import ITEMS, email_of, seller_of
from examples.shop_api.models import Base, Item, User


def fill(url: URL, users: int) -> None:
    """Make the tables, and put so many users and their items into them."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        Base.metadata.create_all(connection)
        connection.execute(insert(Base.metadata.tables[User.__tablename__]), [_user(number) for number in range(1, users + 1)])
        connection.execute(insert(Base.metadata.tables[Item.__tablename__]), [_item(number) for number in range(1, users * ITEMS + 1)])
    engine.dispose()


def _user(number: int) -> dict[str, Any]:
    return {"id": number, "email": email_of(number), "name": f"User {number}", "version": 1}


def _item(number: int) -> dict[str, Any]:
    fixed = {"name": f"Item {number}", "cents": 100 + number, "stock": 5, "version": 1}
    return {"id": number, "sku": f"SKU-{number}", "seller_id": seller_of(number), **fixed}
