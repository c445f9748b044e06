"""Finders and reads, compiled and in Python."""

from enum import IntEnum
from typing import Any, Final

import pytest

from stockstore import ProcessMemoryStore, native
from stockstore.native import _compiled
from tests.native.kinds import Kind, Seat, Shelf

pytestmark = pytest.mark.sa_agnostic


NAME: Final = bytes([110, 97, 109, 101]).decode()
"""An equal text that is another object than the name of the attribute."""


class Colour(IntEnum):
    """A number of another type."""

    RED = 1


def test_the_library_uses_what_is_compiled() -> None:
    """Where the tests run there is a compiler."""
    assert (native.Finder, native.Reads, native.Record) == (_compiled.Finder, _compiled.Reads, _compiled.Record)
    assert issubclass(ProcessMemoryStore, _compiled.Reads)


def test_every_form_of_a_key_finds_the_object(kind: Kind) -> None:
    """By one name and by several, as a value, a dict and keywords in any order; each is a hit of the record."""
    shelf, seat = Shelf(kind), Seat(1000, "a seat", 3, "c")
    record = shelf.keep(seat)
    assert shelf.get(Seat, 1000) is seat
    assert shelf.get(Seat, {"number": 1000}) is seat
    assert shelf.get(Seat, {"name": "a seat"}) is seat
    assert shelf.get(Seat, {"column": "c", "row": 3}) is seat
    assert shelf.get(Seat, number=1000) is seat
    assert shelf.get(Seat, name="a seat") is seat
    assert shelf.get(Seat, column="c", row=3) is seat
    assert shelf.get(Seat, **{NAME: "a seat"}) is seat
    assert shelf.get(Seat, {NAME: "a seat"}) is seat
    assert shelf.finder.one(1000) is seat
    assert (record.hits, shelf.missed) == (10, [])
    with pytest.raises(KeyError):
        shelf.finder.one(1.5)


def test_a_tuple_is_the_canonical_key_of_several_names(kind: Kind) -> None:
    """In the order declared, which is not that of the records' keys."""
    shelf, seat = Shelf(kind, names=(("row", "column"), ("number",))), Seat(1, row=3, column="c")
    shelf.keep(seat)
    assert shelf.get(Seat, (3, "c")) is seat
    assert shelf.get(Seat, number=1) is seat
    assert shelf.get(Seat, ("c", 3)) is None
    assert shelf.missed == [(3, "c")]
    for other in ((3,), (3, "c", 1), [3, "c"], 3, (3, 2.0)):
        assert shelf.get(Seat, other) == ("longer", (Seat, other), {})


def test_what_is_not_there_is_a_miss(kind: Kind) -> None:
    """Which is told with the key that the records stand under."""
    shelf = Shelf(kind)
    assert [shelf.get(Seat, 5), shelf.get(Seat, {"name": "x"}), shelf.get(Seat, row=1, column=2)] == [None] * 3
    assert shelf.missed == [5, "x", (2, 1)]


def test_what_is_no_plain_hit_goes_the_longer_way(kind: Kind) -> None:
    """With just what was given."""
    shelf = Shelf(kind)
    shelf.keep(Seat(1, "x", 2, 3))
    given: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((), {}),
        ((Seat,), {}),
        ((Seat, 1), {"session": None}),
        ((Seat,), {"key": 1}),
        ((Seat,), {"number": 1, "name": "x"}),
        ((), {"cls": Seat, "number": 1}),
        ((Kind, 1), {}),
        (([], 1), {}),
        ((Seat, True), {}),
        ((Seat, 1.0), {}),
        ((Seat, Colour.RED), {}),
        ((Seat, None), {}),
        ((Seat, {"number": 1.0}), {}),
        ((Seat, {"other": 1}), {}),
        ((Seat, {}), {}),
        ((Seat, {"row": 2}), {}),
        ((Seat, {"row": 2, "number": 1}), {}),
        ((Seat, (1,)), {}),
        ((Seat,), {f"name{at}": at for at in range(20)}),
    ]
    for positions, named in given:
        assert shelf.get(*positions, **named) == ("longer", positions, named)
    assert shelf.missed == []
    with pytest.raises(TypeError, match=r"get\(\) takes from 1 to 3 positional arguments but 4 were given"):
        shelf.get(Seat, 1, 2)


