"""The code of the functions that find hits, as text for one class and its keys.

Measured by scripts/bench against a bare dictionary: what an attribute read by name, a call or a tuple more
would cost is a tenth of the whole.
"""

import keyword
from collections.abc import Sequence
from textwrap import indent
from typing import Final, NamedTuple

from stockstore.native.keys import FinderKey

# A node's expiry is read before its value: a put writes them in the other order, so that no reader pairs an
# old value with a new expiry. What is not there is a miss where ``absent`` raises nothing. Whatever is neither a plain hit nor
# a plain miss raises KeyError, AttributeError or TypeError.
_NODE: Final = """
try:
    node = {records}[key]
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

_FRESH: Final = """
    if contact.fresh_until <= clock():
        raise KeyError"""

# Of what is constant the compiler leaves nothing.
_LASTING: Final = {"lives": "True"}
_EXPIRING: Final = {"lives": "node.expires > clock()"}


class _KeyCode(NamedTuple):
    """What the code of a key is made of."""

    names: Sequence[str]
    records: str
    as_keywords: bool

    @property
    def is_one(self) -> bool:
        return len(self.names) == 1

    @property
    def can_stand(self) -> bool:
        return all(name.isidentifier() and not keyword.iskeyword(name) for name in self.names)


class FinderCode:
    """The code for one class."""

    def __init__(self, keys: Sequence[FinderKey], *, expiring: bool, fresh: bool) -> None:
        """Take the keys, the canonical one first."""
        codes = [_KeyCode(key.names, f"records{at}", key.as_keywords) for at, key in enumerate(keys)]
        first, *others = (code if code.can_stand else None for code in codes)
        self._first = first
        ordered = [code for code in (*others, first) if code]
        self._ones = [code for code in ordered if code.is_one]
        self._several = [code for code in (first, *others) if code and not code.is_one]
        self._parts = _EXPIRING if expiring else _LASTING
        self._fresh = _FRESH if fresh else ""

    def source(self) -> str:
        """Give the functions ``one`` and ``named``, in which stand only keys whose names are identifiers."""
        return self._one() + self._named()

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

    def _named(self) -> str:
        ones, several = ([key for key in keys if key.as_keywords] for keys in (self._ones, self._several))
        return _KEYWORDS.format(fresh=self._fresh, names=indent(self._by_name(ones), " " * 8), several=self._by_names(several, 4))

    def _by_name(self, keys: Sequence[_KeyCode]) -> str:
        """Find a dict of one name; the last name need not be looked for before it is taken."""
        found = [_NAMED.format(name=key.names[0]) + self._node(key) for key in keys]
        ifs = [f"if {key.names[0]!r} in key:\n{indent(code, ' ' * 4)}\n" for key, code in zip(keys[:-1], found[:-1], strict=True)]
        return "".join(ifs) + (found[-1] if found else _NONE)

    def _by_names(self, keys: Sequence[_KeyCode], depth: int) -> str:
        """Find a dict of several names."""
        return indent("".join(self._by_these(key) for key in keys), " " * depth)

    def _by_these(self, key: _KeyCode) -> str:
        are_given = " and ".join(f"{name!r} in key" for name in key.names)
        given = ", ".join(f"key[{name!r}]" for name in key.names)
        found = _SEVERAL.format(count=len(key.names), are_given=are_given, values=_values(key.names), given=given)
        return found + indent(self._exact(key), " " * 4)

    def _exact(self, key: _KeyCode) -> str:
        """Find by values in variables; the records have them in the order of the names."""
        is_inexact = " or ".join(f"(type({value}) is not int and type({value}) is not str)" for value in _variables(key.names))
        return _EXACT.format(is_inexact=is_inexact, sorted_values=_values(key.names, sort=True)) + self._node(key)

    def _node(self, key: _KeyCode) -> str:
        return _NODE.format(**self._filled(key))

    def _filled(self, key: _KeyCode) -> dict[str, str]:
        values = ["key"] if key.is_one else _variables(key.names)
        carries = " and ".join(f"obj.{name} == {value}" for name, value in zip(key.names, values, strict=True))
        return {"records": key.records, "carries": carries, **self._parts}


def _variables(names: Sequence[str]) -> list[str]:
    return [f"value{at}" for at in range(len(names))]


def _values(names: Sequence[str], *, sort: bool = False) -> str:
    """Give the variables as a tuple, in the order of the names as they are given or sorted."""
    by_name = dict(zip(names, _variables(names), strict=True))
    return f"({', '.join(by_name[name] for name in (sorted(names) if sort else names))})"
