"""LISTEN and NOTIFY as a channel, by themselves."""

import queue
import re
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import psycopg
import pytest
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from stockstore.channels import postgresql_telling, subscription
from stockstore.channels.base import Contact
from stockstore.channels.notices import TEXTS_LIMIT
from stockstore.channels.postgresql import PostgresChannel
from stockstore.channels.postgresql_telling import Telling
from stockstore.errors import ConfigurationError
from tests.servers.postgres import PostgresServer
from tests.servers.server import wait_until

pytestmark = pytest.mark.sa_agnostic
WAIT = 20.0


class Ear:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.told: queue.Queue[tuple[list[str], bytes]] = queue.Queue()
        self.flushes: list[str] = []

    def heard(self, texts: Sequence[str], ticket: bytes) -> None:
        """Keep it."""
        self.told.put((list(texts), ticket))

    def flush(self, reason: str) -> None:
        """Note it."""
        self.flushes.append(reason)

    def next(self) -> tuple[list[str], bytes]:
        """Give the next message."""
        return self.told.get(timeout=WAIT)


class Heard:
    """A channel, and an ear on it that has subscribed."""

    def __init__(self, channel: PostgresChannel, max_staleness: float = 1.0) -> None:
        self.channel, self.ear = channel, Ear()
        self.contact: Contact = channel.join(self.ear, max_staleness)
        self.contact.begin()
        wait_until(self.is_fresh, "the channel")

    def is_fresh(self) -> bool:
        """Tell whether memory may be read."""
        return self.contact.fresh_until > time.monotonic()


@pytest.fixture
def heard(postgres_url: str) -> Iterator[Heard]:
    """A channel on the database that all tests share; other tests' messages are dropped."""
    found = Heard(PostgresChannel(postgres_url))
    yield found
    found.contact.leave()


@pytest.fixture
def engine(postgres_url: str) -> Iterator[Engine]:
    """A writer's engine."""
    engine = create_engine(postgres_url)
    yield engine
    engine.dispose()


def listeners() -> list[threading.Thread]:
    """Give the threads of channels."""
    return [thread for thread in threading.enumerate() if thread.name == "stockstore channel"]


def test_a_writer_is_heard_exactly_if_it_commits(heard: Heard, engine: Engine) -> None:
    """What was rolled back, or written in a savepoint that was, nobody hears; and all that was told in one transaction comes at its end."""
    with engine.begin() as connection:
        assert heard.channel.within(connection, ["n:C:id:i1", "n:C:id:i2", "n:C:id:i1"], b"t1")
        with connection.begin_nested() as savepoint:
            assert heard.channel.within(connection, ["n:C:id:i3"], b"t1")
            savepoint.rollback()
    with engine.connect() as connection:
        assert heard.channel.within(connection, ["n:C:id:i4"], b"t2")
        connection.rollback()
    heard.channel.afterwards(["n:C:id:i5"], b"")
    assert [heard.ear.next(), heard.ear.next()] == [(["n:C:id:i1", "n:C:id:i2"], b"t1"), (["n:C:id:i5"], b"")]


def test_a_long_list_is_split_and_a_very_long_one_names_classes(heard: Heard) -> None:
    """Every key is told, in payloads as PostgreSQL takes them; over a limit what is told are the keys' classes."""
    texts = [f"n:{'C' * 90}:id:i{number:0100}" for number in range(TEXTS_LIMIT)]
    heard.channel.afterwards(texts, b"t" * 100)
    found: list[str] = []
    while len(found) < len(texts):
        part, ticket = heard.ear.next()
        assert ticket == b"t" * 100
        found += part
    assert found == texts
    heard.channel.afterwards([*texts, "n:D:id:i1"], b"")
    assert heard.ear.next() == ([f"n:{'C' * 90}:", "n:D:"], b"")


