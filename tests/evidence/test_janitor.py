import contextlib
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from secrets import token_bytes
from typing import ClassVar

import pytest
from sqlalchemy import Engine, create_engine, insert, text
from sqlalchemy.pool import NullPool, StaticPool

from stockstore import ChainedStore, MappingStore, MemcacheStore, ProcessMemoryStore, RedisStore
from stockstore.backends.coherent import CoherentBackend
from stockstore.backends.mapping import MappingBackend
from stockstore.backends.redis import RedisBackend
from stockstore.errors import CacheUnreachable, ConfigurationError, OriginError
from stockstore.evidence import Outbox, OutboxEvidence
from stockstore.keys import keys_of, namespace_text
from stockstore.stores.backed import BackendStore
from stockstore_ext.sqlalchemy.janitor import Janitor
from tests.patience import SHORT
from tests.servers.memcached import MemcachedServer
from tests.servers.redis import RedisServer
from tests.subprocesses import ending
from tests.sync.conftest import MEMCACHED

NAMESPACE = uuid.uuid4().hex


@dataclass
class Thing:
    __keys__: ClassVar[list[str]] = ["id"]
    id: int


def record(number: int) -> str:
    """Give the text of a thing's key."""
    return keys_of(Thing).identity.record_text(NAMESPACE, number)


WHOLE_CLASS = f"{namespace_text(NAMESPACE)}:{keys_of(Thing).identity.label}:"


@pytest.fixture(params=["redis", MEMCACHED])
def store(request: pytest.FixtureRequest) -> Iterator[BackendStore]:
    """A shared cache with two things in it."""
    store: BackendStore
    if request.param == "redis":
        store = RedisStore(request.getfixturevalue("redis_url"), namespace=NAMESPACE)
    else:
        store = MemcacheStore(request.getfixturevalue("memcached_address"), namespace=NAMESPACE)
    store.batch_put([Thing(1), Thing(2)])
    yield store
    store.close()


def noted(engine: Engine, outbox: Outbox, *rows: tuple[bytes | None, list[str]]) -> None:
    """Commit rows to the outbox."""
    with engine.begin() as connection:
        for ticket, texts in rows:
            outbox.write(connection, ticket, texts)


def test_a_row_takes_its_keys_from_the_cache(any_engine: Engine, outbox: Outbox, store: BackendStore) -> None:
    """What it names is gone, what it does not name stays, and so does the database's identity; the row goes."""
    OutboxEvidence(any_engine, outbox)
    noted(any_engine, outbox, (b"ticket", [record(1)]))
    janitor = Janitor(any_engine, [store], outbox=outbox)
    assert janitor.lag().rows == 1
    assert janitor.run_once() == 1
    assert store.batch_get(Thing, [1, 2]) == [None, Thing(2)]
    assert janitor.lag() == (0, 0.0)
    assert janitor.run_once() == 0
    with any_engine.connect() as connection:
        assert outbox.database(connection) is not None


def test_a_row_may_name_a_whole_class(any_engine: Engine, outbox: Outbox, store: BackendStore) -> None:
    """Its generation is another one afterwards, so that no value of the former one counts."""
    backend = coherent(store)
    former = backend.lease_many({record(8): None}, token_bytes(16), WHOLE_CLASS).generation
    assert backend.lease_many({record(9): None}, token_bytes(16), WHOLE_CLASS).generation == former
    noted(any_engine, outbox, (None, [WHOLE_CLASS]))
    assert Janitor(any_engine, [store], outbox=outbox).run_once() == 1
    assert backend.lease_many({record(10): None}, token_bytes(16), WHOLE_CLASS).generation not in {former, None}


def test_a_rows_marker_is_taken_and_another_stays(any_engine: Engine, outbox: Outbox, store: BackendStore) -> None:
    """The writer has committed and may be dead. A marker beside its own is left, and no value will follow on it."""
    backend = coherent(store)
    backend.mark_many([record(1), record(2)], b"mine")
    backend.mark_many([], b"mine", [record(3)])
    backend.mark_many([], b"other", [record(3)])
    noted(any_engine, outbox, (b"mine", [record(1), record(3)]), (None, [record(2)]))
    assert Janitor(any_engine, [store], outbox=outbox).run_once() == 2
    assert backend.get_many([record(1), record(2), record(3)]) == {record(2): b"W+mine", record(3): b"W+other"}
    for ticket in (b"mine", b"other"):
        backend.release_many([record(2), record(3)], ticket, committed=False)


