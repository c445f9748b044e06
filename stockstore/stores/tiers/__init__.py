"""The stores as tiers of the coherence protocol."""

from collections.abc import Sequence
from typing import cast

from stockstore.backends.coherent import CoherentBackend
from stockstore.coherence.protocol import Tier
from stockstore.errors import ConfigurationError
from stockstore.stores.backed import BackendStore
from stockstore.stores.base import Store
from stockstore.stores.local import LocalStore
from stockstore.stores.sharded import ShardedStore
from stockstore.stores.snapshots import Snapshot
from stockstore.stores.tenants import has_own_verbs
from stockstore.stores.threadlocal import ThreadLocalStore
from stockstore.stores.tiers.backed import BackendTier
from stockstore.stores.tiers.guarded import GuardedTier
from stockstore.stores.tiers.local import LocalTier, ThreadLocalTier
from stockstore.stores.tiers.sharded import ShardTier

__all__ = ["cache_tiers", "carrier_of", "clear_tier", "join_channels", "shards_of", "tier_of", "tiers_of"]


def tier_of(store: object) -> Tier[Snapshot]:
    """Give the tier of a cache store, of which there is one.

    Raises:
        ConfigurationError: It is a database or a chain, or no store at all.
    """
    if not isinstance(store, Store) or store.is_origin or hasattr(store, "tiers"):
        raise ConfigurationError(f"{store!r} is no cache; give a cache store, such as ProcessMemoryStore() or RedisStore(url)")
    tier = store.__dict__.get("_tier")
    return cast("Tier[Snapshot]", store.__dict__.setdefault("_tier", _new_tier(store)) if tier is None else tier)


def tiers_of(store: object) -> tuple[Tier[Snapshot], ...]:
    """Give the tiers of a cache store, which are several where it is sharded.

    Raises:
        ConfigurationError: It is a database or a chain, or no store at all.
    """
    shards = shards_of(store)
    if not isinstance(store, ShardedStore) or not shards or store.is_origin:
        return (tier_of(store),)
    known = store.__dict__.get("_tiers")
    return cast("tuple[Tier[Snapshot], ...]", store.__dict__.setdefault("_tiers", _shard_tiers(store)) if known is None else known)


def shards_of(store: object) -> tuple[Store, ...]:
    """Give the shards of a store of ours; of any other, such as of one with verbs of its own, none."""
    return store.shards if isinstance(store, ShardedStore) and has_own_verbs(type(store)) else ()


def clear_tier(store: Store, cls: type | None) -> None:
    """Clear a store of a chain; what readers are about to keep there is as old as what is cleared."""
    for one in shards_of(store) or (store,):
        tier = one.__dict__.get("_tier")
        if isinstance(tier, GuardedTier):
            # All other stores' own verb takes the leases away.
            tier.refuse_fills(cls)
    store.clear(cls)


def _shard_tiers(store: ShardedStore) -> tuple[Tier[Snapshot], ...]:
    last = len(store.shards) - 1
    return tuple(ShardTier(tier_of(shard), store.sharding, at, is_last=at == last) for at, shard in enumerate(store.shards))


def cache_tiers(store: object) -> tuple[Tier[Snapshot], ...]:
    """Give the tiers of a cache store or of a chain's caches, from the top down, the database left out.

    Raises:
        ConfigurationError: There is no cache in it.
    """
    parts = getattr(store, "tiers", (store,))
    tiers = tuple(tier for part in parts if part is store or not getattr(part, "is_origin", False) for tier in tiers_of(part))
    if not tiers:
        raise ConfigurationError(f"{store!r} has no cache; add one above the database, e.g. ChainedStore([ProcessMemoryStore(), ...])")
    return tiers


def carrier_of(store: Store) -> BackendTier | None:
    """Give the tier of a store that carries a channel, where it is the origin of its objects."""
    tier = tier_of(store) if isinstance(store, BackendStore) else None
    return tier.carrier if isinstance(tier, BackendTier) else None


def join_channels(tiers: Sequence[Tier[Snapshot]], carrier: BackendTier | None = None) -> None:
    """Have process memory listen to the channel of the nearest tier below it that carries one, of a sharded one to those of all shards.

    Args:
        tiers: From the top down.
        carrier: The origin, where it is one.
    """
    for at, tier in enumerate(tiers):
        memory = getattr(tier, "inner", tier)
        if isinstance(memory, LocalTier):
            for found in _nearest(tiers[at + 1 :]) or [carrier]:
                if found is not None:
                    memory.hear(found)


def _nearest(tiers: Sequence[Tier[Snapshot]]) -> list[BackendTier | None]:
    found: list[BackendTier | None] = []
    for tier in tiers:
        if found and not isinstance(tier, ShardTier):
            break
        if isinstance(tier.carrier, BackendTier):
            found.append(tier.carrier)
            if not isinstance(tier, ShardTier):
                break
    return found


def _new_tier(store: Store) -> Tier[Snapshot]:
    if not has_own_verbs(type(store)):
        return GuardedTier(store)
    if isinstance(store, ThreadLocalStore):
        return ThreadLocalTier(store)
    if isinstance(store, LocalStore):
        return LocalTier(store)
    if isinstance(store, BackendStore) and isinstance(store._backend, CoherentBackend):
        return BackendTier(store, store._backend)
    return GuardedTier(store)
