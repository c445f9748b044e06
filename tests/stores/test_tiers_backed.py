"""Shared caches as tiers: generations, round trips, releases side by side, servers out of reach."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from time_machine import Traveller

from stockstore import CacheUnreachable
from stockstore.cells import ALIAS, LEASE, VALUE, is_marker
from stockstore.coherence.protocol import Writes
from stockstore.stores.backed import BackendStore
from stockstore.stores.snapshots import ObjectSnapshot, Snapshot, snapshot_of
from stockstore.stores.tiers import tier_of
from tests.coherence.dict_backend import DictBackend
from tests.stores.shop import Car, Circle, Customer, Shape, Van, Vehicle

LOG = "stockstore.stores.tiers.backed"


@dataclass
class Row:
    __keys__ = ["id", "name"]
    id: int
    name: str
    version: int = 0


def row(number: int, version: int = 0) -> Row:
    """Make a row."""
    return Row(number, f"n{number}", version)


def customer(number: int, stamp: str = "") -> Customer:
    """Make a mapped row."""
    return Customer(id=number, email=f"n{number}", tenant=7, name=f"n{number}", status="s", balance=0, stamp=stamp)


@pytest.fixture
def backend() -> DictBackend:
    """An empty one."""
    return DictBackend()


@pytest.fixture
def store(backend: DictBackend) -> BackendStore:
    """A store on it."""
    return BackendStore(backend, namespace="shop")


@pytest.fixture
def tier(store: BackendStore) -> Any:
    """Its tier."""
    return tier_of(store)


def leased(tier: Any, cls: type, key: Any = 1) -> Any:
    """Take a lease that is granted."""
    (answer,) = tier.lease(cls, [key])
    assert answer.lease is not None
    return answer.lease


def fill(tier: Any, obj: Any) -> bool:
    """Lease and fill."""
    return bool(tier.fill([(leased(tier, type(obj), obj.id), snapshot_of(obj))]))


def places(tier: Any, *objects: Any, wide: type | None = None) -> Any:
    """Give the places of writes."""
    writes = Writes()
    for obj in objects:
        writes.add(type(obj), {"id": obj.id})
    if wide is not None:
        writes.add_class(wide)
    return tier.locate(writes)


def found(tier: Any, cls: type, key: Any = 1) -> Snapshot | None:
    """Give what the tier has."""
    (answer,) = tier.lease(cls, [key])
    return answer.snapshot  # type: ignore[no-any-return]


def text_of(backend: DictBackend, ending: str) -> str:
    """Give the one key with this ending."""
    (text,) = [key for key in backend.cells if key.endswith(ending)]
    return text


# -- round trips -----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [row, customer])
def test_each_step_of_a_batch_is_one_call(tier: Any, backend: DictBackend, make: Any) -> None:
    """A hit is one call, a miss three with its fill, a commit two."""
    one, two = make(1), make(2)
    cls = type(one)
    answers = tier.lease(cls, [1, 2])
    tier.fill([(answers[0].lease, snapshot_of(one)), (answers[1].lease, snapshot_of(two))])
    assert backend.calls == ["get", "lease", "fill"]
    backend.calls.clear()
    assert all(answer.snapshot for answer in tier.lease(cls, [1, 2]))
    assert backend.calls == ["get"]
    backend.calls.clear()
    at = places(tier, one, two)
    assert backend.calls == []
    tier.mark(at, b"db.1")
    tier.release(at, b"db.1", committed=True, snapshots=[snapshot_of(one), snapshot_of(two)])
    assert backend.calls == ["mark", "release"]
    assert all(answer.snapshot for answer in tier.lease(cls, [1, 2]))


def test_an_empty_batch_is_no_call(tier: Any, backend: DictBackend) -> None:
    """Nothing is asked for nothing."""
    assert tier.lease(Row, []) == []
    assert tier.fill([]) == 0
    assert backend.calls == []


# -- generations -----------------------------------------------------------------------------------


def test_rows_carry_the_generation_of_their_hierarchy(tier: Any, store: BackendStore, backend: DictBackend) -> None:
    """A generation that has gone takes all rows of the hierarchy with it, for every way to read; plain objects have none."""
    for obj in (customer(1), Car(id=1, kind="car", plate="b", doors=5), row(1)):
        assert fill(tier, obj)
    assert [store.get(cls, 1) is None for cls in (Customer, Car, Vehicle, Row)] == [False] * 4
    for text in [text for text in backend.cells if text.endswith(":")]:
        del backend.cells[text]
    assert [store.get(cls, 1) is None for cls in (Customer, Car, Vehicle, Row)] == [True, True, True, False]
    assert store.batch_get(Customer, [{"email": "n1"}, {"email": "n2"}]) == [None, None]
    assert store.batch_get(Customer, [{"tenant": 7, "name": "n1"}]) == [None]
    assert found(tier, Customer) is None
    assert store.batch_get(Customer, [1]) == [None]
    store.put(customer(1, "new"))
    assert [obj and obj.stamp for obj in store.batch_get(Customer, [1])] == ["new"]
    assert [obj and obj.stamp for obj in store.batch_get(Customer, [{"email": "n1"}])] == ["new"]


def test_a_standalone_read_leases_nothing(store: BackendStore, backend: DictBackend) -> None:
    """A miss of a store by itself leaves no lease, no generation, nothing."""
    assert store.get(Customer, 1) is None
    assert store.get(Customer, email="x") is None
    assert store.batch_get(Row, [1, 2]) == [None, None]
    assert backend.cells == {}


def test_a_standalone_read_passes_leases_and_markers(tier: Any, store: BackendStore) -> None:
    """What is no value is a plain miss, and no damage."""
    leased(tier, Row, 1)
    fill(tier, row(2))
    tier.mark(places(tier, row(2), wide=Customer), b"db.1")
    assert store.batch_get(Row, [1, 2, {"name": "n2"}]) == [None, None, None]
    assert store.batch_get(Row, [1, 2]) == [None, None]
    assert store.get(Customer, 1) is None
    assert store.stats().errors == 0


def test_a_fill_carries_the_generation_of_its_lease(tier: Any, backend: DictBackend) -> None:
    """A row read before a writer had its whole class is not read after it, also where its lease stands."""
    lease = leased(tier, Customer)
    at = places(tier, wide=Customer)
    tier.mark(at, b"db.1")
    tier.release(at, b"db.1", committed=True)
    leased(tier, Customer, 2)
    assert tier.fill([(lease, snapshot_of(customer(1, "old")))]) == 1
    assert found(tier, Customer) is None


def test_a_released_row_carries_the_generation_of_its_mark(tier: Any, backend: DictBackend) -> None:
    """A row released after another writer had its whole class, and readers have begun a new generation, is not read."""
    leased(tier, Customer, 2)
    one, wide = places(tier, customer(1)), places(tier, wide=Customer)
    tier.mark(one, b"db.1")
    tier.mark(wide, b"db.2")
    tier.release(wide, b"db.2", committed=True)
    leased(tier, Customer, 3)
    tier.release(one, b"db.1", committed=True, snapshots=[snapshot_of(customer(1, "older"))])
    assert found(tier, Customer) is None


def test_a_write_of_a_class_and_of_rows_keeps_no_row(tier: Any, backend: DictBackend) -> None:
    """The writer's own new generation is not known yet: nothing is put that nobody could read."""
    leased(tier, Customer, 2)
    at = places(tier, customer(1), wide=Customer)
    tier.mark(at, b"db.1")
    tier.release(at, b"db.1", committed=True, snapshots=[snapshot_of(customer(1))])
    assert [cell for cell in backend.cells.values() if is_marker(cell) or (cell.startswith(VALUE) and len(cell) > 17)] == []


