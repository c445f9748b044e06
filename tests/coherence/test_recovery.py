"""What a tier could not be told: remembered, bounded, told once a second, and the tier not read until then."""

from collections.abc import Mapping
from typing import Any

import pytest

from stockstore.coherence import recovery as module
from stockstore.coherence.recovery import Recovery
from stockstore.errors import CacheUnreachable

pytestmark = pytest.mark.sa_agnostic


class User:
    __keys__ = ["id"]


class Admin(User):
    __keys__ = ["id"]


class Order:
    __keys__ = ["id"]


class Server:
    """Is told of items; fails while it is down."""

    def __init__(self) -> None:
        self.down = True
        self.tried = 0
        self.told: list[Any] = []

    def tell(self, items: Mapping[str, int] | None) -> None:
        """Note the items."""
        self.tried += 1
        if self.down:
            raise CacheUnreachable("down")
        self.told.append(None if items is None else dict(items))


class Clock:
    now = 1000.0


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A monotonic clock that stands."""
    clock = Clock()
    monkeypatch.setattr(module, "_now", lambda: clock.now)
    return clock


@pytest.fixture
def owed() -> Recovery[str, int]:
    """Nothing owed."""
    return Recovery()


def test_a_class_is_not_read_until_it_was_told(owed: Recovery[str, int], clock: Clock) -> None:
    """What is owed is tried at once, then once a second, and settles when the server answers."""
    server = Server()
    assert owed.settled(User, "shop")
    owed.add(User, "shop", {"a": 1}, server.tell)
    owed.add(User, "shop", {"b": 2}, server.tell)
    assert (server.tried, owed.owes()) == (1, True)
    assert not owed.settled(User, "shop")
    assert server.tried == 1
    clock.now += 1
    assert not owed.settled(User, "shop")
    assert server.tried == 2
    server.down = False
    assert not owed.settled(User, "shop")
    clock.now += 1
    assert owed.settled(User, "shop")
    assert server.told == [{"a": 1, "b": 2}]
    assert not owed.owes()


def test_who_reads_while_somebody_tells_does_not_wait_for_the_same_time_out(owed: Recovery[str, int], clock: Clock) -> None:
    """One at a time tries; what others are given meanwhile is that the tier is not to be read. Once it was told the next debt is at once."""
    server, met = Server(), list[bool]()

    def tell(items: Mapping[str, int] | None) -> None:
        if len(met) < 3:
            met.append(owed.settled(User, "shop"))
        server.tell(items)

    owed.add(User, "shop", {"a": 1}, tell)
    assert (met, server.tried) == ([False], 1)
    clock.now += 1
    assert not owed.settled(User, "shop")
    assert (met, server.tried) == ([False, False], 2)
    owed.add(Order, "shop", {"b": 2}, server.tell)
    server.down = False
    clock.now += 1
    assert owed.settled(User, "shop")
    assert owed.settled(Order, "shop")
    assert met == [False] * 3


def test_other_classes_and_namespaces_are_read_meanwhile(owed: Recovery[str, int]) -> None:
    """A debt closes its own class, those that share records with it, and its own namespace."""
    owed.add(User, "shop", {"a": 1}, Server().tell)
    assert [owed.settled(cls, "shop") for cls in (User, Admin, Order)] == [False, False, True]
    assert owed.settled(User, "other")


def test_too_many_items_become_the_whole_class(owed: Recovery[str, int], clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded: above the limit the class is dropped whole, and stays so whatever is added."""
    monkeypatch.setattr(module, "LIMIT", 3)
    server = Server()
    owed.add(User, "shop", dict.fromkeys("abc", 0), server.tell)
    owed.add(User, "shop", {"d": 0}, server.tell)
    owed.add(User, "shop", {"e": 0}, server.tell)
    owed.add(Order, "shop", {"a": 1}, server.tell)
    owed.add(Order, "shop", None, server.tell)
    server.down = False
    clock.now += 1
    assert owed.settled(User, "shop")
    assert owed.settled(Order, "shop")
    assert server.told == [None, None]


def test_what_is_added_while_it_is_told_is_told_too(owed: Recovery[str, int], clock: Clock) -> None:
    """A debt that grew while the server was told of it stays."""
    server = Server()

    def tell(items: Mapping[str, int] | None) -> None:
        if not server.down and not server.told:
            server.told.append("busy")
            owed.add(User, "shop", {"b": 2}, tell)
        server.tell(items)

    owed.add(User, "shop", {"a": 1}, tell)
    server.down = False
    clock.now += 1
    owed.settled(User, "shop")
    clock.now += 1
    assert owed.settled(User, "shop")
    assert server.told[0] == "busy"
    assert {"a": 1, "b": 2} in server.told
