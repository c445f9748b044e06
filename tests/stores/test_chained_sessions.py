"""A chain and the caller's own sessions: what ``session=`` gives, and what ``put`` leaves alone."""

import gc
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, create_engine, delete, inspect, text, update
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from stockstore import ChainedStore, OriginError, ProcessMemoryStore, SqlAlchemyStore
from tests.stores.conftest import Shop
from tests.stores.custom import PickleStore
from tests.stores.shop import Base, Car, Circle, Customer, Note, Order, Shape, Tag, Van, Vehicle, count_of, row_of

ON_POSTGRES = pytest.mark.parametrize("database_url", ["postgres"], indirect=True)


def name_of(customer: Customer | None) -> str | None:
    """Give the name, of what was found."""
    return None if customer is None else customer.name


# -- what session= gives ----------------------------------------------------------------------------


def test_every_tier_gives_persistent_objects(shop: Shop, statements: list[str]) -> None:
    """With a session an object is persistent in it, from whatever tier it came, and a cached one costs no statement."""
    shop.chain.put(Customer(id=1, email="a"))
    for cleared, expected in (((), 0), ((shop.memory,), 0), ((shop.memory, shop.redis), 1)):
        for tier in cleared:
            tier.clear()
        statements.clear()
        with Session(shop.engine) as session:
            found = shop.chain.get(Customer, 1, session=session)
            assert inspect(found, raiseerr=True).persistent
            assert found in session
            assert name_of(found) == "ann"
            assert len(statements) == expected


@pytest.mark.parametrize("key", [{"id": 1}, {"colour": "red"}])
def test_what_a_session_has_written_of_a_concrete_subclass(shop: Shop, key: dict[str, object]) -> None:
    """By a key of the base, too, it is given what it has written itself, which nobody else sees."""
    shop.chain.batch_put([Circle(id=1, colour="red", radius=2), Shape(id=2, colour="blue")])
    assert [getattr(store.get(Shape, key), "radius", None) for store in (shop.memory, shop.redis)] == [2, 2]
    with Session(shop.engine) as session:
        session.get_one(Circle, 1).radius = 3
        session.flush()
        for written in (False, True):
            if written:
                session.add(Shape(id=3, colour="green"))
                session.flush()
            for store in (shop.chain, shop.memory, shop.redis):
                session.expunge_all()
                found = store.get(Shape, key, session=session)
                assert getattr(found, "radius", None) == (3 if store is shop.chain else None)
            assert getattr(shop.chain.get(Shape, key), "radius", None) == 2
        session.delete(session.get_one(Circle, 1))
        session.flush()
        assert shop.chain.get(Shape, key, session=session) is None
        session.rollback()
        assert getattr(shop.chain.get(Shape, key, session=session), "radius", None) == 2


def test_a_persistent_object_can_be_changed_and_flushed(shop: Shop) -> None:
    """What came from a cache is saved by the session's own flush."""
    shop.chain.put(Customer(id=1, email="a"))
    with Session(shop.engine) as session:
        found = shop.chain.get(Customer, email="a", session=session)
        assert found is not None
        found.name = "changed"
        session.commit()
    row = row_of(shop.engine, Customer, 1)
    assert row is not None
    assert row["name"] == "changed"


def test_the_identity_map_wins(shop: Shop) -> None:
    """An object that the session has is given as it is there, with its unsaved changes, which reach no cache."""
    shop.chain.put(Customer(id=1, email="a"))
    for clear in (False, True):
        if clear:
            shop.chain.clear()
        with Session(shop.engine, autoflush=False) as session:
            mine = session.get_one(Customer, 1)
            mine.name = "unsaved"
            assert shop.chain.get(Customer, 1, session=session) is mine
            assert shop.chain.batch_get(Customer, [{"email": "a"}, 404, 1], session=session) == [mine, None, mine]
            assert mine.name == "unsaved"
        assert name_of(shop.chain.get(Customer, 1)) == "ann"
        assert name_of(shop.redis.get(Customer, 1)) == "ann"


def test_a_batch_gives_one_object_per_row(shop: Shop) -> None:
    """Forms of one key in a batch give the session's one object."""
    shop.chain.put(Customer(id=1, email="a"))
    with Session(shop.engine) as session:
        one, two, three = shop.chain.batch_get(Customer, [1, {"email": "a"}, True], session=session)
        assert one is two is three


# -- what a session has written ---------------------------------------------------------------------


def _by_flush(session: Session) -> None:
    session.get_one(Customer, 1).name = "mine"
    session.flush()


def _by_flush_and_gc(session: Session) -> None:
    _by_flush(session)
    session.expunge_all()
    gc.collect()


def _by_bulk_update(session: Session) -> None:
    session.execute(update(Customer).where(Customer.id == 1).values(name="mine"))


def _by_core(session: Session) -> None:
    session.execute(Base.metadata.tables["customers"].update().values(name="mine"))


def _by_text(session: Session) -> None:
    session.execute(text("UPDATE customers SET name = 'mine'"))


