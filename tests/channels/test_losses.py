"""What process memory does while the channel is lost, and how the thread that hears it begins and ends."""

import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine

from stockstore import ChainedStore, ConfigurationError, ProcessMemoryStore, RedisStore, SqlAlchemyStore
from stockstore.channels.redis import RedisChannel, RedisLine
from stockstore.instrumentation import Event, hooked
from stockstore.keys import keys_of
from stockstore.stores.tiers import hearing, tier_of
from stockstore_ext.sqlalchemy import SessionSync
from tests.channels.conftest import Sides
from tests.channels.sides import Side, client_of, two_sides, unseen
from tests.servers.redis import RedisServer
from tests.servers.server import wait_until
from tests.stores.shop import Customer, create_tables
from tests.subprocesses import ending

pytestmark = pytest.mark.sa_agnostic
BOUND = 1.5


def test_a_subscriber_that_is_killed(sides: Sides, redis_url: str) -> None:
    """What is written while nobody listens is not read for longer than the bound, and memory is emptied before it is believed again."""
    mine, theirs = sides
    events: list[Event] = []
    with hooked(events.append):
        client_of(redis_url).client_kill_filter(_type="pubsub")
        wait_until(lambda: any(event.kind == "flush" for event in events), "memory to be emptied")
    assert {event.reason for event in events if event.kind == "flush"} == {"connection"}
    assert mine.kept() is None
    theirs.write("new")
    mine.caught_up()
    assert (mine.name(), mine.kept()) == ("new", "new")


