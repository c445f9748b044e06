"""Keys of several names, which have a short way too: what they find, and what they refuse."""

import re
from collections.abc import Callable
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from typing import Any

import pytest

from stockstore import ProcessMemoryStore, UnknownKeyError
from stockstore.errors import CodecError
from stockstore.keys import canonical
from tests.stores.memory.readings import counts, every_reading, run_threads
from tests.stores.things import Animal, Seat, Thing, seat

pytestmark = pytest.mark.sa_agnostic

SEAT_KEYS: list[Callable[[int], Any]] = [
    lambda number: (number, f"p{number}"),
    lambda number: [number, f"p{number}"],
    lambda number: {"row": number, "place": f"p{number}"},
    lambda number: {"place": f"p{number}", "row": number},
    lambda number: {"number": f"n{number}"},
    lambda number: {"day": "monday", "hall": 1, "number": f"n{number}"},
]


class Text(str):
    """A text of another type."""

    __slots__ = ()


class Level(IntEnum):
    """Equals a number, and is another key."""

    ONE = 1


class Word(str, Enum):
    """Equals a text, and is another key."""

    ONE = "1"


VALUES: list[Any] = [1, True, 1.0, Decimal(1), Fraction(1), Level.ONE, "1", Text("1"), Word.ONE, b"1", None, 2, "", 1.5]


def warmed(*objects: object) -> ProcessMemoryStore:
    """Give a store that has learned the short ways to seats."""
    store = ProcessMemoryStore()
    store.batch_put([seat(77), *objects])
    assert store.get(Seat, (77, "p77")) is store.get(Seat, (77, "p77"))
    assert Seat in store._finders
    return store


@pytest.mark.parametrize("key", SEAT_KEYS)
def test_every_form_gives_the_very_object(key: Callable[[int], Any]) -> None:
    """By a tuple, a list, a dict or keywords in any order, alone and in batches, comes the object that was put; by other values nothing."""
    one = seat(1)
    for store in (warmed(seat(2), one), ProcessMemoryStore()):
        store.batch_put([seat(2), one])
        for _ in range(2):
            assert all(found is one for found in every_reading(store, Seat, key(1)))
            assert set(every_reading(store, Seat, key(404))) == {None}


@pytest.mark.parametrize("key", [key for key in SEAT_KEYS if not isinstance(key(1), list)])
def test_a_hit_and_a_miss_take_the_short_way(monkeypatch: pytest.MonkeyPatch, key: Callable[[int], Any]) -> None:
    """Once it was learned, nothing else is asked where the values are plain."""
    one = seat(1)
    store = warmed(one)
    monkeypatch.delattr(ProcessMemoryStore, "_get_any")
    assert all(found is one for found in every_reading(store, Seat, key(1)))
    assert set(every_reading(store, Seat, key(404))) == {None}


@pytest.mark.parametrize("put", VALUES)
def test_values_of_other_types_mean_what_they_mean_elsewhere(put: Any) -> None:
    """Numbers that compare equal are one key, members of enumerations others, in each part of a key and in each form."""
    store = warmed(seat(1, row=put, place="x"), seat(3, place=put))
    for asked in VALUES:
        same = canonical(put) == canonical(asked)
        for row, place in ((asked, "x"), (3, asked)):
            for key in ((row, place), {"place": place, "row": row}):
                assert {found is not None for found in every_reading(store, Seat, key)} == {same}, (asked, key)


