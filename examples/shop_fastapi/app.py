"""A small shop's API on FastAPI: ``uvicorn --factory examples.shop_fastapi.app:create_app``, with ``--workers 4`` for several workers.

``SHOP_DATABASE`` is the database's URL, ``SHOP_CACHE`` those of the caches, the fastest first: with several workers
``"thread:// memory:// redis+asyncio://localhost"``, or ``memcached://host:port``; empty for none. The endpoints use SQLAlchemy's async sessions as ever. What these load by a key comes from the caches, and what they commit is true there.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm.exc import StaleDataError

from examples.shop_api.models import Item, Order, User, open_shop
from stockstore import AsyncStore, ChainedStore, SqlAlchemyStore, StockstoreError, open_store
from stockstore_ext.fastapi import lifespan, request_store
from stockstore_ext.sqlalchemy import SessionSync

T = TypeVar("T")


class NewUser(BaseModel):
    email: str = Field(min_length=1)
    name: str = Field(min_length=1)


class NewName(BaseModel):
    name: str = Field(min_length=1)


class NewPrice(BaseModel):
    cents: int = Field(ge=1)


class NewOrder(BaseModel):
    item_id: int = Field(ge=1)
    quantity: int = Field(ge=1)


def create_app() -> FastAPI:  # noqa: PLR0915 - it lists the endpoints
    # What one request has read, then process memory, which one worker alone may trust.
    caches = os.environ.get("SHOP_CACHE", "thread:// memory://").split()
    engine = create_async_engine(os.environ.get("SHOP_DATABASE", "sqlite+aiosqlite:///shop.db"))
    store = AsyncStore(ChainedStore([*(open_store(url) for url in caches), SqlAlchemyStore(engine=engine)]))

    sessions = async_sessionmaker(engine, expire_on_commit=False)
    if caches:
        SessionSync(store.store, read_through=True).attach(sessions)

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        async with lifespan(store)(app):
            async with engine.begin() as connection:
                await connection.run_sync(open_shop)
            yield
        await engine.dispose()

    Shop = Annotated[AsyncStore, Depends(request_store(store))]

    async def session_of_request(_: Shop) -> AsyncIterator[AsyncSession]:
        async with sessions() as session:
            yield session

    Rows = Annotated[AsyncSession, Depends(session_of_request)]

    async def who_asks(shop: Shop, x_user: Annotated[str, Header()] = "") -> User:
        # No session is needed to read: the store itself gives detached objects, by any key.
        user = await shop.get(User, email=x_user)
        if user is None:
            raise HTTPException(401, "the header X-User names a user's email")
        return user

    Asking = Annotated[User, Depends(who_asks)]
    app = FastAPI(lifespan=running)

    @app.get("/users/{number}")
    async def user(number: int, session: Rows) -> dict[str, Any]:
        return found(await session.get(User, number), "user").shown()

    @app.get("/users/{number}/items")
    async def offers(number: int, session: Rows) -> dict[str, Any]:
        user = found(await session.get(User, number), "user")
        items = await session.scalars(select(Item).where(Item.seller_id == number))
        return {"user": user.shown(), "items": [item.shown() for item in items]}

    @app.post("/users", status_code=201)
    async def sign_up(given: NewUser, session: Rows) -> dict[str, Any]:
        new = User(email=given.email, name=given.name)
        session.add(new)
        await session.commit()
        return new.shown()

    @app.get("/items/{number}")
    async def item(number: int, session: Rows) -> dict[str, Any]:
        item = found(await session.get(Item, number), "item")
        seller = found(await session.get(User, item.seller_id), "user")
        return item.shown() | {"seller": seller.name}

    @app.patch("/users/me")
    async def rename(given: NewName, session: Rows, user: Asking) -> dict[str, Any]:
        # The version guards it: who has read a cached row that is no longer the last one is refused, and tries again.
        me = found(await session.get(User, user.id), "user")
        me.name = given.name
        await session.commit()
        return me.shown()

    @app.patch("/items/{number}")
    async def price(number: int, given: NewPrice, session: Rows, user: Asking) -> dict[str, Any]:
        # This one waits instead, and changes what it then finds in the database.
        item = found(await session.get(Item, number, with_for_update=True), "item")
        if item.seller_id != user.id:
            raise HTTPException(403, f"item {number} is another's")
        item.cents = given.cents
        await session.commit()
        return item.shown()

    @app.post("/orders", status_code=201)
    async def order(given: NewOrder, session: Rows, user: Asking) -> dict[str, Any]:
        # What an order costs is asked of the database, and not of a cache.
        item = found(await session.get(Item, given.item_id, with_for_update=True), "item")
        # One statement looks and takes: SQLite locks no rows. The caches are told of statements too.
        take = (
            update(Item)
            .where(Item.id == item.id, Item.stock >= given.quantity)
            .values(stock=Item.stock - given.quantity, version=Item.version + 1)
        )
        if await session.scalar(take.returning(Item.stock)) is None:
            raise HTTPException(409, f"there are no {given.quantity} of item {item.id} left")
        new = Order(user_id=user.id, item_id=item.id, quantity=given.quantity, cents=given.quantity * item.cents)
        session.add(new)
        await session.commit()
        return new.shown()

    @app.get("/stats")
    async def stats() -> dict[str, Any]:
        # Of the worker that answers: each has counted its own.
        return {"process": os.getpid(), "tiers": {tier.name: {"hits": tier.hits, "misses": tier.misses} for tier in store.stats().tiers}}

    tell_refusals(app)
    return app


def tell_refusals(app: FastAPI) -> None:
    @app.exception_handler(IntegrityError)
    async def taken(_: Request, _error: Exception) -> JSONResponse:
        return JSONResponse({"detail": "there is one with this value already"}, 409)

    @app.exception_handler(StaleDataError)
    async def overtaken(_: Request, _error: Exception) -> JSONResponse:
        return JSONResponse({"detail": "somebody else has changed it meanwhile"}, 409)

    @app.exception_handler(OperationalError)
    @app.exception_handler(StockstoreError)
    async def unavailable(_: Request, _error: Exception) -> JSONResponse:
        return JSONResponse({"detail": "the shop is closed for the moment"}, 503)


def found(row: T | None, kind: str) -> T:
    if row is None:
        raise HTTPException(404, f"there is no such {kind}")
    return row
