"""The hit on a plain object by a key of one name, by code that is generated once per class and key.

Measured by scripts/bench against a bare dictionary: what an attribute read by name, a call or a tuple more
would cost is a tenth of the whole.
"""

import keyword
import time
from collections.abc import Callable
from typing import Any, NamedTuple

_now = time.monotonic

_EXACT = {int, str}
_DICTS = {dict}

# A node's expiry is read before its value: a put writes them in the other order, so that no reader pairs an
# old value with a new expiry. Whatever is not a plain hit raises KeyError or AttributeError. A batch gives the
# hits up to the first that is none: to count only once all are known would take another pass.
_SOURCE = """
def make(cells):
    def bare(key):
        node = cells[key]
        {expires}
        obj = node.value
        if obj.{name} == key{lives}:
            node.hits += 1
            return obj
        raise KeyError(key)

    def named(key):
        value = key[{name!r}]
        kind = type(value)
        if len(key) == 1 and (kind is int or kind is str):
            node = cells[value]
            {expires}
            obj = node.value
            if obj.{name} == value{lives}:
                node.hits += 1
                return obj
        raise KeyError(value)

    def batch_bare(keys, add):
        if not set(map(type, keys)) <= _EXACT:
            raise KeyError(keys)
        {now}
        for key in keys:
            node = cells[key]
            {expires}
            obj = node.value
            if obj.{name} != key{ends}:
                raise KeyError(key)
            node.hits += 1
            add(obj)

    def batch_named(keys, add):
        {now}
        for key in keys:
            value = key[{name!r}]
            kind = type(value)
            if type(key) is not dict or len(key) != 1 or (kind is not int and kind is not str):
                raise KeyError(value)
            node = cells[value]
            {expires}
            obj = node.value
            if obj.{name} != value{ends}:
                raise KeyError(value)
            node.hits += 1
            add(obj)

    def batch(keys, add):
        (batch_named if type(keys[0]) is dict else batch_bare)(keys, add)

    return bare, named, batch
"""

_LASTING = {"expires": "", "now": "", "lives": "", "ends": ""}
_EXPIRING = {
    "expires": "expires = node.expires",
    "now": "now = _now()",
    "lives": " and (expires is None or expires > _now())",
    "ends": " or (expires is not None and expires <= now)",
}


class Hits(NamedTuple):
    """The functions of one key: by its bare value, by a dict of its name, and for a batch of either.

    The last passes the objects on one by one, and raises at the first that is no plain hit.
    """

    # They give whatever objects the shelf holds; the class that was asked for is its class.
    bare: Callable[[Any], Any]
    named: Callable[[Any], Any]
    batch: Callable[[list[Any], Callable[[Any], None]], None]


def compile_hits(name: str, cells: dict[Any, Any], *, expiring: bool) -> Hits | None:
    """Give the functions for one key of a class and the records under it, ``None`` where the name cannot stand in code.

    Without ``expiring`` they look at no expiry, for a store in which no record was ever given one.
    """
    if not name.isidentifier() or keyword.iskeyword(name):
        return None
    made: dict[str, Any] = {}
    exec(_SOURCE.format(name=name, **(_EXPIRING if expiring else _LASTING)), globals(), made)  # noqa: S102 - the name is an identifier
    return Hits(*made["make"](cells))


def exact_values(name: str, keys: list[Any]) -> list[Any]:
    """Give the values of keys of one name that are all bare, or all dicts, and of exact types; KeyError for others."""
    kinds = set(map(type, keys))
    if kinds == _DICTS:
        keys = [key[name] for key in keys] if sum(map(len, keys)) == len(keys) else []
        kinds = set(map(type, keys))
    if not kinds or not kinds <= _EXACT:
        raise KeyError(name)
    return keys


def any_over(expiries: list[float | None]) -> bool:
    """Whether one of these moments on the monotonic clock, ``None`` for never, has come."""
    if expiries.count(None) == len(expiries):
        return False
    return min([expiry for expiry in expiries if expiry is not None]) <= _now()