def test_a_put_in_a_marked_generation_is_not_seen(tier: Any, store: BackendStore) -> None:
    """While a writer has the whole class a put straight to the store is not read, before its end and after it."""
    at = places(tier, wide=Customer)
    tier.mark(at, b"db.1")
    store.put(customer(1))
    assert store.get(Customer, 1) is None
    tier.release(at, b"db.1", committed=True)
    assert found(tier, Customer) is None


def test_a_concrete_subclass_has_a_generation_of_its_own(tier: Any, store: BackendStore) -> None:
    """What a polymorphic read of the base finds is of the subclass's generation."""
    assert tier.fill([(leased(tier, Shape), snapshot_of(Circle(id=1, colour="red", radius=2)))]) == 0
    assert fill(tier, Circle(id=1, colour="red", radius=2))
    for key in (1, {"colour": "red"}):
        snapshot = found(tier, Shape, key)
        assert snapshot is not None
        assert snapshot.cls is Circle
    tier.invalidate(places(tier, wide=Circle))
    assert found(tier, Shape) is None
    assert store.get(Shape, colour="red") is None


# -- aliases ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [row, customer])
def test_an_alias_leads_to_the_lease_of_its_record(tier: Any, backend: DictBackend, make: Any) -> None:
    """Where a pointer stands and its record does not, the record is leased; it is filled with that record alone."""
    obj, key = make(1), {"name" if make is row else "email": "n1"}
    fill(tier, obj)
    tier.invalidate(places(tier, obj))
    backend.calls.clear()
    lease = leased(tier, type(obj), key)
    assert backend.calls == ["follow", "lease"]
    assert tier.fill([(lease, snapshot_of(make(2)))]) == 0
    assert tier.fill([(lease, snapshot_of(obj))]) == 1
    assert found(tier, type(obj), key) is not None
    tier.mark(places(tier, obj), b"db.1")
    assert tier.lease(type(obj), [key]) == [(None, None, True, False)]


