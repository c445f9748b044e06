"""The FastAPI seam: the dependency's scope, and the lifespan."""

import asyncio
from collections.abc import Iterator
from typing import Annotated

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import StreamingResponse

from stockstore import AsyncStore, ChainedStore, ConfigurationError
from stockstore_ext.fastapi import RequestScope, lifespan, request_store
from tests.frameworks.tiers import Item, Tiers

pytestmark = pytest.mark.sa_agnostic


async def answers(app: FastAPI, *paths: str) -> list[object]:
    """Send requests one after another, and give what they answered."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
        return [(await client.get(path)).json() for path in paths]


def shop(tiers: Tiers) -> FastAPI:
    """Make an application whose endpoints depend on the chain."""
    app, get_store = FastAPI(), request_store(tiers.chain)
    Chain = Annotated[ChainedStore, Depends(get_store)]

    def user(store: Chain) -> Item | None:
        return store.get(Item, 2)

    @app.get("/coroutine")
    async def coroutine(store: Chain, user: Annotated[Item, Depends(user)]) -> list[list[int]]:
        before = tiers.kept()
        store.get(Item, 1)
        return [before, await asyncio.to_thread(tiers.kept)]

    @app.get("/blocking")
    def blocking(store: Chain, user: Annotated[Item, Depends(user)]) -> list[list[int]]:
        before = tiers.kept()
        store.get(Item, 1)
        return [before, tiers.kept()]

    @app.get("/missing")
    async def missing(store: Chain) -> None:
        store.get(Item, 1)
        raise HTTPException(404, tiers.kept())

    return app


@pytest.mark.parametrize("path", ["/coroutine", "/blocking"])
async def test_an_endpoint_and_its_dependencies_share_a_scope(tiers: Tiers, path: str) -> None:
    """What a blocking dependency read in the thread pool is there in the endpoint, pooled or not; the next request starts empty."""
    assert await answers(shop(tiers), path, path) == [[[2], [1, 2]]] * 2
    assert tiers.kept() == []


async def test_requests_at_once_are_apart(tiers: Tiers) -> None:
    """Many requests at once, in the loop and in the pool, each begin with what they themselves read."""
    app = shop(tiers)
    found = await asyncio.gather(*(answers(app, path) for path in ["/coroutine", "/blocking"] * 20))
    assert [*found] == [[[[2], [1, 2]]]] * 40


async def test_an_endpoint_that_fails_ends_the_scope(tiers: Tiers) -> None:
    """An HTTPException is answered as ever, and nothing stays."""
    assert await answers(shop(tiers), "/missing", "/missing") == [{"detail": [1]}] * 2
    assert tiers.kept() == []


async def test_the_middleware_scopes_streams_of_threads(tiers: Tiers) -> None:
    """A blocking generator, each part of which runs in some thread of the pool, reads in the one scope of its request."""
    app = FastAPI()
    app.add_middleware(RequestScope, store=tiers.chain)

    @app.get("/")
    def stream() -> StreamingResponse:
        def parts() -> Iterator[str]:
            yield "["
            tiers.chain.get(Item, 1)
            yield f"{tiers.kept()}, "
            tiers.chain.get(Item, 2)
            yield f"{tiers.kept()}]"

        return StreamingResponse(parts())

    assert await answers(app, "/", "/") == [[[1], [1, 2]]] * 2
    assert tiers.kept() == []


@pytest.mark.parametrize("awaited", [False, True])
async def test_the_lifespan_closes_the_store(tiers: Tiers, awaited: bool) -> None:
    """The store is open while the application runs, and closed after it, blocking or awaited, also after an error."""
    store = AsyncStore(tiers.chain) if awaited else tiers.chain
    app = FastAPI(lifespan=lifespan(store))
    async with app.router.lifespan_context(app):
        assert tiers.below.contains(Item, 1)
    assert not tiers.below.contains(Item, 1)  # process memory forgets everything when it is closed
    tiers.below.put(Item(1, "hat"))
    with pytest.raises(RuntimeError, match="shutdown"):
        await fail_within(app)
    assert not tiers.below.contains(Item, 1)


async def fail_within(app: FastAPI) -> None:
    """Start an application, and fail."""
    async with app.router.lifespan_context(app):
        raise RuntimeError("shutdown")


async def test_an_awaited_store_is_given_and_scoped_too(tiers: Tiers) -> None:
    """The dependency gives the very AsyncStore, and its tiers are scoped to the request."""
    app, store = FastAPI(), AsyncStore(tiers.chain)
    Shop = Annotated[AsyncStore, Depends(request_store(store))]

    @app.get("/")
    async def read(given: Shop) -> list[object]:
        before = tiers.kept()
        await given.get(Item, 1)
        return [given is store, before, tiers.kept()]

    assert await answers(app, "/", "/") == [[True, [], [1]]] * 2
    assert tiers.kept() == []


def test_what_is_no_store_is_refused() -> None:
    """A URL is no store: the message shows how to make one of it."""
    with pytest.raises(ConfigurationError, match="a request's scope is that of a store, such as open_store"):
        lifespan("redis://localhost")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="a request's scope is that of a store, such as open_store"):
        request_store("redis://localhost")  # type: ignore[type-var]
