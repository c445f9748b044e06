"""What sessions do about lazily loaded collections that is not plain, each in a session of its own."""

from typing import Any

import pytest
from sqlalchemy import inspect, select, text, update
from sqlalchemy.orm import (
    PassiveFlag,
    Session,
    attributes,
    lazyload,
    load_only,
    make_transient_to_detached,
    raiseload,
    selectinload,
    subqueryload,
    with_loader_criteria,
)

from tests.read_through.racks import Bottle, Cooler, Rack
from tests.read_through.served import Run, described


def shown(value: Any) -> Any:
    """Give instances as class and columns, those of a set in the order of their keys."""
    return described(sorted(value, key=lambda bottle: bottle.id) if isinstance(value, set) else value)


def ids_of(rack: Rack) -> list[int]:
    """Give the primary keys of a rack's bottles."""
    return [bottle.id for bottle in rack.bottles]


def first_rack(session: Session) -> Rack:
    """Give rack 1."""
    return session.get_one(Rack, 1)


def _by(statement: Any) -> Run:
    return lambda session: [ids_of(rack) for rack in session.scalars(statement).unique()]


def _named(name: str, number: int = 1) -> Run:
    return lambda session: shown(getattr(session.get_one(Rack, number), name))


def _both_ways(session: Session) -> Any:
    rack = first_rack(session)
    return [(bottle, bottle.rack is rack) for bottle in rack.bottles]


def _identity_map_wins(session: Session) -> Any:
    rack, bottle = first_rack(session), session.get_one(Bottle, 2)
    with session.no_autoflush:
        bottle.label = "mine"
        return [(each.label, each is bottle) for each in rack.bottles]


def _autoflush(session: Session) -> Any:
    rack = first_rack(session)
    session.add(Bottle(id=30, rack_id=1))
    return ids_of(rack)


def _pending_backref(session: Session) -> Any:
    rack = first_rack(session)
    with session.no_autoflush:
        Bottle(id=30, rack=rack)
        session.get_one(Bottle, 4).rack = None
        before = ids_of(rack)
    session.flush()
    session.expire(rack)
    return before, ids_of(rack)


def _appended(session: Session) -> Any:
    rack = first_rack(session)
    rack.bottles.append(Bottle(id=30))
    session.flush()
    return ids_of(rack)


def _replaced(session: Session) -> Any:
    rack = first_rack(session)
    rack.bottles = [Bottle(id=30)]
    session.flush()
    session.expire(rack)
    return ids_of(rack), session.get(Bottle, 2)


def _deleted(session: Session) -> Any:
    rack = first_rack(session)
    session.delete(rack)
    with session.no_autoflush:
        before = ids_of(rack)
    session.flush()
    return before, session.get(Bottle, 2), ids_of(rack)


def _moved(session: Session) -> Any:
    rack = first_rack(session)
    session.get_one(Bottle, 4).rack_id = 2
    before = ids_of(rack)
    session.rollback()
    return before, ids_of(first_rack(session))


def _primary_key_changed(session: Session) -> Any:
    rack = session.get_one(Rack, 3)
    with session.no_autoflush:
        rack.id = 1
        return ids_of(rack)


def _expired(session: Session) -> Any:
    rack, seen = first_rack(session), []
    for expire in (
        lambda: session.expire(rack, ["bottles"]),
        lambda: session.expire(rack),
        session.commit,
        session.rollback,
        session.expire_all,
    ):
        seen.append(ids_of(rack))
        expire()  # type: ignore[no-untyped-call]
    return seen, ids_of(rack)


def _refreshed(session: Session) -> Any:
    rack = first_rack(session)
    before = ids_of(rack)
    session.refresh(rack, ["bottles"])
    return before, ids_of(rack)


def _populated(session: Session) -> Any:
    rack = first_rack(session)
    before = ids_of(rack)
    session.scalars(select(Rack), execution_options={"populate_existing": True}).all()
    return before, ids_of(rack)


def _detached(session: Session) -> Any:
    rack = first_rack(session)
    session.expunge(rack)
    return ids_of(rack)


def _transient(_session: Session) -> Any:
    return Rack(id=1).bottles


def _pending(session: Session) -> Any:
    rack = Rack(id=40)
    session.add(rack)
    with session.no_autoflush:
        before = ids_of(rack)
    return before, ids_of(rack)


def _enabled(session: Session) -> Any:
    rack = Rack(id=1)
    session.enable_relationship_loading(rack)
    return ids_of(rack)


def _made_detached(session: Session) -> Any:
    rack = Rack(id=1)
    make_transient_to_detached(rack)
    session.add(rack)
    return ids_of(rack)


def _merged(session: Session) -> Any:
    return ids_of(session.merge(Rack(id=1, code="a"))), ids_of(session.merge(Rack(id=2, code="b", bottles=[])))


def _history(session: Session) -> Any:
    rack = first_rack(session)
    ways = (PassiveFlag.PASSIVE_NO_INITIALIZE, PassiveFlag.PASSIVE_NO_FETCH, PassiveFlag.PASSIVE_OFF)
    seen = [described(attributes.get_history(rack, "bottles", passive)) for passive in ways]
    session.expire(rack)
    return seen, described(inspect(rack).attrs.bottles.load_history()), sorted(inspect(rack).unloaded)


