"""Many-to-one relationships, by whatever way they are loaded: what they lead to comes from the cache."""

from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import (
    Session,
    immediateload,
    joinedload,
    lazyload,
    load_only,
    raiseload,
    selectinload,
    subqueryload,
    undefer,
    with_loader_criteria,
)

from stockstore_ext.sqlalchemy.read_through.identity import Identities
from tests.read_through.models import Base, Guest, Item, Memo, Node, Owner, Seat, Ticket, rows
from tests.read_through.served import Run, Served
from tests.stores.shop import empty
from tests.sync.conftest import ON_SQLITE
from tests.sync.paths import OUT_OF_BAND

OUT_OF_BAND["rt_owners"] = ("note", "out of band")


@pytest.fixture(scope="module")
def house(shared: Served) -> Served:
    """Rows of each sort, all of them cached."""
    engine: Engine = shared.path.engine
    Base.metadata.create_all(engine)
    empty(engine, Base.metadata)
    shared.seed(*rows())
    shared.cache(Base)
    return shared


def _owners(statement: Any) -> Run:
    """Load by a statement, and give what its rows lead to, which is loaded by then."""

    def run(session: Session) -> Any:
        found = session.scalars(statement).unique().all()
        return [(one.id, vars(one).get("owner", "unloaded"), "bio" in vars(one.owner or one)) for one in found]

    return run


def _lazily(statement: Any) -> Run:
    def run(session: Session) -> Any:
        return [(one, one.owner) for one in session.scalars(statement)]

    return run


ITEMS = select(Item).order_by(Item.id)

LOADED: dict[str, tuple[Run, int]] = {
    "selectinload": (_owners(ITEMS.options(selectinload(Item.owner))), 1),
    "immediateload": (_owners(ITEMS.options(immediateload(Item.owner))), 1),
    "selectinload beside others": (_owners(ITEMS.options(selectinload(Item.owner), load_only(Item.owner_id))), 1),
    "selectin by default": (_owners(select(Ticket).order_by(Ticket.id)), 1),
    "immediate by default": (_owners(select(Memo).order_by(Memo.id)), 1),
    "lazily": (_lazily(ITEMS), 1),
    "lazily, with options": (_lazily(ITEMS.options(load_only(Item.owner_id))), 1),
    "lazily, with lazyload": (_lazily(ITEMS.options(lazyload(Item.owner))), 1),
    "below: load_only": (_owners(ITEMS.options(selectinload(Item.owner).load_only(Owner.name))), 2),
    "below: undefer": (_owners(ITEMS.options(selectinload(Item.owner).undefer(Owner.bio))), 2),
    "below: joinedload": (_owners(ITEMS.options(selectinload(Item.owner).joinedload(Owner.team))), 2),
    "below: selectinload": (_owners(ITEMS.options(selectinload(Item.owner).selectinload(Owner.team))), 2),
    "below: immediateload of a one-to-many": (_owners(ITEMS.options(selectinload(Item.owner).selectinload(Owner.items))), 3),
    "criteria": (_owners(ITEMS.options(selectinload(Item.owner.and_(Owner.name != "owner 2")))), 2),
    "with_loader_criteria": (_owners(ITEMS.options(selectinload(Item.owner), with_loader_criteria(Owner, Owner.name != "owner 2"))), 2),
    "joinedload": (_owners(ITEMS.options(joinedload(Item.owner))), 1),
    "subqueryload": (_owners(ITEMS.options(subqueryload(Item.owner))), 2),
    "lazily, with a wildcard": (_lazily(ITEMS.options(lazyload("*"))), 1),
    "lazily, with undefer below": (_lazily(ITEMS.options(lazyload(Item.owner).options(undefer(Owner.bio)))), 4),
    "selectinload, populate_existing": (
        _owners(ITEMS.options(selectinload(Item.owner)).execution_options(populate_existing=True)),
        2,
    ),
    "selectinload, asked not to": (_owners(ITEMS.options(selectinload(Item.owner)).execution_options(stockstore=False)), 2),
}


@pytest.mark.parametrize(("run", "statements"), LOADED.values(), ids=LOADED.keys())
def test_loaded(house: Served, run: Run, statements: int) -> None:
    """The relationship has the same objects, loaded at the same time; of the statements only those that are needed are left."""
    expected = house.same(run)
    with house.statements() as seen, house.session() as session:
        run(session)
    assert len(seen) == statements, seen
    assert len(expected) > 1


