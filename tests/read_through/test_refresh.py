"""The refresh of expired objects: served from the cache, with everything that SQLAlchemy does to them."""

from typing import Any

import pytest
from sqlalchemy import Engine, event, inspect, select, update
from sqlalchemy.orm import Session, selectinload
from sqlalchemy.orm.exc import ObjectDeletedError, StaleDataError

from tests.read_through.models import Base, Counted, Item, Owner, Point, rows
from tests.read_through.served import Run, Served
from tests.stores.shop import Car, Customer, Vehicle, empty
from tests.sync.conftest import ON_SQLITE
from tests.sync.paths import OUT_OF_BAND

OUT_OF_BAND["rt_owners"] = ("note", "out of band")


@pytest.fixture
def house(served: Served) -> Served:
    """Rows of each sort, all of them cached."""
    engine: Engine = served.path.engine
    Base.metadata.create_all(engine)
    empty(engine, Base.metadata)
    served.seed(*rows(), Customer(id=1, email="a", name="ann"), Car(id=1, plate="car", doors=4))
    served.cache(Base)
    served.cache()
    return served


def _names(owner: object) -> list[str]:
    return sorted(name for name in vars(owner) if not name.startswith("_"))


def _committed(session: Session) -> Any:
    owner = session.get_one(Owner, 1)
    session.commit()
    return "name" in vars(owner), owner.name, _names(owner), owner.place, owner.prefs, inspect(owner).modified


def _expired(session: Session) -> Any:
    owner = session.get_one(Owner, 1)
    session.expire(owner)
    return owner.shout, owner.address, _names(owner), inspect(owner).expired, inspect(owner).expired_attributes


def _in_part(session: Session) -> Any:
    owner = session.get_one(Owner, 1)
    owner.note = "changed"
    session.expire(owner, ["name", "email"])
    with session.no_autoflush:
        return owner.name, _names(owner), owner.note, owner in session.dirty, inspect(owner).attrs.note.history.deleted


def _with_relationship(session: Session) -> Any:
    owner = session.get_one(Owner, 1)
    ids = [item.id for item in owner.items]
    session.expire(owner)
    return ids, owner.name, _names(owner), [item.id for item in owner.items]


def _composite(session: Session) -> Any:
    owner = session.get_one(Owner, 1)
    first = owner.place
    session.expire(owner, ["x", "y"] if "x" in inspect(Owner).attrs else ["_place_x"])
    return owner.place == first == Point(1, -1)


def _mutable(session: Session) -> Any:
    owner = session.get_one(Owner, 1)
    session.expire(owner)
    owner.prefs["more"] = 1
    return owner in session.dirty, dict(owner.prefs), inspect(owner).attrs.prefs.history.has_changes()


def _got_again(session: Session) -> Any:
    owner = session.get_one(Owner, 1)
    session.expire(owner)
    again = session.get(Owner, 1)
    return again is owner, _names(owner)


def _inherited(session: Session) -> Any:
    car = session.get_one(Car, 1)
    session.expire(car, ["doors"])
    doors = car.doors
    session.expire(car)
    return doors, car.plate, car.doors, _names(car)


def _joined(session: Session) -> Any:
    item = session.get_one(Item, 1)
    session.get_one(Owner, 2)
    session.expire_all()
    return item.owner, item.name


SERVED: dict[str, Run] = {
    "after a commit": _committed,
    "expired": _expired,
    "in part": _in_part,
    "composite": _composite,
    "mutable": _mutable,
    "session.get": _got_again,
    "inheritance": _inherited,
    "relationship": _joined,
}


@pytest.mark.parametrize("run", SERVED.values(), ids=SERVED.keys())
def test_served(house: Served, run: Run) -> None:
    """The attributes come from the cache, and the object is as if they came from the database."""
    house.hits(run)


def _deferred(session: Session) -> Any:
    owner = session.get_one(Owner, 1)
    before = _names(owner)
    bio = owner.bio
    session.expire(owner)
    return before, bio, owner.name, _names(owner), owner.bio


def _expression(session: Session) -> Any:
    counted = session.get_one(Counted, 1)
    session.expire(counted)
    return counted.length, counted.name, _names(counted)


