"""Which classes sessions are served from the caches."""

from collections.abc import Collection, Iterable
from typing import Any, Final, TypeAlias
from weakref import WeakKeyDictionary

from sqlalchemy import Column, inspect
from sqlalchemy.orm import Mapper

from stockstore.errors import ConfigurationError
from stockstore.keys import keys_of, mapper_of
from stockstore.mapped import MappedPlan, plan_of
from stockstore.mapped.selecting import hierarchy_of

ReadThrough: TypeAlias = "bool | Collection[type]"
_EAGER: Final = frozenset(("joined", "selectin", "subquery", "immediate", False))


class Classes:
    """The classes that one hook serves.

    Args:
        tiers: The caches, of which one has to hold a class.
        named: The classes that the user has named, which stand for their subclasses too; ``None`` for all.
    """

    def __init__(self, tiers: Iterable[Any], named: tuple[type, ...] | None) -> None:
        """Judge none yet."""
        self._tiers = tuple(tiers)
        self._named = named
        self._known: WeakKeyDictionary[type, tuple[MappedPlan | None, str]] = WeakKeyDictionary()

    def refuses(self, cls: type) -> str:
        """Tell why no session is served a mapped class; ``""``: sessions are.

        ``"class"``: it was not named, says ``__cache__ = False``, or has no column state. ``"mapping"``: its rows do not
        stand in tables, or are loaded anew each time. ``"eager"``: a load of it loads relationships too. ``"expression"``: it has attributes
        that only the database can compute.
        """
        known = self._known.get(cls)
        if known is None or (known[0] is not None and plan_of(cls) is not known[0]):
            known = self._known[cls] = self._judge(cls)
        return known[1]

    def _judge(self, cls: type) -> tuple[MappedPlan | None, str]:
        if mapper_of(cls) is None or (self._named is not None and not issubclass(cls, self._named)):
            return None, "class"
        try:
            plan = plan_of(cls)
        except ConfigurationError:
            return None, "class"
        if not any(tier.holds(cls) for tier in self._tiers):
            return plan, "class"
        return plan, _refused_mapping(inspect(cls), plan)


def _refused_mapping(mapper: Mapper[Any], plan: MappedPlan) -> str:
    if mapper.always_refresh or not hierarchy_of(plan.cls, keys_of(plan.root).identity.names, locked=False).is_plain:
        return "mapping"
    if any(relationship.lazy in _EAGER for relationship in mapper.relationships):
        return "eager"
    expressions = (prop for prop in mapper.column_attrs if prop.key not in plan.attrs and prop.key in mapper.class_manager)
    if any(not prop.deferred and not isinstance(prop.columns[0], Column) for prop in expressions):
        return "expression"
    return ""


def named_classes(read_through: object) -> tuple[type, ...] | None:
    """Give the classes that the option ``read_through=`` names, ``None`` for all.

    Raises:
        ConfigurationError: It is neither True nor a collection of mapped classes.
    """
    if read_through is True:
        return None
    if isinstance(read_through, (list, tuple, set, frozenset)) and all(isinstance(one, type) and mapper_of(one) for one in read_through):
        return tuple(read_through)
    raise ConfigurationError(f"read_through is True, False, or a list of mapped classes, not {read_through!r}")
