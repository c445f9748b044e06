"""Rows that were seen before are kept decoded: as many as is bounded, and never what one instance could change for another."""

from typing import Any

import pytest
from sqlalchemy import Column, Integer, event, inspect, select
from sqlalchemy.orm import Session, declarative_base

from stockstore.mapped import familiar, plan_of
from stockstore.mapped.columns import Anything, Json, Kind, Native
from stockstore.mapped.familiar import Familiar
from stockstore.mapped.rows import Rows
from tests.mapped.conftest import Cached
from tests.mapped.models import Doc, Item

NUMBER, TEXT = Native(int), Native(str)


class Packed:
    """Rows of a class of these columns, each by its payload."""

    def __init__(self, *kinds: Kind, primary_key: tuple[str, ...] = ("c0",)) -> None:
        """Make the class."""
        attrs = tuple(f"c{at}" for at in range(len(kinds)))
        self.rows = Rows("tests.Row", attrs, kinds, b"12345678")
        self.familiar = Familiar(object, attrs, primary_key, kinds)

    def see(self, *states: tuple[Any, ...]) -> list[bytes]:
        """Have payloads seen once."""
        payloads = [self.rows.pack(state) for state in states]
        self.familiar.note(payloads, states)
        return payloads


def test_is_known_when_it_was_seen_twice() -> None:
    """The first time nothing is kept, and all have to be known."""
    packed = Packed(NUMBER, TEXT)
    (one,) = packed.see((1, "a"))
    assert packed.familiar.find([one]) is None
    (one, other) = packed.see((1, "a"), (2, "b"))
    assert packed.familiar.find([one]) == [({"c0": 1, "c1": "a"}, (object, (1,), None), b"")]
    assert packed.familiar.find([one, other]) is None
    packed.see((2, "b"))
    found = packed.familiar.find([other, one, other]) or []
    assert [row.values["c1"] for row in found] == ["b", "a", "b"]


def test_key_of_several() -> None:
    """The key has the values in the order of the primary key."""
    packed = Packed(NUMBER, TEXT, primary_key=("c1", "c0"))
    for _ in range(2):
        payloads = packed.see((1, "a"))
    (row,) = packed.familiar.find(payloads) or []
    assert row.key == (object, ("a", 1), None)


def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than twice the bound are kept, those longest that are asked for."""
    monkeypatch.setattr(familiar, "_KEPT", 3)
    monkeypatch.setattr(familiar, "_HEEDED", 5)
    packed = Packed(NUMBER, TEXT)
    (wanted,) = packed.see((0, "wanted"))
    packed.see((0, "wanted"))
    for number in range(1, 40):
        packed.see((number, ""))
        packed.see((number, ""))
        assert packed.familiar.find([wanted])
        assert len(packed.familiar._rows) + len(packed.familiar._older) <= 8
        assert len(packed.familiar._seen) <= 6
    assert packed.familiar.find([packed.rows.pack((1, ""))]) is None


def test_bounds_of_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a batch above the bound, nor one of all that is known, makes it more."""
    monkeypatch.setattr(familiar, "_KEPT", 3)
    packed = Packed(NUMBER, TEXT)
    for start in range(0, 60, 3):
        states = [(number, "") for number in range(start, start + 3)]
        for _ in range(2):
            packed.see(*states)
        packed.familiar.find([packed.rows.pack((number, "")) for number in range(start + 3)])
        packed.see(*[(number, "") for number in range(100)])
        assert len(packed.familiar._rows) + len(packed.familiar._older) <= 8


def test_more_than_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that push each other out before they are of use are noted only now and then; those that are of use stay meanwhile."""
    monkeypatch.setattr(familiar, "_KEPT", 4)
    packed = Packed(NUMBER, TEXT)
    kept = [packed.see((number, "")) for number in range(5) for _ in range(2)]
    assert packed.familiar.find(kept[0])
    others = [packed.see((number, "")) for number in (10, 11, 12) for _ in range(2)]
    assert [packed.familiar.find(payloads) is None for payloads in others] == [True] * 4 + [False] * 2
    assert packed.familiar.find(kept[0])


def test_what_is_of_use_is_noted_further(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where rows were found as often as so many were kept, others are noted at once."""
    monkeypatch.setattr(familiar, "_KEPT", 4)
    packed = Packed(NUMBER, TEXT)
    first = packed.see(*[(number, "") for number in range(4)])
    packed.see(*[(number, "") for number in range(4)])
    assert packed.familiar.find(first)
    for _ in range(2):
        packed.see((4, ""))
    for _ in range(2):
        other = packed.see((5, ""))
    assert packed.familiar.find(other)


def test_others_are_not_kept() -> None:
    """Long rows are not, nor rows with values of unknown types."""
    for packed, state in ((Packed(NUMBER, TEXT), (1, "x" * 2000)), (Packed(NUMBER, Anything()), (1, "x"))):
        for _ in range(3):
            payloads = packed.see(state)
        assert packed.familiar.find(payloads) is None


def test_documents_are_no_ones_but_the_instances() -> None:
    """A document is not kept as it was decoded."""
    packed, document = Packed(NUMBER, Json(), TEXT, Json()), {"tags": ["a"]}
    for _ in range(2):
        payloads = packed.see((1, document, "b", None))
    document["tags"].append("changed")
    (row,) = packed.familiar.find(payloads) or []
    assert row.values == {"c0": 1, "c1": None, "c2": "b", "c3": None}
    once, again = (familiar.documents_in([row, row], 2) for _ in range(2))
    assert once == again == [{"tags": ["a"]}, None] * 2
    assert len({id(found["tags"]) for found in (once[0], once[2], again[0], again[2])}) == 4


