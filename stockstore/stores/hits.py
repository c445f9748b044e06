"""What finds plain objects, compiled once per class; and what batches ask of keys and expiries."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from textwrap import indent
from typing import Any, NamedTuple, TypeAlias

from stockstore.backends.local_nodes import Tally
from stockstore.channels.base import Freshness
from stockstore.keys import ClassKeys
from stockstore.native import Finder
from stockstore.native.keys import FinderKey
from stockstore.stores.batch_code import batch_code

_now = time.monotonic

_EXACT = {int, str}
_DICTS = {dict}
_TUPLES = {tuple}

Absent: TypeAlias = Callable[[Any], None]
"""Counts a miss by a key that is not there, or raises KeyError where that is not all."""


class Hits(NamedTuple):
    """What finds the objects of a class: one by any key, and a batch, which adds them to a list one by one, and raises at the first that is no plain hit."""

    finder: Finder
    batch: Callable[[list[Any], list[Any]], None]


def compile_hits(keys: tuple[FinderKey, ...], tally: Tally, absent: Absent, *, expiring: bool, contact: Freshness | None = None) -> Hits:
    """Give what finds by the keys of a class, the canonical one first.

    Without ``expiring`` no expiry is looked at, for a store in which no record was ever given one, and without a contact no clock at all.
    """
    return Hits(Finder(keys, absent, _now, contact, expiring), _batch(keys[0], tally, expiring=expiring, contact=contact))


def _batch(key: FinderKey, tally: Tally, *, expiring: bool, contact: Freshness | None) -> Callable[[list[Any], list[Any]], None]:
    name = key.names[0] if len(key.names) == 1 else None
    code = batch_code(name, expiring=expiring, fresh=contact is not None)
    made: dict[str, Any] = {}
    # In a function, not in a space of its own, which would refer to it in turn, and keep the records until it is collected.
    source = f"def make(tally, contact, records):\n{indent(code, ' ' * 4)}\n    return batch"
    exec(source, globals(), made)  # noqa: S102 - the name is an identifier
    batch: Callable[[list[Any], list[Any]], None] = made["make"](tally, contact, key.records)
    return batch


def absent_from(elsewhere: Mapping[Any, Any], keys: ClassKeys, missed: Callable[[], None]) -> Absent:
    """Give what counts misses of a class: not where a subclass's object may be meant, nor where the class has been mapped meanwhile."""

    # The functions for hits pay for each name that they take from outside: this is one for all keys. Another key than the
    # canonical one that happens to be elsewhere goes the longer way in vain.
    def absent(key: Any) -> None:
        if key in elsewhere or keys.outdated:
            raise KeyError(key)
        missed()

    return absent


def exact_values(name: str, keys: list[Any]) -> list[Any]:
    """Give the values of keys of one name that are all bare, or all dicts, and of exact types; KeyError for others."""
    kinds = set(map(type, keys))
    if kinds == _DICTS:
        keys = [key[name] for key in keys] if sum(map(len, keys)) == len(keys) else []
        kinds = set(map(type, keys))
    if not kinds or not kinds <= _EXACT:
        raise KeyError(name)
    return keys


def exact_tuples(names: Sequence[str], given: Sequence[str], keys: list[Any]) -> list[Any]:
    """Give the values, in the order of the names, of keys of several names that are all dicts, or all tuples in the order given; KeyError for others."""
    kinds = set(map(type, keys))
    if kinds not in (_DICTS, _TUPLES) or set(map(len, keys)) != {len(names)}:
        raise KeyError(names)
    order = names if kinds == _DICTS else [given.index(name) for name in names]
    values = list(map(itemgetter(*order), keys))
    if not set(map(type, chain.from_iterable(values))) <= _EXACT:
        raise KeyError(names)
    return values


def any_over(expiries: list[float]) -> bool:
    """Whether one of these moments on the monotonic clock, infinity for never, has come."""
    if expiries.count(math.inf) == len(expiries):
        return False
    return min(expiries) <= _now()
