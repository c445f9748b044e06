"""The values of rows that are alike: one class, keys of one number or text, no other keys, one lifetime."""

from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any, NamedTuple, cast

from stockstore.backends.coherent import Item
from stockstore.cells import pack_body
from stockstore.coherence.protocol import Record
from stockstore.errors import StockstoreError
from stockstore.keys import KeyPlan
from stockstore.lifetimes import expiry, server_seconds, shorter
from stockstore.stores.backed import BackendStore
from stockstore.stores.cache import CacheStore
from stockstore.stores.claimed import Kept, Together
from stockstore.stores.snapshots import RowSnapshot, Snapshot, payloads_of
from stockstore.stores.tiers.backed_places import BackendPlaces
from stockstore.stores.tiers.looks import BackendLease

_KINDS = ({int}, {str})


class _Alike(NamedTuple):
    """Rows that are alike: their one key, its values, what is kept of each, and for how long."""

    plan: KeyPlan
    natives: list[Any]
    payloads: list[bytes]
    seconds: float | None

    def items(self, texts: Sequence[str | None], generation: bytes) -> list[Item]:
        """Give what is to stand under texts; nothing where there is none."""
        head, keep = pack_body(b"", expiry(self.seconds), generation), server_seconds(self.seconds)
        return [(text, head + payload, keep) for text, payload in zip(texts, self.payloads, strict=True) if text is not None]


def released_alike(
    store: BackendStore,
    places: BackendPlaces,
    snapshots: Sequence[Snapshot],
    generation_for: Callable[[KeyPlan], bytes | None],
    limit: float | None,
) -> tuple[list[Item], list[Record]] | None:
    """Give the values to be kept, and their records; ``None`` where each row has to be looked at by itself."""
    alike = _alike(store, snapshots, limit)
    generation = None if alike is None else generation_for(alike.plan)
    if alike is None or generation is None:
        return None
    records: list[Record] = list(zip(repeat(alike.plan), alike.natives))
    texts = list(map(places.records.get, records))
    if None in texts:
        records = [record for record, text in zip(records, texts, strict=True) if text is not None]
    return alike.items(texts, generation), records


def read_alike(
    store: BackendStore, namespace: str, snapshots: Sequence[Snapshot], generation: bytes, limit: float | None
) -> list[Item] | None:
    """Give the values to be kept of rows that were read; ``None`` where each row has to be looked at by itself."""
    alike = _alike(store, snapshots, limit)
    texts = None if alike is None else alike.plan.texts(namespace, alike.natives)
    return None if alike is None or texts is None else alike.items(texts, generation)


def filled_alike(
    store: BackendStore, namespace: str, group: Sequence[tuple[BackendLease, Snapshot]], limit: float | None
) -> tuple[KeyPlan, list[Item]] | None:
    """Give the identity and the values of rows that were read under leases of one generation; ``None`` where each has to be looked at by itself."""
    rows = [row for _, row in group]
    alike = _alike(store, rows, limit) if all([row.shared for row in rows]) else None  # noqa: C419 - twice as fast as a generator
    texts = None if alike is None else alike.plan.texts(namespace, alike.natives)
    if alike is None or texts != [lease.text for lease, _ in group]:
        return None
    return alike.plan, alike.items(texts, group[0][0].generation)


def rows_alike(store: CacheStore, snapshots: Sequence[Snapshot]) -> list[Kept] | None:
    """Give rows as process memory keeps them, each for what is left of its lifetime; ``None`` where each has to be looked at by itself."""
    alike = _alike(store, snapshots, None, lasting=False)
    if alike is None or not all([snapshot.shared for snapshot in snapshots]):  # noqa: C419 - twice as fast as a generator
        return None
    seconds = [shorter(alike.seconds, snapshot.lifetime) for snapshot in snapshots]
    if any([left is not None and left <= 0 for left in seconds]):  # noqa: C419 - as above
        return None
    cls = snapshots[0].cls
    return [Kept(cls, (), *kept, ()) for kept in zip(alike.natives, alike.payloads, seconds, strict=True)]


def rows_together(store: CacheStore, rows: Sequence[RowSnapshot]) -> Together | None:
    """Give rows that were read from the database as process memory keeps them; ``None`` where each has to be looked at by itself."""
    alike = _alike(store, rows, None)
    values = None if alike is None else dict(zip(alike.natives, alike.payloads, strict=True))
    return None if alike is None or values is None or len(values) < len(rows) else Together(rows[0].cls, values, alike.seconds)


def _alike(store: CacheStore, snapshots: Sequence[Snapshot], limit: float | None, *, lasting: bool = True) -> _Alike | None:
    """Give what rows have in common; of such as have a lifetime of their own only where they need not be ``lasting``."""
    if not {RowSnapshot}.issuperset(map(type, snapshots)) or store._rule.varies:
        return None
    rows = cast("Sequence[RowSnapshot]", snapshots)
    plans = {row.plan for row in rows}
    row_plan = plans.pop() if len(plans) == 1 else None
    if row_plan is None or (lasting and {row.lifetime for row in rows} != {None}):
        return None
    keys, aliases = store._shape(row_plan.cls)
    seconds = shorter(store._rule.seconds(None), limit)
    if aliases or len(keys.identity.names) > 1 or (seconds is not None and seconds <= 0):
        return None
    at = row_plan.attrs.index(keys.identity.names[0])
    natives: list[Any] = [row.state[at] for row in rows]
    if set(map(type, natives)) not in _KINDS:
        return None
    try:
        return _Alike(keys.identity, natives, payloads_of(row_plan, rows), seconds)
    except (StockstoreError, TypeError, ValueError):
        return None
