"""Aware datetimes in a form that msgspec reads fast and that keeps the zone itself, not its offset alone."""

import datetime as dt
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

Parts = tuple[dt.datetime, str | None, bool]
"""The time on the clock, its zone, and whether it is the second of two such times when clocks go back."""

_MINUTE: Final = dt.timedelta(minutes=1)


def split(moment: dt.datetime) -> Parts:
    """Give the parts of a datetime.

    Raises:
        ValueError: The zone is none that :func:`join` would give back.
    """
    zone = moment.tzinfo
    if zone is None:
        return moment, None, moment.fold == 1
    key = _key(zone)
    if _zone(key) is not zone and (type(zone) is not dt.timezone or repr(_zone(key)) != repr(zone)):
        raise ValueError(f"the zone {zone!r} is not the one called {key}")
    return moment.replace(tzinfo=None, fold=0), key, moment.fold == 1


def join(clock: dt.datetime, key: str | None, second: bool) -> dt.datetime:
    """Give the datetime back.

    Raises:
        ValueError: The zone has no valid name.
        ZoneInfoNotFoundError: This machine has no zone of that name.
    """
    if key is not None:
        return clock.replace(tzinfo=_zone(key), fold=second)
    return clock.replace(fold=1) if second else clock


def _key(zone: dt.tzinfo) -> str:
    """A zone's name, or a fixed offset in minutes; no name begins with a sign."""
    if type(zone) is ZoneInfo and zone.key is not None:
        return zone.key
    if type(zone) is dt.timezone:
        return f"{zone.utcoffset(None) // _MINUTE:+d}"
    raise ValueError(f"the zone {zone!r} has no name")


@lru_cache(maxsize=64)
def _zone(key: str) -> dt.tzinfo:
    return dt.timezone(int(key) * _MINUTE) if key[:1] in {"+", "-"} else ZoneInfo(key)
