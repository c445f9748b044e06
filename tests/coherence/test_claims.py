"""Markers and leases in this process: each transition of the protocol's states."""

import os

import pytest

from stockstore.coherence import claims as module
from stockstore.coherence.claims import LEASE_SECONDS, Claims, Lease, Released
from stockstore.keys import keys_of

pytestmark = pytest.mark.sa_agnostic


class User:
    __keys__ = ["id"]


class Order:
    __keys__ = ["id"]


USERS, ORDERS = ("shop", keys_of(User).identity), ("shop", keys_of(Order).identity)
OTHERS = ("other", USERS[1])
LOST, NOTHING = Released(held=False, since=None), Released(held=True, since=None)


class Clock:
    now = 1000.0


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A monotonic clock that stands."""
    clock = Clock()
    monkeypatch.setattr(module, "_now", lambda: clock.now)
    return clock


@pytest.fixture
def claims() -> Claims:
    """None yet."""
    return Claims()


def leased(claims: Claims, key: int = 1) -> Lease:
    """Take a lease that is granted."""
    lease = claims.lease(USERS, key)
    assert lease is not None
    return lease


def test_a_place_has_one_lease(claims: Claims) -> None:
    """The first reader's lease stands; the second gets none, other places their own."""
    first = leased(claims)
    assert claims.lease(USERS, 1) is None
    assert leased(claims, 2) is not first
    assert claims.lease(ORDERS, 1) is not None
    assert claims.lease(OTHERS, 1) is not None
    assert claims.stands(first)


def test_a_lease_ends_for_others_when_its_time_is_over(claims: Claims, clock: Clock) -> None:
    """A reader that never came back does not keep the place from the next one, and loses it to that."""
    first = leased(claims)
    clock.now += LEASE_SECONDS - 0.1
    assert claims.lease(USERS, 1) is None
    clock.now += 0.1
    assert claims.stands(first)
    second = leased(claims)
    assert second.since == clock.now
    assert claims.stands(second)
    assert not claims.stands(first)


