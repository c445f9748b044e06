"""By which values of an index a look at their type tells that a list may be kept."""

from typing import Any, Final
from weakref import WeakKeyDictionary

from sqlalchemy import Engine

from stockstore.keys import IndexPlan, has_other_identities_below
from stockstore.mapped.stored import keeps_lists, parts_of

_QUICK: Final = (int, str)


class ListKinds:
    """The types of values of indexes.

    Args:
        engine: The database that the caches are filled from; ``None`` where the store has none.
    """

    def __init__(self, engine: Engine | None) -> None:
        """Judge none yet."""
        self._engine = engine
        self._known: WeakKeyDictionary[IndexPlan, Any] = WeakKeyDictionary()

    def of(self, plan: IndexPlan) -> Any:
        """Give the type of values by which lists of an index may be kept, ``None`` where it takes a longer look."""
        kind = self._known.get(plan, self)
        if kind is self:
            kind = self._known[plan] = self._judged(plan)
        return kind

    def _judged(self, plan: IndexPlan) -> Any:
        if self._engine is None or len(plan.names) > 1 or has_other_identities_below(plan.owner):
            return None
        (part,) = parts_of(plan)
        plain = part.python in _QUICK and not (part.custom or part.rounded or part.folded) and keeps_lists(plan, self._engine.dialect)
        return part.python if plain else None
