"""How many round trips memcached takes, and what others do in between them."""

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from stockstore.backends import MemcacheBackend
from stockstore.cells import generation_of
from stockstore.errors import CacheUnreachable
from stockstore.testing.coherent_basics import alias, bodies, body, fresh_token, item, lease
from tests.backends.memcache_relay import Relay, cut, relay_to

pytestmark = pytest.mark.sa_agnostic

ONE, TWO = b"db.1", b"db.2"
Key = Callable[..., str]


class Pair(NamedTuple):
    """One backend through a relay, another one straight to the same server."""

    mine: MemcacheBackend
    relay: Relay
    theirs: MemcacheBackend


@pytest.fixture
def pair(memcached_address: str, namespace: str) -> Iterator[Pair]:
    """A pair whose backends know the tokens of the class already."""
    with contextlib.ExitStack() as stack:
        relay = stack.enter_context(relay_to(memcached_address))
        mine, theirs = (stack.enter_context(contextlib.closing(MemcacheBackend(address))) for address in (relay.address, memcached_address))
        for backend in (mine, theirs):
            backend.put_many([item(f"{namespace}:C:id:i0", b"first")])
        yield Pair(mine, relay, theirs)


@pytest.fixture
def key(namespace: str) -> Key:
    """A function of a number that gives a key."""
    return lambda number: f"{namespace}:C:id:i{number}"


@pytest.fixture
def generation(namespace: str) -> str:
    """The key of the class's generation cell."""
    return f"{namespace}:C:"


@pytest.mark.parametrize("number", [1, 300])
def test_steps_take_as_many_round_trips_for_one_key_as_for_hundreds(pair: Pair, key: Key, generation: str, number: int) -> None:
    """A hit takes one, a miss three with the fill, a writing commit three, or four where cells are shared."""
    mine, relay, _ = pair
    keys, token = [key(number) for number in range(1, number + 1)], fresh_token()
    items = [item(name, b"value" * 10) for name in keys]
    trips = {
        "miss": relay.count(lambda: mine.get_many(keys)),
        "lease": relay.count(lambda: mine.lease_many(dict.fromkeys(keys), token, generation)),
        "fill": relay.count(lambda: mine.fill_many(items, token)),
        "hit": relay.count(lambda: mine.get_many(keys)),
        "mark": relay.count(lambda: mine.mark_many(keys, ONE, (), [generation])),
        "release": relay.count(lambda: mine.release_many(keys, ONE, committed=True, values=items)),
        "mark shared": relay.count(lambda: mine.mark_many(keys, ONE, [generation])),
        "release shared": relay.count(lambda: mine.release_many([*keys, generation], ONE, committed=True, values=items)),
        "invalidate": relay.count(lambda: mine.invalidate_many(keys)),
        "put": relay.count(lambda: mine.put_many([item(key(number), b"new") for number in range(1001, number + 1001)])),
        "put aliases": relay.count(lambda: mine.put_many((), [alias(f"{generation}name:{name}", keys[0]) for name in "abc"])),
    }
    assert trips == {
        "miss": 1,
        "lease": 1,
        "fill": 1,
        "hit": 1,
        "mark": 1,
        "release": 2,
        "mark shared": 2,
        "release shared": 2,
        "invalidate": 2,
        "put": 1,
        "put aliases": 1,
    }


def test_what_was_seen_costs_a_lease_one_round_trip_more(pair: Pair, key: Key) -> None:
    """Only what was looked at can be replaced by comparison."""
    mine, relay, theirs = pair
    seen = dict(mine.get_many([key(0)]))
    assert relay.count(lambda: mine.lease_many(seen, fresh_token(), "")) == 2
    assert theirs.lease_many({key(0): None}, fresh_token(), "").granted == frozenset()


def test_a_fill_finds_its_leases_on_any_connection(pair: Pair, key: Key) -> None:
    """Where the connection of the lease is gone, or another process took it, a fill looks once more."""
    mine, relay, theirs = pair
    token = lease(mine, key(1), key(2), key(3))
    mine.close()
    mine.get_many([key(0)])
    assert relay.count(lambda: mine.fill_many([item(key(1), b"one")], token)) == 2
    assert theirs.fill_many([item(key(2), b"two")], token) == 1
    assert bodies(mine, key(1), key(2)) == {key(1): body(b"one"), key(2): body(b"two")}


