"""What is known of a class without an object of it: its fields, the classes below it, its fingerprint."""

from __future__ import annotations

import dataclasses
import hashlib
import types
from collections.abc import Iterator
from enum import Enum
from typing import Any

from stockstore.codecs._annotations import classes_in, own_annotations, text_of
from stockstore.codecs._scalars import TO_BYTES

FINGERPRINT_BYTES = 8
_NEVER_OBJECTS = frozenset(TO_BYTES)
# modules whose classes say what a value can do, not what it is
_VOCABULARY = frozenset({"builtins", "typing", "typing_extensions", "collections", "collections.abc", "abc"})


def name_of(cls: type) -> str:
    """Module and qualified name."""
    return f"{cls.__module__}.{cls.__qualname__}"


def kind_of(cls: type) -> str:
    """The library that made the class, told by its marks: the library itself is not imported."""
    if hasattr(cls, "__struct_fields__"):
        return "struct"
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return "namedtuple"
    if hasattr(cls, "__pydantic_fields__"):
        return "pydantic"
    if hasattr(cls, "__attrs_attrs__"):
        return "attrs"
    return "dataclass" if dataclasses.is_dataclass(cls) else "plain"


def fields_of(cls: type) -> dict[str, Any]:
    """The fields that are known without an object, in order, each with its annotation (``""`` without one)."""
    hints: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        hints.update(own_annotations(base))
    names = _field_names(cls)
    return hints if names is None else {name: hints.get(name, "") for name in names}


def _field_names(cls: Any) -> list[str] | None:
    kind = kind_of(cls)
    if kind == "struct":
        return list(cls.__struct_fields__)
    if kind == "namedtuple":
        return list(cls._fields)
    if kind == "attrs":
        return [attribute.name for attribute in cls.__attrs_attrs__]
    if kind == "dataclass":
        return [field.name for field in dataclasses.fields(cls)]
    return list(cls.__pydantic_fields__) if kind == "pydantic" else None


def slots_of(cls: type) -> tuple[str, ...]:
    """The names of all slots, base classes first, without the weak reference and the dictionary; one may occur twice."""
    return tuple(
        name
        for base in reversed(cls.__mro__)
        if "__slots__" in vars(base)  # types made in C have members, too
        for name, member in vars(base).items()
        if isinstance(member, types.MemberDescriptorType) and name not in ("__weakref__", "__dict__")
    )


def classes_below(cls: type, *, subclasses: bool = False) -> dict[type, None]:
    """``cls`` and every class that its annotations lead to, and theirs, in a fixed order; enums included.

    With ``subclasses``, also the imported subclasses of these, the one defined last before the others.
    """
    found: dict[type, None] = {}
    todo = [cls]
    while todo:
        current = todo.pop(0)
        if current in found:
            continue
        found[current] = None
        if issubclass(current, Enum):
            continue
        todo.extend(filter(_may_be_held, _annotated(current)))
        if subclasses:
            todo.extend(reversed(type.__subclasses__(current)))
    return found


def _may_be_held(cls: type) -> bool:
    return cls not in _NEVER_OBJECTS and cls.__module__ not in _VOCABULARY


def _annotated(cls: type) -> Iterator[type]:
    for base in cls.__mro__:
        for hint in own_annotations(base).values():
            yield from classes_in(hint, base)


def fingerprint_of(cls: type) -> bytes:
    """A digest of the names and fields of the class and of the classes below it."""
    text = "\n".join(_description(each) for each in classes_below(cls))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=FINGERPRINT_BYTES).digest()


def _description(cls: type) -> str:
    if issubclass(cls, Enum):
        return f"enum {name_of(cls)}"
    fields = [f"{name}: {text_of(hint)}" for name, hint in fields_of(cls).items()]
    return "\n".join([f"{kind_of(cls)} {name_of(cls)}", f"slots {tuple(dict.fromkeys(slots_of(cls)))}", *fields])


def subclasses_of(cls: type) -> Iterator[type]:
    """All imported subclasses, the one defined last before the others."""
    children: list[type] = type.__subclasses__(cls)
    for each in reversed(children):
        yield each
        yield from subclasses_of(each)
