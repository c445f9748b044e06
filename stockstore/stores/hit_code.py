"""The code of the functions that find hits, as text for one class and its keys.

Measured by scripts/bench against a bare dictionary: what an attribute read by name, a call or a tuple more
would cost is a tenth of the whole.
"""

import keyword
from collections.abc import Collection, Sequence
from textwrap import indent
from typing import Final, NamedTuple

from stockstore.backends.local_nodes import MAX_FREQUENCY

# A node's expiry is read before its value: a put writes them in the other order, so that no reader pairs an
# old value with a new expiry. What is not there is a miss where ``absent`` raises nothing. Whatever is neither a plain hit nor
# a plain miss raises KeyError, AttributeError or TypeError.
_NODE: Final = """
try:
    node = {cells}[key]
except KeyError:
    return absent(key)
if {lives}:
    obj = node.value
    if {carries}:
        node.hits += 1
        return obj
raise KeyError(key)
"""
_NAMED: Final = """
key = key[{name!r}]
if type(key) is not int and type(key) is not str:
    raise KeyError(key)
"""
_NONE: Final = "raise KeyError(key)"

# In the order of what is to be fast: numbers first, then dicts, of which much more is to be asked than of text.
_ONE: Final = """
def one(key):{fresh}
    kind = type(key)
    if kind is not int:
        if kind is dict:
            if len(key) != 1:
{several}
                raise KeyError(key)
{dicts}
        elif kind is not str:
            raise KeyError(key)
{bare}
"""
# Where the canonical key has several names.
_ONE_OF_SEVERAL: Final = """
def one(key):{fresh}
    if type(key) is tuple:
        if len(key) != {count}:
            raise KeyError(key)
{bare}
    if type(key) is not dict:
        raise KeyError(key)
    if len(key) != 1:
{several}
        raise KeyError(key)
{dicts}
"""
_KEYWORDS: Final = """
def named(key):{fresh}
    if len(key) == 1:
{names}
{several}
    raise KeyError(key)
"""
_SEVERAL: Final = """
if len(key) == {count} and {are_given}:
    {values} = {given}
"""
_EXACT: Final = """
if {is_inexact}:
    raise KeyError(key)
key = {sorted_values}
"""

# A batch gives the hits up to the first that is none: to count only once all are known would take another pass. What eviction is to
# know of each is little, and how many there were is added at once, by a step in which Python turns to no other thread.
_BATCH: Final = """
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
_NO_BATCH: Final = """
def batch(keys, found):
    raise KeyError(keys)
"""

_FRESH: Final = """
    if contact.fresh_until <= _now():
        raise KeyError"""

# Of what is constant the compiler leaves nothing.
_LASTING: Final = {"now": "", "lives": "True", "goes_on": "True"}
_EXPIRING: Final = {"now": "now = _now()", "lives": "node.expires > _now()", "goes_on": "node.expires > now"}


class KeyCode(NamedTuple):
    """What the code of a key is made of.

    Attributes:
        names: In the order declared.
        cells: The variable that holds the records under it.
    """

    names: Sequence[str]
    cells: str

    @property
    def is_one(self) -> bool:
        """Whether it has one name."""
        return len(self.names) == 1


class HitCode:
    """The code for one class."""

    def __init__(self, canonical: KeyCode | None, others: Sequence[KeyCode], *, expiring: bool, fresh: bool) -> None:
        """Take the keys that can stand in code; ``None`` for a canonical key that cannot."""
        self._first = canonical
        self._ones = [key for key in others if key.is_one] + [key for key in (canonical,) if key and key.is_one]
        self._several = [key for key in (canonical, *others) if key and not key.is_one]
        self._parts = _EXPIRING if expiring else _LASTING
        self._fresh = _FRESH if fresh else ""

    def source(self, options: Collection[str]) -> str:
        """Give the functions ``one``, ``named`` and ``batch``; as a keyword no key counts that is called like one of these options."""
        return self._one() + self._named(options) + self._batch()

    def _one(self) -> str:
        first = self._first
        if first is None or first.is_one:
            bare = _NONE if first is None else self._node(first)
            dicts = indent(self._by_name(self._ones), " " * 12)
            return _ONE.format(fresh=self._fresh, several=self._by_names(self._several, 16), dicts=dicts, bare=indent(bare, " " * 4))
        return _ONE_OF_SEVERAL.format(
            fresh=self._fresh,
            count=len(first.names),
            bare=indent(f"{_values(first.names)} = key\n{self._exact(first)}", " " * 8),
            several=self._by_names(self._several, 8),
            dicts=indent(self._by_name(self._ones), " " * 4),
        )

    def _named(self, options: Collection[str]) -> str:
        ones, several = ([key for key in keys if not set(options).intersection(key.names)] for keys in (self._ones, self._several))
        return _KEYWORDS.format(fresh=self._fresh, names=indent(self._by_name(ones), " " * 8), several=self._by_names(several, 4))

    def _batch(self) -> str:
        first = self._first
        if first is None or not first.is_one:
            return _NO_BATCH
        return _BATCH.format(fresh=self._fresh, most=MAX_FREQUENCY, name=first.names[0], **self._filled(first))

    def _by_name(self, keys: Sequence[KeyCode]) -> str:
        """Find a dict of one name; the last name need not be looked for before it is taken."""
        found = [_NAMED.format(name=key.names[0]) + self._node(key) for key in keys]
        ifs = [f"if {key.names[0]!r} in key:\n{indent(code, ' ' * 4)}\n" for key, code in zip(keys[:-1], found[:-1], strict=True)]
        return "".join(ifs) + (found[-1] if found else _NONE)

    def _by_names(self, keys: Sequence[KeyCode], depth: int) -> str:
        """Find a dict of several names."""
        return indent("".join(self._by_these(key) for key in keys), " " * depth)

    def _by_these(self, key: KeyCode) -> str:
        are_given = " and ".join(f"{name!r} in key" for name in key.names)
        given = ", ".join(f"key[{name!r}]" for name in key.names)
        found = _SEVERAL.format(count=len(key.names), are_given=are_given, values=_values(key.names), given=given)
        return found + indent(self._exact(key), " " * 4)

    def _exact(self, key: KeyCode) -> str:
        """Find by values in variables; the records have them in the order of the names."""
        is_inexact = " or ".join(f"(type({value}) is not int and type({value}) is not str)" for value in _variables(key.names))
        return _EXACT.format(is_inexact=is_inexact, sorted_values=_values(key.names, sort=True)) + self._node(key)

    def _node(self, key: KeyCode) -> str:
        return _NODE.format(**self._filled(key))

    def _filled(self, key: KeyCode) -> dict[str, str]:
        values = ["key"] if key.is_one else _variables(key.names)
        carries = " and ".join(f"obj.{name} == {value}" for name, value in zip(key.names, values, strict=True))
        return {"cells": key.cells, "carries": carries, **self._parts}


def _variables(names: Sequence[str]) -> list[str]:
    return [f"value{at}" for at in range(len(names))]


def _values(names: Sequence[str], *, sort: bool = False) -> str:
    """Give the variables as a tuple, in the order of the names as they are given or sorted."""
    by_name = dict(zip(names, _variables(names), strict=True))
    return f"({', '.join(by_name[name] for name in (sorted(names) if sort else names))})"


def can_stand(names: Sequence[str]) -> bool:
    """Whether a key can stand in code."""
    return all(name.isidentifier() and not keyword.iskeyword(name) for name in names)