def _both_ways(session: Session) -> Any:
    owner = session.scalars(select(Owner).where(Owner.id == 1)).one()
    return [(item.id, item.owner is owner) for item in owner.items]


def _self_referential(session: Session) -> Any:
    nodes = session.scalars(select(Node).order_by(Node.id).options(selectinload(Node.parent))).all()
    return [(node, node.parent) for node in nodes]


def _recursive(session: Session) -> Any:
    nodes: Any = session.scalars(select(Node).where(Node.id == 4).options(selectinload(Node.parent, recursion_depth=2))).all()
    session.expunge_all()
    return [(node.id, node.parent.id, node.parent.parent.id) for node in nodes]


def _composite(session: Session) -> Any:
    return [(guest, guest.seat) for guest in session.scalars(select(Guest).order_by(Guest.id).options(selectinload(Guest.seat)))]


def _raising(session: Session) -> Any:
    item = session.scalars(ITEMS.options(selectinload(Item.owner), raiseload("*"))).first()
    assert item
    assert item.owner
    return item.owner.name, item.owner.items


def _raising_below(session: Session) -> Any:
    item = session.scalars(ITEMS.options(selectinload(Item.owner).raiseload("*"))).first()
    assert item
    assert item.owner
    return item.owner.name, item.owner.items


def _deferred_below(session: Session) -> Any:
    item = session.scalars(ITEMS.options(selectinload(Item.owner).defer("*"))).first()
    assert item
    assert item.owner
    return sorted(vars(item.owner))


def _raising_lazily(session: Session) -> Any:
    item = session.scalars(ITEMS.options(raiseload(Item.owner))).first()
    assert item
    return item.owner


def _changed_parent(session: Session) -> Any:
    item = session.get_one(Item, 1)
    item.owner_id = 4
    session.flush()
    session.expire(item, ["owner"])
    return item.owner


def _in_memory(session: Session) -> Any:
    owner = session.get_one(Owner, 2)
    items = session.scalars(ITEMS.options(selectinload(Item.owner))).all()
    return [item.owner is owner for item in items]


def _expired_meanwhile(session: Session) -> Any:
    owner = session.get_one(Owner, 2)
    session.expire(owner)
    session.scalars(ITEMS.options(selectinload(Item.owner))).all()
    return sorted(vars(owner))


WAYS: dict[str, Run] = {
    "both ways": _both_ways,
    "self-referential": _self_referential,
    "recursive": _recursive,
    "composite key": _composite,
    "raiseload of all others": _raising,
    "raiseload of all others below": _raising_below,
    "deferred below": _deferred_below,
    "raiseload": _raising_lazily,
    "another parent": _changed_parent,
    "in the identity map": _in_memory,
    "expired in the identity map": _expired_meanwhile,
}


@pytest.mark.parametrize("run", WAYS.values(), ids=WAYS.keys())
def test_same(house: Served, run: Run) -> None:
    """Relationships are as SQLAlchemy gives them."""
    house.same(run)


@ON_SQLITE
def test_a_lazy_load_by_a_key_of_two_columns(house: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the short way to process memory, too, once that is known."""

    def seats() -> list[tuple[int, str]]:
        with house.session() as session:
            return [(guest.id, guest.seat.label) for guest in session.scalars(select(Guest).order_by(Guest.id))]

    with house.plain() as session:
        labels = {(seat.row, seat.number): seat.label for seat in session.scalars(select(Seat))}
        wanted = [(guest.id, labels[guest.seat_row, guest.seat_number]) for guest in session.scalars(select(Guest).order_by(Guest.id))]
    assert seats() == wanted
    monkeypatch.setattr(Identities, "find", None)
    assert seats() == wanted


def test_what_is_loaded_comes_from_the_cache(house: Served) -> None:
    """What changed in the database so that nobody here saw it is not in what a relationship leads to."""
    with house.changed(Owner, 2) as value:
        for statement in (ITEMS.options(selectinload(Item.owner)), ITEMS.options(immediateload(Item.owner)), ITEMS):
            with house.session() as session:
                notes = {item.owner.note for item in session.scalars(statement) if item.owner}
            assert value not in notes
            with house.plain() as session:
                notes = {item.owner.note for item in session.scalars(statement) if item.owner}
            assert value in notes
