"""memcached servers that restart, with or without their memory, are flushed, evict, are full: nothing old is believed."""

import contextlib
import time
from collections.abc import Callable, Iterator

import psutil
import pytest
from pymemcache import Client
from pymemcache.exceptions import MemcacheError

from stockstore.backends import MemcacheBackend
from stockstore.cells import generation_of
from stockstore.errors import CacheUnreachable
from stockstore.testing.coherent_basics import alias, bodies, body, fresh_token, item, lease
from tests.backends.faults import in_time
from tests.patience import SHORT
from tests.servers.memcached import MemcachedServer
from tests.servers.server import wait_until

pytestmark = pytest.mark.sa_agnostic

ONE, TWO = b"db.1", b"db.2"
VALUE, LEASED, MARKED, JOINED, ALIAS, GENERATION = [f"n:C:id:i{number}" for number in range(5)] + ["n:C:"]
ALL = [VALUE, LEASED, MARKED, JOINED, ALIAS, GENERATION]
MARKERS = {MARKED: b"W-" + ONE, JOINED: b"W+" + ONE + b"|" + TWO}
LARGE = b"x" * 3_000_000

Start = Callable[..., MemcachedServer]
Connect = Callable[[MemcachedServer], MemcacheBackend]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """A function of a server that gives a backend."""
    with contextlib.ExitStack() as stack:
        yield lambda server: stack.enter_context(contextlib.closing(MemcacheBackend(server.address)))


@contextlib.contextmanager
def observed(server: MemcachedServer) -> Iterator[Client]:
    """Give a plain client."""
    with contextlib.closing(Client(server.address, default_noreply=False)) as client:
        yield client


def furnish(backend: MemcacheBackend) -> bytes:
    """Put one cell of each kind, and give the token of the lease."""
    token = fresh_token()
    backend.put_many([item(VALUE, b"old")], [alias(ALIAS, VALUE)])
    assert backend.lease_many({LEASED: None}, token, GENERATION).granted == {LEASED}
    backend.mark_many([MARKED], ONE, [JOINED])
    backend.mark_many([], TWO, [JOINED])
    assert set(backend.get_many(ALL)) == set(ALL)
    return token


def test_a_restart_loses_everything(start_memcached: Start, connect: Connect) -> None:
    """Nothing stands there after a restart, and a lease of before is not filled."""
    server = start_memcached()
    backend = connect(server)
    token = furnish(backend)
    server.restart()
    assert backend.get_many(ALL) == {}
    assert backend.fill_many([item(LEASED, b"old")], token) == 0
    assert backend.release_many([MARKED], ONE, committed=True, values=[item(MARKED, b"one")]) == 0
    assert backend.get_many(ALL) == {}


def test_a_lease_is_not_taken_for_one_of_another_life(start_memcached: Start, connect: Connect) -> None:
    """A restarted server counts its writes from one again, and what is leased there has the number of the lease that was lost."""
    server = start_memcached()
    slow, quick = connect(server), connect(server)
    token = lease(slow, VALUE)
    with observed(server) as client:
        number = client.gets(VALUE)[1]
    server.restart()
    theirs = lease(quick, VALUE)
    with observed(server) as client:
        assert client.gets(VALUE)[1] == number
    assert slow.fill_many([item(VALUE, b"old")], token) == 0
    assert quick.fill_many([item(VALUE, b"new")], theirs) == 1
    assert bodies(slow, VALUE) == {VALUE: body(b"new")}


