"""One object and a hundred on Redis, beside other caches on the same server."""

from collections.abc import Iterator
from typing import Any, Final
from uuid import uuid4

import django
from django.conf import settings
from dogpile.cache import make_region
from redis import Redis

from bench.async_peers import Cashews
from bench.context import Context, expect_all
from bench.measure import Way
from bench.raw import decoded, decoder_for, record_keys
from bench.report import OURS, Row, timed
from bench.samples import Product, fields
from stockstore import RedisStore

SUBJECT: Final = "Redis, beside other caches"
_NUMBERS: Final = list(range(100))
_SECONDS: Final = 600
_TASKS: Final = ("get", "put", "batch_get of 100", "batch_put of 100")
_PRODUCTS: Final = [Product(**fields(number)) for number in _NUMBERS]

Ways = dict[str, dict[str, Way]]


def rows(context: Context) -> Iterator[Row]:
    url, space = context.servers.redis, uuid4().hex
    with RedisStore(url, namespace=space, lifetime=_SECONDS) as store, Redis.from_url(url) as client, Cashews(url) as cashews:
        contenders = [
            _stockstore(store),
            _redis_py(store, client, space),
            _dogpile(url, space),
            _django(url, space),
            _cashews(cashews, space),
        ]
        for task in _TASKS:
            ways = {name: tasks[task] for found in contenders for name, tasks in found.items() if task in tasks}
            times = context.race(ways)
            yield from (timed(SUBJECT, task, times, peer) for peer in ways if peer != OURS)
        store.clear()


def _stockstore(store: RedisStore) -> Ways:
    store.batch_put(_PRODUCTS)
    tasks: dict[str, Any] = {
        "get": lambda: store.get(Product, 7),
        "batch_get of 100": lambda: store.batch_get(Product, _NUMBERS),
        "put": lambda: store.put(_PRODUCTS[7]),
        "batch_put of 100": lambda: store.batch_put(_PRODUCTS),
    }
    return _checked(OURS, tasks)


def _redis_py(store: RedisStore, client: Redis, space: str) -> Ways:
    store.batch_put(_PRODUCTS)
    texts, make = record_keys(space, Product, _NUMBERS), decoder_for(Product)
    cell: Any = client.get(texts[7])
    tasks: dict[str, Any] = {
        "get": lambda: make(client.get(texts[7])),
        "batch_get of 100": lambda: decoded(client.mget(texts), make),
        "put": lambda: client.set(texts[7], cell, ex=_SECONDS),
    }
    return _checked("redis-py and msgspec", tasks)


def _dogpile(url: str, space: str) -> Ways:
    region: Any = make_region(key_mangler=lambda key: f"{space}:dogpile:{key}")
    region.configure("dogpile.cache.redis", arguments={"url": url, "redis_expiration_time": _SECONDS})
    texts = [str(number) for number in _NUMBERS]
    every = dict(zip(texts, _PRODUCTS, strict=True))
    region.set_multi(every)
    tasks: dict[str, Any] = {
        "get": lambda: region.get("7"),
        "batch_get of 100": lambda: region.get_multi(texts),
        "put": lambda: region.set("7", _PRODUCTS[7]),
        "batch_put of 100": lambda: region.set_multi(every),
    }
    return _checked("dogpile.cache", tasks)


def _django(url: str, space: str) -> Ways:
    if not settings.configured:
        settings.configure()
        django.setup()
    from django.core.cache.backends.redis import RedisCache  # it needs settings

    cache = RedisCache(url, {"KEY_PREFIX": f"{space}:django", "TIMEOUT": _SECONDS})
    texts = [str(number) for number in _NUMBERS]
    every = dict(zip(texts, _PRODUCTS, strict=True))
    cache.set_many(every)
    tasks: dict[str, Any] = {
        "get": lambda: cache.get("7"),
        "batch_get of 100": lambda: list(cache.get_many(texts).values()),
        "put": lambda: cache.set("7", _PRODUCTS[7]),
        "batch_put of 100": lambda: cache.set_many(every),
    }
    return _checked("Django's Redis cache", tasks)


def _cashews(peer: Cashews, space: str) -> Ways:
    cache, texts = peer.cache, [f"{space}:cashews:{number}" for number in _NUMBERS]
    every = dict(zip(texts, _PRODUCTS, strict=True))
    tasks: dict[str, Any] = {
        "get": lambda: cache.get(texts[7]),
        "batch_get of 100": lambda: cache.get_many(*texts),
        "put": lambda: cache.set(texts[7], _PRODUCTS[7], expire=_SECONDS),
        "batch_put of 100": lambda: cache.set_many(every, expire=_SECONDS),
    }
    peer.once(tasks["batch_put of 100"])
    _expect({"cashews get": lambda: peer.once(tasks["get"])}, {"cashews get_many": lambda: list(peer.once(tasks["batch_get of 100"]))})
    return {"cashews": {task: peer.way(operation) for task, operation in tasks.items()}}


def _checked(name: str, tasks: dict[str, Any]) -> Ways:
    _expect({f"{name} get": tasks["get"]}, {f"{name} batch": tasks["batch_get of 100"]})
    return {name: {task: Way(operation) for task, operation in tasks.items()}}


def _expect(one: dict[str, Any], many: dict[str, Any]) -> None:
    expect_all(_PRODUCTS[7], one)
    expect_all(_PRODUCTS, many)