def test_an_alias_that_is_wrong_gives_no_lease(tier: Any, backend: DictBackend) -> None:
    """A pointer to a record that carries another value, or to a key of another class or namespace, is not followed by a lease."""
    fill(tier, row(1))
    alias = text_of(backend, "~name:sn1")
    backend.cells[alias.replace("sn1", "sn2")] = backend.cells[alias]
    assert tier.lease(Row, [{"name": "n2"}]) == [(None, None, False, False)]
    for target in (b"shop:other.Class:id:i1", b"else" + backend.cells[alias][5:], b"", b"\xff\xfe", b"a b:c:d"):
        backend.cells[alias] = ALIAS + target
        assert tier.lease(Row, [{"name": "n1"}]) == [(None, None, False, False)]
    assert [cell for cell in backend.cells.values() if cell.startswith(LEASE)] == []


# -- values that cannot be used --------------------------------------------------------------------


def test_a_value_of_another_release_is_replaced_once_in_a_while(
    tier: Any, store: BackendStore, backend: DictBackend, clock: Traveller
) -> None:
    """Two releases side by side do not replace one another's value at every read; each key counts by itself."""
    for make in (row, customer):
        cls = type(make(1))
        fill(tier, make(1))
        fill(tier, make(2))
        for number in (1, 2):
            text = text_of(backend, f"{cls.__name__}:id:i{number}")
            cell = backend.cells[text]
            backend.cells[text] = cell[:26] + b"another!" + cell[34:]
        foreign = dict(backend.cells)
        assert fill(tier, make(1))
        backend.cells.update(foreign)
        assert tier.lease(cls, [1]) == [(None, None, False, False)]
        assert fill(tier, make(2))
        backend.cells.update(foreign)
        clock.shift(11)
        assert fill(tier, make(1))


@pytest.mark.parametrize("cell", [b"V" + bytes(30), b"V", b"\x80\x04 pickled", b"", b"Ashop:x:y"])
def test_what_is_damaged_gives_way_to_a_lease(tier: Any, backend: DictBackend, cell: bytes) -> None:
    """Foreign bytes under a record's key are replaced."""
    fill(tier, row(1, 1))
    backend.cells[text_of(backend, "Row:id:i1")] = cell
    assert fill(tier, row(1, 2))
    assert found(tier, Row) is not None


