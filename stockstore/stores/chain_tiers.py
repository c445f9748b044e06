"""What a chain asks of its tiers before it relies on them."""

from collections.abc import Sequence

from stockstore.backends.base import IO
from stockstore.errors import ConfigurationError
from stockstore.keys import Lookup
from stockstore.stores.base import Store
from stockstore.stores.local import LocalStore
from stockstore.stores.snapshots import Snapshot
from stockstore.stores.tiers import shards_of, tier_of


def is_bounded(tier: Store) -> bool:
    """Whether a cache in this process may be old for a moment by what others write."""
    if shards := shards_of(tier):
        return any(map(is_bounded, shards))
    return isinstance(tier, LocalStore) and tier_of(tier).standing().level != "strict"


def io_of(tiers: Sequence[Store]) -> IO:
    """Give how all tiers wait for their servers.

    Raises:
        ConfigurationError: Some block, and some are awaited.
    """
    by_io = {tier.io: tier for tier in tiers}
    if "blocking" in by_io and "awaited" in by_io:
        raise ConfigurationError(
            f"{by_io['blocking']!r} would block the event loop that {by_io['awaited']!r} is for; make both for asyncio, or neither"
        )
    return next((io for io in by_io if io != "either"), "either")


def believed(tier: Store, cls: type, lookups: Sequence[Lookup]) -> list[Snapshot]:
    """Give what a cache has; nothing, where it cannot tell: then it will be known to be out of reach."""
    try:
        return tier.known(cls, lookups) if tier.holds(cls) else []
    except Exception:  # noqa: BLE001 - a tier may be anybody's class
        return []
