"""Reads of many asyncio tasks on Redis beside redis.asyncio, and what an await costs where process memory answers."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final
from uuid import uuid4

import redis.asyncio

from bench.context import Context, calls, expect, expect_all
from bench.measure import Way
from bench.raw import decoded, decoder_for, record_keys
from bench.report import Row, at_most, sized, timed, times_faster
from bench.samples import Product, fields
from stockstore import AsyncStore, ChainedStore, NullStore, ProcessMemoryStore, RedisStore

SUBJECT: Final = "asyncio"
_TASKS: Final = 200
_TURNS: Final = 5
_NUMBERS: Final = list(range(100))
_COUNT: Final = 1000
_HITS: Final = 1000


def rows(context: Context) -> Iterator[Row]:
    loop = asyncio.new_event_loop()
    namespace, url = uuid4().hex, context.servers.redis
    store = AsyncStore(RedisStore(url.replace("://", "+asyncio://", 1), namespace=namespace, lifetime=600))
    client = redis.asyncio.Redis.from_url(url, max_connections=2 * _TASKS)
    try:
        loop.run_until_complete(store.batch_put([Product(**fields(number)) for number in range(_COUNT)]))
        yield from _tasks(context, loop, store, client, namespace)
        yield from _batches(context, loop, store, client, namespace)
        yield from _hits(context, loop)
        loop.run_until_complete(store.clear())
    finally:
        loop.run_until_complete(store.close())
        loop.run_until_complete(client.aclose())
        loop.close()


def _tasks(context: Context, loop: asyncio.AbstractEventLoop, store: AsyncStore, client: Any, namespace: str) -> Iterator[Row]:
    texts, make = record_keys(namespace, Product, range(_COUNT)), decoder_for(Product)

    async def get(number: int) -> Product:
        cells: list[Any] = [await client.get(texts[number])]
        return decoded(cells, make)[0]  # type: ignore[no-any-return]

    async def ours(number: int) -> object:
        return await store.get(Product, number)

    ways: dict[str, Callable[[int], Awaitable[object]]] = {"store.get": ours, "client.get + msgspec": get}
    expect("a task's read", loop.run_until_complete(ours(7)), loop.run_until_complete(get(7)))
    runs = {name: Way(lambda way=way: loop.run_until_complete(_many(way)), times=_TASKS * _TURNS) for name, way in ways.items()}  # type: ignore[misc]
    times = context.race(runs)
    yield timed(SUBJECT, f"get, {_TASKS} tasks at once", times, "client.get + msgspec", times_faster(2), ours="store.get")


async def _many(way: Callable[[int], Awaitable[object]]) -> None:
    async def task(start: int) -> None:
        for turn in range(_TURNS):
            await way((start * 7 + turn * 131) % _COUNT)

    await asyncio.gather(*map(task, range(_TASKS)))


def _batches(context: Context, loop: asyncio.AbstractEventLoop, store: AsyncStore, client: Any, namespace: str) -> Iterator[Row]:
    texts, make = record_keys(namespace, Product, _NUMBERS), decoder_for(Product)

    async def mget() -> list[Any]:
        return decoded(await client.mget(texts), make)

    ways = {
        "batch_get": lambda: loop.run_until_complete(store.batch_get(Product, _NUMBERS)),
        "MGET + msgspec": lambda: loop.run_until_complete(mget()),
    }
    expect_all([Product(**fields(number)) for number in _NUMBERS], ways)
    times = context.race(calls(ways))
    yield timed(SUBJECT, "batch_get of 100, one task", times, "MGET + msgspec", at_most(1 / 0.9), ours="batch_get")


def _hits(context: Context, loop: asyncio.AbstractEventLoop) -> Iterator[Row]:
    for name, plain in {"memory": ProcessMemoryStore(), "a chain": ChainedStore([ProcessMemoryStore(), NullStore()])}.items():
        getattr(plain, "tiers", [plain])[0].put(Product(**fields(1)))
        store = AsyncStore(plain)

        async def awaited(store: AsyncStore = store) -> None:
            for _ in range(_HITS):
                await store.get(Product, 1)

        def blocking(plain: Any = plain) -> None:
            for _ in range(_HITS):
                plain.get(Product, 1)

        expect("a hit", loop.run_until_complete(_once(store)), plain.get(Product, 1))
        ways = {"awaited": Way(lambda: loop.run_until_complete(awaited()), times=_HITS), "blocking": Way(blocking, times=_HITS)}
        times = context.race_unwaiting(ways)
        more = times.median("awaited") - times.median("blocking")
        yield sized(SUBJECT, f"what an await adds to a hit in {name}", more, (2e-6, "promised"), "s", at_most(1))


async def _once(store: AsyncStore) -> object:
    return await store.get(Product, 1)
