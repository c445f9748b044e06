"""How long an entry lives: one rule for every store."""

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, TypeAlias

from stockstore.errors import ConfigurationError

FixedLifetime: TypeAlias = float | timedelta | datetime | None
# The callable is given whatever object is stored, so its argument has no narrower type.
Lifetime: TypeAlias = FixedLifetime | Callable[[Any], FixedLifetime]

SERVER_CAP = 7 * 24 * 3600
"""Seconds that a server keeps a value whose owner set no lifetime."""


def seconds_of(lifetime: FixedLifetime) -> float | None:
    """Give a fixed lifetime in seconds from now.

    Args:
        lifetime: ``None`` (no limit), seconds, a timedelta, or an aware datetime.

    Returns:
        Seconds, zero or negative when nothing is to be stored; ``None`` for no limit.

    Raises:
        TypeError: It is of another type, ``bool`` and ``str`` included.
        ValueError: It is NaN or a datetime without a time zone.

    >>> seconds_of(timedelta(minutes=2))
    120.0
    """
    if lifetime is None:
        return None
    if type(lifetime) in (int, float):
        return _number(lifetime)  # type: ignore[arg-type]
    if isinstance(lifetime, datetime):
        return _until(lifetime)
    if isinstance(lifetime, timedelta):
        return lifetime.total_seconds()
    if isinstance(lifetime, bool) or not isinstance(lifetime, (int, float)):
        raise TypeError(f"a lifetime is None, seconds, a timedelta or an aware datetime, not {type(lifetime).__name__} {lifetime!r}")
    return _number(lifetime)


def _until(moment: datetime) -> float:
    if moment.utcoffset() is None:
        raise ValueError(f"the lifetime {moment!r} has no time zone; give an aware datetime, e.g. datetime.now(timezone.utc)")
    return (moment - datetime.now(timezone.utc)).total_seconds()


def _number(seconds: float) -> float | None:
    try:
        value = float(seconds)
    except OverflowError:
        return None if seconds > 0 else 0.0
    if math.isnan(value):
        raise ValueError("a lifetime cannot be NaN; give seconds, or None for no limit")
    return None if value == math.inf else value


@dataclass(frozen=True)
class LifetimeRule:
    """What a store was told about lifetimes; ``jitter`` shortens each by up to that fraction."""

    lifetime: Lifetime = None
    jitter: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a jitter that is no fraction."""
        if type(self.jitter) not in (int, float) or not 0 <= self.jitter < 1:
            raise ConfigurationError(f"jitter is a fraction from 0 to below 1, not {self.jitter!r}")

    @property
    def needs_object(self) -> bool:
        """Whether the lifetime is a callable of the object."""
        return callable(self.lifetime)

    @property
    def varies(self) -> bool:
        """Whether two objects stored at the same moment may get different lifetimes."""
        return self.needs_object or self.jitter > 0

    def seconds(self, obj: object) -> float | None:
        """Give the lifetime of one object in seconds, ``None`` for no limit, never negative."""
        lifetime = self.lifetime
        seconds = seconds_of(lifetime(obj) if callable(lifetime) else lifetime)
        if seconds is None:
            return None
        if self.jitter:
            seconds *= 1 - self.jitter * random.random()  # noqa: S311 - spreads load, guards nothing
        return max(seconds, 0.0)


def shorter(one: float | None, other: float | None) -> float | None:
    """Give the shorter of two lifetimes in seconds, where ``None`` means no limit."""
    if one is None:
        return other
    return one if other is None else min(one, other)


def expiry(seconds: float | None) -> float:
    """Give the moment (Unix time) at which a lifetime that starts now ends; infinity for no limit."""
    return math.inf if seconds is None else time.time() + seconds


def remaining(expires: float) -> float | None:
    """Give the seconds until a moment (Unix time), ``None`` for infinity."""
    return None if expires == math.inf else expires - time.time()


def server_seconds(seconds: float | None) -> int:
    """Give the whole seconds that a server keeps a value: never less than its lifetime."""
    if seconds is None:
        return SERVER_CAP
    return math.ceil(min(seconds, 100 * 365 * 24 * 3600)) + 1