@pytest.mark.parametrize("value", [float("nan"), [1], object()])
def test_a_value_that_cannot_be_one_is_refused(value: Any) -> None:
    """NaN and values without an encoding are CodecError in any part."""
    store = warmed()
    for key in ((1, value), (value, "x"), {"place": value, "row": 1}):
        for read in (lambda key=key: store.get(Seat, key), lambda key=key: store.batch_get(Seat, [(77, "p77"), key])):
            with pytest.raises(CodecError, match="cannot be"):
                read()


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ((1,), "('row', 'place'): it needs 2 values in this order, not (1,)"),
        ((1, "p1", 1), "('row', 'place'): it needs 2 values in this order, not (1, 'p1', 1)"),
        ((), "('row', 'place'): it needs 2 values in this order, not ()"),
        (1, "('row', 'place'): it needs 2 values in this order, not 1"),
        ("p1", "('row', 'place'): it needs 2 values in this order, not 'p1'"),
        ({"row": 1}, "has no key 'row'"),
        ({"row": 1, "seat": "p1"}, "has no key ('row', 'seat')"),
        ({"row": 1, "number": "n1"}, "has no key ('row', 'number')"),
        ({"row": 1, "place": "p1", "number": "n1"}, "has no key ('row', 'place', 'number')"),
        ({"hall": 1, "number": "n1", "place": "p1"}, "has no key ('hall', 'number', 'place')"),
        ({}, "has no key ()"),
    ],
)
@pytest.mark.parametrize("learn", [True, False])
def test_names_that_are_missing_or_too_many_are_refused(learn: bool, key: Any, message: str) -> None:
    """Neither more nor fewer values than the key has, nor other names, in no form."""
    store = warmed(seat(1)) if learn else ProcessMemoryStore()
    reads: list[Callable[[], object]] = [lambda: store.get(Seat, key), lambda: store.batch_get(Seat, [(1, "p1"), key])]
    if isinstance(key, dict) and key:
        reads.append(lambda: store.get(Seat, **key))
    for read in reads:
        with pytest.raises(UnknownKeyError, match=re.escape(message)):
            read()
    assert store.stats().misses == (0 if learn else 1)


def test_a_key_given_twice_is_refused() -> None:
    """A key as well as keywords is UnknownKeyError."""
    store = warmed(seat(1))
    with pytest.raises(UnknownKeyError, match="the key was given twice"):
        store.get(Seat, (1, "p1"), row=1, place="p1")
    with pytest.raises(UnknownKeyError, match="no key was given"):
        store.get(Seat)


class Ticket(Thing):
    """A key that has a name which is an option of ``get``, and two of one first name."""

    __keys__ = [("id", "session"), ("id", "day"), ("id", "hall"), "session"]


def test_names_that_are_options_or_shared() -> None:
    """Where a name is an option of the call too, a dict means the key; keys that share a name are told apart."""
    ticket = Ticket(id=1, session=2, day=3, hall=4)
    store = ProcessMemoryStore()
    store.put(ticket)
    for _ in range(3):
        for key in ((1, 2), {"session": 2, "id": 1}, {"id": 1, "day": 3}, {"hall": 4, "id": 1}, {"session": 2}):
            assert store.get(Ticket, key) is ticket
        assert store.get(Ticket, hall=4, id=1) is store.get(Ticket, day=3, id=1) is store.get(Ticket, (1, 2), session=None) is ticket
        assert store.get(Ticket, day=4, id=1) is store.get(Ticket, hall=3, id=1) is None
        assert store.get(Ticket, day=3, id=1, session=None) is store.get(Ticket, day=3, id=1, strict=True) is ticket
        for session in (None, 2):
            with pytest.raises(UnknownKeyError, match="no key 'id'"):
                store.get(Ticket, id=1, session=session)  # type: ignore[arg-type]


def test_a_part_changed_in_place_misses_by_the_old_value() -> None:
    """What no longer carries each value is a miss, by its new values a hit once put; one that lost an attribute is a miss too."""
    one = seat(1)
    store = warmed(one)
    one.place = "new"
    assert set(every_reading(store, Seat, (1, "p1"))) == set(every_reading(store, Seat, (1, "new"))) == {None}
    store.put(one)
    assert set(every_reading(store, Seat, {"place": "new", "row": 1})) == {one}
    assert set(every_reading(store, Seat, (1, "p1"))) == {None}
    del one.row
    assert set(every_reading(store, Seat, (1, "new"))) == {None}
    assert set(every_reading(store, Seat, {"hall": 1, "number": "n1", "day": "monday"})) == {one}