def _asked(session: Session) -> Any:
    owner = session.get_one(Owner, 1)
    session.refresh(owner)
    return owner.name, _names(owner)


def _asked_in_part(session: Session) -> Any:
    owner = session.get_one(Owner, 1)
    session.refresh(owner, ["name"])
    return owner.name, _names(owner)


def _for_update(session: Session) -> Any:
    owner = session.get_one(Owner, 1)
    session.refresh(owner, with_for_update=True)
    return owner.name


def _own_write(session: Session) -> Any:
    owner = session.get_one(Owner, 1)
    owner.name = "mine"
    session.flush()
    session.expire(owner)
    return owner.name, owner.version


def _with_options(session: Session) -> Any:
    item = session.scalars(select(Item).where(Item.id == 1).options(selectinload(Item.owner))).one()
    session.expire(item)
    return item.name, _names(item)


NOT_SERVED: dict[str, Run] = {
    "relationship of many": _with_relationship,
    "deferred": _deferred,
    "expression": _expression,
    "session.refresh": _asked,
    "session.refresh in part": _asked_in_part,
    "session.refresh for update": _for_update,
    "loaded with options": _with_options,
    "own write": _own_write,
}


@pytest.mark.parametrize("run", NOT_SERVED.values(), ids=NOT_SERVED.keys())
def test_not_served(house: Served, run: Run) -> None:
    """What the cache does not have, or must not answer, comes from the database."""
    house.misses(run)


def test_what_is_refreshed_comes_from_the_cache(house: Served) -> None:
    """An expired object gets what the cache has, ``session.refresh`` what the database has."""
    with house.session() as session:
        owner = session.get_one(Owner, 1)
        with house.changed(Owner, 1) as value:
            session.expire(owner)
            assert owner.note == ""
            session.refresh(owner)
            assert owner.note == value
            session.commit()
            assert owner.note == ""


def test_gone(house: Served) -> None:
    """An object whose row another session has deleted raises, and is said to be gone by ``session.get``."""
    with house.session() as session:
        owner, customer = session.get_one(Owner, 4), session.get_one(Customer, 1)
        session.commit()
        with house.session() as other:
            other.delete(other.get_one(Owner, 4))
            other.delete(other.get_one(Customer, 1))
            other.commit()
        with pytest.raises(ObjectDeletedError):
            assert owner.name
        assert session.get(Customer, 1) is None
        assert customer not in session


def test_of_another_class(house: Served) -> None:
    """An object whose row has come to be of its base class is as it stands in the tables of its own; the caches have it as the base class's."""
    with house.session() as session:
        car = session.get_one(Car, 1)
        session.commit()
        with house.session() as other:
            other.execute(update(Vehicle).where(Vehicle.id == 1).values(kind="vehicle"))
            other.commit()
            assert type(other.get(Vehicle, 1)) is Vehicle
        assert (car.kind, car.plate, car.doors) == ("vehicle", "car", 4)


def test_version(house: Served) -> None:
    """An object that was refreshed after another session's commit has its version, and can be written."""
    with house.session() as session:
        owner = session.get_one(Owner, 1)
        session.commit()
        with house.session() as other:
            other.get_one(Owner, 1).name = "theirs"
            other.commit()
        assert owner.name == "theirs"
        owner.name = "mine"
        session.commit()
    assert (house.path.row(Owner, 1) or {})["version"] == 3


def test_stale_version(house: Served) -> None:
    """One that was not refreshed cannot."""
    with house.session() as session:
        owner = session.get_one(Owner, 1)
        with house.session() as other:
            other.get_one(Owner, 1).name = "theirs"
            other.commit()
        owner.name = "mine"
        with pytest.raises(StaleDataError):
            session.flush()


@ON_SQLITE
def test_events(house: Served) -> None:
    """The event of a refresh names the attributes."""
    heard: list[Any] = []

    def refreshed(owner: Owner, _context: object, names: set[str] | None) -> None:
        heard.append((owner.id, sorted(names or ())))

    event.listen(Owner, "refresh", refreshed)
    try:
        with house.session() as session:
            owner = session.get_one(Owner, 1)
            session.expire(owner, ["name", "note"])
            assert owner.name == "owner 1"
    finally:
        event.remove(Owner, "refresh", refreshed)
    assert heard == [(1, ["name", "note"])]