def test_a_clear_by_another_process_costs_a_lease_one_round_trip_more(pair: Pair, key: Key, namespace: str) -> None:
    """A lease under a stamp of before is no lease, and is replaced at once."""
    mine, relay, theirs = pair
    theirs.clear(f"{namespace}:")
    token = fresh_token()
    assert relay.count(lambda: mine.lease_many({key(0): None, key(1): None}, token, "")) == 2
    assert relay.count(lambda: mine.fill_many([item(key(0), b"0"), item(key(1), b"1")], token)) == 1
    assert bodies(theirs, key(0), key(1)) == {key(0): body(b"0"), key(1): body(b"1")}


class TestBetweenLookAndChange:
    def test_a_mark_stays_when_the_release_of_another_comes_late(self, pair: Pair, key: Key) -> None:
        """The next writer's marker is not replaced by the value of the one before."""
        mine, relay, theirs = pair
        mine.mark_many([key(1)], ONE)
        relay.interrupt(2, lambda: theirs.mark_many([key(1)], TWO))
        assert mine.release_many([key(1)], ONE, committed=True, values=[item(key(1), b"one")]) == 0
        assert theirs.get_many([key(1)]) == {key(1): b"W-" + TWO}

    def test_an_invalidation_lets_no_value_follow(self, pair: Pair, key: Key) -> None:
        """A marker that is joined after the release looked gives way to nothing."""
        mine, relay, theirs = pair
        mine.mark_many([key(1)], ONE)
        relay.interrupt(2, lambda: theirs.invalidate_many([key(1)]))
        assert mine.release_many([key(1)], ONE, committed=True, values=[item(key(1), b"one")]) == 1
        assert theirs.get_many([key(1)]) == {}

    @pytest.mark.parametrize("prefix", ["{}:", "{}:C:"])
    @pytest.mark.parametrize("at", [1, 2])
    def test_a_clear_makes_a_released_value_unreadable(self, pair: Pair, key: Key, namespace: str, prefix: str, at: int) -> None:
        """A released value is of the moment of its mark, and a clear since then tells."""
        mine, relay, theirs = pair
        mine.mark_many([key(1)], ONE)
        relay.interrupt(at, lambda: theirs.clear(prefix.format(namespace)))
        mine.release_many([key(1)], ONE, committed=True, values=[item(key(1), b"one")])
        assert mine.get_many([key(1)]) == theirs.get_many([key(1)]) == {}
        assert theirs.lease_many({key(1): None}, fresh_token(), "").granted == {key(1)}

    def test_a_clear_makes_a_filled_value_unreadable(self, pair: Pair, key: Key, namespace: str) -> None:
        """A filled value is of the moment of its lease."""
        mine, relay, theirs = pair
        token = lease(mine, key(1), key(2))
        relay.interrupt(1, lambda: theirs.clear(f"{namespace}:C:"))
        assert mine.fill_many([item(key(1), b"old")], token) == 0
        assert theirs.get_many([key(1)]) == {}

    def test_a_mark_refuses_a_fill(self, pair: Pair, key: Key) -> None:
        """A fill that looked anew loses against a marker all the same."""
        mine, relay, theirs = pair
        token = lease(theirs, key(1))
        relay.interrupt(2, lambda: theirs.mark_many([key(1)], TWO))
        assert mine.fill_many([item(key(1), b"old")], token) == 0
        assert theirs.get_many([key(1)]) == {key(1): b"W-" + TWO}

    @pytest.mark.parametrize(("number", "at"), [(0, 2), (0, 3), (1, 1)])
    def test_a_mark_refuses_a_put(self, pair: Pair, key: Key, number: int, at: int) -> None:
        """Whether something was there or not when the put looked, a marker that came since stays."""
        mine, relay, theirs = pair
        relay.interrupt(at, lambda: theirs.mark_many([key(number)], TWO))
        mine.put_many([item(key(number), b"put"), item(key(2), b"put")])
        assert bodies(theirs, key(number), key(2)) == {key(number): b"W-" + TWO, key(2): body(b"put")}

    def test_the_last_put_wins(self, pair: Pair, key: Key) -> None:
        """A put that another overtook is tried again."""
        mine, relay, theirs = pair
        relay.interrupt(2, lambda: theirs.put_many([item(key(0), b"theirs")]))
        mine.put_many([item(key(0), b"mine")])
        assert bodies(theirs, key(0)) == {key(0): body(b"mine")}

    def test_a_put_follows_on_a_delete(self, pair: Pair, key: Key) -> None:
        """What was there when the put looked, and is gone when it stores, is put all the same; so is the rest of the batch, once."""
        mine, relay, theirs = pair
        theirs.put_many([item(key(0), b"old"), item(key(1), b"old")])
        relay.interrupt(2, lambda: theirs.invalidate_many([key(0)]))
        mine.put_many([item(key(0), b"mine"), item(key(1), b"mine"), item(key(2), b"mine")])
        assert bodies(theirs, key(0), key(1), key(2)) == {key(number): body(b"mine") for number in range(3)}

    def test_a_put_after_a_clear_is_kept(self, pair: Pair, key: Key, namespace: str) -> None:
        """Values are put under the tokens that the put itself has seen, not those known from before."""
        mine, _, theirs = pair
        theirs.clear(f"{namespace}:")
        mine.put_many([item(key(1), b"one")], [alias(f"{namespace}:C:name:a", key(1))])
        found = theirs.follow_many([key(1), f"{namespace}:C:name:a"])
        assert [cell[9:] for cell in found.values()] == [body(b"one")] * 2

    def test_a_mark_is_joined_by_an_invalidation(self, pair: Pair, key: Key) -> None:
        """An invalidation that looked before the mark came does not remove the marker."""
        mine, relay, theirs = pair
        relay.interrupt(2, lambda: theirs.mark_many([key(0)], TWO))
        mine.invalidate_many([key(0)])
        assert theirs.get_many([key(0)]) == {key(0): b"W+" + TWO}

    def test_markers_of_shared_cells_are_joined(self, pair: Pair, generation: str) -> None:
        """A marker that came after the mark looked is kept beside the other one."""
        mine, relay, theirs = pair
        relay.interrupt(2, lambda: theirs.mark_many([], TWO, [generation]))
        mine.mark_many([], ONE, [generation])
        assert theirs.get_many([generation]) == {generation: b"W+" + TWO + b"|" + ONE}

    def test_a_lease_does_not_replace_what_came_since(self, pair: Pair, key: Key) -> None:
        """A value that was seen, and has given way to another one, is left alone."""
        mine, relay, theirs = pair
        seen = dict(mine.get_many([key(0)]))
        relay.interrupt(2, lambda: theirs.put_many([item(key(0), b"new")]))
        answer = mine.lease_many(seen, fresh_token(), "")
        assert (answer.granted, {name: cell[9:] for name, cell in answer.cells.items()}) == (frozenset(), {key(0): body(b"new")})

    def test_a_generation_that_is_made_twice_at_once_is_one(self, pair: Pair, key: Key, generation: str, namespace: str) -> None:
        """Where a generation of before the clear is to be replaced, the first one to do so has made it."""
        mine, relay, theirs = pair
        mine.lease_many({key(1): None}, fresh_token(), generation)
        theirs.clear(f"{namespace}:C:")
        made: list[bytes | None] = []
        relay.interrupt(2, lambda: made.append(theirs.lease_many({key(2): None}, fresh_token(), generation).generation))
        answer = mine.lease_many({key(3): None}, fresh_token(), generation)
        assert [answer.generation] == made
        assert generation_of(theirs.get_many([generation])[generation]) == answer.generation
        assert answer.granted == {key(3)}


