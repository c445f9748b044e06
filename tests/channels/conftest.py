"""The shop's tables, and two sides above them."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from stockstore.evidence import Outbox
from tests.channels.sides import Side, two_sides
from tests.stores.shop import create_tables, empty

Sides = tuple[Side, Side]


@pytest.fixture(scope="module")
def _postgres_shop(postgres_engine: Engine) -> Engine:
    create_tables(postgres_engine)
    return postgres_engine


@pytest.fixture
def db(_postgres_shop: Engine) -> Engine:
    """The engine of a PostgreSQL database in which the shop's tables are empty: its writers mark before they commit."""
    empty(_postgres_shop)
    return _postgres_shop


@pytest.fixture(scope="module")
def _sqlite_shop(sqlite_engine: Engine) -> Engine:
    create_tables(sqlite_engine)
    return sqlite_engine


@pytest.fixture
def lite(_sqlite_shop: Engine) -> Engine:
    """The engine of an SQLite database in which the shop's tables are empty, without an outbox: its writers invalidate afterwards."""
    empty(_sqlite_shop)
    return _sqlite_shop


@pytest.fixture
def outboxed(lite: Engine) -> Iterator[Engine]:
    """The same with an outbox: its writers mark before they commit."""
    Outbox().create(lite)
    yield lite
    Outbox().definition.drop(lite)


@pytest.fixture
def sides(db: Engine, redis_url: str, namespace: str) -> Iterator[Sides]:
    """Two sides, whose memories both hold the customer 1, named "old"."""
    with two_sides(redis_url, db, namespace=namespace) as both:
        yield both
