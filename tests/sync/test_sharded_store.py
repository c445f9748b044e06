"""A hook on a chain whose caches, or whose databases, are a ShardedStore: what sessions commit is told to the shard of the row."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, update
from sqlalchemy.orm import Session, sessionmaker

from stockstore import ChainedStore, RedisStore, ShardedStore, SqlAlchemyStore
from stockstore.stores.snapshots import snapshot_of
from stockstore_ext.sqlalchemy import SessionSync
from tests.stores.shop import Customer, two_files

IDS = list(range(1, 9))


@pytest.fixture
def engines(tmp_path: Path) -> Iterator[list[Engine]]:
    """Two databases with the outbox."""
    with two_files(tmp_path) as engines:
        yield engines


def test_sessions(engines: list[Engine], redis_url: str) -> None:
    """A session on a shard's own database changes a row: it is read by the chain at once, others stay cached, and the guarantee is that of the caches."""
    caches = ShardedStore([RedisStore(redis_url, namespace=name) for name in ("one", "two")])
    database = ShardedStore([SqlAlchemyStore(engine=engine) for engine in engines])
    maker: sessionmaker[Session] = sessionmaker(class_=type("Watched", (Session,), {}))
    with ChainedStore([caches, database]) as chain:
        sync = SessionSync(chain, read_through=True).attach(maker)
        try:
            assert len(sync.guarantee.tiers) == 2
            chain.batch_put([Customer(id=key, email=str(key), name="old") for key in IDS])
            for engine in engines:
                with engine.begin() as connection:
                    connection.execute(update(Customer).values(name="unseen"))
            assert {row and row.name for row in chain.batch_get(Customer, IDS)} == {"old"}
            for key in IDS[:4]:
                home = engines[database.sharding.of_object(snapshot_of(Customer(id=key)))]
                with maker(bind=home) as session:
                    assert session.get_one(Customer, key).name == "unseen"  # which database has a row only the store knows
                    session.get_one(Customer, key).name = "new"
                    session.commit()
            assert [row and row.name for row in chain.batch_get(Customer, IDS)] == ["new"] * 4 + ["old"] * 4
            sync.invalidate(Customer, [8])
            assert [row and row.name for row in chain.batch_get(Customer, [7, 8])] == ["old", "unseen"]
        finally:
            sync.detach()