def test_leases_are_bounded(claims: Claims, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the bound the oldest lease goes."""
    monkeypatch.setattr(module, "LEASES", 2)
    one, two, three = (leased(claims, key) for key in (1, 2, 3))
    assert [claims.stands(lease) for lease in (one, two, three)] == [False, True, True]


def test_several_places_have_one_lease(claims: Claims) -> None:
    """It ends at each place for itself: where a writer, or whoever removes something, has come by, nothing may be filled."""
    lease = claims.lease_together(USERS, [1, 2, 3, 4])
    assert lease is not None
    assert claims.lease(USERS, 4) is None
    claims.mark(USERS, 1, b"one")
    claims.release(USERS, 1, b"one")
    claims.invalidate(USERS, 2)
    assert claims.spend(lease, [1, 2, 3]) == [3]
    assert claims.spend(lease, [1, 2, 3]) == []
    assert claims.lease(USERS, 3) is not None
    claims.mark_all(USERS, b"one")
    assert claims.spend(lease, [4]) == []


@pytest.mark.parametrize("taken", ["leased", "marked", "class"])
def test_several_places_have_no_lease_where_one_is_taken(claims: Claims, taken: str) -> None:
    """All of them are granted, or none."""
    if taken == "leased":
        claims.lease(USERS, 2)
    elif taken == "marked":
        claims.mark(USERS, 2, b"one")
    else:
        claims.mark_all(USERS, b"one")
    assert claims.lease_together(USERS, [1, 2]) is None
    assert claims.lease_together(USERS, [3]) is not None or taken == "class"
    assert claims.lease_together(ORDERS, [1, 2]) is not None


def test_leases_on_several_places_are_bounded(claims: Claims, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the bound the oldest places go."""
    monkeypatch.setattr(module, "LEASES", 2)
    lease = claims.lease_together(USERS, [1, 2, 3])
    assert lease is not None
    assert claims.spend(lease, [1, 2, 3]) == [2, 3]


def test_a_forked_process_fills_nothing_of_several(claims: Claims, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parent's lease is none of its own."""
    lease = claims.lease_together(USERS, [1, 2])
    assert lease is not None
    monkeypatch.setattr(os, "getpid", lambda: 0)
    assert claims.spend(lease, [1, 2]) == []


def test_a_mark_takes_the_lease_and_grants_none(claims: Claims) -> None:
    """A marked place has no lease, before its release and after it."""
    lease = leased(claims)
    claims.mark(USERS, 1, b"one")
    assert not claims.stands(lease)
    assert (claims.marked(USERS, 1), claims.marked(USERS, 2), claims.marked(ORDERS, 1), claims.marked(OTHERS, 1)) == (
        True,
        False,
        False,
        False,
    )
    assert claims.lease(USERS, 1) is None
    claims.release(USERS, 1, b"one")
    assert not claims.stands(lease)
    assert not claims.marked(USERS, 1)
    assert claims.lease(USERS, 1) is not None


def test_a_sole_marker_tells_since_when(claims: Claims, clock: Clock) -> None:
    """A value may follow a marker that was the only one, true at the moment of the mark."""
    claims.mark(USERS, 1, b"one")
    clock.now += 5
    assert claims.sole(USERS, 1, b"one")
    assert claims.release(USERS, 1, b"one") == Released(held=True, since=1000.0)
    assert claims.release(USERS, 1, b"one") == LOST


def test_a_mark_twice_is_one(claims: Claims) -> None:
    """A mark that is repeated is still the only one."""
    claims.mark(USERS, 1, b"one")
    claims.mark(USERS, 1, b"one")
    assert claims.release(USERS, 1, b"one").since is not None
    assert not claims.marked(USERS, 1)


def test_no_value_follows_two_markers(claims: Claims) -> None:
    """Neither the first release nor the last one lets a value stand."""
    claims.mark(USERS, 1, b"one")
    claims.mark(USERS, 1, b"two")
    assert not claims.sole(USERS, 1, b"one")
    assert claims.release(USERS, 1, b"one") == NOTHING
    assert claims.marked(USERS, 1)
    assert claims.lease(USERS, 1) is None
    assert not claims.sole(USERS, 1, b"two")
    assert claims.release(USERS, 1, b"two") == NOTHING
    assert not claims.marked(USERS, 1)


def test_a_release_leaves_the_markers_of_others(claims: Claims) -> None:
    """A lost marker's release touches nobody's marker."""
    claims.mark(USERS, 1, b"two")
    assert claims.release(USERS, 1, b"one") == LOST
    assert claims.release(USERS, 1, b"two").since is not None


def test_no_value_follows_an_invalidation(claims: Claims) -> None:
    """An invalidation keeps the marker, and takes the lease."""
    lease = leased(claims, 2)
    claims.mark(USERS, 1, b"one")
    claims.invalidate(USERS, 1)
    claims.invalidate(USERS, 2)
    assert claims.marked(USERS, 1)
    assert not claims.stands(lease)
    assert claims.release(USERS, 1, b"one") == NOTHING


def test_an_invalidation_of_all_is_one_of_each(claims: Claims) -> None:
    """A whole space is invalidated, and no other."""
    lease, other = leased(claims, 2), claims.lease(ORDERS, 2)
    claims.mark(USERS, 1, b"one")
    claims.mark(ORDERS, 1, b"one")
    claims.invalidate_all(USERS)
    assert not claims.stands(lease)
    assert other is not None
    assert claims.stands(other)
    assert claims.release(USERS, 1, b"one") == NOTHING
    assert claims.release(ORDERS, 1, b"one").since is not None


def test_a_mark_of_all_takes_every_lease_and_grants_none(claims: Claims) -> None:
    """While a writer is at work on a whole space nobody may fill any place of it."""
    lease = leased(claims)
    claims.mark_all(USERS, b"one")
    assert not claims.stands(lease)
    assert (claims.marked(USERS, 1), claims.wide(USERS), claims.wide(ORDERS), claims.marked(OTHERS, 1)) == (True, True, False, False)
    assert claims.lease(USERS, 1) is None
    assert claims.release_all(USERS, b"one")
    assert not claims.release_all(USERS, b"one")
    assert not claims.stands(lease)
    assert claims.lease(USERS, 1) is not None


def test_no_value_follows_where_another_writer_had_it_all(claims: Claims) -> None:
    """Whether a mark of all came before a marker, after it, or came and went meanwhile, no value follows."""
    claims.mark_all(USERS, b"wide")
    claims.mark(USERS, 1, b"one")
    claims.release_all(USERS, b"wide")
    assert claims.release(USERS, 1, b"one") == NOTHING
    claims.mark(USERS, 2, b"one")
    claims.mark_all(USERS, b"wide")
    assert not claims.sole(USERS, 2, b"one")
    assert claims.release(USERS, 2, b"one") == NOTHING
    claims.release_all(USERS, b"wide")
    claims.mark(USERS, 3, b"one")
    claims.mark_all(USERS, b"wide")
    claims.release_all(USERS, b"wide")
    assert claims.release(USERS, 3, b"one") == NOTHING


def test_a_value_follows_where_the_writer_had_it_all_itself(claims: Claims) -> None:
    """A writer's own mark of all does not stand in the way of its values."""
    claims.mark_all(USERS, b"one")
    claims.mark(USERS, 1, b"one")
    claims.release_all(USERS, b"one")
    assert claims.release(USERS, 1, b"one").since is not None


def test_two_writers_of_all_leave_one_after_the_other(claims: Claims) -> None:
    """A space is at work until the last of its writers has ended."""
    claims.mark_all(USERS, b"one")
    claims.mark_all(USERS, b"two")
    assert claims.release_all(USERS, b"one")
    assert claims.lease(USERS, 1) is None
    assert claims.release_all(USERS, b"two")
    assert claims.lease(USERS, 1) is not None


def test_nothing_is_left_behind(claims: Claims) -> None:
    """What was released takes no memory."""
    for key in range(100):
        claims.mark(USERS, key, b"one")
        claims.mark(ORDERS, key, b"one")
        claims.mark_all(ORDERS, b"one")
    assert claims.spaces() == {USERS, ORDERS}
    claims.release_all(ORDERS, b"one")
    for key in range(100):
        claims.release(USERS, key, b"one")
        claims.release(ORDERS, key, b"one")
    assert claims.spaces() == set()


def test_a_forked_process_has_no_claims(claims: Claims) -> None:
    """Markers and leases belong to transactions and readers of the parent."""
    lease = leased(claims, 2)
    claims.mark(USERS, 1, b"one")
    claims.mark_all(ORDERS, b"one")
    if (child := os.fork()) == 0:
        fine = not (claims.marked(USERS, 1) or claims.wide(ORDERS) or claims.stands(lease)) and claims.lease(USERS, 1) is not None
        os._exit(0 if fine else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert claims.marked(USERS, 1)
    assert claims.stands(lease)
