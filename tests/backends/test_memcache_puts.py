"""Puts to memcached that name what this process saw last: how many round trips, and that no marker is ever replaced."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator

import pytest
from pymemcache import Client

from stockstore.backends import MemcacheBackend, memcache_lives
from stockstore.errors import CacheUnreachable
from stockstore.testing.coherent_basics import alias, bodies, body, item, lease
from tests.backends.memcache_relay import relay_to
from tests.backends.test_memcache_trips import ONE, TWO, Key, Pair
from tests.servers.memcached import MemcachedServer

pytestmark = pytest.mark.sa_agnostic

FIRST, SECOND = "n:C:id:i1", "n:C:id:i2"
LARGE = b"x" * 3_000_000
REFUSING = [((), LARGE), (("-M",), LARGE), (("-I", "16k", "-o", "slab_chunk_max=8192"), LARGE[:100_000])]
ROUNDS = 200

Start = Callable[..., MemcachedServer]


def joined(stack: contextlib.ExitStack, address: str) -> Pair:
    """Give two backends, as of two processes that have put to the server, the first one through a relay."""
    relay = stack.enter_context(relay_to(address))
    mine, theirs = (stack.enter_context(contextlib.closing(MemcacheBackend(each))) for each in (relay.address, address))
    for backend in (mine, theirs):
        backend.put_many([item("n:C:id:i0", b"first")])
    return Pair(mine, relay, theirs)


@pytest.fixture
def pair(start_memcached: Start) -> Iterator[Pair]:
    """Two backends on a server of their own."""
    with contextlib.ExitStack() as stack:
        yield joined(stack, start_memcached().address)


@pytest.fixture
def key() -> Key:
    """A function of a number that gives a key."""
    return lambda number: f"n:C:id:i{number}"


@pytest.fixture
def pair_without_eviction(start_memcached: Start) -> Iterator[Pair]:
    """Two backends on a server that may not evict."""
    with contextlib.ExitStack() as stack:
        yield joined(stack, start_memcached("-M").address)


class TestRoundTrips:
    @pytest.mark.parametrize("number", [1, 300])
    def test_of_a_put(self, pair: Pair, key: Key, number: int) -> None:
        """One for what is absent, or as this process put it; two for what it never saw, three once for what others put since."""
        mine, relay, theirs = pair
        items = [item(key(each), b"value") for each in range(1, number + 1)]
        unseen = [item(key(each), b"value") for each in range(1001, number + 1001)]
        theirs.put_many(unseen)
        assert relay.count(lambda: mine.put_many(items)) == 1
        assert [relay.count(lambda: mine.put_many(items)) for _ in range(2)] == [1, 1]
        assert [relay.count(lambda: mine.put_many(unseen)) for _ in range(2)] == [2, 1]
        theirs.put_many(items)
        assert [relay.count(lambda: mine.put_many(items)) for _ in range(3)] == [3, 2, 1]
        theirs.invalidate_many([name for name, _, _ in items])
        assert [relay.count(lambda: mine.put_many(items)) for _ in range(2)] == [2, 1]

    def test_of_a_put_to_a_server_that_may_not_evict(self, pair_without_eviction: Pair, key: Key) -> None:
        """The same by other commands, which leave alone what stands where the server is full."""
        mine, relay, theirs = pair_without_eviction
        items = [item(key(number), b"value") for number in range(1, 100)]
        assert [relay.count(lambda: mine.put_many(items)) for _ in range(3)] == [1, 1, 1]
        theirs.put_many(items)
        assert [relay.count(lambda: mine.put_many(items)) for _ in range(3)] == [2, 2, 1]

    def test_of_a_put_after_a_read(self, pair: Pair, key: Key) -> None:
        """What others put, and was read since then, is put in one."""
        mine, relay, theirs = pair
        for _ in range(2):
            theirs.put_many([item(key(1), b"theirs"), item(key(2), b"theirs")])
            assert bodies(mine, key(1)) == {key(1): body(b"theirs")}
            assert relay.count(lambda: mine.put_many([item(key(1), b"mine")])) == 1
        assert bodies(theirs, key(1), key(2)) == {key(1): body(b"mine"), key(2): body(b"theirs")}

    def test_of_a_put_with_aliases(self, pair: Pair, key: Key) -> None:
        """Aliases go along."""
        mine, relay, theirs = pair
        names = [alias("n:C:name:a", key(1))]
        assert [relay.count(lambda: mine.put_many([item(key(1), b"one")], names)) for _ in range(2)] == [1, 1]
        assert theirs.follow_many(["n:C:name:a"])["n:C:name:a"][9:] == body(b"one")

    def test_of_the_first_put_of_a_process(self, start_memcached: Start, key: Key) -> None:
        """One more for the server's settings, once, and one for the tokens of each class."""
        with relay_to(start_memcached().address) as relay, contextlib.closing(MemcacheBackend(relay.address)) as backend:
            backend.get_many([key(1)])
            assert relay.count(lambda: backend.put_many([item(key(1), b"one")])) == 3
            assert relay.count(lambda: backend.put_many([item("n:D:id:i1", b"one")])) == 2