def test_an_object_whose_key_was_changed_is_not_found_by_the_old_one(kind: Kind) -> None:
    """Nor counted; one that is equal is found."""
    shelf, seat = Shelf(kind), Seat(1, "x", 2, 3)
    record = shelf.keep(seat)
    seat.number, seat.column = 9, 9
    assert shelf.get(Seat, 1) == ("longer", (Seat, 1), {})
    assert shelf.get(Seat, row=2, column=3) == ("longer", (Seat,), {"row": 2, "column": 3})
    del seat.name
    assert shelf.get(Seat, name="x") == ("longer", (Seat,), {"name": "x"})
    assert record.hits == 0
    seat.number = 1.0
    assert (shelf.get(Seat, 1), record.hits) == (seat, 1)


def test_a_key_called_like_an_option_is_given_as_a_dict(kind: Kind) -> None:
    """As a keyword it is the option."""
    shelf = Shelf(kind, names=(("number",), ("session",)))
    seat = Seat(1)
    seat.session = 7  # type: ignore[attr-defined]
    shelf.keep(seat)
    assert shelf.get(Seat, {"session": 7}) is seat
    assert shelf.get(Seat, session=7) == ("longer", (Seat,), {"session": 7})


def test_a_record_is_found_until_its_expiry(kind: Kind) -> None:
    """Not at that very moment any more."""
    now = [10.0]
    shelf, seat = Shelf(kind, clock=lambda: now[0], expiring=True), Seat(1)
    shelf.keep(seat, expires=11.0)
    assert shelf.get(Seat, 1) is seat
    now[0] = 11.0
    assert shelf.get(Seat, 1) == ("longer", (Seat, 1), {})


def test_nothing_is_found_where_a_channel_was_not_heard(kind: Kind) -> None:
    """By any form."""
    contact = type("Contact", (), {"fresh_until": 11.0})()
    now = [10.0]
    shelf, seat = Shelf(kind, clock=lambda: now[0], contact=contact), Seat(1)
    shelf.keep(seat)
    assert shelf.get(Seat, 1) is shelf.get(Seat, number=1) is shelf.get(Seat, {"number": 1}) is seat
    now[0] = 11.0
    assert shelf.get(Seat, 1) == ("longer", (Seat, 1), {})
    assert shelf.get(Seat, number=1) == ("longer", (Seat,), {"number": 1})


@pytest.mark.parametrize("error", [KeyError, AttributeError, TypeError])
def test_what_a_step_cannot_do_goes_the_longer_way(kind: Kind, error: type[Exception]) -> None:
    """A miss that is not all, a property that fails, a clock that does."""
    shelf = Shelf(kind, absent=_raiser(error), expiring=True, clock=_raiser(error))
    assert shelf.get(Seat, 5) == ("longer", (Seat, 5), {})
    shelf.keep(Seat(1))
    assert shelf.get(Seat, 1) == ("longer", (Seat, 1), {})
    assert shelf.get(Seat, number=1) == ("longer", (Seat,), {"number": 1})


def test_other_errors_come_out(kind: Kind) -> None:
    """As they are: of a property of the object, of a comparison, of the clock."""

    class Broken:
        @property
        def number(self) -> int:
            raise ValueError("broken")

    shelf = Shelf(kind, names=(("number",),))
    shelf.keep(Seat(1)).value = Broken()
    for forms in ({"number": 1}, 1):
        with pytest.raises(ValueError, match="broken"):
            shelf.get(Seat, forms)
    with pytest.raises(ValueError, match="broken"):
        shelf.get(Seat, number=1)
    late = Shelf(kind, clock=_raiser(ZeroDivisionError), expiring=True)
    late.keep(Seat(1))
    with pytest.raises(ZeroDivisionError):
        late.get(Seat, 1)


def test_names_that_are_many_or_no_identifiers(kind: Kind) -> None:
    """Go the longer way where they cannot go the short one."""
    many = tuple(f"name{at}" for at in range(400))
    shelf = Shelf(kind, names=(("number",), many))
    seat = Seat(1)
    vars(seat).update(dict.fromkeys(many, 1))
    shelf.keep(seat)
    named = dict.fromkeys(many, 1)
    assert shelf.get(Seat, named) in (seat, ("longer", (Seat, named), {}))
    assert shelf.get(Seat, **named) in (seat, ("longer", (Seat,), named))
    odd = Shelf(kind, names=(("two words",),))
    vars(seat)["two words"] = 5
    odd.keep(seat)
    assert odd.get(Seat, {"two words": 5}) in (seat, ("longer", (Seat, {"two words": 5}), {}))


def _raiser(error: type[Exception]) -> Any:
    def fail(*_: object) -> Any:
        raise error("of a step")

    return fail