WRITES = [_by_flush, _by_flush_and_gc, _by_bulk_update, _by_core, _by_text]


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("key", [1, 1.0, {"email": "a"}, {"tenant": 7, "name": "mine"}], ids=["pk", "equal", "email", "composite"])
def test_a_row_that_the_session_has_written_is_its_own(shop: Shop, write: Callable[[Session], None], key: object) -> None:
    """A session sees what it has written, by whatever way and key; others see the committed row; no cache sees the other one."""
    shop.chain.put(Customer(id=1, email="a", name="ann"))
    with Session(shop.engine) as session:
        write(session)
        assert name_of(shop.chain.get(Customer, key, session=session)) == "mine"
        assert name_of(shop.chain.batch_get(Customer, [key], session=session)[0]) == "mine"
        for store in (shop.memory, shop.redis, shop.chain):
            assert name_of(store.get(Customer, 1)) == "ann"
            assert store.get(Customer, tenant=7, name="mine") is None
        with Session(shop.engine) as other:
            assert name_of(shop.chain.get(Customer, 1, session=other)) == "ann"
        session.rollback()
        assert name_of(shop.chain.get(Customer, 1, session=session)) == "ann"


@pytest.mark.parametrize("write", WRITES)
def test_a_row_that_the_session_has_written_fills_no_empty_cache(shop: Shop, write: Callable[[Session], None]) -> None:
    """With nothing cached, the session's own value is read, and the caches stay without it."""
    shop.chain.put(Customer(id=1, email="a", name="ann"))
    shop.chain.clear()
    with Session(shop.engine) as session:
        write(session)
        for key in (1, {"email": "a"}):
            assert name_of(shop.chain.get(Customer, key, session=session)) == "mine"
        assert name_of(shop.memory.get(Customer, 1)) is None
        assert name_of(shop.redis.get(Customer, 1)) is None
        assert name_of(shop.chain.get(Customer, 1)) == "ann"


def test_rows_that_the_session_deleted_or_added(shop: Shop) -> None:
    """A session misses what it has deleted and finds what it has added; nobody else does."""
    shop.chain.put(Customer(id=1, email="a"))
    with Session(shop.engine) as session:
        session.delete(session.get_one(Customer, 1))
        session.add(Customer(id=2, email="b"))
        session.flush()
        assert shop.chain.batch_get(Customer, [1, {"email": "a"}], session=session) == [None, None]
        assert [customer is not None for customer in shop.chain.batch_get(Customer, [2, {"email": "b"}], session=session)] == [True, True]
        assert name_of(shop.chain.get(Customer, 1)) == "ann"
        assert shop.chain.batch_get(Customer, [2, {"email": "b"}]) == [None, None]


def test_rows_that_the_database_deletes_along(shop: Shop) -> None:
    """A row that the database deletes with one that the session deleted is missed by that session."""
    shop.chain.put(Customer(id=1, notes=[Note(id=5, text="n")]))
    with Session(shop.engine) as session:
        session.execute(delete(Customer).where(Customer.id == 1))
        assert shop.chain.get(Note, 5, session=session) is None
        assert shop.chain.get(Note, 5) is not None


def test_a_subclass_written_by_the_session_is_seen_by_its_base(shop: Shop) -> None:
    """A session that has written a row of a subclass reads it so by the base class too."""
    shop.chain.batch_put([Car(id=1, plate="c", doors=3), Van(id=2, plate="v", load=1)])
    with Session(shop.engine) as session:
        session.get_one(Car, 1).doors = 5
        session.flush()
        session.expunge_all()
        for cls, key in ((Vehicle, 1), (Car, 1), (Vehicle, {"plate": "c"})):
            found = shop.chain.get(cls, key, session=session)
            assert isinstance(found, Car)
            assert found.doors == 5
            session.expunge_all()
        cached = shop.chain.get(Vehicle, 1)
        assert isinstance(cached, Car)
        assert cached.doors == 3


def test_a_key_equal_by_the_databases_rules_is_the_sessions_row_too(shop: Shop) -> None:
    """A session that has written a row reads it so by a key that differs by case alone."""
    shop.chain.put(Tag(name="Red", code="R1", uses=1))
    with Session(shop.engine) as session:
        session.get_one(Tag, "Red").uses = 2
        session.flush()
        session.expunge_all()
        for key in ("Red", "RED", {"code": "r1"}):
            found = shop.chain.get(Tag, key, session=session)
            assert found is not None
            assert found.uses == 2
            session.expunge_all()
    found = shop.chain.get(Tag, "RED")
    assert found is not None
    assert found.uses == 1


def test_a_store_of_a_third_party_does_not_answer_for_written_rows(db: Engine) -> None:
    """A custom tier, which knows nothing of sessions, is passed over for rows that the session has written."""
    chain = ChainedStore([PickleStore(), SqlAlchemyStore(engine=db)])
    chain.put(Customer(id=1, email="a", name="ann"))
    with Session(db) as session:
        _by_flush_and_gc(session)
        for key in (1, {"email": "a"}):
            assert name_of(chain.get(Customer, key, session=session)) == "mine"
            session.expunge_all()
        assert name_of(chain.get(Customer, 1)) == "ann"


# -- what put leaves alone --------------------------------------------------------------------------


