"""Rows that are alike are released, and kept in process memory, in one pass, as one by one, and all others one by one."""

from typing import Any

import pytest
from time_machine import Traveller

from stockstore import ProcessMemoryStore
from stockstore.coherence.protocol import Writes
from stockstore.keys import keys_of
from stockstore.mapped import UNLOADED
from stockstore.stores.backed import BackendStore
from stockstore.stores.snapshots import RowSnapshot, snapshot_of
from stockstore.stores.tiers import backed_items, local, tier_of
from tests.coherence.dict_backend import DictBackend
from tests.stores.listed import Mark
from tests.stores.shop import Car, Customer

pytestmark = pytest.mark.sa_agnostic
OVERTAKEN = 4


def mark(number: int) -> RowSnapshot:
    """Give a row without other keys."""
    snapshot = snapshot_of(Mark(id=number, owner_id=1, item_id=None, text=f"mark {number}"))
    assert isinstance(snapshot, RowSnapshot)
    return snapshot


def shorter_lived(number: int) -> RowSnapshot:
    """Give a row that lives for less than the store says."""
    snapshot = mark(number)
    snapshot.lifetime = 5.0
    return snapshot


def unwritable(number: int) -> RowSnapshot:
    """Give a row with a value that cannot be kept."""
    plan, state = mark(number).plan, mark(number).state
    return RowSnapshot(plan, tuple([object() if name == "text" else value for name, value in zip(plan.attrs, state, strict=True)]))


def customer(number: int) -> RowSnapshot:
    """Give a row with other keys."""
    snapshot = snapshot_of(Customer(id=number, email=f"n{number}", tenant=7, name="n", status="s", balance=0, stamp=""))
    assert isinstance(snapshot, RowSnapshot)
    return snapshot


ROWS: dict[str, list[Any]] = {
    "alike": [mark(1), mark(2), mark(3)],
    "not marked": [mark(1), mark(9)],
    "one": [mark(1)],
    "none": [],
    "of two classes": [mark(1), customer(1)],
    "with other keys": [customer(1), customer(2)],
    "of another lifetime": [mark(1), shorter_lived(2)],
    "unwritable": [mark(1), unwritable(2)],
}


def released(rows: list[Any], monkeypatch: pytest.MonkeyPatch, *, alike: bool, **options: Any) -> dict[str, bytes]:
    """Give the cells after a commit, without the times at which they end."""
    store = BackendStore(DictBackend(), namespace="shop", **options)
    with monkeypatch.context() as patch:
        if not alike:
            patch.setattr(backed_items, "released_alike", lambda *_: None)
        patch.setattr("secrets.token_bytes", lambda size: b"t" * size)
        writes, tier = Writes(), tier_of(store)
        for number in (1, 2, 3):
            for cls in (Mark, Customer, Car):
                writes.add(cls, {"id": number})
        places = tier.locate(writes)
        tier.mark(places, b"db.7")
        tier.release(places, b"db.7", committed=True, snapshots=rows)
    cells: dict[str, bytes] = store.backend.cells  # type: ignore[attr-defined]
    assert not any(cell.startswith(b"W") for cell in cells.values())
    return {text: cell[:10] + cell[18:] for text, cell in cells.items()}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("lifetime", [None, 60, lambda _: 30, 0], ids=["lasting", "ending", "varying", "not kept"])
def test_release(name: str, lifetime: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands there is the same either way."""
    found = released(ROWS[name], monkeypatch, alike=True, lifetime=lifetime)
    assert found == released(ROWS[name], monkeypatch, alike=False, lifetime=lifetime)
    kept = name == "alike" and lifetime != 0
    assert any(text.endswith(":i3") for text in found) >= kept


def test_incomplete(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that lacks its primary key is none to be kept, and keeps no other from being."""
    plan = mark(1).plan
    bare = RowSnapshot(plan, (UNLOADED,) * len(plan.attrs))
    for rows in ([bare, mark(1)], [mark(1), bare]):
        assert released(rows, monkeypatch, alike=True) == released(rows, monkeypatch, alike=False)


def unshared(number: int) -> RowSnapshot:
    """Give a row that was read inside a caller's transaction."""
    snapshot = mark(number)
    return RowSnapshot(snapshot.plan, snapshot.state, shared=False)


def ended(number: int) -> RowSnapshot:
    """Give a row whose lifetime is over."""
    snapshot = mark(number)
    snapshot.lifetime = 0.0
    return snapshot


FILLED: dict[str, list[Any]] = ROWS | {
    "overtaken": [mark(1), mark(2), mark(3), mark(OVERTAKEN)],
    "unshared": [mark(1), unshared(2)],
    "ended": [mark(1), ended(2)],
}


def filled(rows: list[Any], monkeypatch: pytest.MonkeyPatch, clock: Traveller, *, alike: bool, **options: Any) -> Any:
    """Give what process memory keeps of rows that were read from below under leases, and until when, and what it counts."""
    clock.move_to(1000)
    store = ProcessMemoryStore(**options)
    tier: Any = tier_of(store)
    with monkeypatch.context() as patch:
        if not alike:
            patch.setattr(local, "rows_alike", lambda *_: None)
        leases = [answer.lease for row in rows for answer in tier.lease(row.cls, [row.key()])]
        writes = Writes()
        writes.add(Mark, {"id": OVERTAKEN})
        tier.invalidate(tier.locate(writes))
        clock.shift(0.25)
        count = tier.fill(list(zip(leases, rows, strict=True)))
    cells = {plan: dict(store._shelves.records("stockstore", plan)) for plan in {keys_of(row.cls).identity for row in rows}}
    nodes = {(plan, native): (node.value, node.expires) for plan, records in cells.items() for native, node in records.items()}
    return count, nodes, store.stats()


@pytest.mark.parametrize("name", FILLED)
@pytest.mark.parametrize("lifetime", [None, 0.5, lambda _: 30, 0], ids=["lasting", "ending", "varying", "not kept"])
@pytest.mark.parametrize("max_staleness", [None, 1.0])
def test_fill(name: str, lifetime: Any, max_staleness: float | None, monkeypatch: pytest.MonkeyPatch, clock: Traveller) -> None:
    """Process memory keeps the same rows either way, for as long, and none that a writer has overtaken."""
    options = {"lifetime": lifetime, "max_staleness": max_staleness}
    found = filled(FILLED[name], monkeypatch, clock, alike=True, **options)
    assert found == filled(FILLED[name], monkeypatch, clock, alike=False, **options)
    kept = {native for _, native in found[1]}
    assert OVERTAKEN not in kept
    assert name != "overtaken" or kept == (set() if lifetime == 0 else {1, 2, 3})