def test_an_expired_value_gives_way_to_a_lease(backend: DictBackend, clock: Traveller) -> None:
    """What the server has not dropped yet is a miss, counted as expired, and replaced."""
    store = BackendStore(backend, lifetime=5)
    tier = tier_of(store)
    fill(tier, row(1, 1))
    clock.shift(6)
    assert fill(tier, row(1, 2))
    assert store.stats().expirations == 1
    fill(tier, row(2))
    clock.shift(4)
    answer = tier.lease(Row, [1])[0]
    assert answer.snapshot is not None
    assert answer.snapshot.lifetime == pytest.approx(1, abs=0.001)


def test_a_row_of_another_class_keeps_its_place(tier: Any) -> None:
    """A car asked for by a van's key is absent for good: the car stays, and nothing is leased."""
    fill(tier, Car(id=1, kind="car", plate="b", doors=5))
    assert tier.lease(Van, [1]) == [(None, None, False, False)]
    assert found(tier, Vehicle) is not None


def test_a_value_that_came_before_the_lease_is_a_hit(tier: Any, backend: DictBackend, store: BackendStore) -> None:
    """Who finds the record filled when it asks for the lease has its answer."""
    for make in (row, customer):
        obj = make(1)

        def come_in(step: str, obj: Any = obj) -> None:
            if step == "lease":
                backend.before = lambda step: None
                store.put(obj)

        backend.before = come_in
        snapshot = found(tier, type(obj))
        assert snapshot is not None
        assert snapshot.native(store._shape(type(obj))[0].identity) == 1


def test_a_marker_that_came_before_the_lease_is_one(tier: Any, backend: DictBackend) -> None:
    """Who finds the record, or the whole class, marked when it asks for the lease fills nothing, nor above."""
    for at in (places(tier, customer(1)), places(tier, wide=Customer)):

        def come_in(step: str, at: Any = at) -> None:
            if step == "lease":
                backend.before = lambda step: None
                tier.mark(at, b"db.1")

        backend.before = come_in
        assert tier.lease(Customer, [1]) == [(None, None, True, False)]
        tier.release(at, b"db.1", committed=False)


# -- resolvers -------------------------------------------------------------------------------------


def test_markers_that_are_met_are_told_and_resolved(tier: Any, backend: DictBackend) -> None:
    """Each resolver is told of the marked cells, those of generations too; it takes a dead writer's markers away."""
    met: list[dict[str, bytes]] = []

    class Resolver:
        def met(self, tier: Any, cells: Mapping[str, bytes]) -> None:
            met.append(dict(cells))
            tier.resolve(list(cells), b"db.1")

    tier.resolvers.append(Resolver())
    fill(tier, customer(1))
    assert met == []
    at = places(tier, customer(1), wide=Customer)
    tier.mark(at, b"db.1")
    assert sorted(tier.texts(at)) == sorted(key for key, cell in backend.cells.items() if is_marker(cell))
    assert tier.lease(Customer, [1]) == [(None, None, True, False)]
    assert met == [dict.fromkeys(tier.texts(at), b"W-db.1")]
    assert fill(tier, customer(1))


# -- a server out of reach -------------------------------------------------------------------------


