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

from bench.recipe import FROM_CACHE, CachedQueries
from stockstore import ChainedStore, ProcessMemoryStore, RedisStore, SqlAlchemyStore, Store
from stockstore_ext.sqlalchemy import SessionSync

ITEMS: Final = 20
_SECONDS: Final = 3600
_CELL: Final = 80  # bytes


class ShopBase(DeclarativeBase):
    """The registry of the shop."""


class Customer(ShopBase):
    """Who is asked for; each write makes the version one higher."""

    __tablename__ = "web_customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80))
    email: Mapped[str] = mapped_column(String(120))
    version: Mapped[int]
    items: Mapped[list["Item"]] = relationship(viewonly=True, order_by="Item.id")


class Item(ShopBase):
    """One of a customer's items, with the customer's version of its last change."""

    __tablename__ = "web_items"
    __indexes__: ClassVar = ["owner_id"]
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("web_customers.id"), index=True)
    title: Mapped[str] = mapped_column(String(80))
    price: Mapped[int]
    version: Mapped[int]


_FILL: Final = (
    "INSERT INTO web_customers SELECT n, 'Customer ' || n, 'customer' || n || '@example.com', 0 FROM generate_series(1, :customers) AS n",
    "INSERT INTO web_items SELECT n, (n - 1) / :items + 1, 'Item ' || n, n % 1000, 0 FROM generate_series(1, :rows) AS n",
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
    """A contender. A page is a customer and his items, by a session of its own; so is a change of the customer and of one item."""

    def __init__(self, database: str, redis: str, stack: ExitStack) -> None:
        engine = create_engine(database)
        stack.callback(engine.dispose)
        self.engine, self.redis, self.stack = engine, redis, stack
        self.maker: sessionmaker[Session] = sessionmaker(engine, class_=type("ShopSession", (Session,), {}))
        self.prepare()

    def prepare(self) -> None:
        """Set up the caches."""

    def page(self, number: int) -> int:
        """Read a customer and his items, and give the lower one of the versions of both."""
        with self.maker() as session:
            customer, items = self.read(session, number)
            return min(shown(customer, items))

    def change(self, number: int, at: int) -> int:
        """Write a customer and one of his items, and give their new version once that is committed and told to the caches."""
        with self.maker() as session:
            customer = session.get_one(Customer, number, with_for_update=True)
            item = session.get_one(Item, item_number(number, at), with_for_update=True)
            customer.version += 1
            item.version = version = customer.version
            session.commit()
        return version

    @abstractmethod
    def read(self, session: Session, number: int) -> tuple[Customer, Sequence[Item]]:
        """Read a customer and his items."""


def item_number(number: int, at: int) -> int:
    return (number - 1) * ITEMS + at + 1


def shown(customer: Customer, items: Sequence[Item]) -> tuple[int, int]:
    """Look at all that a page shows, and give the version of the customer and the newest one of his items."""
    names = [(item.id, item.owner_id, item.title, item.price) for item in items]
    if len(names) != ITEMS or any(owner != customer.id for _, owner, _, _ in names) or not customer.name or not customer.email:
        raise ValueError(f"the page of customer {customer.id} shows {names}")
    return customer.version, max(item.version for item in items)


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
        for statement in (_customer(number), items_of(number)):
            self.queries.forget(statement.options(FROM_CACHE))
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
        with self.maker() as session:
            customers = _Customers(session=session, cache_manager=self.cache)
            items = _Items(session=session, cache_manager=self.cache)
            customer = customers.get(number, with_for_update=True)
            item = items.get(item_number(number, at), with_for_update=True)
            customer.version += 1
            item.version = version = customer.version
            customers.update(customer)
            items.update(item)
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
