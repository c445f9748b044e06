"""A small shop's API on Flask: ``flask --app examples.shop_flask.app run``.

The views use SQLAlchemy's sessions as ever. What these load by a key comes from the caches, and what they commit is true there.
"""

import atexit
import os
from typing import Any, TypeVar

from flask import Flask, g, request
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import sessionmaker
from werkzeug.exceptions import Conflict, HTTPException, NotFound, Unauthorized, UnprocessableEntity

from examples.shop_api.models import Base, Item, Order, User, stock_up
from stockstore import ChainedStore, SqlAlchemyStore, StockstoreError, open_store
from stockstore_ext.flask import Stockstore, current_store
from stockstore_ext.sqlalchemy import SessionSync

T = TypeVar("T")


def create_app() -> Flask:
    app = Flask(__name__)

    # The fastest first: what one request has read, process memory; with a server, SHOP_CACHE="thread:// memory:// redis://localhost".
    caches = open_store(*os.environ.get("SHOP_CACHE", "thread:// memory://").split())
    database = SqlAlchemyStore(os.environ.get("SHOP_DATABASE", "sqlite:///shop.db"))
    store = ChainedStore([caches, database])
    Stockstore(app, store)
    atexit.register(store.close)

    sessions = sessionmaker(database.engine)
    SessionSync(store, read_through=True).attach(sessions)
    Base.metadata.create_all(database.engine)
    with sessions() as session:
        stock_up(session)

    @app.before_request
    def who_asks() -> None:
        # No session is needed to read: the store itself gives detached objects, by any key.
        g.user = current_store.get(User, email=request.headers.get("X-User", ""))

    @app.get("/users/<int:number>")
    def user(number: int) -> dict[str, Any]:
        with sessions() as session:
            return found(session.get(User, number), "user").shown()

    @app.post("/users")
    def sign_up() -> tuple[dict[str, Any], int]:
        with sessions() as session:
            new = User(email=text("email"), name=text("name"))
            session.add(new)
            session.commit()
            return new.shown(), 201

    @app.get("/items/<int:number>")
    def item(number: int) -> dict[str, Any]:
        with sessions() as session:
            item = found(session.get(Item, number), "item")
            return item.shown() | {"seller": item.seller.name}

    @app.patch("/users/me")
    def rename() -> dict[str, Any]:
        with sessions() as session:
            me = found(session.get(User, asking().id), "user")
            me.name = text("name")
            session.commit()
            return me.shown()

    @app.post("/orders")
    def order() -> tuple[dict[str, Any], int]:
        with sessions() as session:
            # What an order costs is asked of the database, and not of a cache.
            item = found(session.get(Item, whole("item_id"), with_for_update=True), "item")
            quantity = whole("quantity")
            # One statement looks and takes: SQLite locks no rows. The caches are told of statements too.
            take = update(Item).where(Item.id == item.id, Item.stock >= quantity).values(stock=Item.stock - quantity)
            if session.scalar(take.returning(Item.stock)) is None:
                raise Conflict(f"there are no {quantity} of item {item.id} left")
            new = Order(user_id=asking().id, item_id=item.id, quantity=quantity, cents=quantity * item.cents)
            session.add(new)
            session.commit()
            return new.shown(), 201

    @app.get("/stats")
    def stats() -> dict[str, Any]:
        return {tier.name: {"hits": tier.hits, "misses": tier.misses} for tier in store.stats().tiers}

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> tuple[dict[str, Any], int]:
        return {"error": error.description}, error.code or 500

    @app.errorhandler(IntegrityError)
    def taken(_: IntegrityError) -> tuple[dict[str, Any], int]:
        return {"error": "there is one with this value already"}, 409

    @app.errorhandler(StockstoreError)
    @app.errorhandler(OperationalError)
    def unavailable(_: Exception) -> tuple[dict[str, Any], int]:
        return {"error": "the shop is closed for the moment"}, 503

    return app


def asking() -> User:
    if g.user is None:
        raise Unauthorized("the header X-User names a user's email")
    user: User = g.user
    return user


def found(row: T | None, kind: str) -> T:
    if row is None:
        raise NotFound(f"there is no such {kind}")
    return row


def text(name: str) -> str:
    value = body().get(name)
    if not isinstance(value, str) or not value:
        raise UnprocessableEntity(f"{name} is a text that is not empty")
    return value


def whole(name: str) -> int:
    value = body().get(name)
    if type(value) is not int or value < 1:
        raise UnprocessableEntity(f"{name} is a whole number from 1")
    return value


def body() -> dict[str, Any]:
    given = request.get_json()
    if not isinstance(given, dict):
        raise UnprocessableEntity("the body is a JSON object")
    return given
