"""The caches of a store, and the database that they are filled from."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Dialect, Engine

from stockstore.coherence.protocol import Writes
from stockstore.errors import ConfigurationError, StockstoreError
from stockstore.keys import Key, ListLookup, Lookup, keys_of, mapper_of
from stockstore.keys.declared import identity_class
from stockstore.mapped.shown import named
from stockstore.stores.base import Store
from stockstore.stores.cache import CacheStore
from stockstore.stores.chained import ChainedStore
from stockstore.stores.local import LocalStore
from stockstore.stores.null import NullStore
from stockstore.stores.snapshots import RowSnapshot
from stockstore.stores.sqlalchemy import SqlAlchemyStore
from stockstore.stores.tenants import has_own_verbs
from stockstore.stores.tiers import cache_tiers, shards_of, tiers_of
from stockstore_ext.sqlalchemy.collect.lists import indexes_below
from stockstore_ext.sqlalchemy.collect.notes import Notes


def caches_of(store: Store) -> tuple[Any, ...]:
    """Give the tiers of a store that a hook keeps true, from the top down; none, where caching is switched off.

    Raises:
        ConfigurationError: The store is no cache, nor has it one.
    """
    if not isinstance(store, Store):
        raise ConfigurationError(f"SessionSync takes a store, such as RedisStore(url) or a ChainedStore, not {named(store)}")
    cache_tiers(store)
    return tuple(tier for one in _members_of(store) if not one.is_origin and type(one) is not NullStore for tier in tiers_of(one))


def _members_of(store: Store) -> tuple[Store, ...]:
    return store.tiers if isinstance(store, ChainedStore) else (store,)


def stores_of(store: Store) -> tuple[Store, ...]:
    """Give the members of a chain, or the store itself; of one that is sharded its shards."""
    return tuple(shard for one in _members_of(store) for shard in shards_of(one) or (one,))


def origin_engine(store: Store) -> Engine | None:
    """Give the engine of the database at the end of a chain, if it is one alone."""
    engines = origin_engines(store)
    return engines[0] if len(engines) == 1 else None


def origin_engines(store: Store) -> tuple[Engine, ...]:
    """Give the engines of the databases at the end of a chain, which are several where it is sharded."""
    last = _members_of(store)[-1]
    return tuple(one.engine for one in shards_of(last) or (last,) if isinstance(one, SqlAlchemyStore))


def divided_stores(store: Store) -> tuple[CacheStore, ...]:
    """Give the caches of a store that can keep tenants apart: not those of anybody's own verbs."""
    return tuple(one for one in stores_of(store) if isinstance(one, CacheStore) and has_own_verbs(type(one)))


def find_writes(store: Store, cls: type, keys: list[Key], notes: Notes, dialects: Collection[Dialect]) -> None:
    """Note the records that carry keys, in any cache or in a database of one of some dialects, as writes.

    Raises:
        ConfigurationError: The rows are a tenant's, and a key is not the primary one.
    """
    compiled, writes, others = keys_of(cls), notes.writes, []
    for key in keys:
        lookup = compiled.lookup(key)
        if lookup.plan is not compiled.identity:
            others.append(key)
        elif mapper_of(cls) is None:
            writes.add(cls, key)
            others += [key] if _is_found_by_base(store, cls) else []
        else:
            _add_row(cls, lookup, notes, dialects)
    if others and writes.tenant is not None:
        raise ConfigurationError(f"which row of the scope {writes.tenant!r} carries {others[0]!r} is not known here; give primary keys")
    if others:
        _add_carriers(store, cls, others, writes)
    if mapper_of(cls) is not None and indexes_below(identity_class(cls)) and compiled.identity not in writes.classes:
        rows = [Lookup(plan, native, values) for (plan, native), values in writes.records.items() if plan is compiled.identity]
        _add_lists(store, cls, [*rows, *others], writes)


def _is_found_by_base(store: Store, cls: type) -> bool:
    """Whether any cache may find an object of a subclass by a plain class's canonical key."""
    return any(isinstance(one, CacheStore) and one._may_be_pointed_at(cls) for one in stores_of(store))  # noqa: SLF001 - their caches


def _add_row(cls: type, lookup: Lookup, notes: Notes, dialects: Collection[Dialect]) -> None:
    """Add the row of a primary key as the databases have that; the whole class where it is not known how they do."""
    values = dict(zip(lookup.plan.names, lookup.values, strict=True))
    identity = [values[name] for name in lookup.plan.declared]
    for dialect in dialects:
        notes.asked_for(identity_class(cls), [identity], dialect)
    if not dialects:
        notes.given(identity_class(cls), [identity], _unknown)


def _unknown() -> Dialect:
    raise LookupError("no session has used a database yet")


def _add_lists(store: Store, cls: type, keys: list[Key], writes: Writes) -> None:
    """Add the lists that the rows of keys are in by now; those that they have left show it, and are not believed.

    All of the class, where no database tells.
    """
    last = _members_of(store)[-1]
    try:
        rows = last.batch_fetch(cls, keys) if isinstance(last, SqlAlchemyStore) and writes.tenant is None else None
    except StockstoreError:
        rows = None
    if rows is None:
        writes.add_class(cls)
    for row in rows or ():
        for plan in keys_of(row.cls).indexes if isinstance(row, RowSnapshot) else ():
            values = row.values(plan.names) if isinstance(row, RowSnapshot) else None
            if values is not None:
                writes.add_list(ListLookup(plan, plan.native(values), ()))


def _add_carriers(store: Store, cls: type, keys: list[Key], writes: Writes) -> None:
    """Add the records that carry keys, in any cache or in the database.

    All of the class, where the memory of other processes is told and no shared cache knows a key: which rows carry it there
    nobody can tell.
    """
    stores = [one for one in stores_of(store) if isinstance(one, (CacheStore, SqlAlchemyStore)) and one.holds(cls)]
    known: set[int] = set()
    for one in stores:
        rows = {at: row for at, row in enumerate(one.batch_fetch(cls, keys)) if row is not None}
        known.update(rows if not isinstance(one, (LocalStore, SqlAlchemyStore)) else ())
        for row in rows.values():
            writes.add(row.cls, row.key())
    if len(known) < len(keys) and any(isinstance(one, LocalStore) and one.contact is not None for one in stores):
        writes.add_class(cls)
