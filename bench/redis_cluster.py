"""Batches on a Redis Cluster of three nodes beside the same on one node."""

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any, Final, TypeAlias
from uuid import uuid4

from redis import RedisCluster

from bench.context import Context, calls, expect
from bench.report import Row, at_most, timed
from bench.samples import Product, User, columns, fields, user_row
from stockstore import RedisStore

SUBJECT: Final = "Redis Cluster, batches of 100"
_NUMBERS: Final = list(range(100))
_SECONDS: Final = 600
_TARGET: Final = at_most(1.5)
Stores: TypeAlias = dict[str, RedisStore]


def rows(context: Context) -> Iterator[Row]:
    three, one = (RedisCluster.from_url(context.servers.redis_cluster(nodes)) for nodes in (3, 1))
    with closing(three), closing(one):
        options: dict[str, Any] = {"namespace": uuid4().hex, "lifetime": _SECONDS}
        stores: Stores = {
            "three nodes": RedisStore(client=three, **options),
            "a cluster of one": RedisStore(client=one, **options),
            "a server": RedisStore(context.servers.redis, **options),
        }
        yield from _reads(context, stores, "mapped objects", lambda number: User(**user_row(number)), columns)
        yield from _reads(context, stores, "objects", lambda number: Product(**fields(number)), lambda product: product)
        yield from _writes(context, stores)
        for store in stores.values():
            store.clear()
            store.close()


def _reads(context: Context, stores: Stores, what: str, make: Callable[[int], Any], seen: Callable[[Any], object]) -> Iterator[Row]:
    cls, wanted = type(make(0)), [seen(make(number)) for number in _NUMBERS]
    for name, store in stores.items():
        store.batch_put([make(number) for number in _NUMBERS])
        expect(name, [seen(obj) for obj in store.batch_get(cls, _NUMBERS)], wanted)
    yield from _compared(context, f"batch_get of {what}", {name: partial(store.batch_get, cls, _NUMBERS) for name, store in stores.items()})


def _writes(context: Context, stores: Stores) -> Iterator[Row]:
    products = [Product(**fields(number)) for number in _NUMBERS]
    yield from _compared(context, "batch_put", {name: partial(store.batch_put, products) for name, store in stores.items()})


def _compared(context: Context, what: str, ways: dict[str, Callable[[], object]]) -> Iterator[Row]:
    """Compare by the clock, and by the time of this process alone: what waits for the servers is left out of that."""
    for by, race in (("", context.race), (", processor", context.race_unwaiting)):
        named = {f"{what}, {name}{by}": way for name, way in ways.items()}
        ours, one, server = named
        times = race(calls(named))
        yield timed(SUBJECT, ours, times, one, _TARGET, ours=ours)
        yield timed(SUBJECT, ours, times, server, ours=ours)
