"""The values of written rows that are alike: one class, keys of one number or text, no other keys, one lifetime."""

from collections.abc import Callable, Sequence
from typing import Any

from stockstore.backends.coherent import Item
from stockstore.cells import pack_body
from stockstore.coherence.protocol import Record
from stockstore.errors import StockstoreError
from stockstore.keys import KeyPlan
from stockstore.lifetimes import expiry, server_seconds, shorter
from stockstore.stores.backed import BackendStore
from stockstore.stores.snapshots import RowSnapshot, Snapshot
from stockstore.stores.tiers.backed_places import BackendPlaces

_KINDS = ({int}, {str})


def released_alike(
    store: BackendStore,
    places: BackendPlaces,
    snapshots: Sequence[Snapshot],
    generation_for: Callable[[KeyPlan], bytes | None],
    limit: float | None,
) -> tuple[list[Item], list[Record]] | None:
    """Give the values to be kept, and their records; ``None`` where each row has to be looked at by itself."""
    plans = {snapshot.plan if isinstance(snapshot, RowSnapshot) else None for snapshot in snapshots}
    row_plan = plans.pop() if len(plans) == 1 else None
    if row_plan is None or store._rule.varies:
        return None
    keys, aliases = store._shape(row_plan.cls)
    seconds = shorter(store._rule.seconds(None), limit)
    lasting = seconds is None or seconds > 0
    generation = generation_for(keys.identity)
    if aliases or len(keys.identity.names) > 1 or not lasting or generation is None:
        return None
    rows = [snapshot for snapshot in snapshots if isinstance(snapshot, RowSnapshot) and snapshot.lifetime is None]
    at = row_plan.attrs.index(keys.identity.names[0])
    natives: list[Any] = [row.state[at] for row in rows]
    if len(rows) < len(snapshots) or set(map(type, natives)) not in _KINDS:
        return None
    texts = [places.records.get((keys.identity, native)) for native in natives]
    try:
        payloads = [row.payload() for row in rows]
    except (StockstoreError, TypeError, ValueError):
        return None
    head, keep = pack_body(b"", expiry(seconds), generation), server_seconds(seconds)
    found = [(text, head + payload, keep) for text, payload in zip(texts, payloads, strict=True) if text is not None]
    records: list[Record] = [(keys.identity, native) for text, native in zip(texts, natives, strict=True) if text is not None]
    return found, records
