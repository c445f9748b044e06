"""A writer that is killed between its markers and its commit: its keys are read past the caches, and soon from them again."""

import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from sqlalchemy import Engine, update

from stockstore import ChainedStore, MemcacheStore, RedisStore, SqlAlchemyStore, Store
from stockstore.backends.coherent import CoherentBackend
from stockstore.evidence import Outbox
from tests.servers.server import wait_until
from tests.stores.shop import Customer
from tests.subprocesses import ending

pytestmark = pytest.mark.sa_agnostic


def name_of(store: Store) -> str | None:
    """Give the name of the customer of this test."""
    customer = store.get(Customer, 1)
    return None if customer is None else customer.name


def change_unseen(engine: Engine, name: str) -> None:
    """Write past every cache."""
    with engine.begin() as connection:
        connection.execute(update(Customer).values(name=name))


@pytest.mark.parametrize("outbox", [False, True], ids=["xid", "outbox"])
@pytest.mark.parametrize("cache", ["redis", "memcached"])
@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_a_killed_writer(db: Engine, cache: str, outbox: bool, redis_url: str, memcached_address: str) -> None:
    """While its marker stands the database answers; within seconds the marker is gone, and the cache answers again."""
    namespace, address = uuid.uuid4().hex, redis_url if cache == "redis" else memcached_address
    store = RedisStore(address, namespace=namespace) if cache == "redis" else MemcacheStore(address, namespace=namespace)
    assert isinstance(store._backend, CoherentBackend)
    if outbox:
        Outbox().create(db)
    with ChainedStore([store, SqlAlchemyStore(engine=db)]) as chain:
        chain.put(Customer(id=1, email="a", name="old"))
        change_unseen(db, "unseen")
        assert name_of(chain) == "old"
        writer = subprocess.Popen(
            [sys.executable, "-m", "tests.stores.killed_writer", cache, address, namespace, db.url.render_as_string(hide_password=False)],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            text=True,
        )
        with ending(writer):
            assert writer.stdout is not None
            assert writer.stdout.readline() == "marked\n"
            assert name_of(chain) == "unseen"
            writer.kill()
        change_unseen(db, "later")
        assert name_of(chain) == "later"

        def is_cached() -> bool:
            return name_of(chain) is not None and name_of(store) is not None

        wait_until(is_cached, "the marker of the killed writer to be resolved")
        change_unseen(db, "again")
        assert name_of(chain) == "later"
    if outbox:
        Outbox().definition.drop(db)
