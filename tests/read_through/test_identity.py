"""Loads by primary key: session.get and lazy many-to-one loads, served with the results of the database."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, event, inspect
from sqlalchemy.orm import Session, defer, joinedload, lazyload, load_only, make_transient, raiseload, selectinload, with_loader_criteria

from tests.read_through.library import Author, Base, Book, Guarded, Parcel, Place, Priced, Reader, Shelf
from tests.read_through.served import Run, Served
from tests.stores.shop import Animal, Car, Cat, Circle, Customer, Dog, Order, Shape, Square, Tag, Van, Vehicle, empty
from tests.stores.shop import Place as Seat
from tests.sync.conftest import CROSSED, ON_MEMORY, ON_SQLITE, Attach

ID = uuid.UUID(int=7)


@pytest.fixture(scope="module")
def library(shop_tables: Engine) -> Iterator[Engine]:
    """The database with the library's tables."""
    Base.metadata.create_all(shop_tables)
    yield shop_tables
    Base.metadata.drop_all(shop_tables)


@pytest.fixture
def rows(library: Engine, served: Served) -> Served:
    """Rows of each sort."""
    empty(library, Base.metadata)
    served.seed(
        Customer(id=1, email="1@x", name="ann"),
        Order(id=1, number="one", customer_id=1),
        Seat(row="a", number=1, label="one"),
        Car(id=1, plate="car", doors=4),
        Van(id=2, plate="van", load=9),
        Vehicle(id=3, plate="bike"),
        Dog(id=1, name="dog", bark="wow"),
        Cat(id=2, name="cat", purr="rr"),
        Tag(name="Red", code="R"),
        Square(id=1, colour="red", side=1),
        Circle(id=2, colour="blue", radius=1),
        Author(id=1, email="ann@x", prefs={"a": 1}),
        Shelf(id=1, author_id=1),
        Book(id=1, author_id=1, shelf_id=1),
        Book(id=2),
        Reader(id=1, book_id=1),
        Guarded(id=1),
        Priced(id=1),
        Parcel(id=ID),
    )
    return served


def get(cls: type[Any], key: object, **options: Any) -> Run:
    """A run that asks for one object."""
    return lambda session: session.get(cls, key, **options)


def _unloaded(author: Author) -> list[str]:
    """Give what a load has left out, of an instance that is held: one that has gone has no values."""
    return sorted(inspect(author).unloaded)


def _without_autoflush(session: Session) -> object:
    session.add(Customer(id=9, email="9@x"))
    with session.no_autoflush:
        return session.get(Customer, 1)


SERVED: dict[str, tuple[type[Any], Any, Run]] = {
    "get": (Customer, 1, get(Customer, 1)),
    "get_one": (Customer, 1, lambda session: session.get_one(Customer, 1)),
    "tuple": (Customer, 1, get(Customer, (1,))),
    "list": (Customer, 1, get(Customer, [1])),
    "mapper": (Customer, 1, get(inspect(Customer), 1)),  # type: ignore[arg-type]
    "dict": (Customer, 1, get(Customer, {"id": 1})),
    "synonym": (Author, 1, get(Author, {"number": 1})),
    "composite key": (Seat, ("a", 1), get(Seat, ("a", 1))),
    "composite key, dict": (Seat, ("a", 1), get(Seat, {"number": 1, "row": "a"})),
    "key of the application's own type": (Parcel, ID.hex, get(Parcel, ID)),
    "text": (Tag, "Red", get(Tag, "Red")),
    "joined inheritance": (Vehicle, 1, get(Car, 1)),
    "joined inheritance, base": (Vehicle, 2, get(Vehicle, 2)),
    "joined inheritance, base itself": (Vehicle, 3, get(Vehicle, 3)),
    "single-table inheritance": (Animal, 1, get(Dog, 1)),
    "single-table inheritance, base": (Animal, 2, get(Animal, 2)),
    "deferred columns, composite, mutable, reconstructor": (Author, 1, get(Author, 1)),
    "Query.get": (Customer, 1, lambda session: session.query(Customer).get(1)),
    "lazy many-to-one": (Customer, 1, lambda session: session.get_one(Order, 1).customer),
    "lazy many-to-one, None": (Book, 2, lambda session: session.get_one(Book, 2).author),
    "merge": (Customer, 1, lambda session: session.merge(Customer(id=1)).name),
    "no_autoflush": (Customer, 1, _without_autoflush),
    "logging_token": (Customer, 1, get(Customer, 1, execution_options={"logging_token": "x"})),
}


