"""The main job: put rows, read them through the chain, change some, delete some."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from textwrap import indent

from sqlalchemy import inspect, select
from sqlalchemy.orm import Session

from examples.shop.measure import hit_ratios, times
from examples.shop.models import Base, Customer, Order, Product, Status, customers, orders, products
from examples.shop.table import mark, show_table
from examples.shop.tiers import Tiers
from examples.shop.writes import Writers, eventually

Key = dict[str, object]


@dataclass(frozen=True)
class Reading:
    """One read: what was asked, which tiers answered, and whether it is what plain SQLAlchemy reads from the database."""

    what: str
    answered: str
    right: bool


def show(tiers: Tiers) -> bool:
    """Run the job and print its tables; give whether every value was the right one."""
    print("The chain:", " > ".join(tiers.names), flush=True)
    shop = Shop(tiers)
    readings = list(shop.job())
    show_readings("Who answers a read", readings)
    written = list(shop.sessions())
    show_readings("What sessions write, with the hook attached", written)
    print(f"\n  What holds here:\n{indent(shop.guarantee, '    ')}")
    hit_ratios(tiers)
    times(tiers)
    print("\nright?: the same values and types as plain SQLAlchemy reads from the database.")
    return all(reading.right for reading in readings + written)


def show_readings(title: str, readings: "list[Reading]") -> None:
    show_table(title, ["", "answered by", "right?"], [[r.what, r.answered, mark(right=r.right)] for r in readings])


class Shop:
    def __init__(self, tiers: Tiers) -> None:
        self.tiers, self.store, self.names = tiers, tiers.chain, tiers.names
        self.guarantee = ""

    def job(self) -> Iterator[Reading]:
        self.store.batch_put([*customers(), *products()])
        self.store.batch_put(orders())
        yield from self.reads_by_every_key()
        yield from self.reads_of_lower_tiers()
        yield from self.changes()
        yield from self.deletes()

    def reads_by_every_key(self) -> Iterator[Reading]:
        yield self.read("put, then read by primary key", Customer, id=7)
        yield self.read("  by e-mail", Customer, email="customer7@example.org")
        yield self.read("  by country and user name", Customer, country="fr", username="customer 7")
        yield self.read("  a product by SKU", Product, sku="SKU-00042")

    def reads_of_lower_tiers(self) -> Iterator[Reading]:
        for depth, name in enumerate(self.names[:-1], start=1):
            for tier in self.store.tiers[:depth]:
                tier.clear()
            yield self.read("in a new process, its memory is empty" if depth == 1 else f"  {name} is emptied too", Order, id=1)
            yield self.read("  the same once more", Order, id=1)
        yield self.read_batch("a batch: 100 orders, one does not exist", Order, [*range(1, 100), 404_404])
        yield self.read_batch("  the same once more", Order, [*range(1, 100), 404_404])

    def changes(self) -> Iterator[Reading]:
        customer = self.store.get(Customer, 7)
        assert customer is not None
        customer.email, customer.settings = "moved@example.org", {"newsletter": False}
        self.store.put(customer)
        yield self.read("e-mail changed, then read by the new one", Customer, email="moved@example.org")
        yield self.read("  by the old one", Customer, email="customer7@example.org")
        order, product = self.store.get(Order, 1), self.store.get(Product, 42)
        assert order is not None
        assert product is not None
        order.status, product.price = Status.SENT, Decimal("12345.67")
        self.store.batch_put([order, product])
        yield self.read("an order's status changed", Order, id=1)
        yield self.read("a product's price changed, read by SKU", Product, sku="SKU-00042")

    def deletes(self) -> Iterator[Reading]:
        self.store.delete(Product, sku="SKU-00042")
        yield self.read("deleted by SKU, then read by SKU", Product, sku="SKU-00042")
        yield self.read("  by primary key", Product, id=42)
        self.store.batch_delete(Order, [{"id": number} for number in range(1, 51)])
        yield self.read_batch("50 of 99 orders deleted, then read all", Order, range(1, 100))

    def sessions(self) -> Iterator[Reading]:
        """The application writes by its own sessions, and reads through the chain."""
        writers = Writers(self.tiers)
        yield self.read("read before a session writes", Customer, id=12)
        writers.savepoints()
        yield self.read("changed in a savepoint that was released", Customer, id=11)
        yield self.read("changed in a savepoint that was rolled back", Customer, id=12)
        self.store.get(Customer, 13)
        writers.rollback()
        yield self.read("changed, flushed and rolled back", Customer, id=13)
        self.store.get(Product, 5)
        writers.bulk()
        yield self.read("20 prices changed by one UPDATE", Product, id=5)
        yield self.read("  one read by SKU", Product, sku="SKU-00006")
        self.store.get(Customer, 14)
        writers.killed()
        # What process memory has is right still, but would not show the marker that the writer has left on a server.
        self.tiers.memory.clear()
        yield self.read("a writer killed in its commit", Customer, id=14)
        yield self.read_once_resolved("  once its transaction is known to be over", Customer, id=14)
        self.guarantee = str(writers.sync.guarantee)
        writers.close()

    def read_once_resolved(self, what: str, cls: type[Base], **key: object) -> Reading:
        """Read until all caches are filled again, the uppermost too."""
        eventually(lambda: self.read(what, cls, **key).answered == self.names[0])
        return self.read(what, cls, **key)

    def read(self, what: str, cls: type[Base], **key: object) -> Reading:
        before = self.hits()
        found = self.store.get(cls, key)
        return Reading(what, self.answered(before, 1), columns(found) == self.truth(cls, key))

    def read_batch(self, what: str, cls: type[Base], numbers: "range | list[int]") -> Reading:
        before = self.hits()
        found = self.store.batch_get(cls, numbers)
        right = all(columns(row) == self.truth(cls, {"id": number}) for number, row in zip(numbers, found, strict=True))
        return Reading(what, self.answered(before, len(found)), right)

    def hits(self) -> list[int]:
        return [tier.hits for tier in self.store.stats().tiers]

    def answered(self, before: list[int], asked: int) -> str:
        """Name the tiers whose hits grew since, with numbers for a batch."""
        counts = {name: now - then for name, now, then in zip(self.names, self.hits(), before, strict=True)}
        counts["none: no such row"] = asked - sum(counts.values())
        return ", ".join(name if asked == 1 else f"{count} {name}" for name, count in counts.items() if count)

    def truth(self, cls: type[Base], key: Key) -> Key | None:
        with Session(self.tiers.database.engine) as session:
            return columns(session.scalars(select(cls).filter_by(**key)).one_or_none())


def columns(row: Base | None) -> Key | None:
    """Give a row's column values with their types, so that 1, 1.0 and Decimal(1) differ."""
    if row is None:
        return None
    return {column.key: (type(value := getattr(row, column.key)), value) for column in inspect(type(row)).column_attrs}
