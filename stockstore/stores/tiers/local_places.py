"""Where writes stand in the memory of this process."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from stockstore.coherence.protocol import Record
from stockstore.keys import KeyPlan, ListLookup
from stockstore.stores.claimed import ClaimedSpaces
from stockstore.stores.generations import generation_text
from stockstore.stores.snapshots import Snapshot
from stockstore.stores.tiers.backed import BackendTier


class _Places(NamedTuple):
    """Where writes stand in the memory of who located them."""

    spaces: ClaimedSpaces
    namespace: str
    records: tuple[Record, ...]
    classes: tuple[KeyPlan, ...]

    def forget(self) -> None:
        """Remove what stands there."""
        self.spaces.remove(self.namespace, self.records)
        if self.classes:
            self.spaces.clear(self.namespace, self.classes)


class LocalPlaces(_Places):
    """Places that let go of their markers when nobody has them any more.

    A signal's exception may end a write between its commit and the release. Nobody else would ever take such a marker away.
    """

    ticket: bytes | None = None
    voucher: object = None
    lists: Mapping[Record, ListLookup] = MappingProxyType({})

    def texts(self) -> list[str]:
        """Give the key texts by which the memory of other processes knows them."""
        keys = [(self.lists[record].plan, self.lists[record].native) if record in self.lists else record for record in self.records]
        return [
            *(plan.record_text(self.namespace, native) for plan, native in keys),
            *(generation_text(self.namespace, plan) for plan in self.classes),
        ]

    def voucher_for(self, snapshots: Sequence[Snapshot]) -> object:
        """Give the carrier that was told of a write of these objects."""
        carrier = self.voucher
        return carrier if isinstance(carrier, BackendTier) and all(carrier.holds(one.cls) for one in snapshots) else None

    def __del__(self) -> None:
        """Release what was not released."""
        if self.ticket is not None:
            self.forget()
            self.spaces.release(self.namespace, self.records, self.classes, self.ticket, None, None)
