"""How long entries live: one rule for every store."""

import math
import random
import re
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
import time_machine

from stockstore import ConfigurationError
from stockstore.lifetimes import SERVER_CAP, LifetimeRule, expiry, remaining, seconds_of, server_seconds, shorter

pytestmark = pytest.mark.sa_agnostic

NOON = datetime(2024, 5, 17, 12, tzinfo=timezone.utc)
YEAR = 365 * 24 * 3600


@pytest.fixture
def at_noon() -> Iterator[None]:
    """Stop the wall clock at noon."""
    with time_machine.travel(NOON, tick=False):
        yield


@pytest.mark.parametrize(
    ("lifetime", "seconds"),
    [
        (None, None),
        (60, 60.0),
        (0.5, 0.5),
        (0, 0.0),
        (-0.0, 0.0),
        (-5, -5.0),
        (math.inf, None),
        (-math.inf, -math.inf),
        (10**400, None),
        (-(10**400), 0.0),
        (1e300, 1e300),
        (timedelta(minutes=2, milliseconds=5), 120.005),
        (timedelta(0), 0.0),
        (timedelta(seconds=-1), -1.0),
        (timedelta.max, timedelta.max.total_seconds()),
        (type("Seconds", (int,), {})(7), 7.0),
    ],
)
def test_a_lifetime_is_seconds(lifetime: Any, seconds: float | None) -> None:
    """None, whole and broken seconds and timedeltas have this length; infinity and what no float holds is no limit."""
    assert seconds_of(lifetime) == seconds


@pytest.mark.parametrize(
    ("moment", "seconds"),
    [
        (NOON + timedelta(hours=1), 3600.0),
        (NOON.astimezone(timezone(timedelta(hours=5))) + timedelta(seconds=1), 1.0),
        (NOON, 0.0),
        (NOON - timedelta(days=1), -86400.0),
        (datetime.max.replace(tzinfo=timezone.utc), (datetime.max.replace(tzinfo=timezone.utc) - NOON).total_seconds()),
    ],
)
def test_an_aware_datetime_is_the_seconds_until_then(at_noon: None, moment: datetime, seconds: float) -> None:
    """A moment counts from now, whatever its time zone; one that is past is negative."""
    assert seconds_of(moment) == seconds


@pytest.mark.parametrize(
    "wrong", [True, False, "60", b"60", [60], (60,), 1j, date(2024, 5, 17), Decimal(60), Fraction(60), object, lambda: 60]
)
def test_other_types_are_refused(wrong: Any) -> None:
    """What is none of the four is TypeError with type and value, bool and text included."""
    message = f"a lifetime is None, seconds, a timedelta or an aware datetime, not {type(wrong).__name__} {wrong!r}"
    with pytest.raises(TypeError, match=re.escape(message)):
        seconds_of(wrong)


@pytest.mark.parametrize("nan", [math.nan, -math.nan])
def test_nan_is_refused(nan: float) -> None:
    """NaN is ValueError."""
    with pytest.raises(ValueError, match=r"^a lifetime cannot be NaN; give seconds, or None for no limit$"):
        seconds_of(nan)


def test_a_naive_datetime_is_refused() -> None:
    """A datetime without a time zone is ValueError with the datetime and what to write."""
    message = "the lifetime datetime.datetime(2024, 5, 17, 12, 0) has no time zone; give an aware datetime, e.g. datetime.now(timezone.utc)"
    with pytest.raises(ValueError, match=re.escape(message)):
        seconds_of(datetime(2024, 5, 17, 12))


@pytest.mark.parametrize(
    ("given", "seconds"), [(None, None), (60, 60.0), (timedelta(minutes=1), 60.0), (NOON + timedelta(minutes=1), 60.0), (-5, 0.0), (0, 0.0)]
)
def test_a_callable_of_the_object_gives_any_of_them(at_noon: None, given: Any, seconds: float | None) -> None:
    """A callable is asked with the object, and its answer follows the same rule; less than nothing is nothing."""
    assert LifetimeRule({"the object": given}.get).seconds("the object") == seconds
    assert LifetimeRule(given).seconds("the object") == seconds


@pytest.mark.parametrize(("given", "error"), [("60", TypeError), (True, TypeError), (lambda: 60, TypeError), (math.nan, ValueError)])
def test_a_callable_that_gives_something_else_is_refused(given: Any, error: type[Exception]) -> None:
    """What a callable gives is checked like what a store is given."""
    with pytest.raises(error, match="a lifetime"):
        LifetimeRule(lambda _: given).seconds(None)


@pytest.mark.parametrize("jitter", [-0.1, 1, 1.0, 2, math.nan, True, "0.1", None])
def test_a_jitter_that_is_no_fraction_is_refused(jitter: Any) -> None:
    """Jitter outside of 0 to 1, or no number, is ConfigurationError with the value."""
    with pytest.raises(ConfigurationError, match=re.escape(f"jitter is a fraction from 0 to below 1, not {jitter!r}")):
        LifetimeRule(60, jitter)


def test_jitter_only_shortens_and_spreads() -> None:
    """Lifetimes lie between the fraction and the whole, on both halves of that, and never above the whole."""
    random.seed(1)
    rule = LifetimeRule(100, 0.2)
    found = [rule.seconds(None) or 0.0 for _ in range(1000)]
    assert 80 <= min(found) < 81
    assert 99 < max(found) <= 100
    assert 400 < sum(seconds < 90 for seconds in found) < 600


def test_jitter_leaves_what_has_no_limit_and_what_is_not_stored() -> None:
    """No limit stays none, and nothing stays nothing."""
    assert LifetimeRule(None, 0.5).seconds(None) is None
    assert LifetimeRule(-3, 0.5).seconds(None) == 0.0


@pytest.mark.parametrize(
    ("seconds", "kept"),
    [
        (None, SERVER_CAP),
        (0.001, 2),
        (1, 2),
        (1.5, 3),
        (59.999, 61),
        (60, 61),
        (30 * 24 * 3600, 30 * 24 * 3600 + 1),
        (10 * YEAR, 10 * YEAR + 1),
        (1e300, 100 * YEAR + 1),
    ],
)
def test_a_server_keeps_a_value_longer_than_it_lives(seconds: float | None, kept: int) -> None:
    """A server's own lifetime is whole seconds, rounded up by one or more; no limit is a week, and a century is the most."""
    assert server_seconds(seconds) == kept
    assert type(server_seconds(seconds)) is int


@pytest.mark.parametrize(
    ("one", "other", "expected"), [(None, None, None), (1.0, None, 1.0), (None, 2.0, 2.0), (1.0, 2.0, 1.0), (2.0, 1.0, 1.0)]
)
def test_the_shorter_of_two_lifetimes(one: float | None, other: float | None, expected: float | None) -> None:
    """A limit is shorter than none."""
    assert shorter(one, other) == expected


def test_an_expiry_tells_what_remains(at_noon: None) -> None:
    """Seconds become a moment and back; no limit is infinity."""
    assert expiry(60.0) == NOON.timestamp() + 60
    assert remaining(expiry(60.0)) == 60.0
    assert remaining(NOON.timestamp() - 5) == -5.0
    assert expiry(None) == math.inf
    assert remaining(math.inf) is None
