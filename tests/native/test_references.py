"""What compiled code holds: nothing longer than a call, and what it keeps is seen by the garbage collector."""

import gc
import random
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from tests.native.kinds import COMPILED, PLAIN, Seat, Shelf

pytestmark = pytest.mark.sa_agnostic

_MANY = 200


class Touchy:
    """An object whose attribute fails when it is told to."""

    error: type[Exception] | None = None

    @property
    def number(self) -> int:
        """Give 1000, or fail."""
        if self.error is not None:
            raise self.error
        return 1000


def _calls(shelf: Shelf) -> list[Callable[[], Any]]:
    by_number, by_place, wrong = {"number": 1000}, {"row": "a row", "column": 2000}, {"number": None}
    return [
        lambda: shelf.get(Seat, 1000),
        lambda: shelf.get(Seat, by_number),
        lambda: shelf.get(Seat, number=1000),
        lambda: shelf.get(Seat, by_place),
        lambda: shelf.get(Seat, row="a row", column=2000),
        lambda: shelf.get(Seat, 4000),
        lambda: shelf.get(Seat, wrong),
        lambda: shelf.get(Seat, {"number": 5000.0}),
        lambda: shelf.get(Seat, nothing=1000),
        lambda: shelf.get(None, 1000),
        shelf.get,
        lambda: shelf.get(Seat, **{f"name{at}": 1000 for at in range(20)}),
        lambda: _refused(shelf.get, Seat, 1000, 2000),
        lambda: shelf.finder.one(1000),
    ]


@pytest.mark.usefixtures("uncollected")
def test_no_call_keeps_a_reference() -> None:
    """Whether it finds, misses, fails or leaves all to the longer way."""
    shelf, seat = (
        Shelf(COMPILED, clock=float, expiring=True, contact=type("Contact", (), {"fresh_until": 1.0})()),
        Seat(1000, "x", "a row", 2000),
    )
    record = shelf.keep(seat)
    held = [seat, record, Seat, shelf.finder, shelf.reads, None, 1000, 2000, 4000, "a row", "number", *(key.records for key in shelf.keys)]
    held += [key.names for key in shelf.keys]
    for call in _calls(shelf):
        call()
        shelf.missed.clear()
        before = [sys.getrefcount(one) for one in held]
        for _ in range(_MANY):
            call()
            shelf.missed.clear()
        grown = [sys.getrefcount(one) - count for one, count in zip(held, before, strict=True)]
        assert max(map(abs, grown)) < _MANY / 2, grown


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("error", [KeyError, AttributeError, TypeError, ValueError])
def test_no_failed_call_keeps_a_reference(error: type[Exception]) -> None:
    """Of whatever kind."""
    shelf = Shelf(COMPILED, names=(("number",),))
    seat = Touchy()
    record = shelf.keep(seat)
    seat.error = error
    before = [sys.getrefcount(one) for one in (seat, record, shelf.finder)]
    for _ in range(_MANY):
        _refused(shelf.get, Seat, 1000)
        _refused(shelf.get, Seat, number=1000)
    assert [sys.getrefcount(one) for one in (seat, record, shelf.finder)] == before


@pytest.mark.parametrize("through", ["absent", "clock", "contact"])
def test_cycles_are_collected(through: str) -> None:
    """Of a store, its finders, what these call, the records and what they hold."""
    holder = Seat(1)
    options: dict[str, Any] = {through: holder}
    shelf = Shelf(COMPILED, **options)
    options.clear()
    shelf.keep(holder)
    holder.name, holder.row = shelf.finder, shelf.reads
    held = Seat(2, shelf)
    shelf.keep(held)
    gone = [weakref.ref(one) for one in (holder, held)]
    del shelf, holder, held
    gc.collect()
    assert [one() for one in gone] == [None, None]


def test_finders_that_go_in_the_middle_of_a_call() -> None:
    """With all that they hold: by a property of the object that is found."""
    shelf = Shelf(COMPILED, names=(("number",),))

    class Clearing:
        @property
        def number(self) -> int:
            shelf.reads._finders.clear()
            shelf.keys[0].records.clear()
            del shelf.finder
            gc.collect()
            return 1000

    seat = Clearing()
    shelf.keep(Seat(1000)).value = seat
    assert shelf.get(Seat, 1000) is seat
    assert shelf.get(Seat, 1000) == ("longer", (Seat, 1000), {})


def test_keys_that_change_the_dict_that_they_stand_in() -> None:
    """When they are compared."""

    class Meddling(str):
        __slots__ = ("given",)
        given: dict[str, object]

        def __eq__(self, other: object) -> bool:
            self.given.clear()
            return False

        def __hash__(self) -> int:
            return hash("column")

    shelf = Shelf(COMPILED)
    shelf.keep(Seat(1, "x", "a row" * 3, 2))
    meddling = Meddling("meddling")
    given = {meddling: 1, "row": "".join(["a row"] * 3)}
    meddling.given = given
    assert shelf.get(Seat, given) == ("longer", (Seat, given), {})


def test_random_calls_are_answered_alike() -> None:
    """By what is compiled and in Python."""
    dice = random.Random(1)
    values = [1, 2, 1000, "1", "x", 1.0, True, None, (1, 2), b"x", 2**70, ""]
    names = ["number", "name", "row", "column", "key", "other"]
    both = [Shelf(kind) for kind in (PLAIN, COMPILED)]
    seats = [Seat(*dice.choices(values[:5], k=4)) for _ in range(8)]
    records = [[shelf.keep(seat) for seat in seats] for shelf in both]
    answers = set()
    for _ in range(20_000):
        key: Any = {name: dice.choice(values) for name in dice.sample(names, dice.randint(0, 3))}
        form = dice.randrange(4)
        given, named = ((Seat,), key) if form == 0 else ((Seat, key if form == 1 else dice.choice(values)), {})
        if form == 3:
            setattr(dice.choice(seats), dice.choice(names[:4]), dice.choice(values))
        plain, compiled = (shelf.get(*given, **named) for shelf in both)
        assert compiled is plain if isinstance(plain, Seat) else compiled == plain
        answers.add(type(plain))
    assert answers == {Seat, tuple, type(None)}
    assert both[0].missed == both[1].missed
    assert [one.hits for one in records[0]] == [one.hits for one in records[1]]


def test_threads_lose_no_hit() -> None:
    """What is counted in one step is counted."""
    shelf = Shelf(COMPILED)
    record = shelf.keep(Seat(1, "x", 2, 3))
    threads = [threading.Thread(target=lambda: [shelf.get(Seat, 1) for _ in range(20_000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert record.hits == 80_000


def _refused(call: Callable[..., Any], *given: Any, **named: Any) -> None:
    with suppress(ValueError, TypeError):
        call(*given, **named)
