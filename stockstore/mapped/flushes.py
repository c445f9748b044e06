"""What a flush writes, found out once for all who listen to it."""

from collections.abc import Sequence
from contextlib import suppress
from operator import attrgetter
from typing import Any, Final, NamedTuple

from sqlalchemy.orm import InstanceState, LoaderCallableStatus, Mapper, UOWTransaction

from stockstore.mapped.hydrate import flushed_states

_KEY: Final[Any] = attrgetter("key")
_SLOT: Final = "stockstore.flushed"
Identity = tuple[Any, ...]


class Flushed(NamedTuple):
    """The rows of one mapper that a flush writes.

    Attributes:
        changed: The states of new and changed rows.
        identities: What their primary keys are by now, in the same order; ``None`` where that is not loaded.
        deleted: The states of deleted rows.
        former: The primary keys by which the session knew rows before; of new rows it knew none.
    """

    changed: list[InstanceState[Any]]
    identities: Sequence[Identity | None]
    deleted: list[InstanceState[Any]]
    former: list[Identity]

    @classmethod
    def of(cls, changed: list[InstanceState[Any]], identities: Sequence[Identity | None], deleted: list[InstanceState[Any]]) -> "Flushed":
        """Find out how the session knew the rows."""
        former = [key[1] for key in map(_KEY, (*changed, *deleted)) if key is not None]
        if changed and _loads_defaults(changed[0].mapper):
            former += _replaced(changed)
        return cls(changed, identities, deleted, former)


def flushed_of(context: UOWTransaction) -> dict[Mapper[Any], Flushed]:
    """Give what a flush writes, by mappers; to be called in ``after_flush``."""
    found: dict[Mapper[Any], Flushed] | None = context.attributes.get(_SLOT)
    if found is None:
        found = context.attributes[_SLOT] = _find(context)
    return found


def _find(context: UOWTransaction) -> dict[Mapper[Any], Flushed]:
    groups: dict[Mapper[Any], tuple[list[InstanceState[Any]], list[InstanceState[Any]]]] = {}
    for state, deleted in flushed_states(context):
        mapper: Mapper[Any] = state.manager.mapper  # as state.mapper, which takes longer
        group = groups.get(mapper)
        if group is None:
            group = groups[mapper] = [], []
        group[deleted].append(state)
    return {mapper: Flushed.of(changed, _identities(mapper, changed), deleted) for mapper, (changed, deleted) in groups.items()}


def _identities(mapper: Mapper[Any], states: Sequence[InstanceState[Any]]) -> Sequence[Identity | None]:
    """Give the primary keys as the program has them: a new row has no key before the end of the flush, a changed one not yet the new one."""
    names = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
    if len(names) == 1:
        name, objects = names[0], [state.obj() for state in states]
        with suppress(AttributeError, KeyError):  # of an object that is gone, or keeps its values elsewhere
            return [(obj.__dict__[name],) for obj in objects]
    return [_identity(state.dict, names) for state in states]


def _loads_defaults(mapper: Mapper[Any]) -> bool:
    """Whether a flush may load what the database has made; before that SQLAlchemy gives a state its new key."""
    return mapper.base_mapper.eager_defaults is True or mapper.version_id_generator is False


def _replaced(states: Sequence[InstanceState[Any]]) -> list[Identity]:
    """Give the primary keys that rows had before, where they were changed."""
    names = [state.mapper.get_property_by_column(column).key for state in states[:1] for column in state.mapper.primary_key]
    changed = [state for state in states if not state.committed_state.keys().isdisjoint(names)]
    identities = [_identity(state.dict | state.committed_state, names) for state in changed]
    return [known for known in identities if known is not None and not any(isinstance(value, LoaderCallableStatus) for value in known)]


def _identity(values: dict[str, Any], names: Sequence[str]) -> Identity | None:
    return tuple([values[name] for name in names]) if all(name in values for name in names) else None
