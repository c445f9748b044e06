"""A small shop's API on Flask: ``flask --app examples.shop_flask.app run``, or ``gunicorn "examples.shop_flask.app:create_app()"``.

``SHOP_DATABASE`` is the database's URL, ``SHOP_CACHE`` those of the caches, the fastest first: with several workers
``"thread:// memory:// redis://localhost"``, or ``memcached://host:port``; empty for none. The views use SQLAlchemy's sessions as ever. What these load by a key comes from the caches, and what they commit is true there.
"""

import atexit
import os
from typing import Any, TypeVar

from flask import Flask, g, request
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import sessionmaker
from sqlalchemy.orm.exc import StaleDataError
from werkzeug.exceptions import Conflict, Forbidden, HTTPException, NotFound, Unauthorized, UnprocessableEntity

from examples.shop_api.models import Item, Order, User, open_shop
from stockstore import ChainedStore, SqlAlchemyStore, StockstoreError, open_store
from stockstore_ext.flask import Stockstore, current_store
from stockstore_ext.sqlalchemy import SessionSync

T = TypeVar("T")


def create_app() -> Flask:  # noqa: PLR0915 - it lists the views
    app = Flask(__name__)

    # What one request has read, then process memory, which one worker alone may trust.
    caches = os.environ.get("SHOP_CACHE", "thread:// memory://").split()
    database = SqlAlchemyStore(os.environ.get("SHOP_DATABASE", "sqlite:///shop.db"))
    store = ChainedStore([*(open_store(url) for url in caches), database])
    Stockstore(app, store)
    atexit.register(store.close)

    sessions = sessionmaker(database.engine)
    if caches:
        SessionSync(store, read_through=True).attach(sessions)
    with database.engine.begin() as connection:
        open_shop(connection)

    @app.before_request
    def who_asks() -> None:
        # No session is needed to read: the store itself gives detached objects, by any key.
        email = request.headers.get("X-User")
        g.user = current_store.get(User, email=email) if email else None

    @app.get("/users/<int:number>")
    def user(number: int) -> dict[str, Any]:
        with sessions() as session:
            return found(session.get(User, number), "user").shown()

    @app.get("/users/<int:number>/items")
    def offers(number: int) -> dict[str, Any]:
        with sessions() as session:
            user = found(session.get(User, number), "user")
            items = session.scalars(select(Item).where(Item.seller_id == number))
            return {"user": user.shown(), "items": [item.shown() for item in items]}

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
            # The version guards it: who has read a cached row that is no longer the last one is refused, and tries again.
            me = found(session.get(User, asking().id), "user")
            me.name = text("name")
            session.commit()
            return me.shown()

    @app.patch("/items/<int:number>")
    def price(number: int) -> dict[str, Any]:
        with sessions() as session:
            # This one waits instead, and changes what it then finds in the database.
            item = found(session.get(Item, number, with_for_update=True), "item")
            if item.seller_id != asking().id:
                raise Forbidden(f"item {number} is another's")
            item.cents = whole("cents")
            session.commit()
            return item.shown()

    @app.post("/orders")
    def order() -> tuple[dict[str, Any], int]:
        with sessions() as session:
            # What an order costs is asked of the database, and not of a cache.
            item = found(session.get(Item, whole("item_id"), with_for_update=True), "item")
            quantity = whole("quantity")
            # One statement looks and takes: SQLite locks no rows. The caches are told of statements too.
            take = (
                update(Item).where(Item.id == item.id, Item.stock >= quantity).values(stock=Item.stock - quantity, version=Item.version + 1)
            )
            if session.scalar(take.returning(Item.stock)) is None:
                raise Conflict(f"there are no {quantity} of item {item.id} left")
            new = Order(user_id=asking().id, item_id=item.id, quantity=quantity, cents=quantity * item.cents)
            session.add(new)
            session.commit()
            return new.shown(), 201

    @app.get("/stats")
    def stats() -> dict[str, Any]:
        # Of the worker that answers: each has counted its own.
        return {"process": os.getpid(), "tiers": {tier.name: {"hits": tier.hits, "misses": tier.misses} for tier in store.stats().tiers}}

    tell_refusals(app)
    return app


def tell_refusals(app: Flask) -> None:
    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> tuple[dict[str, Any], int]:
        return {"error": error.description}, error.code or 500

    @app.errorhandler(IntegrityError)
    def taken(_: IntegrityError) -> tuple[dict[str, Any], int]:
        return {"error": "there is one with this value already"}, 409

    @app.errorhandler(StaleDataError)
    def overtaken(_: StaleDataError) -> tuple[dict[str, Any], int]:
        return {"error": "somebody else has changed it meanwhile"}, 409

    @app.errorhandler(StockstoreError)
    @app.errorhandler(OperationalError)
    def unavailable(_: Exception) -> tuple[dict[str, Any], int]:
        return {"error": "the shop is closed for the moment"}, 503


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
