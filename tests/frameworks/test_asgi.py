"""The ASGI middleware: where a request's scope begins and ends, and who shares it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from stockstore import ConfigurationError
from stockstore_ext.asgi import Message, Receive, RequestScope, Scope, Send
from tests.frameworks.tiers import Item, Tiers

pytestmark = pytest.mark.sa_agnostic


async def answers(app: RequestScope, *paths: str) -> list[str]:
    """Send requests one after another, and give the texts of the answers."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
        return [(await client.get(path)).text for path in paths]


def serving(tiers: Tiers, endpoint: Any) -> RequestScope:
    """Make an application of one endpoint."""
    return RequestScope(Starlette(routes=[Route("/", endpoint)]), tiers.chain)


async def test_a_request_shares_its_scope_with_its_tasks_and_threads(tiers: Tiers) -> None:
    """An endpoint, a task that it starts and a thread that it hands work to read in one scope; the next request starts empty."""

    async def endpoint(request: Request) -> PlainTextResponse:
        before = tiers.kept()
        await asyncio.gather(asyncio.to_thread(tiers.chain.get, Item, 1), asyncio.create_task(read()))
        return PlainTextResponse(f"{before} {tiers.kept()}")

    async def read() -> None:
        tiers.chain.get(Item, 2)

    assert await answers(serving(tiers, endpoint), "/", "/") == ["[] [1, 2]"] * 2
    assert tiers.kept() == []


async def test_an_endpoint_in_the_thread_pool_has_the_scope(tiers: Tiers) -> None:
    """A blocking endpoint runs in a thread of the pool, with a copy of the context: what it read is there for the background task."""
    seen: list[list[int]] = []

    def endpoint(request: Request) -> PlainTextResponse:
        before = tiers.kept()
        tiers.chain.get(Item, 1)
        return PlainTextResponse(str(before), background=BackgroundTask(lambda: seen.append(tiers.kept())))

    assert await answers(serving(tiers, endpoint), "/", "/") == ["[]", "[]"]
    assert seen == [[1], [1]]


async def test_a_streamed_body_reads_in_the_scope(tiers: Tiers) -> None:
    """The scope lasts until the last part was sent."""

    async def parts() -> AsyncIterator[str]:
        for number in (1, 2):
            tiers.chain.get(Item, number)
            yield str(tiers.kept())

    async def endpoint(request: Request) -> StreamingResponse:
        return StreamingResponse(parts())

    assert await answers(serving(tiers, endpoint), "/", "/") == ["[1][1, 2]"] * 2


async def test_requests_at_once_are_apart(tiers: Tiers) -> None:
    """Two requests that wait for each other see nothing of each other."""
    second, both = iter([False, True]), asyncio.Event()

    async def endpoint(request: Request) -> PlainTextResponse:
        tiers.chain.get(Item, int(request.query_params["item"]))
        if next(second):
            both.set()
        await both.wait()
        return PlainTextResponse(str(tiers.kept()))

    app = serving(tiers, endpoint)
    assert [*await asyncio.gather(answers(app, "/?item=1"), answers(app, "/?item=2"))] == [["[1]"], ["[2]"]]


async def test_a_request_that_fails_ends_the_scope(tiers: Tiers) -> None:
    """The application's error goes on to the server, and nothing stays."""

    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        tiers.chain.get(Item, 1)
        raise RuntimeError("request")

    with pytest.raises(RuntimeError, match="request"):
        await called(RequestScope(failing, tiers.chain), "http")
    assert tiers.kept() == []


async def called(app: RequestScope, kind: str, messages: Sequence[Message] = ()) -> None:
    """Call an application as a server does."""
    incoming = iter(messages)

    async def receive() -> Message:
        return next(incoming)

    async def send(message: Message) -> None:
        pass

    await app({"type": kind}, receive, send)


async def test_each_message_of_a_websocket_starts_empty(tiers: Tiers) -> None:
    """A connection that stays open does not read for ever what it has read once, whichever of its tasks receives."""
    seen: list[list[int]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(2):
            await asyncio.create_task(listen(receive))
            seen.append(tiers.kept())
            tiers.chain.get(Item, 1)
            seen.append(tiers.kept())

    async def listen(receive: Receive) -> None:
        await receive()

    await called(RequestScope(app, tiers.chain), "websocket", [{"type": "websocket.connect"}, {"type": "websocket.receive"}])
    assert seen == [[], [1], [], [1]]
    assert tiers.kept() == []


async def test_the_lifespan_has_no_scope(tiers: Tiers) -> None:
    """What the application reads when it starts belongs to no request, and nothing empties it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        tiers.chain.get(Item, 1)

    await called(RequestScope(app, tiers.chain), "lifespan")
    assert tiers.kept() == [1]


def test_what_is_no_store_is_refused() -> None:
    """A URL is no store: the message shows how to make one of it."""
    with pytest.raises(ConfigurationError, match=r"such as open_store\('thread://', 'sqlite:///shop.db'\), not of 'thread://'"):
        RequestScope(Starlette(), "thread://")  # type: ignore[arg-type]