def test_a_cache_of_another_make_loses_keys_and_classes(any_engine: Engine, outbox: Outbox) -> None:
    """One that can only get, set and delete has no generations: what a class's text begins is cleared."""
    cells: dict[str, bytes] = {record(1): b"V", record(2): b"V", f"{NAMESPACE}:other:id:i1": b"V"}
    janitor = Janitor(any_engine, [BackendStore(MappingBackend(cells))], outbox=outbox)
    noted(any_engine, outbox, (b"ticket", [record(1)]))
    assert janitor.run_once() == 1
    assert set(cells) == {record(2), f"{NAMESPACE}:other:id:i1"}
    noted(any_engine, outbox, (None, [WHOLE_CLASS]))
    assert janitor.run_once() == 1
    assert set(cells) == {f"{NAMESPACE}:other:id:i1"}


def coherent(store: BackendStore) -> CoherentBackend:
    """Give the backend of a store, which takes part in the protocol."""
    assert isinstance(store._backend, CoherentBackend)
    return store._backend


def test_a_rolled_back_row_takes_nothing(any_engine: Engine, outbox: Outbox, store: BackendStore) -> None:
    """Neither does one of a transaction that is still open; nobody waits for it, and it is drained once it is committed."""
    janitor = Janitor(any_engine, [store], outbox=outbox)
    with any_engine.connect() as connection:
        outbox.write(connection, None, [record(1)])
        connection.rollback()
        outbox.write(connection, None, [record(2)])
        if any_engine.dialect.name != "sqlite":  # it lets one at a time write
            noted(any_engine, outbox, (None, [record(1)]))
            assert janitor.run_once() == 1
            assert store.batch_get(Thing, [1, 2]) == [None, Thing(2)]
        connection.commit()
    assert janitor.run_once() == 1
    assert store.get(Thing, 2) is None


def test_every_cache_is_told(any_engine: Engine, outbox: Outbox, redis_url: str, memcached_address: str) -> None:
    """Of a chain the shared caches count, and its origin is left alone."""
    redis, memcached = RedisStore(redis_url, namespace=NAMESPACE), MemcacheStore(memcached_address, namespace=NAMESPACE)
    for store in (redis, memcached):
        store.put(Thing(1))
    noted(any_engine, outbox, (None, [record(1)]))
    origin = MappingStore({}, namespace=NAMESPACE)
    origin.put(Thing(1))
    chain = ChainedStore([ProcessMemoryStore(), redis, origin])
    assert Janitor(any_engine, [chain, memcached], outbox=outbox).run_once() == 1
    assert (redis.get(Thing, 1), memcached.get(Thing, 1), origin.get(Thing, 1)) == (None, None, Thing(1))
    redis.close()
    memcached.close()


def test_more_rows_than_a_batch_are_drained(any_engine: Engine, outbox: Outbox, store: BackendStore) -> None:
    """As many passes are made as it takes."""
    noted(any_engine, outbox, *((None, [record(number)]) for number in range(25)))
    assert Janitor(any_engine, [store], outbox=outbox, batch=10).run_once() == 25
    assert store.batch_get(Thing, [1, 2]) == [None, None]


def test_rows_stay_while_a_cache_is_down(
    any_engine: Engine, outbox: Outbox, start_redis: Callable[..., RedisServer], store: BackendStore
) -> None:
    """One cache of two that does not accept a row keeps it; once it answers, everything is drained."""
    server = start_redis()
    late = RedisStore(server.url, namespace=NAMESPACE)
    late.put(Thing(1))
    noted(any_engine, outbox, (None, [record(1)]), (b"two", [record(2)]))
    hasty = RedisStore(server.url, namespace=NAMESPACE, connect_timeout=SHORT, read_timeout=SHORT)
    janitor = Janitor(any_engine, [store, hasty], outbox=outbox)
    server.freeze()
    with pytest.raises(CacheUnreachable):
        janitor.run_once()
    assert janitor.lag().rows == 2
    server.thaw()
    while janitor.lag().rows:
        # It may stand still for so long as the server has to answer.
        with contextlib.suppress(CacheUnreachable):
            assert janitor.run_once() == 2
    assert late.get(Thing, 1) is None
    hasty.close()
    late.close()


