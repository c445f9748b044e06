"""All the keys of a class, compiled once, and what a look-up becomes by them."""

from collections.abc import Mapping
from typing import Any, TypeAlias, cast
from weakref import ref

from stockstore.errors import NotKeyedError, UnknownKeyError
from stockstore.keys.declared import (
    Names,
    class_name,
    declared_names,
    declaring_class,
    has_other_identities_below,
    identity_class,
    index_names,
    is_cached,
    key_bases,
    mapper_of,
)
from stockstore.keys.plans import IndexPlan, KeyPlan, ListLookup, Lookup, show

Key: TypeAlias = Mapping[str, object] | object


class ClassKeys:
    """All the keys of one class.

    Attributes:
        name: The full name of the class.
        mapped: Whether SQLAlchemy maps it.
        identity: The key under which its objects are kept; all classes of a mapped hierarchy share it.
        plans: Every key, in the order declared.
        canonical: The key that a bare value means.
        order: The names of the canonical key, as its values stand in a bare tuple.
        alternates: The keys that are aliases of the identity.
        indexes: What rows are listed by: its own indexes, and those of its bases of one identity with it.
        outdated: Whether the class has been mapped since.
        cached: Whether caches may keep its objects: not where the root of its hierarchy says ``__cache__ = False``.
    """

    def __init__(self, cls: type) -> None:
        """Compile what the class declares."""
        self.name = class_name(cls)
        self.mapped = mapper_of(cls) is not None
        names = declared_names(cls)
        root = identity_class(cls)
        self.identity: KeyPlan = KeyPlan(cls, _identity_names(cls, names)) if root is cls else keys_of(root).identity
        self.plans = tuple(self._plan_for(cls, n) for n in names)
        self.canonical = self.plans[0]
        self.cached: bool = is_cached(root)
        self.outdated = False
        self.order = names[0]
        self._declared = names
        self.alternates = tuple(plan for plan in self.plans if plan is not self.identity)
        self._by_names = {frozenset(plan.names): plan for plan in self.plans}
        self.indexes = tuple(_index_for(cls, n) for n in index_names(cls))
        self._shapes: dict[Names, KeyPlan] = {}

    def _plan_for(self, cls: type, names: Names) -> KeyPlan:
        if set(names) == set(self.identity.names):
            return self.identity
        owner = declaring_class(cls, names)
        return KeyPlan(cls, names) if owner is cls else keys_of(owner).plan(names)

    def lookup(self, key: Key) -> Lookup:
        """Give what a key asks for: a mapping of names, or the canonical key's bare value or tuple.

        Raises:
            UnknownKeyError: The names are no declared key, or values are missing.
            CodecError: A value cannot be part of a key.
        """
        kind = type(key)
        if kind is Lookup:
            return key  # type: ignore[return-value]
        if kind is dict or (kind is not int and kind is not str and isinstance(key, Mapping)):
            given = cast("Mapping[str, object]", key)
            plan = self.plan(tuple(given))
            values = tuple([given[name] for name in plan.names])
        else:
            plan = self.canonical
            values = self._bare(plan, key)
        return Lookup(plan, plan.native(values), values)

    def plan(self, names: Names) -> KeyPlan:
        """Give the key of these names, in any order; UnknownKeyError where the class declares none."""
        plan = self._shapes.get(names)
        if plan is None:
            plan = self._by_names.get(frozenset(names))
            if plan is None:
                raise UnknownKeyError(f"{self.name} has no key {show(names)}; it declares {self.describe()}")
            self._shapes[names] = plan
        return plan

    def listed(self, key: Key) -> "ListLookup":
        """Give which list a key asks for: a mapping of the names of an index, or the bare value where the class has one index alone.

        Raises:
            UnknownKeyError: The names are no declared index, or values are missing.
            CodecError: A value cannot be part of a key.
        """
        if type(key) is ListLookup:
            return key
        given = cast("Mapping[str, object]", key) if isinstance(key, Mapping) else self._bare_index(key)
        plan = next((plan for plan in self.indexes if given.keys() == set(plan.names)), None)
        if plan is None:
            raise UnknownKeyError(f"{self.name} has no index {show(tuple(given))}; {self._told_indexes()}")
        values = tuple([given[name] for name in plan.names])
        return ListLookup(plan, plan.native(values), values)

    def _bare_index(self, key: object) -> dict[str, object]:
        if len(self.indexes) != 1:
            raise UnknownKeyError(
                f"{key!r} does not tell an index of {self.name}; {self._told_indexes()}, to be given as keywords or a dict"
            )
        names = self.indexes[0].declared
        values = key if len(names) > 1 and isinstance(key, (tuple, list)) else (key,)
        if len(values) != len(names):
            raise UnknownKeyError(f"the index of {self.name} is {show(names)}: it needs {len(names)} values in this order, not {key!r}")
        return dict(zip(names, values, strict=True))

    def _told_indexes(self) -> str:
        declared = ", ".join(plan.describe() for plan in self.indexes)
        return f"it declares {declared}" if declared else 'it declares none; give it __indexes__ = ["owner_id", ...]'

    def _bare(self, plan: KeyPlan, key: object) -> tuple[object, ...]:
        # A mapped class may name its primary key in another order than its table does.
        names = self.order
        if len(names) == 1 and not isinstance(key, (tuple, list)):
            return (key,)
        if not isinstance(key, (tuple, list)) or len(key) != len(names):
            raise UnknownKeyError(
                f"the canonical key of {self.name} is {show(names)}: it needs {len(names)} values in this order, not {key!r}; "
                f"the class declares {self.describe()}"
            )
        given = dict(zip(names, key, strict=True))
        return tuple(given[name] for name in plan.names)

    def describe(self) -> str:
        """Give the declared keys as a message shows them."""
        return ", ".join(map(show, self._declared))