def test_a_subscriber_that_cannot_come_back(redis_url: str, db: Engine, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written meanwhile is not read once ``max_staleness`` is over; memory is passed by, and filled again afterwards."""
    allowed = threading.Event()
    real = RedisChannel.open

    def gated(channel: RedisChannel) -> RedisLine:
        if not allowed.is_set():
            raise ConnectionError("cut")
        return real(channel)

    with two_sides(redis_url, db, namespace=namespace, max_staleness=BOUND) as (mine, theirs), monkeypatch.context() as patch:
        patch.setattr(RedisChannel, "open", gated)
        client_of(redis_url).client_kill_filter(_type="pubsub")
        theirs.write("new")
        written = time.monotonic()
        asked = time.monotonic()
        while (name := mine.name()) == "old":
            assert asked < written + BOUND
            asked = time.monotonic()
        assert name == "new"
        wait_until(lambda: not mine.memory.is_fresh(), "the bound to pass")
        events: list[Event] = []
        with hooked(events.append):
            assert [mine.name(), mine.kept(), mine.name()] == ["new", None, "new"]
        assert [event.reason for event in events if event.kind == "bypass"] == ["channel"] * 2
        assert mine.chain.stats().bypasses["channel"] >= 2
        allowed.set()
        wait_until(mine.memory.is_fresh, "the subscription")
        wait_until(lambda: [mine.name(), mine.kept()] == ["new", "new"], "memory")


def test_a_subscription_that_takes_long(redis_url: str, db: Engine, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for it: the shared cache answers, and memory is of use once it is there."""
    allowed = threading.Event()
    real = RedisChannel.open
    monkeypatch.setattr(RedisChannel, "open", lambda channel: real(channel) if allowed.wait(100) else None)
    monkeypatch.setattr(hearing, "START", 0.02)
    side = Side(redis_url, db, namespace=namespace)
    with side.chain:
        began = time.monotonic()
        side.write("old")
        assert [side.name(), side.kept()] == ["old", None]
        unseen(db, "unseen")
        assert [side.name(), side.kept()] == ["old", None]
        assert time.monotonic() < began + 50
        allowed.set()
        wait_until(side.memory.is_fresh, "the subscription")
        assert [side.name(), side.kept()] == ["old", "old"]


def test_a_redis_that_restarts(start_redis: Callable[..., RedisServer], db: Engine) -> None:
    """A server that was away has told nobody of anything: memory is emptied, and goes on with its next life."""
    server = start_redis()
    with two_sides(server.url, db) as (mine, theirs):
        server.restart()
        unseen(db, "unseen")
        wait_until(lambda: mine.kept() is None and mine.memory.is_fresh(), "memory to be emptied")
        assert [mine.name(), mine.kept()] == ["unseen", "unseen"]
        theirs.write("new")
        theirs.caught_up()
        assert [mine.kept(), mine.name()] == [None, "new"]


def test_a_redis_that_is_away(start_redis: Callable[..., RedisServer], lite: Engine) -> None:
    """Without the server all reads go to the database, and nobody waits for a subscription that cannot be had."""
    server = start_redis()
    side = Side(server.url, lite)
    with side.chain:
        SqlAlchemyStore(engine=lite).put(Customer(id=1, email="a", name="old"))
        server.stop()
        assert [side.name(), side.kept()] == ["old", None]
        unseen(lite, "new")
        assert side.name() == "new"


def test_a_shared_cache_that_does_not_answer(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who cannot see the markers in the shared cache keeps what the database gave for ``max_staleness`` only."""
    mine, _ = sides
    mine.memory.clear()
    monkeypatch.setattr(type(mine.redis.backend), "get_many", _refuse)
    assert (mine.name(), mine.kept()) == ("old", "old")
    identity = keys_of(Customer).identity
    (node,) = mine.memory._shelves.found(mine.memory._namespace(), identity, alias=False).values()
    assert node.expires is not None
    assert node.expires < time.monotonic() + 30


def _refuse(*_: object) -> Any:
    from stockstore import CacheUnreachable

    raise CacheUnreachable("refused")


# -- the thread ---------------------------------------------------------------------------------------


def threads() -> list[threading.Thread]:
    """Give the threads that hear a channel."""
    return [thread for thread in threading.enumerate() if thread.name == "stockstore channel"]


@pytest.fixture
def _quiet() -> Iterator[None]:
    gc.collect()
    wait_until(lambda: not threads(), "other tests' threads to end")
    yield
    gc.collect()
    wait_until(lambda: not threads(), "the threads to end")


@pytest.mark.usefixtures("_quiet")
def test_a_thread_begins_with_the_first_read(redis_url: str, lite: Engine) -> None:
    """Nothing is started by constructors; all stores of a process share one thread, which ends with the last of them."""
    first, second = Side(redis_url, lite), Side(redis_url, lite, namespace="other")
    assert not threads()
    assert first.name() is None
    assert second.name() is None
    assert len(threads()) == 1
    first.chain.close()
    assert second.name() is None
    assert len(threads()) == 1
    second.chain.close()
    wait_until(lambda: not threads(), "the thread to end")
    assert first.name() is None
    assert len(threads()) == 1
    first.chain.close()


@pytest.mark.usefixtures("_quiet")
def test_a_store_that_is_dropped_ends_its_thread(redis_url: str, lite: Engine) -> None:
    """The thread keeps no store alive."""
    side = Side(redis_url, lite)
    assert side.name() is None
    assert len(threads()) == 1
    del side
    gc.collect()
    wait_until(lambda: not threads(), "the thread to end")


_LEAVING = """
import sys, time
from stockstore import ChainedStore, ProcessMemoryStore, RedisStore
class Row:
    __keys__ = ["id"]
    def __init__(self, id): self.id = id
chain = ChainedStore([ProcessMemoryStore(), RedisStore(sys.argv[1], read_timeout=30)])
chain.put(Row(1))
assert chain.get(Row, 1).id == 1
deadline = time.monotonic() + 20
while chain.tiers[0].contact.fresh_until <= 0 and time.monotonic() < deadline:
    time.sleep(0.01)
assert chain.tiers[0].contact.fresh_until > 0
print("ready", flush=True)
"""


def test_an_interpreter_that_ends(redis_url: str) -> None:
    """A process that has a channel ends at once, and says nothing."""
    with ending(
        subprocess.Popen([sys.executable, "-c", _LEAVING, redis_url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        process.wait(30)
        assert (process.returncode, process.stderr.read()) == (0, "")


# -- settings --------------------------------------------------------------------------------------------


def test_memory_without_a_channel(redis_url: str, lite: Engine) -> None:
    """Without one the bound is the lifetime, and by itself memory is as it was."""
    for store in (ProcessMemoryStore(channel=None), ProcessMemoryStore(max_staleness=None)):
        with ChainedStore([store, RedisStore(redis_url), SqlAlchemyStore(engine=lite)]) as chain:
            assert chain.get(Customer, 1) is None
            assert store.contact is None
    alone = ProcessMemoryStore()
    alone.put(Customer(id=1, email="a", name="x", tenant=1, status="s", balance=0, prefs=None, stamp=None))
    assert (alone.contact, getattr(alone.get(Customer, 1), "name", None)) == (None, "x")


def test_a_private_database_needs_no_channel(redis_url: str) -> None:
    """Where no other process can write, nothing is heard of."""
    engine = create_engine("sqlite://")
    create_tables(engine)
    memory = ProcessMemoryStore()
    with ChainedStore([memory, RedisStore(redis_url), SqlAlchemyStore(engine=engine)]) as chain:
        assert chain.get(Customer, 1) is None
        assert memory.contact is None
    engine.dispose()


def test_a_channel_by_its_url(redis_url: str, namespace: str) -> None:
    """Memory above a database alone may hear of a Redis that its writers use; it keeps what it has read for ``max_staleness``."""
    memory = ProcessMemoryStore(namespace=namespace, channel=redis_url)
    assert not memory.finds_channel
    tier: Any = tier_of(memory)
    assert "RedisChannel" in tier.standing().reason
    wrong: Any
    for wrong in ("mysql://localhost/shop", "redis", 5):
        with pytest.raises(ConfigurationError, match="channel"):
            ProcessMemoryStore(channel=wrong)
    with pytest.raises(ConfigurationError, match="give seconds"):
        ProcessMemoryStore(channel=redis_url, max_staleness=None)


def test_the_guarantee(sides: Sides) -> None:
    """A memory that hears is bounded, and the reason says by what."""
    mine, _ = sides
    guarantee = SessionSync(mine.chain).guarantee.tiers[0]
    assert guarantee.level == "bounded 30 s"
    assert "RedisChannel" in guarantee.reasons[0]
    silent = SessionSync(ChainedStore([ProcessMemoryStore(max_staleness=1, channel=None), mine.redis, mine.database])).guarantee.tiers[0]
    assert (silent.level, "channel" in silent.reasons[0]) == ("bounded 1 s", False)
