"""Ordinary SQLAlchemy classes; ``__keys__`` names what is unique, and so what can be looked up in a cache."""

from typing import Any

from sqlalchemy import ForeignKey, String, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "shop_users"
    __keys__ = ["id", "email"]

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(200), unique=True)
    name: Mapped[str] = mapped_column(String(100))

    def shown(self) -> dict[str, Any]:
        return {"id": self.id, "email": self.email, "name": self.name}


class Item(Base):
    __tablename__ = "shop_items"
    __keys__ = ["id", "sku"]

    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str] = mapped_column(String(20), unique=True)
    name: Mapped[str] = mapped_column(String(100))
    cents: Mapped[int]
    stock: Mapped[int]
    seller_id: Mapped[int] = mapped_column(ForeignKey(User.id))
    seller: Mapped[User] = relationship()

    def shown(self) -> dict[str, Any]:
        return {"id": self.id, "sku": self.sku, "name": self.name, "cents": self.cents, "stock": self.stock}


class Order(Base):
    __tablename__ = "shop_orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id))
    item_id: Mapped[int] = mapped_column(ForeignKey(Item.id))
    quantity: Mapped[int]
    cents: Mapped[int]

    def shown(self) -> dict[str, Any]:
        return {"id": self.id, "user_id": self.user_id, "item_id": self.item_id, "quantity": self.quantity, "cents": self.cents}


def stock_up(session: Session) -> None:
    """Put two users and ten items into a shop that is empty."""
    if session.scalars(select(User).limit(1)).first() is not None:
        return
    ann, bob = User(email="ann@example.org", name="Ann"), User(email="bob@example.org", name="Bob")
    session.add_all([ann, bob])
    session.add_all(Item(sku=f"SKU-{n}", name=f"Item {n}", cents=100 * n, stock=5, seller=bob if n % 2 else ann) for n in range(1, 11))
    session.commit()