def _identity_names(cls: type, names: tuple[Names, ...]) -> Names:
    mapper = mapper_of(cls)
    return names[0] if mapper is None else tuple(mapper.get_property_by_column(c).key for c in mapper.primary_key)


def _index_for(cls: type, names: Names) -> IndexPlan:
    owner = declaring_class(cls, names, index=True)
    if owner is cls:
        return IndexPlan(cls, names)
    return next(plan for plan in keys_of(owner).indexes if set(plan.names) == set(names))


# What a WeakKeyDictionary does, but for the two calls of Python code that each of its look-ups takes.
_compiled: "dict[ref[type[Any]], ClassKeys]" = {}


def keys_of(cls: type) -> ClassKeys:
    """Give the compiled keys of a class.

    Raises:
        NotKeyedError: It declares none, or is no class.
    """
    try:
        keys = _compiled.get(ref(cls))
    except TypeError:
        keys = None
    if keys is not None:
        return keys
    if not isinstance(cls, type):
        raise NotKeyedError(f"the first argument is the class to look up, not {cls!r}")
    return _compiled.setdefault(ref(cls, _forget), ClassKeys(cls))


def _forget(reference: "ref[type[Any]]") -> None:
    _compiled.pop(reference, None)


def forget_keys(cls: type) -> None:
    """Compile the keys of a class anew when they are asked for next: it has been mapped, perhaps once more and otherwise."""
    keys = _compiled.pop(ref(cls), None)
    if keys is not None:
        keys.outdated = True


def alias_plans(cls: type, *, polymorphic: bool) -> tuple[KeyPlan, ...]:
    """Give the keys by which an object of this class is found through an alias: its alternates, and all keys of its bases."""
    plans = dict.fromkeys(keys_of(cls).alternates)
    for base in key_bases(cls, polymorphic=polymorphic):
        plans.update(dict.fromkeys(keys_of(base).plans))
    return tuple(plans)


def may_be_pointed_at(cls: type) -> bool:
    """Whether a look-up of a class may find an object of a subclass, which is kept under an identity of its own."""
    return has_other_identities_below(cls) if keys_of(cls).mapped else bool(cls.__subclasses__())