def _own_write(session: Session) -> Any:
    session.get_one(Bottle, 2).label = "mine"
    session.flush()
    return [bottle.label for bottle in first_rack(session).bottles]


def _statement_of_its_own(session: Session) -> Any:
    rack = first_rack(session)
    session.execute(update(Bottle).where(Bottle.id == 2).values(label="mine"))
    return [bottle.label for bottle in rack.bottles]


def _written_by_text(session: Session) -> Any:
    rack = first_rack(session)
    session.connection().execute(text("UPDATE lazy_bottles SET label = 'mine'"))
    return [bottle.label for bottle in rack.bottles]


def _savepoint(session: Session) -> Any:
    rack = first_rack(session)
    with session.begin_nested():
        before = ids_of(rack)
    session.expire(rack)
    return before, ids_of(rack)


def _failed(session: Session) -> Any:
    rack = first_rack(session)
    session.add(Bottle(id=2))
    with session.no_autoflush, pytest.raises(Exception, match=r"UNIQUE|unique"):
        session.flush()
    return ids_of(rack)


def _closed(session: Session) -> Any:
    rack = first_rack(session)
    session.close()
    return ids_of(rack)


def _in_autocommit(session: Session) -> Any:
    session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
    return ids_of(first_rack(session))


def _bypassing_connection(session: Session) -> Any:
    session.connection(execution_options={"stockstore": False})
    return ids_of(first_rack(session))


def _with_options(*options: Any, **execution: Any) -> Run:
    return lambda session: ids_of(session.get_one(Rack, 1, options=options, execution_options=execution))


def _quietly(name: str) -> Run:
    """Load once as SQLAlchemy does on its own behalf, which raises nothing, and then by looking."""

    def run(session: Session) -> Any:
        for _ in range(2):
            rack: Any = first_rack(session)
            getattr(Rack, name).impl.get(inspect(rack), vars(rack), PassiveFlag.PASSIVE_OFF | PassiveFlag.NO_RAISE)
            session.expire(rack, [name])
        return getattr(rack, name)

    return run


def _dynamic(session: Session) -> Any:
    rack = first_rack(session)
    return rack.dynamic.all(), session.scalars(rack.written.select()).all()


PROGRAMS: dict[str, Run] = {
    "a page": lambda session: (first_rack(session), first_rack(session).bottles),
    "all racks": _by(select(Rack).order_by(Rack.id)),
    "a subclass": lambda session: session.get_one(Cooler, 4).bottles,
    "both ways": _both_ways,
    "identity map": _identity_map_wins,
    "autoflush": _autoflush,
    "pending backref": _pending_backref,
    "appended": _appended,
    "replaced": _replaced,
    "deleted": _deleted,
    "moved": _moved,
    "another primary key": _primary_key_changed,
    "expired": _expired,
    "refreshed": _refreshed,
    "populate_existing": _populated,
    "detached": _detached,
    "transient": _transient,
    "pending": _pending,
    "relationships loaded before the flush": _enabled,
    "made detached": _made_detached,
    "merged": _merged,
    "history": _history,
    "own write": _own_write,
    "statement of its own": _statement_of_its_own,
    "written by text": _written_by_text,
    "savepoint": _savepoint,
    "failed flush": _failed,
    "closed": _closed,
    "autocommit": _in_autocommit,
    "connection past the caches": _bypassing_connection,
    "get past the caches": _with_options(stockstore=False),
    "strict": _with_options(stockstore_strict=True),
    "get with options": _with_options(load_only(Rack.code)),
    "selectinload": _by(select(Rack).options(selectinload(Rack.bottles)).order_by(Rack.id)),
    "subqueryload": _by(select(Rack).options(subqueryload(Rack.bottles)).order_by(Rack.id)),
    "lazyload": _by(select(Rack).options(lazyload(Rack.bottles)).order_by(Rack.id)),
    "lazyload with criteria": _by(select(Rack).options(lazyload(Rack.bottles.and_(Bottle.id > 4))).order_by(Rack.id)),
    "raiseload": _by(select(Rack).options(raiseload(Rack.bottles))),
    "raiseload of all": _by(select(Rack).options(raiseload("*"))),
    "below: load_only": _by(select(Rack).options(lazyload(Rack.bottles).load_only(Bottle.year)).order_by(Rack.id)),
    "load_only": _by(select(Rack).options(load_only(Rack.kind)).order_by(Rack.id)),
    "with_loader_criteria": _by(select(Rack).options(with_loader_criteria(Bottle, Bottle.id > 4)).order_by(Rack.id)),
    "lazy: raise": _named("raising"),
    "lazy: raise_on_sql": _named("raising_on_sql"),
    "lazy: raise, after its history": _quietly("raising"),
    "lazy: raise_on_sql, after its history": _quietly("raising_on_sql"),
    "lazy: dynamic, write_only": _dynamic,
    "criteria of its own": _named("red"),
    "ordered by text": _named("titled"),
    "a scalar": _named("any_one"),
    "none": _named("bottles", 3),
    "by a code": _named("named"),
    "by NULL": _named("named", 5),
}
