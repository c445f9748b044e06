"""Whether a key's value is compared by the database as it is compared here."""

import datetime as dt
from collections.abc import Sequence
from typing import Any, Final

from stockstore.keys import KeyPlan, Lookup
from stockstore.mapped import plan_of
from stockstore.mapped.columns import Anything, Json, Kind, Members, Native, kind_of

_SLOT: Final = "stockstore.exact"
_Kinds = tuple[type | None, ...]


class _NOTHING:
    pass


def is_exact(cls: type, lookup: Lookup) -> bool:
    """Whether each value of a lookup is of exactly the type that the class's column gives; a column of a type that does not tell takes any.

    Others are the database's own business: text for a number, a number for a truth value, None.
    """
    for value, kind in zip(lookup.values, kinds_of(cls, lookup.plan), strict=True):
        if value is None or (kind is not None and type(value) is not kind):
            return False
    return True


def are_exact(cls: type, lookups: Sequence[Lookup]) -> bool:
    """Whether all lookups are, looked at by their types alone where they are of a key of one name."""
    plans = {lookup.plan for lookup in lookups}
    kinds = kinds_of(cls, next(iter(plans))) if len(plans) == 1 else ()
    if len(kinds) == 1 and kinds[0] is not None:
        return {type(lookup.values[0]) for lookup in lookups} == {kinds[0]}
    return all(is_exact(cls, lookup) for lookup in lookups)


def kinds_of(cls: type, plan: KeyPlan) -> _Kinds:
    """Give the types of a key's values, ``None`` for one that the column does not tell."""
    known: dict[object, Any] = plan_of(cls).statements
    kinds: _Kinds | None = known.get((_SLOT, plan))
    if kinds is None:
        mapper = plan_of(cls).mapper
        kinds = known[_SLOT, plan] = tuple([_python_type(kind_of(mapper.column_attrs[name])) for name in plan.names])
    return kinds


def _python_type(kind: Kind) -> type | None:
    if isinstance(kind, Native):
        return kind.python_type
    if isinstance(kind, Members):
        return kind.enum_class
    if isinstance(kind, Json):
        return _NOTHING
    return None if isinstance(kind, Anything) else dt.datetime
