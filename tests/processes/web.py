"""The row over HTTP, for servers with several workers: by WSGI, and by ASGI.

``/`` reads it, ``/5`` writes it first. The shop stands in the environment; with ``PRELOAD`` it is used before anything is forked.
"""

import json
import os
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from stockstore import AsyncStore, ChainedStore, ProcessMemoryStore, RedisStore, SqlAlchemyStore
from stockstore.instrumentation import Event, add_hook
from tests.processes.shop import STALENESS, Row, Shop, channel_threads, value_of

Message = MutableMapping[str, Any]
flushes: list[tuple[int, str]] = []


def note(event: Event) -> None:
    """Note why memory was flushed, and in which process."""
    if event.kind == "flush":
        flushes.append((os.getpid(), event.reason))


def state_of(value: int) -> bytes:
    """Tell who answers, what, and how its memory is told."""
    mine = [reason for pid, reason in flushes if pid == os.getpid()]
    return json.dumps({"pid": os.getpid(), "value": value, "threads": channel_threads(), "flushes": mine}).encode()


add_hook(note)
shop = Shop(*os.environ["SHOP"].split(","))
store = shop.open()
if os.environ.get("PRELOAD"):
    value_of(store)


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answer by WSGI."""
    if written := environ["PATH_INFO"].strip("/"):
        store.put(Row(id=1, value=int(written)))
    start_response("200 OK", [("Content-Type", "application/json")])
    return [state_of(value_of(store))]


async_store = AsyncStore(
    ChainedStore(
        [
            ProcessMemoryStore(namespace=shop.namespace, max_staleness=STALENESS, channel="auto" if shop.redis else shop.database),
            *([RedisStore(shop.redis.replace("redis://", "redis+asyncio://"), namespace=shop.namespace)] if shop.redis else ()),
            SqlAlchemyStore(shop.database.replace("+psycopg:", "+psycopg_async:")),
        ]
    )
)


async def async_app(scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]) -> None:
    """Answer by ASGI."""
    if scope["type"] == "lifespan":
        await live(receive, send)
        return
    if written := scope["path"].strip("/"):
        await async_store.put(Row(id=1, value=int(written)))
    row = await async_store.get(Row, 1)
    assert row is not None
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": state_of(row.value)})


async def live(receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]) -> None:
    """Start, and close the store at the end."""
    while (await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    await async_store.close()
    await send({"type": "lifespan.shutdown.complete"})
