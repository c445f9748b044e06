"""What the annotations of a class say: their text, and the classes they lead to."""

from __future__ import annotations

import inspect
import re
import sys
import types
import typing
from collections.abc import Iterator
from typing import Any

_CLASS_VARIABLE = re.compile(r"(\w+\.)*ClassVar\b")
_ALIASES = tuple(kind for kind in (getattr(typing, "TypeAliasType", None),) if kind is not None)


def own_annotations(cls: type) -> dict[str, Any]:
    """The annotations that a class itself makes, those of ``ClassVar`` left out."""
    try:
        found = inspect.get_annotations(cls)
    except NameError:  # evaluated late (Python 3.14), and naming what is imported for type checkers only
        return {}
    return {name: hint for name, hint in found.items() if not _is_class_variable(hint)}


def _is_class_variable(hint: object) -> bool:
    if isinstance(hint, str):
        return _CLASS_VARIABLE.match(hint) is not None
    return hint is typing.ClassVar or typing.get_origin(hint) is typing.ClassVar


def text_of(hint: Any) -> str:
    """A text that is the same in every process: repr() of metadata may hold an address."""
    if isinstance(hint, str):
        return hint
    if isinstance(hint, type) and not typing.get_args(hint):
        return f"{hint.__module__}.{hint.__qualname__}"
    origin = typing.get_origin(hint)
    if origin is None:
        return str(getattr(hint, "__forward_arg__", None) or getattr(hint, "__name__", None) or type(hint).__qualname__)
    if origin is typing.Literal:
        return f"Literal{[value if type(value) in (int, str, bytes, bool) else str(value) for value in hint.__args__]}"
    name = "Union" if origin in (typing.Union, types.UnionType) else text_of(origin)
    return f"{name}[{', '.join(map(text_of, _arguments(hint)))}]"


def classes_in(hint: Any, owner: type) -> Iterator[type]:
    """Every class that an annotation of ``owner`` leads to; names that cannot be resolved lead nowhere."""
    seen: list[Any] = []
    todo = [hint]
    while todo:
        hint = _evaluated(todo.pop(), owner)
        if hint is None or any(hint is known for known in seen):
            continue
        seen.append(hint)
        if isinstance(hint, type) and not typing.get_args(hint):
            yield hint
        todo += reversed(_parts(hint))


def _parts(hint: Any) -> list[Any]:
    if isinstance(hint, typing.TypeVar):
        return [hint.__bound__, *hint.__constraints__]
    if isinstance(hint, _ALIASES):
        return [hint.__value__]
    if hasattr(hint, "__supertype__"):
        return [hint.__supertype__]
    origin = typing.get_origin(hint)
    return [] if origin is None or origin is typing.Literal else [origin, *_arguments(hint)]


def _arguments(hint: Any) -> list[Any]:
    """The arguments of a generic, without metadata and with lists of parameters flattened."""
    arguments = typing.get_args(hint)
    if hasattr(hint, "__metadata__"):
        return [arguments[0]]
    return [inner for argument in arguments for inner in (argument if isinstance(argument, list) else [argument])]


def _evaluated(hint: Any, owner: type) -> Any:
    text = getattr(hint, "__forward_arg__", hint)
    if not isinstance(text, str):
        return hint
    module = sys.modules.get(owner.__module__)
    names = {owner.__name__: owner, **vars(owner)}
    try:
        # the source is the application's own annotation, as in typing.get_type_hints(), which gives up
        # on all annotations of a class when one cannot be resolved
        return eval(text, dict(vars(module)) if module else {}, names)  # noqa: S307
    except Exception:  # noqa: BLE001
        return None
