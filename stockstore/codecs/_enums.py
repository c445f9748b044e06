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


def find_enum(key: EnumKey, known: Mapping[EnumKey, type[Enum]]) -> type[Enum] | None:
    """The Enum class of that name among the known ones and the modules imported so far."""
    found = known.get(key) or _imported(*key)
    return found if _is_class(found) and issubclass(found, Enum) else None


def _imported(module_name: str, qualname: str) -> Any:
    """Plain dictionary look-ups only: getattr on a module may import or run something."""
    module = sys.modules.get(module_name)
    if not issubclass(type(module), ModuleType):
        return None
    head, *rest = qualname.split(".")
    found = _module_dict(module).get(head)
    for name in rest:
        found = _class_dict(found).get(name) if _is_class(found) else None
    return found


def _is_class(found: object) -> bool:
    # isinstance() would ask the found thing itself for its class
    return issubclass(type(found), type)


def member_label(member: Enum) -> str | int:
    """The name of a declared member, or the number of a combination of flags."""
    cls = type(member)
    name: Any = member._name_  # None for combinations in Python 3.10
    if cls._member_map_.get(name) is member:
        return str(name)
    if isinstance(member, Flag):
        return int(member._value_)
    raise ValueError(f"it is no declared member of {cls.__qualname__}")


def find_member(cls: type[Enum] | None, label: object) -> Enum:
    """The member of that label; LookupError or ValueError when there is none."""
    if cls is None:
        raise LookupError("it names an enum class that is not imported here")
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
