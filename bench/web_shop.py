"""A shop's customers and their items, and how each contender serves and changes them."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, ClassVar, Final

from advanced_alchemy.cache import CacheConfig, CacheManager, setup_cache_listeners
from advanced_alchemy.repository import SQLAlchemySyncRepository
from dogpile.cache import make_region
from redis import Redis
from sqlalchemy import Engine, ForeignKey, Select, String, create_engine, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, sessionmaker

from bench.load.rows import ITEMS, first_item
from bench.recipe import FROM_CACHE, CachedQueries
from stockstore import ChainedStore, ProcessMemoryStore, RedisStore, SqlAlchemyStore, Store
from stockstore_ext.sqlalchemy import SessionSync

_SECONDS: Final = 3600
_CELL: Final = 80  # bytes


class ShopBase(DeclarativeBase):
    """The registry of the shop."""


class Customer(ShopBase):
    """Who is asked for; each change makes the version one higher."""

    __tablename__ = "web_customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80))
    email: Mapped[str] = mapped_column(String(120))
    version: Mapped[int]
    items: Mapped[list["Item"]] = relationship(viewonly=True, order_by="Item.id")


class Item(ShopBase):
    """One of a customer's items, with a version of its own."""

    __tablename__ = "web_items"
    __indexes__: ClassVar = ["owner_id"]
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("web_customers.id"), index=True)
    title: Mapped[str] = mapped_column(String(80))
    price: Mapped[int]
    version: Mapped[int]


# What is checked and indexed at the end takes a third of the time.
_FILL: Final = (
    "ALTER TABLE web_items DROP CONSTRAINT web_items_owner_id_fkey",
    "DROP INDEX ix_web_items_owner_id",
    "INSERT INTO web_customers SELECT n, 'Customer ' || n, 'customer' || n || '@example.com', 0 FROM generate_series(1, :customers) AS n",
    "INSERT INTO web_items SELECT n, (n - 1) / :items + 1, 'Item ' || n, n % 1000, 0 FROM generate_series(1, :rows) AS n",
    "CREATE INDEX ix_web_items_owner_id ON web_items (owner_id)",
    "ALTER TABLE web_items ADD FOREIGN KEY (owner_id) REFERENCES web_customers",
)


def fill_shop(engine: Engine, customers: int) -> None:
    """Make the tables with this many customers, numbered from 1."""
    ShopBase.metadata.create_all(engine)
    with engine.begin() as connection:
        for statement in _FILL:
            connection.execute(text(statement), {"customers": customers, "items": ITEMS, "rows": customers * ITEMS})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE web_customers, web_items")


class Shop:
    """A contender. A page is a customer and his items, by a session of its own; so is a change of the customer or of one item."""

    def __init__(self, database: str, redis: str, stack: ExitStack) -> None:
        engine = create_engine(database)
        stack.callback(engine.dispose)
        self.engine, self.redis, self.stack = engine, redis, stack
        self.maker: sessionmaker[Session] = sessionmaker(engine, class_=type("ShopSession", (Session,), {}))
        self.prepare()

    def prepare(self) -> None:
        """Set up the caches."""

    def page(self, number: int) -> list[int]:
        """Read a customer and his items, and give the versions of all of them, his first."""
        with self.maker() as session:
            return shown(*self.read(session, number))

    def change(self, number: int, at: int) -> int:
        """Write a customer, or one of his items from 1 on, and give its new version once that is committed and told to the caches."""
        with self.maker() as session:
            row: Any = session.get_one(*row_at(number, at), with_for_update=True)
            version = changed(row)
            session.commit()
        return version

    @abstractmethod
    def read(self, session: Session, number: int) -> tuple[Customer, Sequence[Item]]:
        """Read a customer and his items."""


def row_at(number: int, at: int) -> tuple[type[Customer | Item], int]:
    """Give the class and the primary key of what is shown there on the page of a customer."""
    return (Item, first_item(number) + at - 1) if at else (Customer, number)


def changed(row: Customer | Item) -> int:
    """Change a name or a price, and give the new version."""
    row.version += 1
    if isinstance(row, Customer):
        row.name = f"Customer {row.id}, {row.version}"
    else:
        row.price += 1
    return row.version


def shown(customer: Customer, items: Sequence[Item]) -> list[int]:
    """Look at all that a page shows, and give the versions of the customer and of his items."""
    first = first_item(customer.id)
    named = [(item.id, item.owner_id) for item in items if item.title and item.price >= 0]
    if named != [(first + at, customer.id) for at in range(ITEMS)] or not customer.name or not customer.email:
        raise ValueError(f"the page of customer {customer.id} shows {named}")
    return [customer.version, *[item.version for item in items]]


def _customer(number: int) -> Select[Any]:
    return select(Customer).where(Customer.id == number)


