"""What a cached row costs on a shared cache: the server's memory, and the bytes on the wire, as the servers count them themselves."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import redis
from pymemcache.client.base import Client
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from bench.context import Context, expect
from bench.report import Row, sized
from bench.samples import Article, Product, User, fields, fill
from stockstore import MemcacheStore, RedisStore, Store
from stockstore.mapped.plan import plan_of

SUBJECT: Final = "shared caches, bytes for each object"
_BATCH: Final = 100


def rows(context: Context) -> Iterator[Row]:
    count = context.size(10_000, 1_000)
    engine = create_engine("sqlite://")
    fill(engine, count)
    with Session(engine, expire_on_commit=False) as session:
        users = list(session.scalars(select(User)))
        session.expunge_all()
    engine.dispose()
    payload = (len(_payload(users[7])), "its payload")
    with redis.Redis.from_url(context.servers.redis) as client, RedisStore(context.servers.redis, namespace="sizes") as store:
        yield from _server("Redis", store, lambda: _redis(client), users, payload)
    address = context.servers.memcached[0]
    with MemcacheStore(address, namespace="sizes") as store:
        yield from _server("memcached", store, lambda: _memcached(address), users, payload)


def _payload(user: User) -> bytes:
    plan = plan_of(User)
    return plan.pack(plan.dehydrate(user))


def _server(name: str, store: Store, counted: Callable[[], dict[str, int]], users: list[User], payload: tuple[float, str]) -> Iterator[Row]:
    """Put, and read, and take the differences of what the server has counted; asking it costs a few hundred bytes in all."""
    count = len(users)
    store.put(Product(**fields(0)))
    put = _grown(counted, lambda: store.batch_put(users))
    yield _bytes(f"{name}, its memory for a row of 10 columns", put["memory"] / count, payload)
    two = _grown(counted, lambda: store.batch_put([Article(**fields(at)) for at in range(count)]))
    one = _grown(counted, lambda: store.batch_put([Product(**fields(at)) for at in range(1, count + 1)]))
    yield _bytes(f"{name}, its memory for each further key", (two["memory"] - one["memory"]) / count, payload)
    yield _bytes(f"{name}, to the server to put a row, in batches", put["in"] / count, payload)
    ids = [user.id for user in users]
    alone = _grown(counted, lambda: [store.get(User, key) for key in ids])
    batched = _grown(counted, lambda: [store.batch_get(User, ids[at : at + _BATCH]) for at in range(0, count, _BATCH)])
    expect("a cached row", store.get(User, 7) is not None, wanted=True)
    for what, found in (("alone", alone), (f"in batches of {_BATCH}", batched)):
        yield _bytes(f"{name}, to the server for a hit, {what}", found["in"] / count, payload)
        yield _bytes(f"{name}, from the server for a hit, {what}", found["out"] / count, payload)
    store.clear()


def _bytes(what: str, ours: float, peer: tuple[float, str]) -> Row:
    return sized(SUBJECT, what, ours, peer, "B")


def _grown(counted: Callable[[], dict[str, int]], work: Callable[[], Any]) -> dict[str, int]:
    before = counted()
    work()
    return {name: value - before[name] for name, value in counted().items()}


def _redis(client: "redis.Redis") -> dict[str, int]:
    told: Any = client.info()
    return {"memory": told["used_memory"], "in": told["total_net_input_bytes"], "out": told["total_net_output_bytes"]}


def _memcached(address: str) -> dict[str, int]:
    client = Client(address)
    told = client.stats()
    client.close()
    return {"memory": told[b"bytes"], "in": told[b"bytes_read"], "out": told[b"bytes_written"]}
