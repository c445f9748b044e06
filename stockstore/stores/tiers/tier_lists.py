"""What the lists of a tier have of the tier itself."""

from stockstore.coherence.protocol import Tier
from stockstore.stores.snapshots import Snapshot


class TierLists:
    """Lists that are readable where the records of their tier are."""

    def __init__(self, tier: Tier[Snapshot]) -> None:
        """Belong to a tier."""
        self._tier = tier

    def __repr__(self) -> str:
        """Name the store."""
        return repr(self._tier)

    def holds(self, cls: type) -> bool:
        """Whether the store keeps objects of a class."""
        return self._tier.holds(cls)

    def readable(self, cls: type) -> bool:
        """As the tier."""
        return self._tier.readable(cls)

    def passed_by(self, cls: type, count: int) -> None:
        """As the tier."""
        self._tier.passed_by(cls, count)