def test_none_is_a_part_of_a_canonical_key_like_another() -> None:
    """As in keys of one name; in other keys it finds nothing."""
    nobody = seat(1, place=None, day=None)
    store = warmed(nobody)
    assert store.get(Seat, (1, None)) is store.get(Seat, place=None, row=1) is nobody
    assert store.get(Seat, hall=1, number="n1", day=None) is None


class Tagged(Animal):
    """Has a canonical key of several names above the keys of its base."""

    __keys__: Any = [("herd", "tag")]


class Lamb(Tagged):
    pass


def test_a_base_class_finds_by_several_names() -> None:
    """With ``polymorphic=True`` a base finds the objects of its subclasses, also where it was asked in vain before."""
    store, lamb = ProcessMemoryStore(polymorphic=True), Lamb(id=1, name="Liz", herd=2, tag="a")
    for _ in range(2):
        for cls in (Lamb, Tagged):
            assert store.get(cls, (2, "a")) is store.get(cls, tag="a", herd=2) is None
        assert store.get(Animal, 1) is store.get(Animal, name="Liz") is None
    store.put(lamb)
    for cls in (Lamb, Tagged):
        assert set(every_reading(store, cls, (2, "a"))) == set(every_reading(store, cls, {"tag": "a", "herd": 2})) == {lamb}
    assert set(every_reading(store, Animal, 1)) == {lamb}
    store.delete(Tagged, (2, "a"))
    assert set(every_reading(store, Tagged, (2, "a"))) == set(every_reading(store, Animal, 1)) == {None}


def test_copies_are_given_by_several_names() -> None:
    """With ``copy=True`` each reader has an object of its own."""
    store = ProcessMemoryStore(copy=True)
    store.put(seat(1, tags=["a"]))
    found = every_reading(store, Seat, (1, "p1")) + every_reading(store, Seat, {"place": "p1", "row": 1})
    assert len(set(map(id, found))) == len(found)
    assert all(one.tags == ["a"] for one in found)


def test_namespaces_are_asked_at_each_call() -> None:
    """What one tenant has, no other finds by several names, and each misses for itself."""
    tenant = ["a"]
    store = ProcessMemoryStore(namespace=lambda: tenant[0])
    seats = {name: seat(1) for name in "ab"}
    for name, one in seats.items():
        tenant[0] = name
        assert set(every_reading(store, Seat, (1, "p1"))) == {None}
        store.put(one)
        assert set(every_reading(store, Seat, (1, "p1"))) == {one}
    tenant[0] = "a"
    assert set(every_reading(store, Seat, {"place": "p1", "row": 1})) == {seats["a"]}


@pytest.mark.parametrize("lifetime", [None, 1e-5])
def test_threads_find_whole_objects_only(lifetime: float | None) -> None:
    """While threads put, get and delete in a store that is too small, no read gives an object of other values, and all are counted."""
    store = ProcessMemoryStore(maxsize=5, lifetime=lambda obj: lifetime if obj.row % 2 else None)
    store.batch_put([seat(number) for number in range(10)])

    def hammer(first: int) -> None:
        for number in (at % 12 for at in range(first, first + 1000)):
            for key in (SEAT_KEYS[0](number), SEAT_KEYS[3](number), SEAT_KEYS[5](number)):
                found = store.get(Seat, key)
                assert found is None or (found.row, found.place, found.number) == (number, f"p{number}", f"n{number}")
            if number % 3:
                store.put(seat(number))
            else:
                store.delete(Seat, (number, f"p{number}"))

    run_threads([lambda first=first: hammer(first) for first in range(4)])  # type: ignore[misc]
    found = counts(store)
    assert found["hits"] + found["misses"] == 4 * 1000 * 3
    assert len(store._spaces.cells) <= 5
