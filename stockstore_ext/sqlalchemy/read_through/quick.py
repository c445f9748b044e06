# ruff: noqa: SLF001 - as in a look at a session
"""The hit in process memory, as short as it can be: a look-up in a dictionary, and an instance made from what stands there."""

import time
from collections.abc import Callable
from operator import itemgetter
from typing import Any, Final, TypeAlias

from sqlalchemy.orm import Session

from stockstore.errors import CodecError
from stockstore.instrumentation import listening
from stockstore.keys import keys_of
from stockstore.mapped import MappedPlan, plan_of
from stockstore.stores.memory import ProcessMemoryStore
from stockstore.stores.tenants import current as asking
from stockstore.stores.tiers.local import LocalTier
from stockstore_ext.sqlalchemy.read_through.classes import Classes
from stockstore_ext.sqlalchemy.read_through.exact import kinds_of
from stockstore_ext.sqlalchemy.read_through.glance import Glance

Hit: TypeAlias = Callable[[Session, Any], Any]
_QUICK: Final = frozenset((int, str))
_NOTHING: Final[dict[Any, Any]] = {}
_now = time.monotonic


def memory_of(tiers: tuple[Any, ...]) -> ProcessMemoryStore | None:
    """Give the store whose hits are the chain's: process memory above all else, with one namespace for all."""
    store = tiers[0]._store if tiers and type(tiers[0]) is LocalTier else None
    return store if type(store) is ProcessMemoryStore and not callable(store._namespace_setting) else None


def compile_hit(store: ProcessMemoryStore, classes: Classes, glance: Glance, cls: type) -> Hit | None:
    """Give a function of a session and a primary key, a tuple in the table's order where that has several columns, that gives the object where that is a plain hit, else ``None``.

    Its tests are those of the tier and of the serving, which are asked where it gives ``None``. It counts as they do.
    """
    plan, identity = plan_of(cls), keys_of(cls).identity
    by_name = dict(zip(identity.names, kinds_of(cls, identity), strict=True))
    kinds = tuple([by_name[name] for name in identity.declared])
    if not _QUICK.issuperset(kinds):
        return None
    kind, root, width, manager = kinds[0], plan.root, plan.width, plan.mapper.class_manager
    dicts: Any = store._shelves._dicts
    place = (store._namespace_setting, identity, False)
    unpack, is_sure = plan.unpack, glance.is_sure
    attaching: dict[Any, Any] = {one: one.attach for one in served_plans(classes, plan)}

    def answer(session: Session, node: Any) -> Any:
        if (
            listening
            or store.tenant_rules
            or asking.get() is not None
            or len(manager) != width
            or ((contact := store.contact) is not None and contact.fresh_until <= _now())
            or not is_sure(session, cls)
        ):
            return None
        # In this order: see LocalCells.
        expires, value = node.expires, node.value
        found, state = None, ()
        if value is not None and (expires is None or expires > _now()):
            try:
                found, state = unpack(value)
            except CodecError:
                return None
        attach = attaching.get(found)
        if attach is None:
            return None
        node.hits += 1
        return attach(session, state)

    def by_one(session: Session, key: Any) -> Any:
        if type(key) is not kind:
            return None
        present = session.identity_map._dict.get((root, (key,), None))
        if present is not None:
            obj = present.obj()
            return obj if isinstance(obj, cls) and not present.expired else None
        node = dicts.get(place, _NOTHING).get(key)
        return None if node is None else answer(session, node)

    def by_several(session: Session, key: Any) -> Any:
        if type(key) is not tuple or tuple(map(type, key)) != kinds:
            return None
        present = session.identity_map._dict.get((root, key, None))
        if present is not None:
            obj = present.obj()
            return obj if isinstance(obj, cls) and not present.expired else None
        node = dicts.get(place, _NOTHING).get(sort(key))
        return None if node is None else answer(session, node)

    if len(kinds) == 1:
        return by_one
    sort = itemgetter(*map(identity.declared.index, identity.names))
    return by_several


def served_plans(classes: Classes, plan: MappedPlan) -> list[MappedPlan]:
    """Give the plans of a class and its subclasses whose states are what a load would give."""
    plans = [plan_of(mapper.class_) for mapper in plan.mapper.self_and_descendants]
    return [one for one in plans if one.root is plan.root and not one.deferred and not classes.refuses(one.cls)]
