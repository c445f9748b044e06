"""What a shared cache does not have, leased along with the look at it, and filled with what the database gives."""

from typing import NamedTuple

from stockstore.coherence.reader import filling
from stockstore.stores.members import Members
from stockstore.stores.snapshots import RowSnapshot
from stockstore.stores.tiers.backed import BackendTier
from stockstore.stores.tiers.local_misses import LocalMisses
from stockstore.stores.tiers.looks import BackendLease


class Absent(NamedTuple):
    """One row, or one list, that the caches do not have, and that nobody is writing as far as they know.

    It is leased in all of them, the upper one's before the lower one's, so that the database alone is left to be asked.

    Attributes:
        tier: The shared cache.
        lease: Its lease.
        misses: The leases of process memory above it; ``None`` where there is none.
    """

    tier: BackendTier
    lease: BackendLease
    misses: LocalMisses | None

    def keep(self, row: RowSnapshot | None) -> None:
        """Fill the caches with the row that the database gave, the lower one first."""
        if row is not None and row.shared:
            filling(self.tier, lambda: self.tier.fill([(self.lease, row)]))
            if self.misses is not None:
                self.misses.fill_rows(self.tier, [row])
        elif self.misses is not None:
            self.misses.give_back_all()

    def keep_list(self, members: Members) -> None:
        """Fill the caches with the list that the database gave, and with its rows.

        Memory leases the rows before the shared cache is given them. Where that puts all of them, nobody has written one since the list was
        leased, and they stand there now: memory keeps what it would have read there under these leases.
        """
        if not members.shared:
            if self.misses is not None:
                self.misses.give_back_all()
            return
        misses = self.misses
        # What is still owed to the shared cache was written meanwhile, maybe, and stands there against no fill.
        leased = misses is not None and misses.lease_rows(members.rows) and self.tier.readable(members.cls)
        whole = filling(self.tier, lambda: self.tier.lists.fill_with_rows(self.lease, members))
        if misses is None:
            return
        misses.fill_list(self.tier, members)
        if leased and whole:
            for row in members.rows:
                row.shared = True
            misses.fill_rows(self.tier, members.rows)
        else:
            misses.give_back_all()
