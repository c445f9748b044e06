"""The hit and the miss of a plain object, by code that is generated once per class; and what batches ask of keys and expiries."""

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from textwrap import indent
from typing import Any, NamedTuple, TypeAlias

from stockstore.backends.local_nodes import Tally
from stockstore.channels.base import Freshness
from stockstore.keys import ClassKeys
from stockstore.stores.hit_code import HitCode, KeyCode, can_stand

_now = time.monotonic

_EXACT = {int, str}
_DICTS = {dict}
_TUPLES = {tuple}

Shelved: TypeAlias = tuple[Sequence[str], Mapping[Any, Any]]
"""The names of a key in the order declared, and the records under it."""
Absent: TypeAlias = Callable[[Any], None]
"""Counts a miss by a key that is not there, or raises KeyError where that is not all."""


class Hits(NamedTuple):
    """The functions of a class: for a dict of any key, or a bare value or tuple of the canonical one; for the keywords of a call; for a batch.

    Of the first two ``None`` is a miss, which was counted. The last adds the objects to a list one by one, and raises at the first that is no plain hit.
    """

    # They give whatever objects the shelf holds; the class that was asked for is its class.
    one: Callable[[Any], Any]
    named: Callable[[dict[str, Any]], Any]
    batch: Callable[[list[Any], list[Any]], None]


def compile_hits(
    shelves: Sequence[Shelved],
    tally: Tally,
    absent: Absent,
    *,
    expiring: bool,
    contact: Freshness | None = None,
    options: Collection[str] = (),
) -> Hits:
    """Give the functions for the keys of a class, the canonical one first.

    Left out are keys that cannot stand in code, and as keywords such as have a name of an option of the call. Without ``expiring`` the functions
    look at no expiry, for a store in which no record was ever given one, and without a contact at no clock at all.
    """
    cells = {f"cells{at}": records for at, (_, records) in enumerate(shelves)}
    keys = [KeyCode(names, at) if can_stand(names) else None for at, (names, _) in zip(cells, shelves, strict=True)]
    code = HitCode(keys[0], [key for key in keys[1:] if key], expiring=expiring, fresh=contact is not None)
    made: dict[str, Any] = {}
    # In a function, not in a space of their own, which would refer to them in turn, and keep the records until it is collected.
    source = f"def make(tally, absent, contact, {', '.join(cells)}):\n{indent(code.source(options), ' ' * 4)}\n    return one, named, batch"
    exec(source, globals(), made)  # noqa: S102 - the names are identifiers
    return Hits(*made["make"](tally, absent, contact, **cells))


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
