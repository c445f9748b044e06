"""Batches on Redis beside what redis-py needs for the same bytes."""

from collections.abc import Callable, Iterator
from typing import Any, Final
from uuid import uuid4

from redis import Redis

from bench.context import Context, calls, expect, expect_all
from bench.raw import alias_keys, decoded, decoder_for, record_keys
from bench.report import Row, Target, at_most, timed
from bench.samples import Article, Product, User, columns, fields, user_row
from stockstore import RedisStore
from stockstore.cells import PAYLOAD_AT
from stockstore.mapped import plan_of

SUBJECT: Final = "Redis, batches of 100"
_NUMBERS: Final = list(range(100))
_SECONDS: Final = 600
_GET: Final = at_most(1.3)
_PUT: Final = at_most(0.35)


def rows(context: Context) -> Iterator[Row]:
    namespace = uuid4().hex
    with (
        RedisStore(context.servers.redis, namespace=namespace, lifetime=_SECONDS) as store,
        Redis.from_url(context.servers.redis) as client,
    ):
        yield from _reads(context, store, client, namespace)
        yield from _mapped_reads(context, store, client, namespace)
        yield from _reads_by_alternate_key(context, store, client, namespace)
        yield from _writes(context, store, client, namespace)
        store.clear()


def _reads(context: Context, store: RedisStore, client: Redis, namespace: str) -> Iterator[Row]:
    products = [Product(**fields(number)) for number in _NUMBERS]
    store.batch_put(products)
    texts, make = record_keys(namespace, Product, _NUMBERS), decoder_for(Product)
    ours, peer = "batch_get, canonical key", "MGET + msgspec"
    ways = {
        ours: lambda: store.batch_get(Product, _NUMBERS),
        peer: lambda: decoded(client.mget(texts), make),
    }
    expect_all(products, ways)
    times = context.race(calls({**ways, "MGET alone": lambda: client.mget(texts)}))
    yield timed(SUBJECT, ours, times, peer, _GET, ours=ours)
    yield timed(SUBJECT, ours, times, "MGET alone", ours=ours)


def _mapped_reads(context: Context, store: RedisStore, client: Redis, namespace: str) -> Iterator[Row]:
    store.batch_put([User(**user_row(number)) for number in _NUMBERS])
    texts, plan = record_keys(namespace, User, _NUMBERS), plan_of(User)
    ours, peer = "batch_get of mapped objects", "MGET + unpack + hydrate"

    def make(cell: Any) -> User:
        found, state = plan.unpack(cell[PAYLOAD_AT:])
        return found.hydrate(state)  # type: ignore[no-any-return]

    ways: dict[str, Callable[[], list[Any]]] = {
        ours: lambda: store.batch_get(User, _NUMBERS),
        peer: lambda: decoded(client.mget(texts), make),
    }
    for name, way in ways.items():
        expect(name, [columns(user) for user in way()], [user_row(number) for number in _NUMBERS])
    times = context.race(calls(ways))
    yield timed(SUBJECT, ours, times, peer, _GET, ours=ours)


def _reads_by_alternate_key(context: Context, store: RedisStore, client: Redis, namespace: str) -> Iterator[Row]:
    articles = [Article(**fields(number)) for number in _NUMBERS]
    store.batch_put(articles)
    skus = [{"sku": article.sku} for article in articles]
    texts = alias_keys(namespace, Article, [article.sku for article in articles])
    records, make = record_keys(namespace, Article, _NUMBERS), decoder_for(Article)
    ours, twice, once = "batch_get, another key", "two MGETs + msgspec", "MGET + msgspec"

    def follow() -> list[Any]:
        pointers: list[Any] = client.mget(texts)
        return decoded(client.mget([pointer[1:] for pointer in pointers]), make)

    ways = {ours: lambda: store.batch_get(Article, skus), twice: follow, once: lambda: decoded(client.mget(records), make)}
    expect_all(articles, ways)
    times = context.race(calls(ways))
    yield timed(SUBJECT, ours, times, twice, _GET, ours=ours)
    yield timed(SUBJECT, ours, times, once, ours=ours)


def _writes(context: Context, store: RedisStore, client: Redis, namespace: str) -> Iterator[Row]:
    yield _write(context, store, client, namespace, Product, "batch_put, one key each", 1, _PUT)
    yield _write(context, store, client, namespace, Article, "batch_put, two keys each", 2, _PUT)


def _write(context: Context, store: RedisStore, client: Redis, namespace: str, cls: type, ours: str, keys: int, target: Target) -> Row:
    objects = [cls(**fields(number)) for number in _NUMBERS]
    store.batch_put(objects)
    texts = list(client.scan_iter(f"{namespace}:{cls.__module__}.{cls.__qualname__}:*", count=1000))
    cells: list[Any] = client.mget(texts)
    expect(f"the cells of {cls.__name__}", len(texts), keys * len(objects))

    def pipeline() -> object:
        pipe = client.pipeline(transaction=False)
        for text, cell in zip(texts, cells, strict=True):
            pipe.set(text, cell, ex=_SECONDS)
        return pipe.execute()

    peer = f"pipeline of {len(texts)} SET EX, ready bytes"
    client.delete(*texts)
    expect(peer, pipeline(), [True] * len(texts))
    expect(ours, store.batch_get(cls, _NUMBERS), objects)
    times = context.race(calls({ours: lambda: store.batch_put(objects), peer: pipeline}))
    return timed(SUBJECT, ours, times, peer, target, ours=ours)
