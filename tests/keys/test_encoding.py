"""The canonical form of key values: one per value, and never one for two."""

import datetime as dt
import enum
import math
import re
import time
import uuid
import zoneinfo
from decimal import Decimal
from fractions import Fraction
from ipaddress import ip_address
from itertools import combinations

import pytest

from stockstore import CodecError
from stockstore.keys import canonical
from tests.keys.samples import VALUES, Color, Level, Right, Word

pytestmark = pytest.mark.sa_agnostic

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
ONE_UUID = uuid.UUID(int=1)

DIFFERENT = [
    1,
    "1",
    b"1",
    None,
    "None",
    "",
    b"",
    0,
    ONE_UUID,
    ONE_UUID.hex,
    ONE_UUID.bytes,
    dt.date(1970, 1, 1),
    "1970-01-01",
    dt.datetime(1970, 1, 1),
    dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc),
    dt.time(0),
    dt.time(0, tzinfo=dt.timezone.utc),
    dt.timedelta(0),
    dt.timedelta(1),
    Color.RED,
    "red",
    "RED",
    Level.LOW,
    Word.ONE,
    Right.READ,
    Right.READ | Right.WRITE,
    ip_address("0.0.0.1"),
    "0.0.0.1",
    math.inf,
    -math.inf,
    0.5,
    "0.5",
    "q1/2",
    "i1",
]


def test_values_of_different_kinds_never_collide() -> None:
    """No two of these have one form, not even where Python calls them equal, as an IntEnum and its number."""
    assert [(a, b) for a, b in combinations(DIFFERENT, 2) if canonical(a) == canonical(b)] == []


@pytest.mark.parametrize(
    "same",
    [
        [1, 1.0, True, Decimal(1), Decimal("1.00"), Decimal("1E0"), Fraction(1), Fraction(3, 3)],
        [0, 0.0, -0.0, False, Decimal("-0.00"), Decimal("0E999999999"), Decimal("0E-999999999"), Fraction(0)],
        [0.5, Decimal("0.5"), Decimal("0.500"), Fraction(1, 2)],
        [-2, -2.0, Decimal(-2)],
        [2**53, float(2**53), Decimal(2**53)],
        [10**300, Decimal("1e300")],
        [math.inf, Decimal("Infinity")],
        [b"ab", bytearray(b"ab"), memoryview(b"ab")],
        ["ann", type("Name", (str,), {})("ann")],
        [7, type("Number", (int,), {})(7)],
        [
            dt.datetime(2024, 7, 1, 12, tzinfo=dt.timezone.utc),
            dt.datetime(2024, 7, 1, 14, tzinfo=BERLIN),
            dt.datetime(2024, 7, 1, 10, tzinfo=dt.timezone(dt.timedelta(hours=-2))),
        ],
        [dt.datetime(2024, 7, 1), dt.datetime(2024, 7, 1, fold=1)],
        [dt.timedelta(hours=25), dt.timedelta(days=1, minutes=60)],
    ],
)
def test_values_that_are_equal_are_one_key(same: list[object]) -> None:
    """Numbers that compare equal, instants in any zone, and subclasses of text and numbers have one form."""
    assert {canonical(value) for value in same} == {canonical(same[0])}


def test_numbers_that_differ_by_little_are_different_keys() -> None:
    """A number is its exact value: nothing is rounded."""
    close = [0.1, Decimal("0.1"), Fraction(1, 10), 2**53 + 1, 2**53, 1e16, 10**16 + 1, 5e-324, 0]
    assert len({canonical(value) for value in close}) == len(close) - 1  # Decimal and Fraction name one number


def test_the_two_instants_of_a_turned_back_clock_are_different_keys() -> None:
    """An aware datetime is its instant: the repeated hour in autumn counts twice."""
    first = dt.datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN)
    assert canonical(first) != canonical(first.replace(fold=1))


@pytest.mark.parametrize("nan", [math.nan, -math.nan, Decimal("NaN"), Decimal("sNaN"), Decimal("-NaN123")])
def test_nan_is_refused(nan: object) -> None:
    """NaN of any sort is CodecError: it would be a key that nothing finds."""
    with pytest.raises(CodecError, match=r"^NaN cannot be part of a key: it equals nothing, not even itself$"):
        canonical(nan)


@pytest.mark.parametrize("huge", ["1e999999999", "-1e999999999", "1e-999999999", "1e401", "123e400"])
def test_decimals_of_huge_exponents_are_refused_at_once(huge: str) -> None:
    """A Decimal whose integer would fill the memory is CodecError before it is computed."""
    started = time.perf_counter()
    with pytest.raises(CodecError, match=re.escape("is out of range: a Decimal has an exponent of at most 400")):
        canonical(Decimal(huge))
    assert time.perf_counter() - started < 10


def test_huge_integers_are_fine() -> None:
    """Integers beyond what Python turns into decimal text are keys like others."""
    assert canonical(10**5000) == 10**5000
    assert canonical(10**5000) != canonical(10**5000 + 1)


@pytest.mark.parametrize("moment", [dt.datetime.max, dt.datetime.min])
@pytest.mark.parametrize("hours", [-23, 0, 23])
def test_instants_at_the_ends_of_the_calendar_are_fine(moment: dt.datetime, hours: int) -> None:
    """An aware datetime that UTC cannot name still has a form, and only one."""
    aware = moment.replace(tzinfo=dt.timezone(dt.timedelta(hours=hours)))
    assert canonical(aware) == canonical(aware)
    assert canonical(aware) != canonical(moment)


def test_an_enum_that_renames_itself_is_its_member() -> None:
    """A member counts by the name in its class, whatever a property called ``name`` gives."""

    class Translated(enum.Enum):
        A = 1
        B = 2

        @property
        def name(self) -> str:
            """Give the same for all."""
            return "Farbe"

    assert canonical(Translated.A) != canonical(Translated.B)


def test_every_sort_of_value_has_a_hashable_form() -> None:
    """Process memory hashes the form: an int or str as it is, else a tuple of one text."""
    for value, _ in VALUES:
        form = canonical(value)
        assert type(form) in (int, str) or (type(form) is tuple and [type(part) for part in form] == [str])