def test_a_read_that_is_not_answered_goes_on_below(
    tier: Any, store: BackendStore, backend: DictBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """A server out of reach is asked once: no lease, no error, a count and a line in the log."""
    lease = leased(tier, Row)
    backend.down = True
    backend.calls.clear()
    with caplog.at_level(logging.WARNING, LOG):
        assert tier.lease(Row, [1, 2]) == [(None, None, False, True)] * 2
        assert tier.fill([(lease, ObjectSnapshot(row(1)))]) == 0
    assert backend.calls == ["get", "fill"]
    assert store.stats().errors == 2
    assert ["was not read" in caplog.messages[0], "was not filled" in caplog.messages[1]] == [True, True]


def test_leases_that_are_not_answered_leave_the_hits(tier: Any, backend: DictBackend) -> None:
    """Where the server goes between read and lease, what was read is given."""
    fill(tier, row(1))

    def come_in(step: str) -> None:
        backend.down = step == "lease"

    backend.before = come_in
    answers = tier.lease(Row, [1, 2])
    assert [answer.snapshot is not None for answer in answers] == [True, False]
    assert answers[1] == (None, None, False, False)


def test_a_store_that_is_to_raise_raises(backend: DictBackend) -> None:
    """With on_error="raise" a read that is not answered is an error."""
    tier = tier_of(BackendStore(backend, on_error="raise"))
    backend.down = True
    with pytest.raises(CacheUnreachable):
        tier.lease(Row, [1])


def test_a_step_of_a_writer_is_tried_twice(tier: Any, backend: DictBackend) -> None:
    """One lost connection loses no marker, no release and no invalidation; a second one is CacheUnreachable."""
    at = places(tier, row(1))
    steps = {
        "mark": lambda: tier.mark(at, b"db.1"),
        "release": lambda: tier.release(at, b"db.1", committed=True, snapshots=[ObjectSnapshot(row(1, 2))]),
        "invalidate": lambda: tier.invalidate(at),
    }
    for name, step in steps.items():
        failing = [True, False]

        def come_in(_: str, failing: list[bool] = failing) -> None:
            backend.down = failing.pop(0) if failing else False

        backend.before, backend.calls = come_in, []
        step()  # type: ignore[no-untyped-call]
        assert backend.calls == [name, name]
        failing += [True, True]
        with pytest.raises(CacheUnreachable):
            step()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("make", [row, customer])
def test_what_is_owed_is_told_when_the_server_answers(tier: Any, backend: DictBackend, clock: Traveller, make: Any) -> None:
    """Until then the class is not read; then the old value, the lease and the marker are gone, and others' markers are kept."""
    cls = type(make(1))
    for number in (1, 2, 3):
        fill(tier, make(number))
    at = places(tier, make(1), make(2), make(4))
    tier.mark(places(tier, make(1)), b"db.1")
    tier.mark(places(tier, make(4)), b"db.2")
    backend.down = True
    tier.owe(at, b"db.1")
    assert not tier.readable(cls)
    clock.shift(1.5)
    assert not tier.readable(cls)
    backend.down = False
    clock.shift(1.5)
    assert tier.readable(cls)
    assert [(a.snapshot is None, a.marked) for a in tier.lease(cls, [1, 2, 3, 4])] == [
        (True, False),
        (True, False),
        (False, False),
        (True, True),
    ]
    tier.release(places(tier, make(4)), b"db.2", committed=True, snapshots=[snapshot_of(make(4))])
    assert found(tier, cls, 4) is None


@pytest.mark.parametrize(("make", "limit"), [(row, 2), (customer, 2), (row, 0), (customer, 0)])
def test_a_whole_class_is_owed(
    tier: Any, backend: DictBackend, clock: Traveller, monkeypatch: pytest.MonkeyPatch, make: Any, limit: int
) -> None:
    """A class written all over, or too many of its records, is dropped whole when the server answers."""
    monkeypatch.setattr("stockstore.coherence.recovery.LIMIT", limit or 10_000)
    objects = [make(number) for number in range(1, 5)]
    for obj in objects:
        fill(tier, obj)
    backend.down = True
    tier.owe(places(tier, *objects[:3]) if limit else places(tier, wide=type(objects[0])))
    backend.down = False
    clock.shift(1.5)
    assert tier.readable(type(objects[0]))
    assert [found(tier, type(objects[0]), number) for number in range(1, 5)] == [None] * 4


def test_the_standing_tells_whether_markers_may_be_lost(backend: DictBackend, tier: Any) -> None:
    """A server that may drop markers makes the tier fast, and says why."""
    assert tier.standing().level == "strict"
    backend.marker_loss = lambda: "it evicts"  # type: ignore[method-assign]
    assert tier.standing() == ("fast", "it evicts")