class TestAMarkerStays:
    @pytest.mark.parametrize("seen", [True, False])
    def test_that_came_since_the_last_put_or_read(self, pair: Pair, key: Key, seen: bool) -> None:
        """The put gives way, once it has looked, and puts the rest of the batch."""
        mine, relay, theirs = pair
        mine.put_many([item(key(1), b"mine"), item(key(2), b"mine")])
        theirs.mark_many([key(1)], TWO)
        theirs.mark_many([], ONE, [key(3)])
        if seen:
            assert set(mine.get_many([key(1), key(2), key(3)])) == {key(1), key(2), key(3)}
        assert relay.count(lambda: mine.put_many([item(key(number), b"put") for number in (1, 2, 3)])) == 2
        assert bodies(theirs, *map(key, (1, 2, 3))) == {key(1): b"W-" + TWO, key(2): body(b"put"), key(3): b"W-" + ONE}
        assert theirs.release_many([key(1)], TWO, committed=True, values=[item(key(1), b"two")]) == 1
        mine.put_many([item(key(1), b"mine")])
        assert bodies(theirs, key(1)) == {key(1): body(b"mine")}

    @pytest.mark.parametrize("at", [1, 2, 3])
    def test_that_comes_meanwhile(self, pair: Pair, key: Key, at: int) -> None:
        """Before the first store, the look or the second store: where others put before, and where they put the moment before."""
        mine, relay, theirs = pair
        mine.put_many([item(key(1), b"mine")])
        theirs.put_many([item(key(1), b"theirs"), item(key(2), b"theirs")])
        relay.interrupt(at, lambda: theirs.mark_many([key(1), key(2)], TWO))
        mine.put_many([item(key(number), b"put") for number in (1, 2, 3)])
        found = bodies(theirs, key(1), key(2), key(3))
        assert found[key(1)] == b"W-" + TWO
        assert found == {key(1): b"W-" + TWO, key(2): b"W-" + TWO, key(3): body(b"put")}

    def test_whose_number_is_that_of_a_value_before_the_restart(self, start_memcached: Start) -> None:
        """A restarted server counts from one again: what was put has the number of the marker now."""
        server = start_memcached()
        with contextlib.ExitStack() as stack:
            mine, theirs = (stack.enter_context(contextlib.closing(MemcacheBackend(server.address))) for _ in range(2))
            mine.put_many([item(FIRST, b"mine")])
            number = number_of(server, FIRST)
            server.restart()
            theirs.mark_many([FIRST], ONE)
            assert number_of(server, FIRST) == number
            mine.put_many([item(FIRST, b"mine")])
            assert theirs.get_many([FIRST]) == {FIRST: b"W-" + ONE}

    @pytest.mark.parametrize(("options", "large"), REFUSING)
    @pytest.mark.parametrize("known", [True, False])
    def test_where_what_is_put_is_too_large(
        self, start_memcached: Start, key: Key, options: tuple[str, ...], large: bytes, known: bool
    ) -> None:
        """The server refuses it, and would remove what stands there by some commands."""
        with contextlib.ExitStack() as stack:
            mine, relay, theirs = joined(stack, start_memcached(*options).address)
            if known:
                mine.put_many([item(key(1), b"mine")])
            relay.interrupt(1, lambda: theirs.mark_many([key(1)], ONE))
            mine.put_many([item(key(2), b"put"), item(key(1), large)])
            assert bodies(theirs, key(1), key(2)) == {key(1): b"W-" + ONE, key(2): body(b"put")}

    def test_that_comes_before_what_was_to_be_replaced_is_removed(self, pair: Pair, key: Key) -> None:
        """What stands where a value was refused goes only as it was seen."""
        mine, relay, theirs = pair
        mine.put_many([item(key(1), b"mine")])
        relay.interrupt(2, lambda: theirs.mark_many([key(1)], ONE))
        with pytest.raises(CacheUnreachable, match="too large"):
            mine.put_many([item(key(1), LARGE)])
        assert theirs.get_many([key(1)]) == {key(1): b"W-" + ONE}

    def test_on_a_server_that_has_no_more_room(self, start_memcached: Start, key: Key) -> None:
        """One that may not evict refuses the put, for want of memory, and keeps the marker."""
        with contextlib.ExitStack() as stack:
            mine, _, theirs = joined(stack, start_memcached("-M", "-m", "2").address)
            mine.put_many([item(key(1), b"mine")])
            theirs.mark_many([key(1)], ONE)
            for number in range(2, 20):
                with contextlib.suppress(CacheUnreachable):
                    theirs.put_many([item(key(number), LARGE[:500_000])])
            with pytest.raises(CacheUnreachable, match=rf"refused '{key(99)}'.*out of memory"):
                mine.put_many([item(key(1), LARGE[:500_000]), item(key(99), LARGE[:500_000])])
            assert bodies(theirs, key(1), key(99)) == {key(1): b"W-" + ONE}

    def test_while_many_put(self, pair: Pair, key: Key) -> None:
        """Whatever several threads put, a marker stands until it is released."""
        mine, _, theirs = pair
        stop = threading.Event()

        def put() -> None:
            while not stop.is_set():
                mine.put_many([item(key(1), b"mine"), item(key(2), b"mine")])
                mine.get_many([key(1)])

        threads = [threading.Thread(target=put) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for number in range(ROUNDS):
                ticket = b"db.%d" % number
                theirs.mark_many([key(1)], ticket)
                assert [theirs.get_many([key(1)]) for _ in range(3)] == [{key(1): b"W-" + ticket}] * 3
                assert theirs.release_many([key(1)], ticket, committed=True, values=[item(key(1), ticket)]) == 1
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert bodies(theirs, key(2)) == {key(2): body(b"mine")}


class TestWhatIsPut:
    @pytest.mark.parametrize("at", [1, 2, 3])
    def test_stands_though_others_put_meanwhile(self, pair: Pair, key: Key, at: int) -> None:
        """The last one wins; within a batch the last of a key does."""
        mine, relay, theirs = pair
        mine.put_many([item(key(1), b"mine")])
        relay.interrupt(at, lambda: theirs.put_many([item(key(1), b"theirs"), item(key(2), b"theirs")]))
        for text in (b"one", b"two"):
            mine.put_many([item(key(1), b"not this"), item(key(2), text), item(key(1), text)])
        assert bodies(theirs, key(1), key(2)) == {key(1): body(b"two"), key(2): body(b"two")}

    def test_stands_where_it_was_lost(self, pair: Pair, key: Key, start_memcached: Start) -> None:
        """An eviction, or a flush, is no hindrance."""
        mine, relay, theirs = pair
        mine.put_many([item(key(1), b"one"), item(key(2), b"one")])
        host, _, port = theirs._nodes.listed[0].pool.server.name.partition(":")
        with contextlib.closing(Client((host, int(port)), default_noreply=False)) as client:
            assert client.delete(key(1))
            assert relay.count(lambda: mine.put_many([item(key(1), b"two"), item(key(2), b"two")])) == 2
            assert bodies(theirs, key(1), key(2)) == {key(1): body(b"two"), key(2): body(b"two")}
            client.flush_all()
        mine.put_many([item(key(1), b"three")])
        assert bodies(theirs, key(1), key(2)) == {key(1): body(b"three")}

    def test_replaces_a_lease(self, pair: Pair, key: Key) -> None:
        """Of a reader that came since the last put."""
        mine, _, theirs = pair
        mine.put_many([item(key(1), b"one")])
        theirs.invalidate_many([key(1)])
        token = lease(theirs, key(1))
        mine.put_many([item(key(1), b"two")])
        assert theirs.fill_many([item(key(1), b"read")], token) == 0
        assert bodies(theirs, key(1)) == {key(1): body(b"two")}

    @pytest.mark.parametrize("prefix", ["n:", "n:C:"])
    def test_stands_after_a_clear_by_others(self, pair: Pair, key: Key, prefix: str) -> None:
        """What was put before is not brought back, and what is put under a token of before is put anew."""
        mine, _, theirs = pair
        mine.put_many([item(key(1), b"one"), item(key(2), b"one")])
        theirs.clear(prefix)
        assert theirs.get_many([key(1), key(2)]) == {}
        mine.put_many([item(key(1), b"two")])
        assert bodies(theirs, key(1), key(2)) == bodies(mine, key(1), key(2)) == {key(1): body(b"two")}

    def test_is_never_absent_while_it_replaces_what_was_read(self, pair: Pair, key: Key) -> None:
        """Who has read what others put after a clear has seen the clear, too."""
        mine, relay, theirs = pair
        mine.put_many([item(key(1), b"one")])
        theirs.clear("n:C:")
        theirs.put_many([item(key(1), b"theirs")])
        assert bodies(mine, key(1)) == {key(1): body(b"theirs")}
        assert relay.count(lambda: mine.put_many([item(key(1), b"two")])) == 1
        assert bodies(theirs, key(1)) == {key(1): body(b"two")}

    @pytest.mark.parametrize(("options", "large"), REFUSING)
    def test_is_absent_where_it_is_too_large(self, start_memcached: Start, key: Key, options: tuple[str, ...], large: bytes) -> None:
        """Also where it was put before; others of the batch are put."""
        with contextlib.ExitStack() as stack:
            mine, _, theirs = joined(stack, start_memcached(*options).address)
            mine.put_many([item(key(1), b"one"), item(key(2), b"one")])
            with pytest.raises(CacheUnreachable, match=rf"refused '{key(1)}'.*too large"):
                mine.put_many([item(key(1), large), item(key(2), b"two"), item(key(3), b"two")])
            assert bodies(theirs, *map(key, (1, 2, 3))) == {key(2): body(b"two"), key(3): body(b"two")}
            mine.put_many([item(key(1), b"three")])
            assert bodies(theirs, key(1)) == {key(1): body(b"three")}

    @pytest.mark.parametrize("known", [True, False])
    def test_is_absent_where_the_server_runs_out_of_memory_while_it_reads_it(self, start_memcached: Start, key: Key, known: bool) -> None:
        """One full of small values, which may evict, refuses a value of several pages then, and would leave alone what stands there."""
        with contextlib.ExitStack() as stack:
            mine, _, theirs = joined(stack, start_memcached("-m", "16", "-I", "4m").address)
            for start in range(0, 20_000, 5000):
                mine.put_many([item(f"n:C:id:small{number}", b"x" * 1000) for number in range(start, start + 5000)])
            (mine if known else theirs).put_many([item(key(1), b"one")])
            with pytest.raises(CacheUnreachable, match=rf"refused '{key(1)}'.*[Oo]ut of memory"):
                mine.put_many([item(key(2), b"two"), item(key(1), LARGE)])
            assert bodies(theirs, key(1), key(2)) == {key(2): body(b"two")}

    def test_stands_after_a_restart(self, start_memcached: Start) -> None:
        """By processes that knew the server before, and one that did not."""
        server = start_memcached()
        with contextlib.ExitStack() as stack:
            mine, theirs = (stack.enter_context(contextlib.closing(MemcacheBackend(server.address))) for _ in range(2))
            mine.put_many([item(FIRST, b"one"), item(SECOND, b"one")])
            server.restart()
            mine.put_many([item(FIRST, b"two")])
            assert bodies(theirs, FIRST, SECOND) == {FIRST: body(b"two")}

    def test_is_put_by_a_forked_process_too(self, pair: Pair, key: Key) -> None:
        """Both know the cell as the parent saw it, and each goes on from there."""
        mine, _, theirs = pair
        mine.put_many([item(key(1), b"parent")])
        child = os.fork()
        if not child:
            with contextlib.suppress(BaseException):
                mine.put_many([item(key(1), b"child")])
            os._exit(0)
        os.waitpid(child, 0)
        assert bodies(theirs, key(1)) == {key(1): body(b"child")}
        mine.put_many([item(key(1), b"parent")])
        assert bodies(theirs, key(1)) == {key(1): body(b"parent")}


def test_not_all_cells_are_kept_in_mind(pair: Pair, key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a bound all are forgotten, and a put looks again."""
    mine, relay, theirs = pair
    monkeypatch.setattr(memcache_lives, "_MANY_CELLS", 10)
    for number in range(100):
        mine.put_many([item(key(number), b"one")])
    (life,) = mine._nodes.listed[0].lives.values()
    assert 0 < len(life.uniques) <= 11
    assert relay.count(lambda: mine.put_many([item(key(number), b"two") for number in range(100)])) == 2
    assert set(bodies(theirs, *map(key, range(100))).values()) == {body(b"two")}


def test_nothing_is_kept_in_mind_of_a_server_that_does_not_tell_its_settings() -> None:
    """It may be a proxy, behind which another server stands after a restart."""
    life = memcache_lives.Life({})
    life.note({FIRST: b"1"})
    assert (life.room, life.uniques) == (0, {})


def number_of(server: MemcachedServer, key: str) -> bytes:
    """Give what a ``cas`` has to name."""
    with contextlib.closing(Client(server.address)) as client:
        number: bytes = client.gets(key)[1]
        return number