class TestACutConnection:
    @pytest.mark.parametrize("at", [1, 2])
    def test_a_release_can_be_repeated(self, pair: Pair, key: Key, at: int) -> None:
        """A release that was cut off has left the marker, and does its work the second time."""
        mine, relay, theirs = pair
        mine.mark_many([key(1)], ONE)
        relay.interrupt(at, cut)
        values = [item(key(1), b"one")]
        with pytest.raises(CacheUnreachable, match=relay.address):
            mine.release_many([key(1)], ONE, committed=True, values=values)
        assert theirs.get_many([key(1)]) == {key(1): b"W-" + ONE}
        assert mine.release_many([key(1)], ONE, committed=True, values=values) == 1
        assert bodies(theirs, key(1)) == {key(1): body(b"one")}

    @pytest.mark.parametrize("at", [1, 2])
    def test_a_lease_is_not_granted(self, pair: Pair, key: Key, at: int) -> None:
        """Of a call that was cut off no lease is known, and the next reader goes on when it has run out."""
        mine, relay, _ = pair
        seen = dict(mine.get_many([key(0)]))
        relay.interrupt(at, cut)
        with pytest.raises(CacheUnreachable):
            mine.lease_many(seen, fresh_token(), "")
        assert mine.lease_many(seen, fresh_token(), "").granted == {key(0)}

    @pytest.mark.parametrize("at", [1, 2])
    def test_an_invalidation_can_be_repeated(self, pair: Pair, key: Key, at: int) -> None:
        """What was not removed is removed the second time."""
        mine, relay, theirs = pair
        relay.interrupt(at, cut)
        with pytest.raises(CacheUnreachable):
            mine.invalidate_many([key(0)])
        assert mine.invalidate_many([key(0)]) == 1
        assert theirs.get_many([key(0)]) == {}
