"""Identities, as they are noted."""

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import repeat
from operator import itemgetter
from typing import Any, Final
from weakref import WeakKeyDictionary

from sqlalchemy import Dialect, inspect
from sqlalchemy.orm import Mapper

from stockstore.coherence.protocol import Writes
from stockstore.errors import CodecError, StockstoreError
from stockstore.keys import IndexPlan, keys_of
from stockstore.mapped.stored import Part
from stockstore_ext.sqlalchemy.collect.settings import Collecting

_log: Final = logging.getLogger(__name__)
_FIRST: Final[Any] = itemgetter(0)


class _Shape:
    """How a root's identities become records."""

    def __init__(self, root: type) -> None:
        mapper: Mapper[Any] = inspect(root)
        self.plan = keys_of(root).identity
        self.parts = [Part(mapper.get_property_by_column(column)) for column in mapper.primary_key]
        self.order = [self.plan.declared.index(name) for name in self.plan.names]
        self.python = [None if part.rounded or part.folded else part.python for part in self.parts]


_shapes: Final[WeakKeyDictionary[type, _Shape]] = WeakKeyDictionary()


def _shape_of(root: type) -> _Shape:
    shape = _shapes.get(root)
    if shape is None or shape.plan is not keys_of(root).identity:  # mapped once more
        shape = _shapes[root] = _Shape(root)
    return shape


def wants(root: type, collecting: Collecting) -> bool:
    """Whether a root is to be noted: a cache keeps it, and its keys can be keys of a cache."""
    try:
        keys_of(root)
    except StockstoreError:
        return False
    return collecting.holds(root)


class Notes:
    """Where one connection's writes are noted, under the settings."""

    def __init__(self, writes: Writes, collecting: Collecting) -> None:
        self.writes = writes
        self._collecting = collecting

    def wants(self, root: type) -> bool:
        """Whether a root is to be noted."""
        return wants(root, self._collecting)

    def whole(self, roots: Iterable[type]) -> None:
        """Note whole classes."""
        for root in roots:
            if self.wants(root):
                self.writes.add_class(root)

    def tentatively(self, roots: Iterable[type], *, inserted: bool) -> None:
        """Note whole classes until a flush tells the rows."""
        for root in roots:
            if self.wants(root):
                self.writes.add_tentatively(root, inserted=inserted)

    def inserted(self, roots: Iterable[type]) -> None:
        """Note that there are new rows of unknown keys."""
        for root in roots:
            if self.wants(root):
                self.writes.add_inserted(root)

    def placed(self, root: type, identity: Sequence[object], places: Iterable[tuple[IndexPlan, tuple[Any, ...] | None]]) -> None:
        """Note by which values of its indexes a row is listed, by its primary key as the program has it."""
        shape = _shape_of(root)
        values = tuple([identity[position] for position in shape.order])
        with suppress(CodecError):
            record = shape.plan, shape.plan.native(values)
            self.writes.placed.update(((record, plan), place) for plan, place in places)

    def is_whole(self, root: type) -> bool:
        """Whether a root is noted as a whole, so that its rows need not be."""
        return keys_of(root).identity in self.writes.classes

    def stored(self, root: type, identities: Iterable[Sequence[object]]) -> None:
        """Note identities as the database gave them, in the order of the primary key."""
        shape = _shape_of(root)
        for identity in identities:
            self._add(root, shape, identity)

    def given(self, root: type, identities: Iterable[Sequence[object]], dialect_of: Callable[[], Dialect]) -> None:
        """Note identities as the program has them; the whole class where the database may have them otherwise."""
        shape, identities = _shape_of(root), list(identities)
        if self._given_natives(root, shape, identities):
            return
        for identity in identities:
            if [type(value) for value in identity] == shape.python:
                self._add(root, shape, identity)
            else:
                self._as_stored(root, shape, identity, dialect_of)

    def _given_natives(self, root: type, shape: _Shape, identities: Sequence[Sequence[object]]) -> bool:
        """Note all at once where each is one number or text, which stands in a key as it is."""
        python = shape.python[0]
        if len(shape.python) > 1 or (python is not int and python is not str):
            return False
        values: list[Any] = list(map(_FIRST, identities))
        if set(map(type, values)) != {python}:
            return False
        self.writes.records.update(zip(zip(repeat(shape.plan), values), map(tuple, identities)))  # noqa: B905 - of as many
        self.writes.roots[shape.plan] = root
        return True

    def asked_for(self, root: type, identities: Sequence[Sequence[object]], dialect: Dialect) -> None:
        """Note identities that a WHERE named; the whole class where it may mean others too."""
        if all(part.is_told_apart(dialect) for part in _shape_of(root).parts):
            self.given(root, identities, lambda: dialect)
        else:
            self.writes.add_class(root)

    def _as_stored(self, root: type, shape: _Shape, identity: Sequence[object], dialect_of: Callable[[], Dialect]) -> None:
        try:
            stored = [part.as_stored(value, dialect_of()) for part, value in zip(shape.parts, identity, strict=True)]
        except Exception:  # noqa: BLE001 - a type may be anybody's class
            self.writes.add_class(root)
        else:
            self._add(root, shape, stored)

    def _add(self, root: type, shape: _Shape, identity: Sequence[object]) -> None:
        values = tuple([identity[position] for position in shape.order])
        try:
            self.writes.records[shape.plan, shape.plan.native(values)] = values
        except CodecError:
            self.writes.add_class(root)
        else:
            self.writes.roots[shape.plan] = root
