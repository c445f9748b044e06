"""Rows that the database itself changes along with others, by its foreign keys."""

from collections.abc import Iterator
from typing import Final, Literal
from weakref import WeakKeyDictionary

from sqlalchemy import ForeignKey, Table
from sqlalchemy.exc import NoReferenceError

Action = Literal["ondelete", "onupdate"]
_INERT: Final = frozenset(("", "NO ACTION", "RESTRICT"))
_known: Final[WeakKeyDictionary[Table, dict[tuple[str, int], frozenset[str]]]] = WeakKeyDictionary()


def dependents(table: object, action: Action) -> frozenset[str]:
    """Give the names of the tables whose rows the database itself changes along with rows of this one, directly or not."""
    if not isinstance(table, Table):
        return frozenset()
    # Tables may be added at any time.
    known, place = _known.setdefault(table, {}), (action, len(table.metadata.tables))
    if place not in known:
        found: set[tuple[str, Action]] = set()
        _collect(table, action, found)
        known[place] = frozenset(name for name, _ in found)
    return known[place]


def acting_keys(table: Table, action: Action) -> Iterator[ForeignKey]:
    """Give the foreign keys by which the database changes rows along with rows of this table."""
    for other in list(table.metadata.tables.values()):
        yield from (key for key in other.foreign_keys if _acts(key, table, action))


def target_name(key: ForeignKey) -> str:
    """Give the name of the table that a foreign key refers to."""
    return key.target_fullname.split(".")[-2]


def _collect(table: Table, action: Action, found: set[tuple[str, Action]]) -> None:
    for key in acting_keys(table, action):
        other = key.parent.table
        # What a deletion sets to NULL, or to its default, is an update.
        then: Action = "ondelete" if action == "ondelete" and (key.ondelete or "").upper() == "CASCADE" else "onupdate"
        if (other.name, then) not in found:
            found.add((other.name, then))
            _collect(other, then, found)


def _acts(key: ForeignKey, table: Table, action: Action) -> bool:
    if (getattr(key, action) or "").upper() in _INERT:
        return False
    try:
        return key.column.table.key == table.key  # a statement may carry an annotated copy of the table
    except NoReferenceError:  # to a table that this program does not know
        return False
