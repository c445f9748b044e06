"""The hit on a plain object by a key of one name, by code that is generated once per class and key.

Measured by scripts/bench against a bare dictionary: what an attribute read by name, a call or a tuple more
would cost is a tenth of the whole.
"""

import keyword
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from textwrap import indent
from typing import Any, NamedTuple, TypeAlias

from stockstore.backends.local_nodes import MAX_FREQUENCY, Tally
from stockstore.channels.base import Freshness

_now = time.monotonic

_EXACT = {int, str}
_DICTS = {dict}

# A node's expiry is read before its value: a put writes them in the other order, so that no reader pairs an
# old value with a new expiry. Whatever is not a plain hit raises KeyError, AttributeError or TypeError.
_NODE = """
node = {cells}[key]
if {lives}:
    obj = node.value
    if obj.{name} == key:
        node.hits += 1
        return obj
raise KeyError(key)
"""
_NAMED = """
key = key[{name!r}]
if type(key) is not int and type(key) is not str:
    raise KeyError(key)
"""
# In the order of what is to be fast: numbers first, then dicts, of which much more is to be asked than of text.
_ONE = """
def one(key):{fresh}
    kind = type(key)
    if kind is not int:
        if kind is dict:
            if len(key) != 1:
                raise KeyError(key)
{dicts}
        elif kind is not str:
            raise KeyError(key)
{bare}

def named(key):{fresh}
    if len(key) == 1:
{names}
    raise KeyError(key)
"""
_NONE = "raise KeyError(key)"

# A batch gives the hits up to the first that is none: to count only once all are known would take another pass. What eviction is to
# know of each is little, and how many there were is added at once, by a step in which Python turns to no other thread.
_BATCH = """
def batch_bare(keys, found):
    {now}
    for key in keys:
        if type(key) is int or type(key) is str:
            node = {cells}[key]
            if {goes_on}:
                obj = node.value
                if obj.{name} == key:
                    if node.batched < {most}:
                        node.batched += 1
                    found.append(obj)
                    continue
        raise KeyError(key)

def batch_named(keys, found):
    {now}
    for key in keys:
        if type(key) is dict and len(key) == 1:
            value = key[{name!r}]
            if type(value) is int or type(value) is str:
                node = {cells}[value]
                if {goes_on}:
                    obj = node.value
                    if obj.{name} == value:
                        if node.batched < {most}:
                            node.batched += 1
                        found.append(obj)
                        continue
        raise KeyError(key)

def batch(keys, found):{fresh}
    try:
        (batch_named if type(keys[0]) is dict else batch_bare)(keys, found)
    finally:
        count = len(found)
        tally.hits += count
"""
_NO_BATCH = """
def batch(keys, found):
    raise KeyError(keys)
"""

_FRESH = """
    if contact.fresh_until <= _now():
        raise KeyError"""

# Of what is constant the compiler leaves nothing.
_LASTING = {"now": "", "lives": "True", "goes_on": "True"}
_EXPIRING = {"now": "now = _now()", "lives": "node.expires > _now()", "goes_on": "node.expires > now"}


Shelved: TypeAlias = tuple[Sequence[str], dict[Any, Any]]
"""The names of a key, and the records under it."""


class Hits(NamedTuple):
    """The functions of a class: for a dict of any key of one name, or a bare value of the canonical one; for the keywords of a call; for a batch.

    The last adds the objects to a list one by one, and raises at the first that is no plain hit.
    """

    # They give whatever objects the shelf holds; the class that was asked for is its class.
    one: Callable[[Any], Any]
    named: Callable[[dict[str, Any]], Any]
    batch: Callable[[list[Any], list[Any]], None]


def compile_hits(
    canonical: Shelved,
    alternates: Sequence[Shelved],
    tally: Tally,
    *,
    expiring: bool,
    contact: Freshness | None = None,
    options: Collection[str] = (),
) -> Hits:
    """Give the functions for the keys of a class.

    Left out are keys of several names, and such as cannot stand in code; as a keyword also what is called like an option of the
    call. Without ``expiring`` the functions look at no expiry, for a store in which no record was ever given one, and without a
    contact at no clock at all.
    """
    own, shelves = _can_stand(canonical[0]), [shelved for shelved in (canonical, *alternates) if _can_stand(shelved[0])]
    parts = _EXPIRING if expiring else _LASTING
    parameters = [f"cells{at}" for at in range(len(shelves))]
    keys = [{"name": names[0], "cells": cells, **parts} for (names, _), cells in zip(shelves, parameters, strict=True)]
    rest, first = keys[own:], keys[0] if own else None
    bare = _NONE if first is None else _NODE.format(**first)
    fresh = "" if contact is None else _FRESH
    source = _ONE.format(
        fresh=fresh,
        dicts=indent(_by_name(rest) + (_NONE if first is None else _NAMED.format(**first)), " " * 12),
        bare=indent(bare, " " * 4),
        names=indent(_keywords(first, rest, options), " " * 8),
    )
    source += _NO_BATCH if first is None else _BATCH.format(fresh=fresh, most=MAX_FREQUENCY, **first)
    made: dict[str, Any] = {}
    # In a function, not in a space of their own, which would refer to them in turn, and keep the records until it is collected.
    exec(f"def make(contact, tally, {', '.join(parameters)}):\n{indent(source, ' ' * 4)}\n    return one, named, batch", globals(), made)  # noqa: S102 - the names are identifiers
    return Hits(*made["make"](contact, tally, *(cells for _, cells in shelves)))


def _by_name(keys: Sequence[Mapping[str, str]]) -> str:
    return "".join(f"if {key['name']!r} in key:\n{indent(_NAMED.format(**key) + _NODE.format(**key), ' ' * 4)}\n" for key in keys)


def _keywords(first: Mapping[str, str] | None, rest: Sequence[Mapping[str, str]], options: Collection[str]) -> str:
    others = _by_name([key for key in rest if key["name"] not in options])
    return others + (_NONE if first is None or first["name"] in options else _NAMED.format(**first) + _NODE.format(**first))


def _can_stand(names: Sequence[str]) -> bool:
    return len(names) == 1 and names[0].isidentifier() and not keyword.iskeyword(names[0])


def exact_values(name: str, keys: list[Any]) -> list[Any]:
    """Give the values of keys of one name that are all bare, or all dicts, and of exact types; KeyError for others."""
    kinds = set(map(type, keys))
    if kinds == _DICTS:
        keys = [key[name] for key in keys] if sum(map(len, keys)) == len(keys) else []
        kinds = set(map(type, keys))
    if not kinds or not kinds <= _EXACT:
        raise KeyError(name)
    return keys


def any_over(expiries: list[float]) -> bool:
    """Whether one of these moments on the monotonic clock, infinity for never, has come."""
    if expiries.count(math.inf) == len(expiries):
        return False
    return min(expiries) <= _now()