def test_a_row_that_is_refused_holds_up_no_other(
    any_engine: Engine, outbox: Outbox, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Redis refuses to read a list as text: those rows stay and are named in the log, and the rows about them are drained."""
    store = RedisStore(redis_url, namespace=NAMESPACE)
    store.put(Thing(7))
    poison = [f"{NAMESPACE}:poison:id:i{number}" for number in range(5)]
    janitor = Janitor(any_engine, [BackendStore(Refusing(redis_url))], outbox=outbox)
    noted(any_engine, outbox, *((None, [key]) for key in poison), (None, [record(7)]), (None, [poison[0], record(1)]), (b"t", [record(2)]))
    with pytest.raises(CacheUnreachable, match="2 rows of the outbox were drained, and 6 were refused"):
        janitor.run_once()
    assert janitor.lag().rows == 6
    assert store.get(Thing, 7) is None
    assert "refused by a cache, and is tried again in 30 s" in caplog.text
    store.close()


@pytest.mark.parametrize("texts", ["", "\n", "no key", "a:b:c d", "a:b:ü", f"a:b:{'x' * 300}", "a:b:\t"])
def test_nonsense_in_a_row_is_passed_over(any_engine: Engine, outbox: Outbox, store: BackendStore, texts: str) -> None:
    """No cache has anything under such a key; a key beside it is taken, and odd tickets hurt nobody."""
    with any_engine.begin() as connection:
        for ticket in (None, "two words", "a|b", "ü"):
            connection.execute(insert(outbox.definition), {"ticket": ticket, "texts": f"{texts}\n{record(1)}\n{texts}"})
    assert Janitor(any_engine, [store], outbox=outbox).run_once() == 4
    assert store.batch_get(Thing, [1, 2]) == [None, Thing(2)]


def test_a_janitor_needs_a_shared_cache_and_a_connection(any_engine: Engine) -> None:
    """The errors say what is missing."""
    with pytest.raises(ConfigurationError, match="needs a shared cache"):
        Janitor(any_engine, [ProcessMemoryStore()])
    with pytest.raises(ConfigurationError, match="needs a shared cache"):
        Janitor(any_engine, [])
    engine = create_engine("sqlite://", poolclass=StaticPool)
    with pytest.raises(ConfigurationError, match="use a file"):
        Janitor(engine, [RedisStore("redis://localhost")])
    for options, message in (({"batch": 0}, "from 1 on"), ({"every": 0.0}, "above 0"), ({"every": 1e10}, "can wait, not 10000000000.0")):
        with pytest.raises(ConfigurationError, match=message):
            Janitor(any_engine, [RedisStore("redis://localhost")], **options)


def test_a_database_without_an_outbox_is_named(any_engine: Engine, redis_url: str) -> None:
    """The error names table and database."""
    janitor = Janitor(any_engine, [RedisStore(redis_url)])
    with pytest.raises(OriginError, match=r"the outbox stockstore_outbox of .* could not be used"):
        janitor.run_once()


def test_it_runs_until_it_is_stopped(
    any_engine: Engine, outbox: Outbox, start_memcached: Callable[..., MemcachedServer], eventually: Callable[..., None]
) -> None:
    """In a thread it drains what comes, lives through an outage of its cache, and ends by the event."""
    server = start_memcached()
    store = MemcacheStore(server.address, namespace=NAMESPACE)
    stop, janitor = threading.Event(), Janitor(any_engine, [store], outbox=outbox, every=0.01)
    thread = threading.Thread(target=janitor.run, args=[stop])
    thread.start()
    try:
        noted(any_engine, outbox, (None, [record(1)]))
        eventually(lambda: janitor.lag().rows == 0)
        server.stop()
        noted(any_engine, outbox, (None, [record(1)]))
        server.start()
        eventually(lambda: janitor.lag().rows == 0)
    finally:
        stop.set()
        thread.join(10)
    assert not thread.is_alive()
    store.close()


def test_an_outage_is_waited_out_and_told_once(
    any_engine: Engine, outbox: Outbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The waits double up to half a minute, and the log has one line for all of them."""
    noted(any_engine, outbox, (None, [record(1)]))
    store = RedisStore("redis://127.0.0.1:1", namespace=NAMESPACE)
    stop = _Counting(12)
    Janitor(any_engine, [store], outbox=outbox).run(stop)
    assert stop.waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0, 30.0, 30.0]
    assert caplog.text.count("the outbox is not drained now") == 1


