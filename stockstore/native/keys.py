"""Keys as finders take them."""

import sys
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple


class FinderKey(NamedTuple):
    """A key of a class.

    Attributes:
        names: Of attributes, in the order declared.
        places: Which name's value stands where in the tuples that records stand under: in the order of the names.
        records: By the value of a key of one name, or else by such tuples.
        as_keywords: Whether it may be given as keywords of a call.
    """

    names: tuple[str, ...]
    places: tuple[int, ...]
    records: dict[Any, Any]
    as_keywords: bool


def finder_key(names: Sequence[str], records: dict[Any, Any], options: Collection[str]) -> FinderKey:
    """Give a key; as keywords it may not be given where one of its names is an option of the call."""
    interned = tuple(map(sys.intern, names))
    places = tuple(sorted(range(len(names)), key=interned.__getitem__))
    return FinderKey(interned, places, records, as_keywords=not set(options).intersection(names))
