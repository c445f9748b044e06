"""What caches are owed that were out of reach."""

from typing import cast

from stockstore import Store
from stockstore.stores.tiers import tier_of
from stockstore.stores.tiers.backed import BackendTier
from tests.servers.server import wait_until


def be_told(*caches: Store) -> None:
    """Wait until caches are owed nothing, and the threads have ended that tell them: what is read after that stays."""
    for cache in caches:
        recovery = cast("BackendTier", tier_of(cache)).debts.recovery
        wait_until(lambda: not (recovery.owes() or recovery._payer), f"{cache!r} to be told")  # noqa: B023 - at once
