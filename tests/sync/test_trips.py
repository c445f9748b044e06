"""How many round trips to its caches the commit of a session takes, counted at the socket."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from stockstore import ChainedStore, MemcacheStore, RedisStore, SqlAlchemyStore, Store
from stockstore_ext.sqlalchemy import SessionSync
from tests.backends.memcache_relay import Relay, relay_to
from tests.stores.shop import Customer


@pytest.fixture(params=["redis", "memcached"])
def relayed_cache(request: pytest.FixtureRequest, namespace: str) -> Iterator[tuple[Store, Relay, int]]:
    """A cache behind a relay, and the most round trips that a commit may take."""
    if request.param == "redis":
        url: str = request.getfixturevalue("redis_url")
        address = url.removeprefix("redis://").partition("/")[0]
        with relay_to(address) as relay:
            yield RedisStore(url.replace(address, relay.address), namespace=namespace), relay, 2
    else:
        with relay_to(request.getfixturevalue("memcached_address")) as relay:
            yield MemcacheStore(relay.address, namespace=namespace), relay, 3  # four where whole classes are marked


# The answers to a request that comes to the relay in pieces would count as several.
@pytest.mark.parametrize("number", [1, 100])
def test_commit(db: Engine, relayed_cache: tuple[Store, Relay, int], number: int) -> None:
    """A commit of new rows, one of changed rows and one that only reads take as many for one row as for a hundred."""
    cache, relay, most = relayed_cache
    maker: sessionmaker[Session] = sessionmaker(db, class_=type("Counted", (Session,), {}))
    with ChainedStore([cache, SqlAlchemyStore(engine=db)]) as store:
        sync = SessionSync(store).attach(maker)
        _write(maker, 1000, 1)  # the connection is made, and the class is known
        _change(maker)
        assert 1 <= relay.count(lambda: _write(maker, 1, number)) <= most
        assert 1 <= relay.count(lambda: _change(maker)) <= most
        assert relay.count(lambda: _read(maker)) == 0
        found = store.batch_get(Customer, range(1, number + 1))
        assert [customer.name for customer in found if customer] == ["changed"] * number
        sync.detach()


def _write(maker: sessionmaker[Session], first: int, number: int) -> None:
    with maker() as session:
        session.add_all([Customer(id=n, email=f"{n}@example.com", name="new") for n in range(first, first + number)])
        session.commit()


def _change(maker: sessionmaker[Session]) -> None:
    with maker() as session:
        for customer in session.query(Customer):
            customer.name = "changed"
        session.commit()


def _read(maker: sessionmaker[Session]) -> None:
    with maker() as session:
        session.query(Customer).all()
        session.commit()
