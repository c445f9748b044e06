"""The short way to a hit in process memory is taken, and not where anything is not plain."""

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Column, Engine, Integer, String, create_engine, event, insert, select, text
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session, declarative_base, make_transient, sessionmaker

from stockstore import ChainedStore, ProcessMemoryStore, SqlAlchemyStore
from stockstore.coherence import claims
from stockstore.instrumentation import add_hook, remove_hook
from stockstore.mapped.sessions import add_rule, remove_rule
from stockstore.stores import claimed, local
from stockstore.stores.sql_sessions import ORIGIN_MARK
from stockstore_ext.sqlalchemy import SessionSync
from stockstore_ext.sqlalchemy.read_through import quick
from stockstore_ext.sqlalchemy.read_through.identity import Identities
from stockstore_ext.sqlalchemy.read_through.serving import Serving
from tests.read_through.served import Run, Served
from tests.stores.shop import Animal, Car, Customer, Dog, Order, Place, Tag, Vehicle
from tests.sync.conftest import ON_MEMORY, ON_SQLITE


class Longer(Exception):
    """The longer way was taken."""


def _getting(cls: type[Any], key: object) -> Run:
    return lambda session: session.get(cls, key)


@pytest.fixture
def rows(served: Served) -> Served:
    """Rows that are cached, and whose short way is known."""
    served.seed(
        Customer(id=1, email="1@x"),
        Order(id=1, number="1", customer_id=1),
        Tag(name="red", code="r"),
        Car(id=1, plate="car", doors=4),
        Dog(id=1, name="dog"),
        Place(row="a", number=1),
    )
    for cls, key in ((Customer, 1), (Order, 1), (Tag, "red"), (Vehicle, 1), (Car, 1), (Animal, 1), (Place, ("a", 1))):
        served.hits(_getting(cls, key))
    return served