def test_put_of_a_pending_object_leaves_its_session_open(shop: Shop) -> None:
    """A pending object's state is written by the store; the session neither flushes nor commits."""
    with Session(shop.engine) as session:
        customer, other = Customer(id=1, email="a"), Customer(id=2, email="b")
        session.add_all([customer, other])
        shop.chain.put(customer)
        assert customer in session.new
        assert other in session.new
        assert row_of(shop.engine, Customer, 1) is not None
        session.rollback()
    assert row_of(shop.engine, Customer, 2) is None
    assert name_of(shop.chain.get(Customer, email="a")) == "ann"


def test_put_of_a_persistent_object_with_unflushed_changes(shop: Shop) -> None:
    """The changes are written by the store, and are pending in their session still, which has committed nothing."""
    shop.chain.put(Customer(id=1, email="a"))
    with Session(shop.engine) as session:
        customer = session.get_one(Customer, 1)
        customer.name = "changed"
        session.add(Customer(id=2))
        shop.chain.put(customer)
        assert customer in session.dirty
        assert session.in_transaction()
        assert name_of(shop.chain.get(Customer, 1)) == "changed"
        session.rollback()
        assert customer.name == "changed"
    assert count_of(shop.engine, Customer) == 1


def test_put_of_an_unchanged_persistent_object(shop: Shop) -> None:
    """A put of what a session has merely read writes the row as it is."""
    shop.chain.put(Customer(id=1, email="a"))
    with Session(shop.engine) as session:
        customer = session.get_one(Customer, 1)
        shop.chain.put(customer)
        assert customer in session
        assert not session.dirty
    assert name_of(shop.chain.get(Customer, 1)) == "ann"


@pytest.mark.timeout(20)
def test_put_of_an_object_with_flushed_changes_is_refused_at_once(shop: Shop) -> None:
    """A put that would wait for its own session's row lock says so instead of hanging, for a related object too."""
    shop.chain.put(Customer(id=1, email="a"))
    with Session(shop.engine) as session:
        customer = session.get_one(Customer, 1)
        customer.name = "flushed"
        session.flush()
        message = r"the session of this tests\.stores\.shop\.Customer \(1,\) has uncommitted changes to its row.*commit them first"
        with pytest.raises(OriginError, match=message):
            shop.chain.put(customer)
        with pytest.raises(OriginError, match=message):
            shop.chain.put(Order(number="1", customer=customer))
        assert session.in_transaction()
        session.rollback()
    assert name_of(shop.chain.get(Customer, 1)) == "ann"
    assert count_of(shop.engine, Order) == 0


@pytest.mark.timeout(20)
@ON_POSTGRES
def test_put_beside_flushed_changes_of_other_rows(shop: Shop) -> None:
    """Changes of other rows that the session has flushed are no hindrance, and stay uncommitted."""
    shop.chain.batch_put([Customer(id=1, email="a"), Customer(id=2, email="b")])
    with Session(shop.engine) as session:
        one, two = session.get_one(Customer, 1), session.get_one(Customer, 2)
        two.name = "flushed"
        session.flush()
        one.name = "put"
        shop.chain.put(one)
        session.rollback()
    assert [name_of(customer) for customer in shop.database.batch_get(Customer, [1, 2])] == ["put", "ann"]


def test_put_copies_an_expired_object(shop: Shop) -> None:
    """An object whose session has committed and expired it is put without a statement of that session, and keeps its row."""
    shop.chain.put(Customer(id=1, email="a"))
    with Session(shop.engine) as session:
        customer = session.get_one(Customer, 1)
        session.commit()
        shop.chain.put(customer)
        assert not session.in_transaction()
    row = row_of(shop.engine, Customer, 1)
    assert row is not None
    assert (row["name"], row["email"]) == ("ann", "a")


def test_delete_of_an_object_of_a_session(shop: Shop) -> None:
    """A delete takes a session's object, by its identity, and leaves the session open."""
    shop.chain.put(Customer(id=1, email="a"))
    with Session(shop.engine) as session:
        customer = session.get_one(Customer, 1)
        session.commit()
        assert shop.chain.delete(customer) is True
    assert shop.readings(Customer, 1) == [None] * 4


# -- a database of one connection -------------------------------------------------------------------


def test_a_database_in_memory_never_shows_uncommitted_rows() -> None:
    """Where all share one connection, a read beside an open transaction is refused, and one with its session is private."""
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    Base.metadata.create_all(engine)
    memory = ProcessMemoryStore()
    chain = ChainedStore([memory, SqlAlchemyStore(engine=engine)])
    chain.put(Customer(id=1, email="a", name="ann"))
    memory.clear()
    with Session(engine) as session:
        _by_flush(session)
        calls: list[Callable[[], object]] = [lambda: chain.get(Customer, 1), lambda: chain.put(Customer(id=2))]
        for call in calls:
            with pytest.raises(OriginError, match="has an open transaction of another session; commit it first"):
                call()
        assert name_of(chain.get(Customer, 1, session=session)) == "mine"
        assert memory.get(Customer, 1) is None
        session.rollback()
    assert name_of(chain.get(Customer, 1)) == "ann"
    engine.dispose()
