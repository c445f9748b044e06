"""A cache on Redis whose exchanges are interrupted, or answered with nonsense."""

import os
import signal
import threading
from collections.abc import Callable, Iterator

import pytest
from redis import Connection, Redis

from stockstore import CacheUnreachable, RedisStore
from tests.regressions.answering import answering
from tests.servers.redis import RedisServer


class Note:
    """One key."""

    __keys__ = ["id", "title"]

    def __init__(self, id: int, title: str = "") -> None:  # noqa: A002 - the attribute's name
        self.id, self.title = id, title


class Interrupt(BaseException):
    """What a signal's handler raises."""


@pytest.fixture(params=["url", "client"])
def store(request: pytest.FixtureRequest, redis_url: str) -> Iterator[RedisStore]:
    """A store that opened its client itself, or was given one."""
    with Redis.from_url(redis_url) as client:
        yield RedisStore(redis_url) if request.param == "url" else RedisStore(client=client)


def interrupt_once(monkeypatch: pytest.MonkeyPatch, error: type[BaseException]) -> None:
    """Let the next command end, sent and not answered yet, as a signal's handler may end it."""
    original = Connection.read_response

    def read_response(*_: object, **__: object) -> object:
        monkeypatch.setattr(Connection, "read_response", original)
        raise error

    monkeypatch.setattr(Connection, "read_response", read_response)


@pytest.mark.parametrize("error", [Interrupt, RuntimeError])
@pytest.mark.parametrize("read", [lambda store: store.get(Note, 1), lambda store: store.get(Note, title="one")])
def test_an_interrupted_exchange_answers_no_other(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], read: Callable[[RedisStore], object]
) -> None:
    """After an exception between a command and its answer, the next reads get answers of their own."""
    store.batch_put([Note(1, "one"), Note(2, "two")])
    interrupt_once(monkeypatch, error)
    with pytest.raises(error):
        read(store)
    assert [found and found.id for found in (store.get(Note, 2), store.get(Note, title="two"), store.get(Note, 1))] == [2, 2, 1]


def test_a_caller_that_handles_an_error_keeps_its_connection(start_redis: Callable[..., RedisServer]) -> None:
    """A read in an except block opens no new connection."""
    url = start_redis().url
    with RedisStore(url) as store, Redis.from_url(url) as client:
        store.put(Note(1))
        before = client.info()["total_connections_received"]
        try:
            raise KeyError
        except KeyError:
            assert store.get(Note, 1) is not None
        assert client.info()["total_connections_received"] == before


def test_a_process_forked_while_a_thread_uses_the_pool_reads(redis_url: str) -> None:
    """The child has locks of its own."""
    with RedisStore(redis_url) as store:
        store.put(Note(1))
        pool = store._backend._client.connection_pool  # type: ignore[attr-defined]
        held, forked = threading.Event(), threading.Event()

        def hold() -> None:
            with pool._lock:
                held.set()
                forked.wait(10)

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait(10)
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            os._exit(0 if store.get(Note, 1) is not None else 1)
        forked.set()
        thread.join()
        assert os.waitpid(child, 0)[1] == 0


def greeted(request: bytes) -> bytes:
    """Answer the commands by which a connection is opened."""
    if b"run_id" in request:
        return b"$8\r\n\xffserver.\r\n"
    return b"+OK\r\n" * (request.count(b"\r\n*") + 1) if b"CLIENT" in request else b""


@pytest.mark.parametrize(
    "answer", [b"+OK\r\n", b":5\r\n", b"$-1\r\n", b"*0\r\n", b"*1\r\n:3\r\n", b"*1\r\n-ERR no\r\n", b"*2\r\n$1\r\na\r\n$1\r\nb\r\n"]
)
def test_nonsense_is_a_server_that_does_not_answer(answer: bytes) -> None:
    """An answer of another kind or length is a miss of a read, and a ``CacheUnreachable`` of a delete."""
    with answering(lambda request: greeted(request) or answer) as port, RedisStore(f"redis://127.0.0.1:{port}?protocol=2") as store:
        assert store.get(Note, 1) is None
        assert store.get(Note, title="one") is None
        assert store.stats().errors == 2
        with pytest.raises(CacheUnreachable, match="did not do what was asked"):
            store.delete(Note, title="one")


@pytest.mark.parametrize("answer", [b"*2\r\n:1\r\n:2\r\n", b"*0\r\n", b"*1\r\n$3\r\nabc\r\n"])
def test_nonsense_for_a_greeting_is_a_server_that_does_not_answer(answer: bytes) -> None:
    """What redis-py makes of it while it opens a connection, such as an ``AttributeError``, is a ``CacheUnreachable`` as well."""
    with answering(lambda _: answer) as port, RedisStore(f"redis://127.0.0.1:{port}?protocol=3", read_timeout=1.0) as store:
        assert store.get(Note, 1) is None
        assert store.stats().errors == 1
        with pytest.raises(CacheUnreachable, match="did not do what was asked"):
            store.put(Note(1))
