"""What the race, and attacks, found in process memory that hears a channel."""

import errno
import os
import selectors
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from stockstore import AsyncStore, ChainedStore, ProcessMemoryStore, RedisStore, SqlAlchemyStore
from stockstore.channels import receiver
from stockstore.channels.choice import channel_of
from stockstore.channels.postgresql_telling import Telling
from stockstore.channels.receiver import receiver_of
from stockstore.channels.redis import RedisChannel, RedisLine
from stockstore_ext.sqlalchemy import SessionSync
from tests.channels.sides import Deaf
from tests.servers.server import wait_until

pytestmark = pytest.mark.sa_agnostic


class Base(DeclarativeBase):
    pass


class Buoy(Base):
    __tablename__ = "heard_buoys"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Lamp(Base):
    __tablename__ = "heard_lamps"
    __keys__ = ["id", "code"]
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str]


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


class Plain:
    __keys__ = ["name"]

    def __init__(self, name: str) -> None:
        self.name = name


def _no_file(*_: object) -> object:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def _no_thread(*_: object, **__: object) -> object:
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize(("module", "missing", "fails"), [(receiver, "Waker", _no_file), (threading, "Thread", _no_thread)])
def test_a_process_without_files_or_threads_for_a_channel(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch, module: object, missing: str, fails: object
) -> None:
    """Neither reads nor writes fail for it; memory is passed by, and believed as soon as it can listen."""
    memory = ProcessMemoryStore(namespace=namespace, max_staleness=30)
    with ChainedStore([memory, RedisStore(redis_url, namespace=namespace)]) as chain:
        with monkeypatch.context() as patch:
            patch.setattr(module, missing, fails)
            assert chain.get(Plain, "a") is None
            chain.put(Plain("a"))
            assert getattr(chain.get(Plain, "a"), "name", None) == "a"
            assert memory.get(Plain, "a") is None
        wait_until(memory.is_fresh, "memory to be believed")
        assert chain.get(Plain, "a") is not None
        assert memory.get(Plain, "a") is not None


def test_a_thread_that_has_no_files_to_connect_goes_on(redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has no more files for a moment hears its channel again afterwards."""
    memory, redis = ProcessMemoryStore(namespace=namespace, max_staleness=30), RedisStore(redis_url, namespace=namespace)
    tried = threading.Event()

    def without_files(_channel: RedisChannel) -> object:
        tried.set()
        return _no_file()

    with ChainedStore([memory, redis]) as chain:
        chain.put(Plain("a"))
        assert memory.is_fresh()
        with monkeypatch.context() as patch:
            patch.setattr(RedisChannel, "open", without_files)
            patch.setattr(selectors, "DefaultSelector", _no_file)
            redis.backend.client.client_kill_filter(_type="pubsub")  # type: ignore[attr-defined]
            assert tried.wait(10)
        wait_until(memory.is_fresh, "memory to be believed again")


def test_memories_that_begin_while_a_thread_tells_others(redis_url: str) -> None:
    """The thread went for ever when a store began to listen in the middle of its look at all that do."""
    channel = channel_of(RedisStore(redis_url).backend)
    assert channel is not None
    kept = [channel.join(Deaf(), 1.0) for _ in range(500)]
    shared, interval = receiver_of(channel), sys.getswitchinterval()

    def begin_and_leave() -> None:
        for contact in kept * 2:
            contact.begin()
        for contact in kept:
            contact.leave()

    sys.setswitchinterval(1e-6)
    try:
        other = threading.Thread(target=begin_and_leave)
        other.start()
        until = time.monotonic() + 10
        while other.is_alive() and time.monotonic() < until:
            assert shared.interval() > 0
        other.join()
    finally:
        sys.setswitchinterval(interval)


def lamps_seen(engine: Engine, namespace: str) -> list[ChainedStore]:
    """Give the chains of two processes above one row, which the memory of the first holds."""
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Lamp(id=1, code="a"))
        session.commit()
    memories = [ProcessMemoryStore(namespace=namespace, channel=engine, max_staleness=30) for _ in range(2)]
    chains = [ChainedStore([memory, SqlAlchemyStore(engine=engine)]) for memory in memories]
    assert getattr(chains[0].get(Lamp, 1), "code", None) == "a"
    assert memories[0].get(Lamp, 1) is not None
    return chains


@pytest.mark.parametrize("key", [{"code": "a"}, {"code": "b"}], ids=str)
def test_an_invalidation_by_a_key_that_only_the_memory_of_others_knows(
    postgres_engine: Engine, namespace: str, key: dict[str, object]
) -> None:
    """It found no row in the caches of its own process, and named only the one that carries the key by now."""
    mine, theirs = lamps_seen(postgres_engine, namespace)
    with mine, theirs:
        with postgres_engine.begin() as connection:
            connection.execute(text("UPDATE heard_lamps SET code = 'b'"))
        assert getattr(mine.get(Lamp, 1), "code", None) == "a"
        SessionSync(theirs).invalidate(Lamp, [key])
        wait_until(lambda: getattr(mine.get(Lamp, 1), "code", None) == "b", "the other memory to be told")


def test_a_writer_without_a_second_connection_tells_the_others(
    postgres_engine: Engine, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that has no more connections could not say whether it is the channel's: the commit was told to nobody."""
    mine, theirs = lamps_seen(postgres_engine, namespace)

    def no_more(_: Telling) -> object:
        raise OperationalError("", {}, Exception("too many clients already"))

    with mine, theirs:
        monkeypatch.setattr(Telling, "connect", no_more)
        theirs.put(Lamp(id=1, code="b"))
        wait_until(lambda: getattr(mine.get(Lamp, 1), "code", None) == "b", "the other memory to be told")


async def test_an_event_loop_does_not_wait_for_a_channels_own_connection(postgres_engine: Engine, namespace: str) -> None:
    """Its first commit stood still until a second connection had told which database the channel is on."""
    Base.metadata.drop_all(postgres_engine)
    Base.metadata.create_all(postgres_engine)
    told = create_engine(postgres_engine.url)
    threads: list[threading.Thread] = []
    event.listen(told, "do_connect", lambda *_: threads.append(threading.current_thread()))
    engine = create_async_engine(postgres_engine.url.set(drivername="postgresql+psycopg_async"))
    memory = ProcessMemoryStore(namespace=namespace, channel=told)
    async with AsyncStore(ChainedStore([memory, SqlAlchemyStore(engine=engine)])) as store:
        await store.put(Lamp(id=1, code="a"))
        await store.get(Lamp, 1)
    await engine.dispose()
    told.dispose()
    assert threads
    assert threading.main_thread() not in threads
