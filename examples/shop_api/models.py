"""Ordinary SQLAlchemy classes; ``__keys__`` names what is unique, and ``__indexes__`` what else can be looked up in a cache."""

from typing import Any

from sqlalchemy import Connection, ForeignKey, String, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "shop_users"
    __keys__ = ["id", "email"]

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(200), unique=True)
    name: Mapped[str] = mapped_column(String(100))
    # Counted up by each write: who changes a row on the ground of an older one is refused.
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}

    def shown(self) -> dict[str, Any]:
        return {"id": self.id, "email": self.email, "name": self.name, "version": self.version}


class Item(Base):
    __tablename__ = "shop_items"
    __keys__ = ["id", "sku"]
    __indexes__ = ["seller_id"]

    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str] = mapped_column(String(20), unique=True)
    name: Mapped[str] = mapped_column(String(100))
    cents: Mapped[int]
    stock: Mapped[int]
    seller_id: Mapped[int] = mapped_column(ForeignKey(User.id), index=True)
    seller: Mapped[User] = relationship()
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}

    def shown(self) -> dict[str, Any]:
        return {"id": self.id, "sku": self.sku, "name": self.name, "cents": self.cents, "stock": self.stock, "version": self.version}


class Order(Base):
    __tablename__ = "shop_orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id))
    item_id: Mapped[int] = mapped_column(ForeignKey(Item.id))
    quantity: Mapped[int]
    cents: Mapped[int]

    def shown(self) -> dict[str, Any]:
        return {"id": self.id, "user_id": self.user_id, "item_id": self.item_id, "quantity": self.quantity, "cents": self.cents}


def open_shop(connection: Connection) -> None:
    """Make the tables where there are none, and put two users and ten items into an empty shop, in the connection's transaction.

    Of workers that start at the same moment one does it, and the others wait for it; on other databases let one process do it first.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(20)"))
    elif connection.dialect.name == "sqlite":
        connection.execute(text("BEGIN IMMEDIATE"))
    Base.metadata.create_all(connection)
    with Session(connection) as session:
        stock_up(session)


def stock_up(session: Session) -> None:
    if session.scalars(select(User).limit(1)).first() is not None:
        return
    ann, bob = User(email="ann@example.org", name="Ann"), User(email="bob@example.org", name="Bob")
    session.add_all([ann, bob])
    session.add_all(Item(sku=f"SKU-{n}", name=f"Item {n}", cents=100 * n, stock=5, seller=bob if n % 2 else ann) for n in range(1, 11))
    session.commit()
