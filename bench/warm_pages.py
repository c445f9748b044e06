"""Pages of a customer and his 20 items that the caches have, one after the other, each in a session of its own."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Final

from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from bench.context import Context, expect
from bench.load.rows import ITEMS
from bench.measure import Way
from bench.report import Row, timed
from bench.web_shop import PLAIN, Customer, Item, Plain, Shop, Synced, fill_shop, items_of, shown
from stockstore import ProcessMemoryStore, Store

SUBJECT: Final = "a page of a customer and his items on PostgreSQL, all of it cached"
_CUSTOMERS: Final = range(1, 101)
Read = Callable[[Session, int], tuple[Customer, Sequence[Item]]]


class _InMemory(Synced):
    def caches(self) -> list[Store]:
        return [ProcessMemoryStore(max_staleness=None)]


_SHOPS: Final[dict[str, type[Shop]]] = {PLAIN: Plain, "process memory": _InMemory, "Redis": Synced}


def _by_statement(session: Session, number: int) -> tuple[Customer, Sequence[Item]]:
    return session.get_one(Customer, number), session.scalars(items_of(number)).all()


def rows(context: Context) -> Iterator[Row]:
    url = context.servers.empty_database()
    engine = create_engine(url)
    fill_shop(engine, len(_CUSTOMERS))
    engine.dispose()
    with ExitStack() as stack:
        shops = {name: shop(url.render_as_string(hide_password=False), context.servers.redis, stack) for name, shop in _SHOPS.items()}
        yield from _rows(context, "by session.get and customer.items", {name: (shop, shop.read) for name, shop in shops.items()})
        yield from _rows(context, "by session.get and a statement", {name: (shop, _by_statement) for name, shop in shops.items()})


def _rows(context: Context, what: str, reads: dict[str, tuple[Shop, Read]]) -> Iterator[Row]:
    ways = {name: partial(_pages, *read) for name, read in reads.items()}
    for name, way in ways.items():
        for _ in range(3):  # a cache has all of it from the second time on
            expect(f"{what}, {name}", way(), [[0] * (ITEMS + 1)] * len(_CUSTOMERS))
    timed_ways = {name: Way(way, times=len(_CUSTOMERS)) for name, way in ways.items()}
    for clock, times in (("", context.race(timed_ways)), ("processor time, ", context.race_unwaiting(timed_ways))):
        for name in reads:
            if name != PLAIN:
                yield timed(SUBJECT, f"{clock}{what}, from {name}", times, PLAIN, ours=name, faster=True)


def _pages(shop: Shop, read: Read) -> list[list[int]]:
    return [_page(shop, read, number) for number in _CUSTOMERS]


def _page(shop: Shop, read: Read, number: int) -> list[int]:
    with shop.maker() as session:
        return shown(*read(session, number))