@pytest.mark.parametrize("name", SERVED)
@pytest.mark.filterwarnings("ignore:The Query.get")
def test_served(rows: Served, name: str) -> None:
    """Asked for a second time, no database is reached, and what another connection writes stays unseen."""
    cls, key, run = SERVED[name]
    expected = rows.hits(run)
    with rows.changed(cls, key):
        assert rows.outcome(run) == expected


@CROSSED
def test_each_cache(rows: Served) -> None:
    """Each kind of cache serves above each database, and loads what it lacks once."""
    for cls, key in ((Customer, 1), (Seat, ("a", 1)), (Car, 1), (Animal, 2), (Author, 1)):
        expected = rows.hits(get(cls, key))
        with rows.changed(cls, key):
            assert rows.outcome(get(cls, key)) == expected


REFUSED: dict[str, tuple[type[Any], Any, Run]] = {
    "__cache__ = False": (Guarded, 1, get(Guarded, 1)),
    "eager relationship": (Reader, 1, get(Reader, 1)),
    "SQL expression": (Priced, 1, get(Priced, 1)),
    "polymorphic by a union": (Square, 1, get(Shape, 1)),
    "one of a union's classes": (Square, 1, get(Square, 1)),
    "with_for_update": (Customer, 1, get(Customer, 1, with_for_update=True)),
    "populate_existing": (Customer, 1, get(Customer, 1, populate_existing=True)),
    "bypass": (Customer, 1, get(Customer, 1, execution_options={"stockstore": False})),
    "bypass by another value": (Customer, 1, get(Customer, 1, execution_options={"stockstore": "no"})),
    "other options": (Customer, 1, get(Customer, 1, execution_options={"tag": "x"})),
    "bind": (Customer, 1, lambda session: session.get(Customer, 1, bind_arguments={"bind": session.get_bind()})),
    "joinedload": (Author, 1, get(Author, 1, options=[joinedload(Author.books)])),
    "load_only": (Author, 1, get(Author, 1, options=[load_only(Author.name)])),
    "criteria": (Author, 1, get(Author, 1, options=[with_loader_criteria(Author, Author.id > 5)])),
    "Query.get with options": (Author, 1, lambda session: session.query(Author).options(joinedload(Author.books)).get(1)),
    "lazy load of a parent that was loaded with options": (
        Author,
        1,
        lambda session: session.get_one(Book, 1, options=[lazyload(Book.author).load_only(Author.name)]).author,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore:The Query.get")
def test_refused(rows: Served, name: str) -> None:
    """What a cache cannot give exactly is read from the database each time, although it is cached where it may be."""
    cls, key, run = REFUSED[name]
    rows.same(get(cls, key))
    expected = rows.outcome(run)
    with rows.changed(cls, key):
        assert rows.outcome(run) != expected or name == "criteria"
    assert rows.misses(run) == expected


def _unflushed(session: Session) -> object:
    session.add(Order(id=9, number="9", customer_id=1))
    return session.get(Customer, 1), list(session.new)


def _closed(session: Session) -> object:
    customer = session.get(Customer, 1)
    session.close()
    return customer


def _change(session: Session) -> object:
    author = session.get_one(Author, 1)
    assert author not in session.dirty
    author.prefs["a"] = 2  # type: ignore[index]
    assert author in session.dirty
    author.name = "other"
    history = inspect(author).attrs.name.history
    return list(history.added), list(history.deleted)


def _deleted(session: Session) -> object:
    customer = session.get_one(Order, 1)
    session.delete(customer)
    with session.no_autoflush:
        return session.get(Order, 1) is customer


def _expunged(session: Session) -> object:
    customer = session.get_one(Customer, 1)
    session.expunge(customer)
    make_transient(customer)
    return session.get(Customer, 1) is customer, inspect(customer).session is None


def _expired(session: Session) -> object:
    customer = session.get_one(Customer, 1)
    session.expire(customer)
    return session.get(Customer, 1) is customer, customer.name


def _state(session: Session) -> object:
    state = inspect(session.get_one(Customer, 1))
    return state.key, state.identity_token, state.persistent, state.modified, state.session is session, session.in_transaction()


def _rolled_back(session: Session) -> object:
    customer = session.get_one(Customer, 1)
    session.rollback()
    return sorted(inspect(customer).expired_attributes), customer.name


ODD: dict[str, Run] = {
    "no row": get(Customer, 99),
    "no row of a subclass": get(Car, 99),
    "sibling, joined": get(Van, 1),
    "sibling, single table": get(Cat, 1),
    "sibling in the identity map": lambda session: (session.get(Vehicle, 1), session.get(Van, 1)),
    "None": get(Customer, None),
    "None in a composite key": get(Seat, ("a", None)),
    "too many values": get(Customer, (1, 2)),
    "wrong names": get(Customer, {"nick": 1}),
    "text for a number": get(Customer, "x"),
    "text of a number": get(Customer, "1"),
    "float": get(Customer, 1.0),
    "truth value": get(Customer, True),
    "list in a tuple": get(Customer, ([1],)),
    "other case": get(Tag, "red"),
    "text for the application's own type": get(Parcel, ID.hex),
    "no class": get("Customer", 1),  # type: ignore[arg-type]
    "unmapped class": get(int, 1),
    "get_one without a row": lambda session: session.get_one(Customer, 99),
    "raiseload on a deferred column": lambda session: session.get_one(Author, 1).secret,
    "relationship that may not emit SQL": lambda session: session.get_one(Book, 1).shelf,
    "the same, with its object in the session": lambda session: (session.get(Shelf, 1), session.get_one(Book, 1).shelf),
    "raiseload option": lambda session: session.get_one(Book, 1, options=[raiseload(Book.author)]).author,
    "raiseload option of SQL": lambda session: session.get_one(Book, 1, options=[raiseload(Book.author, sql_only=True)]).author,
    "selectinload": lambda session: session.get_one(Author, 1, options=[selectinload(Author.books)]).books,
    "deferred column": lambda session: session.get_one(Author, 1).bio,
    "unloaded": lambda session: _unloaded(session.get_one(Author, 1)),
    "composite": lambda session: session.get_one(Author, 1).place == Place(1, 2),
    "reconstructor": lambda session: session.get_one(Author, 1).made_by,
    "defer": lambda session: _unloaded(session.get_one(Author, 1, options=[defer(Author.name)])),
    "unflushed changes": _unflushed,
    "change": _change,
    "deleted in the session": _deleted,
    "expunged": _expunged,
    "expired": _expired,
    "identity": lambda session: session.get(Customer, 1) is session.get(Customer, 1),
    "closed": _closed,
    "state": _state,
    "rolled back": _rolled_back,
}


@pytest.mark.parametrize("name", ODD)
def test_same(rows: Served, name: str) -> None:
    """Odd keys, errors, and what becomes of an object, are those of a session without the hook."""
    rows.same(ODD[name])


def test_events(rows: Served) -> None:
    """The events of a load come with a hit as they come with a row."""
    seen: list[str] = []
    heard = [
        (Customer, "load", lambda target, _context: seen.append(f"load {target.id}")),
        (inspect(Customer), "load", lambda target, _context: seen.append(f"mapper {target.id}")),
        (rows.path.maker, "loaded_as_persistent", lambda _session, target: seen.append(f"persistent {target.id}")),
    ]
    rows.hits(get(Customer, 1))
    for target, name, listener in heard:
        event.listen(target, name, listener)
    try:
        with rows.statements() as sql, rows.session() as session:
            session.get(Customer, 1)
        assert sql == []
    finally:
        for target, name, listener in heard:
            event.remove(target, name, listener)
    assert sorted(seen) == ["load 1", "mapper 1", "persistent 1"]


def test_identity_token(rows: Served) -> None:
    """Objects of another shard have identities of their own, and are read from the database."""
    rows.hits(get(Customer, 1))
    with rows.changed(Customer, 1), rows.session() as session:
        found = session.get_one(Customer, 1, identity_token="other")
        assert (found.status, inspect(found).identity_token) == ("out of band", "other")
        assert session.get_one(Customer, 1) is not found


def test_expired_and_gone(rows: Served) -> None:
    """An object whose row turns out to be gone is not brought back by the cache."""
    rows.hits(get(Order, 1))
    with rows.session() as session:
        order = session.get_one(Order, 1)
        session.expire(order)
        with rows.path.other.begin() as connection:
            connection.execute(Order.__table__.delete())  # type: ignore[attr-defined]
        assert session.get(Order, 1, execution_options={"stockstore": False}) is None


def test_deferred_stay_deferred(rows: Served) -> None:
    """A deferred column that a put to the cache itself has left there stays deferred in sessions."""
    with rows.plain() as session:
        author = session.get_one(Author, 1)
        assert author.bio == "bio"
        session.expunge(author)
    cache = rows.path.store.tiers[0]
    cache.put(author)
    cached = cache.get(Author, 1)
    assert cached is not None
    assert vars(cached)["bio"] == "bio"
    unloaded = rows.hits(lambda session: _unloaded(session.get_one(Author, 1)))
    assert {"bio", "secret"} <= set(unloaded)
    assert "name" not in unloaded


def test_inside_a_load_event(rows: Served) -> None:
    """A listener of a load may ask for others."""

    def also(target: Order, context: Any) -> None:
        session = inspect(target).session
        target.__dict__["found"] = session and session.get(Customer, 1)

    event.listen(Order, "load", also)
    try:
        assert rows.same(lambda session: session.get_one(Order, 1).__dict__["found"].name) == "ann"
    finally:
        event.remove(Order, "load", also)


def test_inside_a_flush(rows: Served) -> None:
    """Nothing is served while a session flushes."""
    rows.hits(get(Customer, 1))
    seen: list[str] = []

    def look(session: Session, *_: object) -> None:
        seen.append(session.get_one(Customer, 1).status)

    with rows.changed(Customer, 1):
        for name in ("before_flush", "after_flush"):
            with rows.session() as session:
                event.listen(session, name, look)
                session.add(Customer(id=50 + len(seen), email=f"{len(seen)}@y"))
                session.flush()
    assert seen == ["out of band"] * 2


def test_listeners_of_statements(rows: Served) -> None:
    """Where the application listens to statements, it hears of each load, and may add criteria to it."""
    rows.hits(get(Customer, 1))

    def only_others(execution: Any) -> None:
        execution.statement = execution.statement.options(with_loader_criteria(Customer, Customer.id != 1))

    with rows.session() as session:
        event.listen(session, "do_orm_execute", only_others)
        assert session.get(Customer, 1) is None
        event.remove(session, "do_orm_execute", only_others)
        assert session.get(Customer, 1) is not None
    event.listen(rows.path.maker, "do_orm_execute", only_others)
    with rows.session() as session:
        assert session.get(Customer, 1) is None
    event.remove(rows.path.maker, "do_orm_execute", only_others)
    rows.hits(get(Customer, 1))


@ON_SQLITE
@ON_MEMORY
def test_named_classes(attach: Attach, rows: Served) -> None:
    """Only the classes named are served, with their subclasses."""
    some = Served(attach(read_through=[Vehicle, Customer]))
    for cls in (Vehicle, Car, Customer):
        some.hits(get(cls, 1))
    for other in (Animal, Order):
        some.misses(get(other, 1))


@ON_SQLITE
@ON_MEMORY
def test_refused_pending_error(rows: Served) -> None:
    """A session whose flush has failed says so, and serves nothing."""
    rows.hits(get(Customer, 1))

    def after_failure(session: Session) -> object:
        session.add(Customer(id=1, email="other"))
        with pytest.raises(Exception, match="UNIQUE"):
            session.flush()
        return session.get(Customer, 1)

    rows.same(after_failure)
