"""Where the objects of a class keep their state, how to read it and how to make an object of it again.

A layout keeps names, never the class: plans are cached per class, and classes must stay collectable.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterable, Sequence
from enum import Enum
from functools import cached_property
from typing import Any

import msgspec

from stockstore.codecs._describe import fields_of, kind_of, name_of, slots_of
from stockstore.codecs._lowering import Refusal
from stockstore.errors import CodecError
from stockstore.native import rows_of

SLOTS, DICT = "slots", "dict"
# attrs keeps the hash of an object in the object: another process has another hash seed
CACHED_HASH = "_attrs_cached_hash"

_HEAP_TYPE = 1 << 9
_MANAGED_DICT = 1 << 4
_POINTER = object().__sizeof__() // 2

_get = object.__getattribute__
_set = object.__setattr__
_new = object.__new__


class Layout:
    """State in slots and in a dictionary: ordinary classes, dataclasses, attrs, pydantic."""

    def __init__(self, cls: type) -> None:
        fields = fields_of(cls)
        self.fixed = self._fixed_names(cls)
        self.dynamic = tuple(name for name in fields if name not in self.fixed) if cls.__dictoffset__ else ()
        self.names = self.fixed + self.dynamic
        self.has_dict = bool(cls.__dictoffset__)
        self.computed = frozenset(_cached_properties(cls))
        self.resets_hash = CACHED_HASH in slots_of(cls)

    def take(self, obj: object) -> list[object] | None:
        """The values of all names, or None where the object has fewer attributes, more, or another order."""
        try:
            values = self._fixed_values(obj)
        except AttributeError:
            return None
        if not self.has_dict:
            return values
        # A copy: another thread may set and delete attributes between a look at the names and one at the values.
        attributes = _get(obj, "__dict__").copy()
        if tuple(attributes) != self.dynamic:
            return None
        values += attributes.values()
        return values

    def rows(self, objects: Sequence[object], types: tuple[type, ...]) -> list[tuple[Any, ...]] | None:
        """The values of all names of many objects, or None where one has fewer attributes, more, another order, or a value of another type."""
        return rows_of(self.fixed, self.dynamic if self.has_dict else None, types, objects)

    def take_apart(self, obj: object) -> tuple[dict[str, object], dict[Any, object]]:
        """What is set of the fixed attributes, and the dictionary without computed properties."""
        fixed = {name: value for name in self.fixed for value in _read(obj, name)}
        attributes = _get(obj, "__dict__") if self.has_dict else {}
        kept = {name: value for name, value in attributes.items() if name not in self.computed}
        if CACHED_HASH in kept:
            kept[CACHED_HASH] = None
        return fixed, kept

    def build_apart(self, cls: type, record: Any) -> object:
        """An object of what `take_apart` gave."""
        if type(record) is list:
            raise CodecError(f"the payload has {len(record)} attributes for {name_of(cls)}, which has {len(self.names)}")
        fixed, attributes = record[SLOTS], record[DICT]
        if (fixed and not fixed.keys() <= set(self.fixed)) or (attributes and not self.has_dict):
            raise CodecError(f"the payload has attributes that {name_of(cls)} has not")
        obj = self._make(cls, fixed)
        if self.has_dict:
            _get(obj, "__dict__").update(attributes)
        return obj

    def _fixed_names(self, cls: type) -> tuple[str, ...]:
        return tuple(name for name in dict.fromkeys(slots_of(cls)) if name != CACHED_HASH)

    def _fixed_values(self, obj: object) -> list[object]:
        return [_get(obj, name) for name in self.fixed]

    def _make(self, cls: type, fixed: dict[str, object]) -> object:
        obj: object = _new(cls)
        for name, value in fixed.items():
            _set(obj, name, value)
        if self.resets_hash:
            _set(obj, CACHED_HASH, None)
        return obj


class TupleLayout(Layout):
    """State in the items of a tuple, and perhaps in a dictionary: named tuples."""

    def _fixed_names(self, cls: Any) -> tuple[str, ...]:
        return tuple(cls._fields)

    def _fixed_values(self, obj: Any) -> list[object]:
        return list(tuple.__iter__(obj))

    def rows(self, objects: Sequence[object], types: tuple[type, ...]) -> list[tuple[Any, ...]] | None:
        del objects, types
        return None

    def take_apart(self, obj: Any) -> tuple[dict[str, object], dict[Any, object]]:
        return dict(zip(self.fixed, tuple.__iter__(obj), strict=True)), super().take_apart(obj)[1]

    def _make(self, cls: Any, fixed: dict[str, object]) -> object:
        if tuple(fixed) != self.fixed:
            raise CodecError(f"the payload lacks items of {name_of(cls)}")
        return tuple.__new__(cls, fixed.values())


class StructLayout(Layout):
    """State in the fields of a msgspec Struct: only its own constructor makes one."""

    def __init__(self, cls: type) -> None:
        super().__init__(cls)
        self.restores = hasattr(cls, "__post_init__")

    def _fixed_names(self, cls: Any) -> tuple[str, ...]:
        return tuple(cls.__struct_fields__)

    def take_apart(self, obj: object) -> tuple[dict[str, object], dict[Any, object]]:
        fixed, attributes = super().take_apart(obj)
        missing = next((name for name in self.fixed if name not in fixed), None)
        if missing is not None:
            raise Refusal(f"cannot encode an object whose field {missing!r} is not set; set it")
        return fixed, attributes

    def _make(self, cls: type, fixed: dict[str, object]) -> object:
        obj: Any = cls(**fixed)
        if self.restores:
            for name, value in fixed.items():
                msgspec.structs.force_setattr(obj, name, value)
        return obj


def layout_of(cls: type) -> Layout:
    """The layout of a class; `CodecError` for one whose state cannot be seen."""
    kind = kind_of(cls)
    if kind == "struct":
        return StructLayout(cls)
    if kind == "namedtuple":
        return TupleLayout(cls)
    problem = _problem(cls)
    if problem is not None:
        raise CodecError(f"{name_of(cls)}: cannot encode its objects: {problem}")
    return Layout(cls)


def _problem(cls: type) -> str | None:
    """What stands against reading the whole state from slots and dictionary."""
    if issubclass(cls, Enum):
        return "an enum member is a single value; use encode_value"
    slots = slots_of(cls)
    if cls.__itemsize__ or cls.__basicsize__ > _visible_size(cls, len(slots)) or not cls.__flags__ & _HEAP_TYPE:
        return "a part of their state is kept outside slots and __dict__; keep plain values in a class of your own"
    for name in slots:
        if not isinstance(inspect.getattr_static(cls, name), types.MemberDescriptorType):
            return f"the slot {name!r} is hidden by another class attribute of that name; rename one of them"
    return None


def _visible_size(cls: type, slots: int) -> int:
    """The size of an object that has nothing but slots, dictionary and weak references, as copyreg counts it."""
    own_dict = cls.__dictoffset__ != 0 and not cls.__flags__ & _MANAGED_DICT
    return object.__basicsize__ + _POINTER * (slots + own_dict + (cls.__weakrefoffset__ > 0))


def _cached_properties(cls: type) -> Iterable[str]:
    return (name for base in cls.__mro__ for name, value in vars(base).items() if isinstance(value, cached_property))


def _read(obj: object, name: str) -> Iterable[object]:
    """The value of an attribute, or nothing where it was never set."""
    try:
        return (_get(obj, name),)
    except AttributeError:
        return ()