def test_what_could_not_be_told_is_told_later(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the writer's ticket, once the database answers again; what was to be told of more keys than fit names their classes."""
    refused = threading.Semaphore(0)

    def refuse(_: Telling) -> Connection:
        refused.release()
        raise OperationalError("NOTIFY", {}, ConnectionError("cut"))

    monkeypatch.setattr(postgresql_telling, "RETRY_SECONDS", 0.02)
    with monkeypatch.context() as patch:
        patch.setattr(Telling, "connect", refuse)
        heard.channel.afterwards(["n:C:id:i1"], b"t1")
        heard.channel.afterwards(["n:C:id:i2"], b"t2")
        assert all(refused.acquire(timeout=20) for _ in range(4))
    assert heard.ear.next() == (["n:C:id:i1", "n:C:id:i2"], b"")
    wait_until(lambda: "stockstore telling" not in [thread.name for thread in threading.enumerate()], "the thread to end")
    with monkeypatch.context() as patch:
        patch.setattr(Telling, "connect", refuse)
        heard.channel.afterwards([f"n:C:id:i{number}" for number in range(TEXTS_LIMIT)], b"t3")
        heard.channel.afterwards(["n:D:id:i1"], b"t4")
        # The thread may just have begun to tell of the first ones alone.
        while refused.acquire(blocking=False):
            pass
        assert all(refused.acquire(timeout=20) for _ in range(2))
    assert heard.ear.next() == (["n:C:", "n:D:"], b"")


def test_two_phases_and_other_databases_are_not_told_within(heard: Heard, engine: Engine, postgres_url: str, sqlite_url: str) -> None:
    """PostgreSQL prepares no transaction that has told anything, and passes nothing on to another database."""
    with engine.connect() as connection:
        connection.begin_twophase()
        assert not heard.channel.within(connection, ["n:C:id:i1"], b"")
    with create_engine(sqlite_url).begin() as connection:
        assert not heard.channel.within(connection, ["n:C:id:i1"], b"")
    other = create_engine(make_url(postgres_url).set(database="template1"), poolclass=NullPool)
    with other.begin() as connection:
        assert not heard.channel.within(connection, ["n:C:id:i1"], b"")
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        assert heard.channel.within(connection, ["n:C:id:i2"], b"")
        assert heard.ear.next() == (["n:C:id:i2"], b"")


def test_a_lost_connection_is_made_anew_and_memory_flushed(heard: Heard, engine: Engine) -> None:
    """What was told meanwhile is lost, so that nothing is believed before the flush."""
    for count in range(1, 4):
        with engine.begin() as connection:
            killed = connection.execute(
                text("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'stockstore channel'")
            )
            assert killed.scalar_one() >= 1
        wait_until(lambda count=count: len(heard.ear.flushes) > count, "the flush")  # type: ignore[misc]
        wait_until(heard.is_fresh, "the channel")
    assert heard.ear.flushes == ["start", "connection", "connection", "connection"]
    heard.channel.afterwards(["n:C:id:i1"], b"")
    assert heard.ear.next() == (["n:C:id:i1"], b"")


def test_a_connection_that_listens_no_more_is_given_up(postgres_url: str) -> None:
    """Whoever has taken the subscription away, a beat finds it out."""
    line = PostgresChannel(postgres_url).open()
    line._driver.execute("UNLISTEN *")  # type: ignore[attr-defined]
    line.beat()
    with pytest.raises(Exception, match="listens no more"):
        wait_until(lambda: bool(list(line.receive())), "the answer")
    line.close()


def test_a_frozen_database_makes_memory_stale_and_holds_up_nobody(
    start_postgres: Callable[[], PostgresServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is fresh for longer than allowed, and the thread ends when nobody listens any more, without an answer or its time-out."""
    monkeypatch.setattr(subscription, "SILENCE", 600.0)
    server = start_postgres()
    heard = Heard(PostgresChannel(server.url), max_staleness=0.3)
    before = len(listeners())
    server.freeze()
    try:
        frozen = time.monotonic()
        wait_until(lambda: not heard.is_fresh(), "the end of freshness")
        assert heard.contact.fresh_until <= frozen + 0.3
        heard.contact.leave()
        wait_until(lambda: len(listeners()) < before, "the end of the thread")
    finally:
        server.thaw()


def test_a_pooler_is_refused(postgres_url: str) -> None:
    """It would give the subscription to somebody else; that the server is another one than who greets tells it."""
    with _pooled(postgres_url) as url, pytest.raises(ConfigurationError, match=r"goes through a pooler.* address of the database itself"):
        PostgresChannel(url).open()


@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async", "asyncpg"])
def test_an_engine_of_any_driver_tells_where_to_listen(postgres_url: str, driver: str) -> None:
    """Connections are psycopg's, beside those of the engine; its own settings count where it is psycopg's too."""
    if driver == "psycopg":
        engine = create_engine(make_url(postgres_url).set(port=1), pool_size=1)
        event.listen(engine, "do_connect", lambda _dialect, _record, _args, options: options.update(port=make_url(postgres_url).port))
    else:
        from sqlalchemy.ext.asyncio import create_async_engine

        engine = create_async_engine(make_url(postgres_url).set(drivername=f"postgresql+{driver}"))  # type: ignore[assignment]
    heard = Heard(PostgresChannel(engine))
    heard.channel.afterwards(["n:C:id:i1"], b"")
    assert heard.ear.next() == (["n:C:id:i1"], b"")
    heard.contact.leave()


@pytest.mark.parametrize(
    ("database", "why"),
    [
        ("sqlite:///x.db", "only PostgreSQL carries a channel, not sqlite"),
        ("postgresql+asyncpg://u:secret@h/d?prepared_statement_cache_size=0", 'invalid connection option "prepared_statement_cache_size"'),
        ("postgresql://u:secret@h/d?plugin=nope", "'postgresql://***@h/d?plugin=nope' does not fit: Can't load plugin"),
        ("nonsense", "takes the URL of a PostgreSQL database"),
        (7, "takes the URL of a PostgreSQL database, or an engine on it, not a int"),
    ],
)
def test_what_carries_no_channel_is_refused_at_once(database: str, why: str) -> None:
    """No connection is tried; and no password is shown."""
    with pytest.raises(ConfigurationError, match=re.escape(why)) as raised:
        PostgresChannel(database)
    assert "secret" not in str(raised.value)


def test_one_address_is_one_thread_and_no_password_is_shown(heard: Heard, postgres_url: str) -> None:
    """Another store of the process on the same database joins the thread that is there."""
    before = listeners()
    other = Heard(PostgresChannel(make_url(postgres_url).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)))
    assert {*listeners()} <= {*before}
    heard.channel.afterwards(["n:C:id:i1"], b"")
    assert other.ear.next() == heard.ear.next()
    other.contact.leave()
    assert "secret" not in repr(PostgresChannel("postgresql://u:secret@h/d"))


class _pooled:
    """A relay that greets with a process id of its own, as poolers do."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url)

    def __enter__(self) -> str:
        target = self._url.host, self._url.port
        self._relay = socketserver.ThreadingTCPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"target": target}))
        self._relay.daemon_threads = True
        threading.Thread(target=self._relay.serve_forever, args=(0.01,), daemon=True).start()
        return (
            self._url.set(port=self._relay.server_address[1])
            .update_query_dict({"sslmode": "disable", "gssencmode": "disable"})
            .render_as_string(False)
        )

    def __exit__(self, *_error: object) -> None:
        self._relay.shutdown()
        self._relay.server_close()


class _Handler(socketserver.BaseRequestHandler):
    target: tuple[str, int]

    def handle(self) -> None:
        """Pass all on, the greeting with another process id."""
        with suppress(OSError), socket.create_connection(self.target) as server:
            threading.Thread(target=self._forth, args=[server], daemon=True).start()
            while data := server.recv(65536):
                self.request.sendall(re.sub(rb"K\0\0\0\x0c....", b"K\0\0\0\x0c\0\0\0\x01", data, flags=re.DOTALL))

    def _forth(self, server: socket.socket) -> None:
        # Either end may have hung up.
        with suppress(OSError):
            while data := self.request.recv(65536):
                server.sendall(data)


def test_what_is_told_while_the_channel_is_closed_leaves_no_connection(engine: Engine) -> None:
    """A pool that is closed never closes what comes back to it later."""
    made: list[psycopg.Connection] = []
    event.listen(engine, "connect", lambda connection, _: made.append(connection))
    telling = Telling(engine)
    telling._owed["n:C:id:i1"] = None
    event.listen(engine, "before_cursor_execute", lambda *_: telling.close())
    assert not telling.pay()
    assert [connection.closed for connection in made] == [True]
