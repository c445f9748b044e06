"""Objects as what is to stand in a shared cache."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from stockstore.backends.coherent import Item
from stockstore.cells import pack_alias, pack_body
from stockstore.coherence.protocol import Record
from stockstore.errors import StockstoreError
from stockstore.keys import KeyPlan
from stockstore.lifetimes import expiry, server_seconds, shorter
from stockstore.stores.backed import BackendStore
from stockstore.stores.cache import Entry
from stockstore.stores.snapshots import Snapshot
from stockstore.stores.tiers.alike_rows import filled_alike, read_alike, released_alike
from stockstore.stores.tiers.backed_places import BackendPlaces
from stockstore.stores.tiers.looks import BackendLease

if TYPE_CHECKING:
    from stockstore.stores.tiers.backed import BackendTier


class Packed(NamedTuple):
    """Values for the records of objects, the aliases that point to them, and the records."""

    items: list[Item]
    aliases: list[Item]
    records: list[Record]


class BackendItems:
    """Packs objects; leaves out those that the store may not keep, or cannot, which is reported."""

    def __init__(self, tier: "BackendTier", store: BackendStore) -> None:
        """Pack as a store keeps its objects, for as long as its tier lets them live."""
        self._tier = tier
        self._store = store

    def read(self, rows: Sequence[Snapshot], generation: bytes) -> Packed:
        """Pack rows that were read under a generation."""
        namespace = self._store._namespace()
        alike = read_alike(self._store, namespace, rows, generation, self._tier.limited(None))
        if alike is not None:
            return Packed(alike, [], [])
        packed = Packed([], [], [])
        for entry in self._entries(rows):
            self._add(packed, entry.plan.record_text(namespace, entry.native), entry, namespace, generation)
        return packed

    def leased(self, group: Sequence[tuple[BackendLease, Snapshot]]) -> tuple[KeyPlan | None, Packed]:
        """Pack what a lower tier gave under leases of one token, where they are leases on just that; give its identity, too."""
        namespace = self._store._namespace()
        alike = filled_alike(self._store, namespace, group, self._tier.limited(None))
        if alike is not None:
            return alike[0], Packed(alike[1], [], [])
        packed = Packed([], [], [])
        for lease, snapshot in group:
            for entry in self._entries([snapshot] if snapshot.shared else []):
                if lease.text == entry.plan.record_text(namespace, entry.native):
                    self._add(packed, lease.text, entry, namespace, lease.generation)
        return packed.records[0][0] if packed.records else None, packed

    def released(self, places: BackendPlaces, snapshots: Sequence[Snapshot]) -> Packed:
        """Pack what was committed at places that were marked."""
        packed = Packed([], [], [])
        if not snapshots:
            return packed
        generation_for = cache(places.generation_for)
        alike = released_alike(self._store, places, snapshots, generation_for, self._tier.limited(None))
        if alike is not None:
            return Packed(alike[0], [], alike[1])
        for entry in self._entries(snapshots):
            text, generation = places.records.get((entry.plan, entry.native)), generation_for(entry.plan)
            if text is not None and generation is not None:
                self._add(packed, text, entry, places.namespace, generation)
        return packed

    def _add(self, packed: Packed, text: str, entry: Entry, namespace: str, generation: bytes) -> None:
        body, keep = entry.snapshot.payload(self._store._codec), server_seconds(entry.seconds)
        packed.items.append((text, pack_body(body, expiry(entry.seconds), generation), keep))
        packed.records.append((entry.plan, entry.native))
        if entry.aliases:
            pointer = pack_alias(text)
            packed.aliases.extend((plan.alias_text(namespace, native), pointer, keep) for plan, native in entry.aliases)

    def _entries(self, snapshots: Sequence[Snapshot]) -> Iterator[Entry]:
        """Give objects as the store keeps them, but those that it may not or cannot keep."""
        entries: Iterable[Entry] | None = self._all_entries(snapshots)
        if entries is None:
            entries = self._possible_entries(snapshots)
        limit = self._tier.limited(None)
        for entry in entries:
            if entry.stored:
                yield entry if limit is None else entry._replace(seconds=shorter(entry.seconds, limit))

    def _all_entries(self, snapshots: Sequence[Snapshot]) -> list[Entry] | None:
        """Give all objects at once, ``None`` where some of them cannot be kept."""
        try:
            entries = self._store._entries(snapshots)
            for snapshot in snapshots:
                snapshot.payload(self._store._codec)
        except (StockstoreError, TypeError, ValueError):
            return None
        return entries

    def _possible_entries(self, snapshots: Sequence[Snapshot]) -> Iterator[Entry]:
        for snapshot in snapshots:
            try:
                (entry,) = self._store._entries([snapshot])
                snapshot.payload(self._store._codec)
            except (StockstoreError, TypeError, ValueError) as error:
                self._tier.report(f"cannot keep a {snapshot.cls.__qualname__}", error)
                continue
            if entry.stored:
                yield entry