@pytest.mark.parametrize("known", [True, False], ids=["same process", "new process"])
def test_a_restart_that_keeps_the_memory_keeps_markers_alone(start_memcached: Start, connect: Connect, known: bool) -> None:
    """A value, lease, alias or generation of the earlier life is absent; a marker is one, and no value follows it."""
    server = start_memcached("-A", "-e", "memory")
    before = connect(server)
    token = furnish(before)
    old = generation_of(before.get_many([GENERATION])[GENERATION])
    _restart_warm(server)
    with observed(server) as client:
        assert client.get(VALUE) is not None
    backend = before if known else connect(server)
    assert backend.get_many(ALL) == MARKERS
    assert backend.follow_many(ALL) == MARKERS
    assert backend.fill_many([item(LEASED, b"old")], token) == 0
    assert backend.invalidate_many([VALUE]) == 0
    answer = backend.lease_many(dict.fromkeys([VALUE, LEASED, MARKED]), fresh_token(), GENERATION)
    assert (set(answer.granted), answer.cells) == ({VALUE, LEASED}, {MARKED: b"W-" + ONE})
    assert answer.generation not in (None, old)
    assert backend.release_many([MARKED], ONE, committed=True, values=[item(MARKED, b"one")]) == 1
    assert backend.get_many([MARKED]) == {}


def _restart_warm(server: MemcachedServer) -> None:
    """End a server such that it keeps its memory in its file, and start it on that."""
    with observed(server) as client, contextlib.suppress(OSError, MemcacheError):
        process = psutil.Process(client.stats()[b"pid"])
        client.raw_command(b"shutdown graceful")
    wait_until(lambda: not psutil.pid_exists(process.pid) or process.status() == psutil.STATUS_ZOMBIE, "the end of memcached")
    ended = int(time.time())
    wait_until(lambda: int(time.time()) > ended, "the next second: memcached takes its memory up in no earlier one")
    server.restart()


@pytest.mark.parametrize("lost", ["n:", "n:C"])
def test_markers_stand_without_the_tokens_of_their_class(start_memcached: Start, connect: Connect, lost: str) -> None:
    """Where a token was evicted everything of the class is absent but its markers; none is leased over, and no value follows."""
    server = start_memcached()
    backend, other = connect(server), connect(server)
    token = furnish(backend)
    with observed(server) as client:
        assert client.delete(lost)
    assert backend.get_many(ALL) == MARKERS
    assert other.lease_many(dict.fromkeys(MARKERS), fresh_token(), "").granted == frozenset()
    other.put_many([item(key, b"put") for key in (VALUE, *MARKERS)])
    assert bodies(other, *ALL) == MARKERS | {VALUE: body(b"put")}
    assert backend.fill_many([item(LEASED, b"old")], token) == 0
    assert backend.release_many(list(MARKERS), ONE, committed=True, values=[item(MARKED, b"one")]) == 2
    assert backend.get_many([MARKED, JOINED]) == {JOINED: b"W+" + TWO}


def test_a_flush_loses_markers_and_lets_no_value_follow(start_memcached: Start, connect: Connect) -> None:
    """A commit whose marker was flushed removes what readers have put there since."""
    server = start_memcached()
    writer, reader = connect(server), connect(server)
    furnish(writer)
    with observed(server) as client:
        client.flush_all()
    assert writer.get_many(ALL) == {}
    assert reader.fill_many([item(MARKED, b"old")], lease(reader, MARKED)) == 1
    assert writer.release_many([MARKED], ONE, committed=True, values=[item(MARKED, b"new")]) == 0
    assert reader.get_many([MARKED]) == {}


def test_an_evicted_marker_lets_no_value_follow(start_memcached: Start, connect: Connect) -> None:
    """A marker that a full server dropped is as one that was flushed, and the backend says that this may be."""
    backend = connect(start_memcached("-m", "2"))
    backend.mark_many([MARKED, VALUE], ONE)
    backend.mark_many([f"n:D:id:i{number}" for number in range(50_000)], ONE)
    assert backend.get_many([MARKED, VALUE]) == {}
    assert backend.fill_many([item(VALUE, b"old")], lease(backend, VALUE)) == 1
    values = [item(MARKED, b"new"), item(VALUE, b"new")]
    assert backend.release_many([MARKED, VALUE], ONE, committed=True, values=values) == 0
    assert backend.get_many([MARKED, VALUE]) == {}
    assert "evicts markers" in (backend.marker_loss() or "")


def test_a_server_that_never_evicts_keeps_markers(start_memcached: Start, connect: Connect) -> None:
    """Nothing is to be said of it; nor of one that cannot be asked."""
    server = start_memcached("-M")
    backend = connect(server)
    assert backend.marker_loss() is None
    server.stop()
    assert backend.marker_loss() is None


