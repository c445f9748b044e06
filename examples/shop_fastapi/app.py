"""A small shop's API on FastAPI: ``uvicorn --factory examples.shop_fastapi.app:create_app``.

The endpoints use SQLAlchemy's async sessions as ever. What these load by a key comes from the caches, and what they commit is true there.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from examples.shop_api.models import Base, Item, Order, User, stock_up
from stockstore import AsyncStore, ChainedStore, SqlAlchemyStore, StockstoreError, open_store
from stockstore_ext.fastapi import lifespan, request_store
from stockstore_ext.sqlalchemy import SessionSync

T = TypeVar("T")


class NewUser(BaseModel):
    email: str = Field(min_length=1)
    name: str = Field(min_length=1)


class NewName(BaseModel):
    name: str = Field(min_length=1)


class NewOrder(BaseModel):
    item_id: int = Field(ge=1)
    quantity: int = Field(ge=1)


def create_app() -> FastAPI:
    # The fastest first: what one request has read, process memory; with a server, SHOP_CACHE="thread:// memory:// redis+asyncio://localhost".
    caches = open_store(*os.environ.get("SHOP_CACHE", "thread:// memory://").split())
    engine = create_async_engine(os.environ.get("SHOP_DATABASE", "sqlite+aiosqlite:///shop.db"))
    store = AsyncStore(ChainedStore([caches, SqlAlchemyStore(engine=engine)]))

    sessions = async_sessionmaker(engine, expire_on_commit=False)
    SessionSync(store.store, read_through=True).attach(sessions)

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        async with lifespan(store)(app):
            async with engine.begin() as connection:
                await connection.run_sync(Base.metadata.create_all)
            async with sessions() as session:
                await session.run_sync(stock_up)
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
        me = found(await session.get(User, user.id), "user")
        me.name = given.name
        await session.commit()
        return me.shown()

    @app.post("/orders", status_code=201)
    async def order(given: NewOrder, session: Rows, user: Asking) -> dict[str, Any]:
        # What an order costs is asked of the database, and not of a cache.
        item = found(await session.get(Item, given.item_id, with_for_update=True), "item")
        # One statement looks and takes: SQLite locks no rows. The caches are told of statements too.
        take = update(Item).where(Item.id == item.id, Item.stock >= given.quantity).values(stock=Item.stock - given.quantity)
        if await session.scalar(take.returning(Item.stock)) is None:
            raise HTTPException(409, f"there are no {given.quantity} of item {item.id} left")
        new = Order(user_id=user.id, item_id=item.id, quantity=given.quantity, cents=given.quantity * item.cents)
        session.add(new)
        await session.commit()
        return new.shown()

    @app.get("/stats")
    async def stats() -> dict[str, Any]:
        return {tier.name: {"hits": tier.hits, "misses": tier.misses} for tier in store.stats().tiers}

    @app.exception_handler(IntegrityError)
    async def taken(_: Request, _error: Exception) -> JSONResponse:
        return JSONResponse({"detail": "there is one with this value already"}, 409)

    @app.exception_handler(OperationalError)
    @app.exception_handler(StockstoreError)
    async def unavailable(_: Request, _error: Exception) -> JSONResponse:
        return JSONResponse({"detail": "the shop is closed for the moment"}, 503)

    return app


def found(row: T | None, kind: str) -> T:
    if row is None:
        raise HTTPException(404, f"there is no such {kind}")
    return row