def items_of(number: int) -> Select[Any]:
    return select(Item).where(Item.owner_id == number).order_by(Item.id)


class Plain(Shop):
    """SQLAlchemy alone."""

    def read(self, session: Session, number: int) -> tuple[Customer, Sequence[Item]]:
        customer = session.get_one(Customer, number)
        return customer, customer.items


class Costless(Shop):
    """What is left of a request whose page costs nothing: the session and a look at what is shown; and the writes."""

    def prepare(self) -> None:
        with self.maker() as session:
            customer = session.get_one(Customer, 1)
            self.ready = customer, customer.items
            session.expunge_all()

    def read(self, session: Session, number: int) -> tuple[Customer, Sequence[Item]]:  # noqa: ARG002 - the same for all
        return self.ready


class BareReads(Costless):
    """The same after two bare MGETs, of a customer, and of a list and its rows, of which nothing is decoded."""

    def prepare(self) -> None:
        super().prepare()
        self.client = self.stack.enter_context(Redis.from_url(self.redis))
        self.cells = [f"web bare:{number}" for number in range(ITEMS + 1)]
        self.client.mset(dict.fromkeys(self.cells, bytes(_CELL)))

    def read(self, session: Session, number: int) -> tuple[Customer, Sequence[Item]]:
        self.client.mget(self.cells[:1])
        self.client.mget(self.cells)
        return super().read(session, number)


class Synced(Plain):
    """The same sessions, reading through stockstore's caches, which the hook keeps true."""

    def caches(self) -> list[Store]:
        return [RedisStore(self.redis, namespace=f"web {type(self).__name__}", lifetime=_SECONDS)]

    def prepare(self) -> None:
        store = self.stack.enter_context(ChainedStore([*self.caches(), SqlAlchemyStore(engine=self.engine)]))
        sync = SessionSync(store, read_through=True)
        sync.attach(self.maker)
        self.stack.callback(sync.detach)


class SyncedAbove(Synced):
    """The same with process memory above Redis, which believes for a second what it has read."""

    def caches(self) -> list[Store]:
        return [ProcessMemoryStore(maxsize=1_000_000), *super().caches()]


class Recipe(Shop):
    """SQLAlchemy's recipe of cached queries."""

    def prepare(self) -> None:
        arguments = {"url": self.redis, "redis_expiration_time": _SECONDS}
        region: Any = make_region(key_mangler=lambda key: f"web recipe:{key}").configure("dogpile.cache.redis", arguments=arguments)
        self.queries = CachedQueries(region, self.maker)

    def read(self, session: Session, number: int) -> tuple[Customer, Sequence[Item]]:
        customer = session.scalars(_customer(number).options(FROM_CACHE)).one()
        return customer, session.scalars(items_of(number).options(FROM_CACHE)).all()

    def change(self, number: int, at: int) -> int:
        version = super().change(number, at)
        self.queries.forget((items_of(number) if at else _customer(number)).options(FROM_CACHE))
        return version


class _Customers(SQLAlchemySyncRepository[Customer]):
    model_type = Customer


class _Items(SQLAlchemySyncRepository[Item]):
    model_type = Item


class Repositories(Shop):
    """advanced-alchemy's repositories with their cache."""

    def prepare(self) -> None:
        arguments = {"url": self.redis, "redis_expiration_time": _SECONDS}
        self.cache = CacheManager(CacheConfig(backend="dogpile.cache.redis", expiration_time=_SECONDS, arguments=arguments))
        setup_cache_listeners()

    def read(self, session: Session, number: int) -> tuple[Customer, Sequence[Item]]:
        kept: dict[str, Any] = {"session": session, "cache_manager": self.cache, "auto_expunge": True}
        return _Customers(**kept).get(number), _Items(**kept, order_by=[(Item.id, False)]).list(owner_id=number)

    def change(self, number: int, at: int) -> int:
        cls, key = row_at(number, at)
        with self.maker() as session:
            repository: Any = (_Items if cls is Item else _Customers)(session=session, cache_manager=self.cache)
            row = repository.get(key, with_for_update=True)
            version = changed(row)
            repository.update(row)
            session.commit()
        return version


PLAIN: Final = "SQLAlchemy alone"
COSTLESS: Final = "pages at no cost"
BARE: Final = "pages by two bare MGETs"
REDIS: Final = "stockstore, Redis"
ABOVE: Final = "stockstore, process memory above Redis"
SHOPS: Final[dict[str, Callable[[str, str, ExitStack], Shop]]] = {
    PLAIN: Plain,
    COSTLESS: Costless,
    BARE: BareReads,
    REDIS: Synced,
    ABOVE: SyncedAbove,
    "SQLAlchemy's recipe, dogpile.cache on Redis": Recipe,
    "advanced-alchemy's repositories, Redis": Repositories,
}
