"""Generated code per class: to pack the objects whose attributes are all set and in order, and to rebuild these.

The code keeps names, never the class, which it is given where it needs it. Objects that it does not pack take the
general way of the plans, which gives the same bytes.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable, Iterable
from inspect import getattr_static, isdatadescriptor
from typing import Any

import msgspec

from stockstore.codecs._layouts import CACHED_HASH, DICT, SLOTS, Layout, StructLayout, TupleLayout
from stockstore.codecs._lowering import NATIVE, Lower, encode

_PACK = """
def pack(obj):
    {take}
    return HEAD + ENCODE([{lowered}])
"""
_REBUILD = """
def rebuild(cls, record):
    if type(record) is not list or len(record) != {count}:
        return OTHERWISE(cls, record)
    [{values}] = record
    {make}
    return obj
"""
_REBUILD_MANY = """
def rebuild_many(cls, records):
    objects = []
    add = objects.append
    for [{values}] in records:
        {make}
        add(obj)
    return objects
"""
_ONLY_STR = frozenset({str})
_SPACE: dict[str, Any] = {
    "ENCODE": encode,
    "NATIVE": NATIVE,
    "GET": object.__getattribute__,
    "SET": object.__setattr__,
    "NEW": object.__new__,
    "COPY": dict.copy,
    "ITEMS": tuple.__iter__,
    "NEW_TUPLE": tuple.__new__,
    "FORCE": msgspec.structs.force_setattr,
}


def packer(cls: type, layout: Layout, head: bytes, lower: Lower) -> Callable[[object], bytes | None]:
    """What gives the payload of an object; it gives None or raises anything where the general way is to be taken."""
    code = _Code(cls, layout)
    lowered = ", ".join(f"{value} if type({value}) in NATIVE else LOWER({value}, 0)" for value in code.values)
    space = {"HEAD": head, "LOWER": lower, "DYNAMIC": layout.dynamic, "BY_NAME": _packer_by_name(layout, head, lower)}
    return _generated("pack", _PACK.format(take=_block(code.take()), lowered=lowered), space)


def rebuilder(cls: type, layout: Layout) -> Callable[[type, Any], Any]:
    """What gives the object of a class and a decoded record."""
    code = _Code(cls, layout)
    source = _REBUILD.format(count=len(code.values), values=", ".join(code.values), make=_block(code.make()))
    return _generated("rebuild", source, {"OTHERWISE": layout.build_apart})


def rebuilder_of_many(cls: type, layout: Layout) -> Callable[[type, Iterable[list[Any]]], list[Any]]:
    """What gives the objects of a class and of decoded records, each of which is a list; it raises anything where one has another length."""
    code = _Code(cls, layout)
    source = _REBUILD_MANY.format(values=", ".join(code.values), make=_block(code.make(), depth=2))
    return _generated("rebuild_many", source, {})


def _generated(name: str, source: str, space: dict[str, Any]) -> Callable[..., Any]:
    space |= _SPACE
    exec(source, space)  # noqa: S102 - attributes stand in the source as literals, or as the identifiers that they are
    function: Callable[..., Any] = space[name]
    return function


def _block(lines: Iterable[str], depth: int = 1) -> str:
    return f"\n{'    ' * depth}".join(lines)


def _packer_by_name(layout: Layout, head: bytes, lower: Lower) -> Callable[[dict[Any, object]], bytes | None]:
    """What packs the attributes of an object that has no others, such as those of a class without annotations."""
    left_out = layout.computed | {CACHED_HASH}
    start = head + encode({SLOTS: {}, DICT: {}})[:-1]

    def pack(state: dict[Any, object]) -> bytes | None:
        if layout.fixed or not state.keys().isdisjoint(left_out) or not _ONLY_STR.issuperset(map(type, state)):
            return None
        if not NATIVE.issuperset(map(type, state.values())):
            state = {name: value if type(value) in NATIVE else lower(value, 0) for name, value in state.items()}
        return start + encode(state)

    return pack


class _Code:
    """The lines for one class; the values of the attributes are called v0, v1 and so on."""

    def __init__(self, cls: type, layout: Layout) -> None:
        self.values = [f"v{position}" for position in range(len(layout.names))]
        self._layout = layout
        self._fixed = dict(zip(layout.fixed, self.values, strict=False))
        self._dynamic = dict(zip(layout.dynamic, self.values[len(layout.fixed) :], strict=True))
        self._read_plainly = _inherits(cls, "__getattribute__") and getattr_static(cls, "__getattr__", None) is None
        self._set_plainly = [name for name in layout.names if _inherits(cls, "__setattr__") and self._is_plain(cls, name)]

    def take(self) -> list[str]:
        """Set all values from ``obj``."""
        lines = self._take_fixed()
        if self._layout.has_dict:
            others = "(*state,) != DYNAMIC" if self._dynamic else "state"
            # A copy: another thread may set and delete attributes between a look at the names and one at the values.
            lines += [f"state = COPY({self._get('__dict__')})", f"if {others}:", "    return BY_NAME(state)"]
            lines.append(f"[{', '.join(self._dynamic.values())}] = state.values()")
        return lines

    def make(self) -> list[str]:
        """Set ``obj`` from all values."""
        lines = self._make_fixed()
        if not self._dynamic.keys() <= set(self._set_plainly):
            lines.append(f"state = {self._get('__dict__')}")
        lines += [
            f"obj.{name} = {value}" if name in self._set_plainly else f"state[{name!r}] = {value}" for name, value in self._dynamic.items()
        ]
        return [*lines, f"SET(obj, {CACHED_HASH!r}, None)"] if self._layout.resets_hash else lines

    def _take_fixed(self) -> list[str]:
        if isinstance(self._layout, TupleLayout):
            return [f"[{', '.join(self._fixed.values())}] = ITEMS(obj)"]
        return [f"{value} = {self._get(name)}" for name, value in self._fixed.items()]

    def _make_fixed(self) -> list[str]:
        if isinstance(self._layout, TupleLayout):
            return [f"obj = NEW_TUPLE(cls, [{', '.join(self._fixed.values())}])"]
        if isinstance(self._layout, StructLayout):
            return self._make_struct(self._layout)
        setters = (f"obj.{name} = {v}" if name in self._set_plainly else f"SET(obj, {name!r}, {v})" for name, v in self._fixed.items())
        return ["obj = NEW(cls)", *setters]

    def _make_struct(self, layout: StructLayout) -> list[str]:
        fields = ", ".join(f"{name}={v}" if _is_identifier(name) else f"**{{{name!r}: {v}}}" for name, v in self._fixed.items())
        forced = [f"FORCE(obj, {name!r}, {value})" for name, value in self._fixed.items()]
        return [f"obj = cls({fields})", *(forced if layout.restores else ())]

    def _get(self, name: str) -> str:
        return f"obj.{name}" if self._read_plainly and _is_identifier(name) else f"GET(obj, {name!r})"

    def _is_plain(self, cls: type, name: str) -> bool:
        """Whether an assignment sets the attribute, and not what a descriptor of that name makes of it."""
        return _is_identifier(name) and (name in self._layout.fixed or not isdatadescriptor(getattr_static(cls, name, None)))


def _inherits(cls: type, name: str) -> bool:
    return getattr_static(cls, name) is vars(object)[name]


def _is_identifier(name: str) -> bool:
    # others than ASCII ones may be other identifiers to the compiler, which normalizes them
    return name.isascii() and name.isidentifier() and not keyword.iskeyword(name)
