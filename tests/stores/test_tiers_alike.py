"""Batches of plain hits on rows are answered in passes, as one by one, and all others one by one."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from time_machine import Traveller

from stockstore.cells import BODY_AT, LEASE, NO_ID, PAYLOAD_AT, pack_alias
from stockstore.instrumentation import add_hook, remove_hook
from stockstore.stores.alike import snapshots_in
from stockstore.stores.backed import BackendStore
from stockstore.stores.tiers import looks, tier_of
from tests.coherence.dict_backend import DictBackend
from tests.stores.shop import Car, Customer, Tag, Van, Vehicle

Damage = Callable[[dict[str, bytes]], object]
PREFIX = "shop:tests.stores.shop.Customer:"
GENERATION, ONE, TWO, THREE = PREFIX, *(f"{PREFIX}id:i{number}" for number in (1, 2, 3))


def put(text: str, cell: bytes) -> Damage:
    """Put something else in a cell."""
    return lambda cells: cells.__setitem__(text, cell)


def cut(text: str, at: int, part: bytes) -> Damage:
    """Put something else in a part of a cell."""
    return lambda cells: cells.__setitem__(text, cells[text][:at] + part + cells[text][at + len(part) :])


ODD: dict[str, tuple[Damage, bool]] = {
    "plain": (lambda _: None, True),
    "absent": (lambda cells: cells.pop(TWO), False),
    "a marker": (put(TWO, b"W-db.7"), False),
    "a lease": (put(TWO, LEASE + NO_ID + bytes(16)), False),
    "an alias": (put(TWO, pack_alias(THREE)), False),
    "no cell of ours": (put(TWO, b"\x80\x04 pickled"), False),
    "shorter than a header": (put(TWO, b"V"), False),
    "empty": (put(TWO, b""), False),
    "another format": (cut(TWO, BODY_AT, b"\x09"), False),
    "expired": (cut(TWO, BODY_AT + 1, b"A" + bytes(7)), False),
    "ended before all time": (cut(TWO, BODY_AT + 1, b"\xff\xf0" + bytes(6)), False),
    "ends later": (cut(TWO, BODY_AT + 1, b"\x42" + bytes(7)), True),
    "another generation": (cut(TWO, PAYLOAD_AT - 8, b"another!"), False),
    "another shape": (cut(TWO, PAYLOAD_AT, b"another!"), False),
    "another row": (lambda cells: put(TWO, cells[THREE])(cells), False),
    "damaged": (lambda cells: put(TWO, cells[TWO][:-3])(cells), False),
    "no generation": (lambda cells: cells.pop(GENERATION), False),
    "a marked generation": (put(GENERATION, b"W-db.7"), False),
}


def customer(number: int) -> Customer:
    """Make a row."""
    return Customer(id=number, email=f"n{number}", tenant=7, name=f"n{number}", status="s", balance=0, stamp="")


def car(number: int) -> Car:
    """Make a row of a subclass."""
    return Car(id=number, kind="car", plate=f"p{number}", doors=5)


@pytest.fixture
def cells(clock: Traveller) -> dict[str, bytes]:
    """Rows that were put at different times, on clocks that stand."""
    backend = DictBackend()
    store = BackendStore(backend, namespace="shop", lifetime=60)
    for number in (1, 2, 3):
        store.batch_put([customer(number), car(number), Tag(name=f"t{number}", code="c")])
        clock.shift(1)
    return backend.cells


@pytest.fixture
def told() -> Iterator[list[Any]]:
    """What hooks are told."""
    events: list[Any] = []
    add_hook(events.append)
    yield events
    remove_hook(events.append)


class Resolving:
    """Notes the markers that are met."""

    def __init__(self) -> None:
        self.markers: list[Any] = []

    def met(self, _tier: object, cells: Any) -> None:
        """Note them."""
        self.markers.append(dict(cells))


def outcome(cells: dict[str, bytes], cls: type, keys: list[Any], told: list[Any]) -> list[Any]:
    """Give what a tier above such cells answers, counts, tells, meets, asks and leaves behind."""
    backend = DictBackend()
    backend.cells.update(cells)
    store, resolving = BackendStore(backend, namespace="shop"), Resolving()
    tier: Any = tier_of(store)
    tier.resolvers.append(resolving)
    told.clear()
    answers = [(described(answer.snapshot), lease_of(answer.lease), answer.marked) for answer in tier.lease(cls, keys)]
    leased = sorted(text for text, cell in backend.cells.items() if cell.startswith(LEASE))
    return [answers, store.stats(), list(told), resolving.markers, backend.calls, leased]


def described(row: Any) -> object:
    """Give all that a row is."""
    return row and (row.cls, row.plan, row.state, row.lifetime, row.shared, row.former)


def lease_of(lease: Any) -> object:
    """Give what is not made up for the lease."""
    return lease and lease.text


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each batch that was looked at in passes was answered by them."""
    answered: list[bool] = []
    original = snapshots_in

    def noted(*arguments: Any) -> Any:
        found = original(*arguments)
        answered.append(found is not None)
        return found

    monkeypatch.setattr(looks, "snapshots_in", noted)
    return answered


def both(cells: dict[str, bytes], cls: type, keys: list[Any], told: list[Any], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Compare with the way on which each is judged by itself; give what both gave."""
    found = outcome(cells, cls, keys, told)
    with monkeypatch.context() as patch:
        patch.setattr(looks, "snapshots_in", lambda *_: None)
        expected = outcome(cells, cls, keys, told)
    assert found == expected
    return found


@pytest.mark.parametrize(("damage", "plain"), ODD.values(), ids=ODD)
def test_an_odd_cell_is_what_it_is_by_itself(
    cells: dict[str, bytes], told: list[Any], passes: list[bool], monkeypatch: pytest.MonkeyPatch, damage: Damage, plain: bool
) -> None:
    """The answers, counts, events, markers met, round trips and leases are those of the way one by one."""
    damage(cells)
    answers, *_ = both(cells, Customer, [1, 2, 3], told, monkeypatch)
    assert any(passes) is plain
    assert (answers[1][0] is not None) is plain


@pytest.mark.parametrize(
    ("cls", "keys", "plain"),
    [
        (Customer, [1], True),
        (Customer, [3, 1, 1], True),
        (Customer, [{"id": 2}, 1], True),
        (Customer, [], False),
        (Customer, [1, 4], False),
        (Customer, [1, 10**40], False),
        (Customer, [{"email": "n1"}, {"email": "n2"}], False),
        (Customer, [1, {"email": "n2"}], False),
        (Customer, [{"tenant": 7, "name": "n1"}], False),
        (Tag, ["t1", "t2"], True),
        (Tag, ["t1", 2], False),
        (Car, [1, 2], True),
        (Vehicle, [1, 2], False),
        (Van, [1, 2], False),
    ],
)
def test_a_batch_of_any_keys_is_what_it_is_by_itself(
    cells: dict[str, bytes],
    told: list[Any],
    passes: list[bool],
    monkeypatch: pytest.MonkeyPatch,
    cls: type,
    keys: list[Any],
    plain: bool,
) -> None:
    """Keys of all sorts, of a class and of its bases."""
    both(cells, cls, keys, told, monkeypatch)
    assert any(passes) is plain


def test_what_ends_meanwhile_is_expired(
    cells: dict[str, bytes], told: list[Any], clock: Traveller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the rows put one after another the first ends first."""
    clock.shift(57)
    answers, stats, *_ = both(cells, Customer, [1, 2, 3], told, monkeypatch)
    assert [row is not None for row, _, _ in answers] == [False, True, True]
    assert (stats.hits, stats.expirations) == (2, 1)
