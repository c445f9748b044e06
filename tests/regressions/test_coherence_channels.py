"""What the race found in process memory that hears a channel."""

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from stockstore import ChainedStore, ProcessMemoryStore, RedisStore, SqlAlchemyStore
from stockstore.channels.redis import RedisChannel, RedisLine
from tests.servers.server import wait_until

pytestmark = pytest.mark.sa_agnostic


class Base(DeclarativeBase):
    pass


class Buoy(Base):
    __tablename__ = "heard_buoys"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@pytest.fixture
def database(sqlite_engine: Engine) -> Iterator[Engine]:
    """A database with the table."""
    Base.metadata.create_all(sqlite_engine)
    yield sqlite_engine
    Base.metadata.drop_all(sqlite_engine)


def test_a_lost_connection_is_not_believed_until_the_bound_passes(
    redis_url: str, namespace: str, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is passed by from the moment of the loss on: reads in the rest of ``max_staleness`` were as far behind as that allows."""
    allowed, real = threading.Event(), RedisChannel.open

    def gated(channel: RedisChannel) -> RedisLine:
        if not allowed.is_set():
            raise ConnectionError("not yet")
        return real(channel)

    memory, redis = ProcessMemoryStore(namespace=namespace, max_staleness=60), RedisStore(redis_url, namespace=namespace)
    with ChainedStore([memory, redis, SqlAlchemyStore(engine=database)]) as chain:
        chain.put(Buoy(id=1, name="red"))
        assert getattr(chain.get(Buoy, 1), "name", None) == "red"
        assert memory.is_fresh()
        monkeypatch.setattr(RedisChannel, "open", gated)
        redis.backend.client.client_kill_filter(_type="pubsub")  # type: ignore[attr-defined]
        wait_until(lambda: not memory.is_fresh(), "memory to be passed by")
        assert memory.get(Buoy, 1) is None
        allowed.set()
        wait_until(memory.is_fresh, "memory to be believed again")
