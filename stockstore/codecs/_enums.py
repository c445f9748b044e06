"""Enum members by name or value, without running code that a payload names."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from enum import Enum, Flag, IntFlag
from types import ModuleType
from typing import Any, TypeAlias

EnumKey: TypeAlias = "tuple[str, str]"
_module_dict = vars(ModuleType)["__dict__"].__get__
_class_dict = vars(type)["__dict__"].__get__


def enum_key(cls: type) -> EnumKey:
    """The module and the qualified name by which a class is found again."""
    return cls.__module__, cls.__qualname__


def find_enum(key: EnumKey, known: Mapping[EnumKey, type[Enum]]) -> type[Enum]:
    """The Enum class of that name among the known ones and the modules imported so far; LookupError."""
    found = known.get(key) or _imported(*key)
    # type() first: isinstance() would ask the found thing itself for its class
    if not issubclass(type(found), type) or not issubclass(found, Enum):
        raise LookupError(f"{'.'.join(key)} is no Enum class")
    return found


def _imported(module_name: str, qualname: str) -> Any:
    """Plain dictionary look-ups only: getattr on a module may import or run something."""
    module = sys.modules[module_name]
    if not issubclass(type(module), ModuleType):
        raise LookupError(f"{module_name} is no plain module")
    head, *rest = qualname.split(".")
    found = _module_dict(module)[head]
    for name in rest:
        if not issubclass(type(found), type):
            raise LookupError(f"{head} is no class")
        found = _class_dict(found)[name]
    return found


def member_label(member: Enum) -> str | int:
    """The name of a declared member, or the number of a combination of flags."""
    cls = type(member)
    name = member._name_
    if name is not None and cls._member_map_.get(name) is member:
        return name
    if isinstance(member, Flag):
        return int(member._value_)
    raise ValueError(f"it is no declared member of {cls.__qualname__}")


def find_member(cls: type[Enum], label: object) -> Enum:
    """The member of that label; LookupError or ValueError when there is none."""
    if type(label) is str:
        return cls._member_map_[label]
    if type(label) is not int or not issubclass(cls, Flag):
        raise LookupError(f"{cls.__qualname__} has no member {label!r}")
    found = cls._value2member_map_.get(label)
    return found if found is not None else _combination(cls, label)


def _combination(cls: type[Flag], number: int) -> Flag:
    """The standard library's own way to combine flags: a class's ``_missing_`` is not run."""
    base: Any = IntFlag if issubclass(cls, IntFlag) else Flag
    found = base._missing_.__func__(cls, number)
    if type(found) is not cls:
        raise LookupError(f"{cls.__qualname__} has no combination {number}")
    return found