@pytest.fixture
def known(cached: Cached) -> list[Any]:
    """Two items as familiar rows."""
    plan = plan_of(Item)
    payloads = [cached(Item, number)[1] for number in (1, 2)]
    for _ in range(2):
        plan.familiar.note(payloads, plan.unpack_all(payloads) or [])
    return plan.familiar.find(payloads) or []


def test_changes_in_place_are_not_shared(db: object, session: Session, known: list[Any]) -> None:
    """What one instance's document is changed to, no other shows, in the same session's time or later."""
    one, other = plan_of(Item).attach_familiar(session, known)
    one.attrs["dims"].append(3)
    assert other.attrs == {"dims": [1, 2]}
    with Session(session.get_bind()) as later:
        assert [item.attrs for item in plan_of(Item).attach_familiar(later, known)] == [{"dims": [1, 2]}] * 2


def test_tracked_documents(session: Session, cached: Cached) -> None:
    """A document whose changes in place are tracked marks its own instance alone."""
    plan, payload = cached(Doc, 1)
    for _ in range(2):
        plan.familiar.note([payload], plan.unpack_all([payload]) or [])
    with Session(session.get_bind()) as other:
        (doc,), (same,) = (plan.attach_familiar(each, plan.familiar.find([payload])) for each in (session, other))
        doc.data["a"] = 2
        assert (doc in session.dirty, same in other.dirty, same.data) == (True, False, {"a": 1})


def test_present_ones_are_completed(session: Session, known: list[Any]) -> None:
    """An instance that is there wins, and of one that lacks a value the function given is told the whole state."""
    plan, told = plan_of(Item), list[Any]()
    items = plan.attach_familiar(session, known)
    items[1].qty = 9
    session.expire(items[0], ["qty", "attrs"])
    assert plan.attach_familiar(session, [*known, known[0]], lambda item, state: told.append((item, state))) == [*items, items[0]]
    assert told == [(items[0], (1, 1, "SKU-1", 1, {"dims": [1, 2]}, 1))] * 2
    assert items[1].qty == 9


def test_on_a_shard(session: Session, known: list[Any]) -> None:
    """With a token the instance stands under the key of its shard."""
    item = plan_of(Item).attach_familiar(session, known, None, "east")[0]
    assert inspect(item).key == (Item, (1,), "east")
    assert inspect(item).identity_token == "east"
    assert known[0].key == (Item, (1,), None)


def test_all_new(session: Session, known: list[Any]) -> None:
    """What is new to a session whose transaction has begun is as if it were loaded, and each instance is its own."""
    session.connection()
    items = plan_of(Item).attach_familiar(session, known)
    with Session(session.get_bind()) as other:
        for item, loaded in zip(items, other.scalars(select(Item).order_by(Item.id)), strict=False):
            assert {**vars(item), "_sa_instance_state": None} == {**vars(loaded), "_sa_instance_state": None}
            state = inspect(item)
            assert (state.obj(), state.key, state.persistent, state.modified) == (item, inspect(loaded).key, True, False)
    assert [session.get(Item, number) for number in (1, 2)] == items
    items[0].qty = 9
    assert [*session.dirty] == [items[0]]
    assert [row.values["qty"] for row in known] == [1, items[1].qty]
    session.rollback()
    assert [item.qty for item in items] == [1, 2]
    del items, item, state
    assert len(session.identity_map) == 0


def test_new_and_present_in_one_batch(session: Session, known: list[Any]) -> None:
    """A row that is there already, or twice among the new ones, has one instance."""
    session.connection()
    plan = plan_of(Item)
    (first,) = plan.attach_familiar(session, known[:1])
    assert plan.attach_familiar(session, known)[0] is first
    del first
    assert len(session.identity_map) == 0
    one, other, again = plan.attach_familiar(session, [*known, known[0]])
    assert one is again
    assert len(session.identity_map) == 2
    assert [session.get(Item, number) for number in (1, 2)] == [one, other]


def test_loads_are_told(session: Session, known: list[Any]) -> None:
    """Who hears of a session's loads hears of each."""
    told: list[Any] = []
    event.listen(session, "loaded_as_persistent", lambda _, instance: told.append(instance))
    session.connection()
    assert told == plan_of(Item).attach_familiar(session, known)
    assert len(told) == 2


class _Plain: ...


class _Named:
    def __new__(cls, *_: object, **__: object) -> Any:
        made = super().__new__(cls)
        made.__dict__["own"] = []
        return made


class _Guarded:
    def __setattr__(self, name: str, value: object) -> None:
        if name.startswith("__"):
            raise AttributeError(name)
        super().__setattr__(name, value)


@pytest.mark.parametrize("base", [_Plain, _Named, _Guarded])
def test_instances_of_other_sorts(session: Session, base: type) -> None:
    """What a class puts in its new instances is there and each one's own, and its refusal to have attributes set is not heard."""
    kind: Any = type("Kind", (base, declarative_base()), {"__tablename__": "kinds", "id": Column(Integer, primary_key=True)})
    plan = plan_of(kind)
    payloads = [plan.pack((number,)) for number in (1, 2)]
    for _ in range(2):
        plan.familiar.note(payloads, plan.unpack_all(payloads) or [])
    session.connection()
    kinds = plan.attach_familiar(session, plan.familiar.find(payloads))
    assert [each.id for each in kinds] == [1, 2]
    assert ["own" in vars(each) for each in kinds] == [base is _Named] * 2
    assert base is not _Named or kinds[0].own is not kinds[1].own
    told: list[Any] = []
    session.expire(kinds[1])
    plan.attach_familiar(session, plan.familiar.find(payloads), lambda *given: told.append(given))
    assert told == [(kinds[1], (2,))]
