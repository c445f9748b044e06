"""Batches of objects on their way to a server: the same as batch.c."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

_get = object.__getattribute__
_all = chain.from_iterable


def rows_of(
    fixed: tuple[str, ...], dynamic: tuple[str, ...] | None, types: tuple[type, ...], objects: Sequence[object], /
) -> list[tuple[Any, ...]] | None:
    """Give the attributes of each object, past whatever its class makes of looking them up.

    Args:
        fixed: Names of attributes that are not in the object's dictionary, such as slots.
        dynamic: The names that must be in its dictionary, all of them, in this order and no others; ``None`` where it has no dictionary.
        types: What the values must be, exactly; none that hold others.
        objects: All of one class.

    Returns:
        ``None`` where an object has other attributes in its dictionary, a dictionary of a subclass, or a value of another type.

    Raises:
        AttributeError: One of the fixed attributes is not set.
    """
    states: list[dict[str, Any]] = [] if dynamic is None else [_get(obj, "__dict__") for obj in objects]
    # Another kind may give other values than it holds.
    if not {dict}.issuperset(map(type, states)):
        return None
    # Another thread may set and delete attributes between a look at the names and one at the values.
    states = list(map(dict.copy, states))
    if dynamic is not None and ([*_all(states)] != [*dynamic] * len(states) or not {len(dynamic)}.issuperset(map(len, states))):
        return None
    rows = list(_rows(fixed, objects, states)) if fixed or dynamic is None else [*map(tuple, map(dict.values, states))]
    return rows if set(types).issuperset(map(type, _all(rows))) else None


def _rows(fixed: tuple[str, ...], objects: Sequence[object], states: Sequence[dict[str, Any]]) -> Iterator[tuple[Any, ...]]:
    if not states:
        return (tuple([_get(obj, name) for name in fixed]) for obj in objects)
    return ((*[_get(obj, name) for name in fixed], *state.values()) for obj, state in zip(objects, states, strict=True))


def numbered_texts(prefix: str, numbers: Sequence[object], below: int, /) -> list[str] | None:
    """Give texts of the numbers after a prefix of ASCII, ``None`` where there is none, or one is no exact ``int`` whose amount is below the bound."""
    if set(map(type, numbers)) != {int} or min(numbers) <= -below or max(numbers) >= below:  # type: ignore[operator, type-var]
        return None
    return [f"{prefix}{number}" for number in numbers]