class _Counting(threading.Event):
    """An event that notes how long it was waited for, and is set after so many waits."""

    def __init__(self, waits: int) -> None:
        super().__init__()
        self.left = waits
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        self.left -= 1
        if self.left <= 0:
            self.set()
        return self.is_set()


class Refusing(RedisBackend):
    """A Redis that refuses some keys, as one does where others keep lists under them."""

    def invalidate_many(self, keys: Sequence[str]) -> int:
        """Refuse those keys."""
        if any(":poison:" in key for key in keys):
            raise CacheUnreachable("WRONGTYPE Operation against a key holding the wrong kind of value")
        return super().invalidate_many(keys)


JANITOR = """
import sys, threading
from sqlalchemy import create_engine
from stockstore import RedisStore
from stockstore_ext.sqlalchemy.janitor import Janitor
store = RedisStore(sys.argv[2], namespace=sys.argv[3], read_timeout=60)
print("ready", flush=True)
Janitor(create_engine(sys.argv[1]), [store], every=0.01, batch=int(sys.argv[4])).run(threading.Event())
"""


@pytest.mark.sa_agnostic
def test_a_janitor_killed_in_mid_delivery_loses_no_row(
    any_engine: Engine, outbox: Outbox, start_redis: Callable[..., RedisServer], eventually: Callable[..., None]
) -> None:
    """SIGKILL while the cache does not answer: the rows are there, unlocked, and another one drains them."""
    server = start_redis()
    store = RedisStore(server.url, namespace=NAMESPACE)
    store.put(Thing(1))
    server.freeze()
    noted(any_engine, outbox, (b"killed", [record(1)]))
    url = any_engine.url.render_as_string(hide_password=False)
    with ending(subprocess.Popen([sys.executable, "-c", JANITOR, url, server.url, NAMESPACE, "10"], stdout=subprocess.PIPE)) as process:
        assert process.stdout is not None
        process.stdout.readline()
        if any_engine.dialect.name != "sqlite":
            eventually(lambda: not unlocked(any_engine))
        process.send_signal(signal.SIGKILL)
    janitor = Janitor(any_engine, [store], outbox=outbox)
    assert janitor.lag().rows == 1
    server.thaw()
    eventually(lambda: janitor.run_once() == 1)
    assert store.get(Thing, 1) is None
    store.close()


def unlocked(engine: Engine) -> int:
    """Count the rows that nobody has taken."""
    with engine.connect() as connection:
        return len(connection.execute(text("SELECT id FROM stockstore_outbox FOR UPDATE SKIP LOCKED")).all())


@pytest.mark.sa_agnostic
def test_several_janitors_drain_side_by_side(any_engine: Engine, outbox: Outbox, redis_url: str, eventually: Callable[..., None]) -> None:
    """Three processes, two of which are killed on the way, drain two hundred rows and leave no key."""
    store = RedisStore(redis_url, namespace=NAMESPACE)
    store.batch_put([Thing(number) for number in range(200)])
    noted(any_engine, outbox, *((b"row %d" % number, [record(number)]) for number in range(200)))
    url = any_engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", JANITOR, url, redis_url, NAMESPACE, "3"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
    engine = create_engine(any_engine.url, poolclass=NullPool)
    try:
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        for process in processes[:2]:
            process.kill()
        eventually(lambda: Janitor(engine, [store], outbox=outbox).lag().rows == 0)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert store.batch_get(Thing, range(200)) == [None] * 200
    store.close()