@pytest.fixture
def no_longer_way(rows: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the longer way fail."""

    def fail(*_: object, **__: object) -> None:
        raise Longer

    monkeypatch.setattr(Identities, "find", fail)


def is_short(session: Session, cls: type = Customer, key: object = 1) -> bool:
    """Whether a hit needs no more than a glance."""
    try:
        found = session.get(cls, key)
    except Longer:
        return False
    assert isinstance(found, cls)
    assert found in session
    return True


@ON_MEMORY
@pytest.mark.usefixtures("no_longer_way")
def test_taken(rows: Served) -> None:
    """A session that has done nothing, and a lazy load, take the short way, by a key of several values too."""
    with rows.session() as session:
        for cls, key in ((Customer, 1), (Order, 1), (Tag, "red"), (Vehicle, 1), (Car, 1), (Animal, 1), (Place, ("a", 1))):
            assert is_short(session, cls, key)
        assert session.get_one(Order, 1).customer.email == "1@x"
        customer = session.get_one(Customer, 1)
        assert session.get(Customer, 1) is customer
        place = session.get_one(Place, ("a", 1))
        assert (place.row, place.number) == ("a", 1)
        assert session.get(Place, ("a", 1)) is place


@ON_MEMORY
def test_taken_in_a_transaction(rows: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is open is looked at the longer way once."""
    with rows.session() as session:
        session.execute(text("SELECT 1"))
        assert session.get(Customer, 1) is not None
        monkeypatch.setattr(Identities, "find", None)
        assert is_short(session)


@ON_MEMORY
def test_counted(rows: Served) -> None:
    """It counts as any other hit."""
    before = rows.path.store.stats().hits
    with rows.session() as session:
        assert is_short(session)
    assert rows.path.store.stats().hits == before + 1


Disturb = Callable[[Session], Any]
DISTURBED: dict[str, Disturb] = {
    "unflushed object": lambda session: session.add(Customer(id=7)),
    "listener": lambda session: event.listen(session, "do_orm_execute", lambda _: None),
    "listener of all": lambda session: event.listen(type(session), "do_orm_execute", lambda _: None),
    "option of the connection": lambda session: session.connection(execution_options={"stockstore": False}),
    "option of the engine": lambda session: session.get_bind().update_execution_options(stockstore=False),  # type: ignore[union-attr]
    "isolation level": lambda session: session.connection(execution_options={"isolation_level": "SERIALIZABLE"}),
    "temporary table": lambda session: session.execute(text("CREATE TEMPORARY TABLE customers (id INTEGER)")),
    "written by text": lambda session: session.execute(text("UPDATE customers SET name = 'x'")),
    "written by statement": lambda session: session.execute(insert(Customer).values(id=9)),
    "another bind": lambda session: session.bind_mapper(Customer, create_engine("sqlite://")),
    "shards": lambda session: setattr(session, "shard_chooser", None),
    "options of the session": lambda session: setattr(session, "execution_options", {"stockstore": False}),
    "store's own": lambda session: session.info.update({ORIGIN_MARK: True}),
    "savepoint": lambda session: session.begin_nested(),
}


@ON_MEMORY
@pytest.mark.parametrize("name", DISTURBED)
@pytest.mark.usefixtures("no_longer_way")
def test_not_taken(rows: Served, name: str) -> None:
    """Where a session, its class or its engine are not as they were, the longer way decides."""
    with rows.session() as session:
        assert is_short(session)
        DISTURBED[name](session)
        assert not is_short(session)
    rows.path.engine.update_execution_options(stockstore=None)
    rows.path.engine.dispose()


@ON_MEMORY
@pytest.mark.parametrize("key", [1.0, True, "1", None, [1], {}], ids=repr)
@pytest.mark.usefixtures("no_longer_way")
def test_other_keys(rows: Served, key: Any) -> None:
    """A key of another type than the column's is the longer way's."""
    with rows.session() as session, pytest.raises((Longer, InvalidRequestError)):
        session.get(Customer, key)


@ON_MEMORY
@pytest.mark.parametrize(
    "key", [(1, "a"), ("a", True), ("a", 1.0), ("b", 1), ("a",), ("a", 1, 1), ["a", 1], {"row": "a", "number": 1}, "a1"], ids=repr
)
@pytest.mark.usefixtures("no_longer_way")
def test_other_keys_of_several_values(rows: Served, key: Any) -> None:
    """Nor in another order or form, or with a value that is not there."""
    with rows.session() as session, pytest.raises((Longer, InvalidRequestError)):
        session.get(Place, key)


@ON_MEMORY
def test_several_values_mean_the_same_either_way(rows: Served) -> None:
    """What the short way gives is the row of just these values, told from its neighbours, and as it was last written."""
    rows.seed(Place(row="b", number=1, label="b1"), Place(row="a", number=2, label="a2"))
    keys = [("a", 1), ("b", 1), ("a", 2)]
    for _ in range(3):
        with rows.session() as session:
            assert [session.get_one(Place, key).label for key in keys] == [None, "b1", "a2"]
    with rows.session() as session:
        session.get_one(Place, ("a", 1)).label = "changed"
        assert session.get_one(Place, ("b", 1)).label == "b1"
        session.commit()
    with rows.session() as session:
        assert [session.get_one(Place, key).label for key in keys] == ["changed", "b1", "a2"]


@ON_SQLITE
@ON_MEMORY
@pytest.mark.usefixtures("no_longer_way")
def test_hooks(rows: Served) -> None:
    """While somebody listens to what stores do, each hit is told."""
    seen: list[str] = []

    def hook(happening: Any) -> None:
        seen.append(happening.kind)

    with rows.session() as session:
        add_hook(hook)
        assert not is_short(session)
        remove_hook(hook)
        assert is_short(session)


@ON_SQLITE
@ON_MEMORY
@pytest.mark.usefixtures("no_longer_way")
def test_rules(rows: Served) -> None:
    """Whoever hides rows from sessions is asked each time."""

    def rule(*_: object) -> str:
        return "scope"

    with rows.session() as session:
        add_rule(rule)
        assert not is_short(session)
        remove_rule(rule)
        assert is_short(session)


@ON_SQLITE
@ON_MEMORY
@pytest.mark.usefixtures("no_longer_way")
def test_unheard(rows: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a channel was not heard in time, neither a load by primary key nor a statement takes it."""

    def fail(*_: object, **__: object) -> None:
        raise Longer

    store: Any = rows.path.store.tiers[0]
    many = select(Customer).where(Customer.id.in_([1]))
    monkeypatch.setattr(Serving, "states", fail)
    with rows.session() as session:
        assert is_short(session)
        assert session.scalars(many).one().id == 1
        store.contact = SimpleNamespace(fresh_until=float("-inf"), begin=lambda: None)
        session.expunge_all()
        assert not is_short(session)
        with pytest.raises(Longer):
            session.scalars(many)
        store.contact = None


@ON_SQLITE
def test_expiry(db: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has outlived its time is no hit."""
    now = time.monotonic()
    for module in (quick, claimed, local, claims):
        monkeypatch.setattr(module, "_now", lambda: now)
    with Session(db) as session:
        session.add(Tag(name="red", code="r"))
        session.commit()
    with ChainedStore([ProcessMemoryStore(max_staleness=5), SqlAlchemyStore(engine=db)]) as store:
        maker = sessionmaker(db)
        sync = SessionSync(store, read_through=True).attach(maker)
        with maker() as session:
            for expected in (0, 1, 2):
                assert session.get_one(Tag, "red").uses == 0
                assert store.stats().hits == expected
            now += 6
            assert session.get_one(Tag, "red").uses == 0
            assert store.stats().hits == 2
        sync.detach()


@ON_SQLITE
def test_new_attribute(db: Engine) -> None:
    """A class that is given another attribute is looked at anew."""
    base = declarative_base()
    thing = type("Thing", (base,), {"__tablename__": "things_with_more", "id": Column(Integer, primary_key=True), "__module__": __name__})
    base.metadata.create_all(db)
    with db.begin() as connection:
        connection.execute(text("ALTER TABLE things_with_more ADD COLUMN extra TEXT DEFAULT 'more'"))
        connection.execute(text("INSERT INTO things_with_more (id) VALUES (1)"))
    with ChainedStore([ProcessMemoryStore(max_staleness=None), SqlAlchemyStore(engine=db)]) as store:
        maker = sessionmaker(db)
        sync = SessionSync(store, read_through=True).attach(maker)
        with maker() as session:
            for _ in range(3):
                assert session.get(thing, 1) is not None
            thing.extra = Column(String)  # type: ignore[attr-defined]
            for _ in range(3):
                assert session.get_one(thing, 1).extra == "more"
        sync.detach()
    base.metadata.drop_all(db)


@ON_SQLITE
@ON_MEMORY
def test_two_makers(rows: Served, db: Engine) -> None:
    """Hooks of other sessions do not matter, and another hook of the same ones does."""
    with ChainedStore([ProcessMemoryStore(max_staleness=None), SqlAlchemyStore(engine=db)]) as store:
        elsewhere = SessionSync(store, read_through=True).attach(sessionmaker(db))
        for _ in range(2):
            rows.hits(lambda session: session.get(Customer, 1))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Identities, "find", None)
            assert is_short(rows.session())
        elsewhere.detach()
        silent = SessionSync(store).attach(rows.path.maker)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Identities, "find", lambda *_: None)
            patch.setattr(Serving, "states", lambda *_, **__: None)
            with rows.statements() as seen:
                assert is_short(rows.session())
            assert len(seen) == 1
        silent.detach()
        beside = SessionSync(store, read_through=True).attach(rows.path.maker)
        rows.hits(lambda session: session.get(Customer, 1))
        beside.detach()
        rows.hits(lambda session: session.get(Customer, 1))


def test_stores_own_sessions(db: Engine, other: Engine) -> None:
    """A put of a store writes what it was given, also where the cache has the same and the database something else."""
    with ChainedStore([ProcessMemoryStore(max_staleness=None), SqlAlchemyStore(engine=db)]) as store:
        sync = SessionSync(store, read_through=True).attach()
        try:
            with Session(db) as session:
                session.add(Tag(name="red", code="r", uses=1))
                session.commit()
            for _ in range(3):
                with Session(db) as session:
                    tag = session.get_one(Tag, "red")
                    session.expunge(tag)
            with other.begin() as connection:
                connection.execute(text("UPDATE tags SET uses = 9"))
            make_transient(tag)
            store.put(tag)
            with other.connect() as connection:
                assert connection.scalar(text("SELECT uses FROM tags")) == 1
        finally:
            sync.detach()