def test_a_server_without_comparison_is_named(start_memcached: Start, connect: Connect) -> None:
    """Such a server takes any comparison for one that holds."""
    assert "without -C" in (connect(start_memcached("-M", "-C")).marker_loss() or "")


def test_a_mark_without_memory_removes_what_is_there(start_memcached: Start, connect: Connect) -> None:
    """A full server that may not evict refuses the mark, and nothing old is left under the key."""
    backend = connect(start_memcached("-M", "-m", "2"))
    backend.put_many([item(VALUE, b"old"), item(JOINED, b"old")])
    refused = pytest.raises(CacheUnreachable, match=r"refused '.*out of memory.*not marked")
    with refused:
        backend.mark_many([f"n:D:id:i{number}" for number in range(50_000)], ONE)
    with refused:
        backend.mark_many([VALUE], ONE, [JOINED])
    assert backend.get_many([VALUE, JOINED]) == {}


class TestTooLarge:
    @pytest.fixture
    def backend(self, start_memcached: Start, connect: Connect) -> MemcacheBackend:
        """On a server that keeps a megabyte at most."""
        return connect(start_memcached())

    def test_a_put_removes_the_old_value(self, backend: MemcacheBackend) -> None:
        """The key is absent, and the rest of the batch is put."""
        backend.put_many([item(VALUE, b"old")])
        with pytest.raises(CacheUnreachable, match=rf"refused '{VALUE}'.*too large.*keep smaller values"):
            backend.put_many([item(VALUE, LARGE), item(MARKED, b"small")], [alias(ALIAS, MARKED)])
        assert bodies(backend, VALUE, MARKED) == {MARKED: body(b"small")}
        assert ALIAS in backend.get_many([ALIAS])

    def test_a_put_where_nothing_was_names_the_key(self, backend: MemcacheBackend) -> None:
        """Of a batch of new keys and old ones, the one that was refused; the others are put."""
        backend.put_many([item(MARKED, b"old")])
        with pytest.raises(CacheUnreachable, match=rf"refused '{VALUE}' \(.*too large"):
            backend.put_many([item(MARKED, b"new"), item(VALUE, LARGE), item(LEASED, b"small")])
        assert bodies(backend, VALUE, MARKED, LEASED) == {MARKED: body(b"new"), LEASED: body(b"small")}

    def test_a_fill_leaves_the_lease(self, backend: MemcacheBackend) -> None:
        """Nothing is filled, the rest of the batch is, and the lease runs out."""
        token = lease(backend, VALUE, MARKED)
        with pytest.raises(CacheUnreachable, match="too large"):
            backend.fill_many([item(VALUE, LARGE), item(MARKED, b"small")], token)
        assert bodies(backend, MARKED) == {MARKED: body(b"small")}
        assert backend.get_many([VALUE])[VALUE][:1] == b"L"

    def test_a_release_takes_the_marker_away(self, backend: MemcacheBackend) -> None:
        """Neither marker nor value stands there afterwards."""
        backend.mark_many([VALUE, MARKED], ONE)
        with pytest.raises(CacheUnreachable, match="too large"):
            backend.release_many([VALUE, MARKED], ONE, committed=True, values=[item(VALUE, LARGE), item(MARKED, b"small")])
        assert bodies(backend, VALUE, MARKED) == {MARKED: body(b"small")}


def test_a_frozen_server_marks_nothing_in_time(start_memcached: Start) -> None:
    """A mark that was not answered is an error soon, and can be released when the server runs on."""
    server = start_memcached()
    with contextlib.closing(MemcacheBackend(server.address, timeout=SHORT)) as backend:
        for bound in in_time(3 * SHORT):
            backend.put_many([item(VALUE, b"old")])
            server.freeze()
            with bound, pytest.raises(CacheUnreachable, match=server.address):
                backend.mark_many([VALUE], ONE)
            server.thaw()
            backend.release_many([VALUE], ONE, committed=True)
            assert backend.get_many([VALUE]) in ({}, {VALUE: b"W-" + ONE})
