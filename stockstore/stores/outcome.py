"""What a write has done besides what it was asked for, or may have done."""

from dataclasses import dataclass

from stockstore.errors import OriginError
from stockstore.stores.snapshots import Snapshot


@dataclass(frozen=True)
class Outcome:
    """What a tier wrote or deleted, for the tiers above it.

    Attributes:
        count: How many of the targets were stored, or were there to be deleted.
        snapshots: The objects as they are now stored, in the order given; a deleted one has a lifetime of zero.
        others: Rows that were written or deleted along with them, such as by an ORM cascade.
        swept: Classes of which the database itself may have changed any row, such as by ``ON DELETE CASCADE``.
    """

    count: int
    snapshots: list[Snapshot]
    others: list[Snapshot]
    swept: frozenset[type]


class UnconfirmedError(OriginError):
    """The connection was lost while the database committed: it may or may not have written this outcome."""

    def __init__(self, message: str, outcome: Outcome) -> None:
        """Hold what would be written."""
        super().__init__(message)
        self.outcome = outcome
