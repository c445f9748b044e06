"""An attached instance behaves like a loaded one."""

import gc
import pickle
import weakref
from typing import Any

import pytest
from sqlalchemy import Engine, event, inspect, select, update
from sqlalchemy.exc import InvalidRequestError, PendingRollbackError
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import Session, selectinload, undefer
from sqlalchemy.orm.exc import DetachedInstanceError, ObjectDeletedError, StaleDataError

from stockstore.mapped import UNLOADED, plan_of
from tests.mapped.conftest import Attach, Cached
from tests.mapped.models import Animal, Card, Cat, Doc, Dog, Item, Plain, Point, Priced, Seat, Truck, User, Vehicle, table_of
from tests.statements import Statements


def test_is_persistent_without_sql(session: Session, put_in: Attach, sql: Statements) -> None:
    """An attached instance is persistent in its session."""
    item = put_in(session, Item, 3)
    sql.take()
    assert inspect(item).persistent
    assert item in session
    assert item.sku == "SKU-3"
    assert sql.take() == []


def test_is_clean(session: Session, put_in: Attach) -> None:
    """An attached instance has no changes to flush."""
    item = put_in(session, Item, 3)
    assert item not in session.dirty
    assert not inspect(item).modified
    assert not any(attribute.history.has_changes() for attribute in inspect(item).attrs)


def test_is_the_one_that_get_finds(session: Session, put_in: Attach, sql: Statements) -> None:
    """session.get answers from the identity map after an attach."""
    item = put_in(session, Item, 3)
    sql.take()
    assert session.get(Item, 3) is item
    assert sql.take() == []


def test_attach_gives_what_the_session_holds(session: Session, put_in: Attach) -> None:
    """An instance in the identity map wins over the cached state."""
    loaded = session.get_one(Item, 3)
    loaded.qty = 77
    assert put_in(session, Item, 3) is loaded
    assert loaded.qty == 77


def test_is_the_one_that_select_finds(session: Session, put_in: Attach) -> None:
    """A select returns the attached instance."""
    item = put_in(session, Item, 3)
    assert session.scalars(select(Item).where(Item.id == 3)).one() is item


def test_many_to_one_loads(session: Session, put_in: Attach, sql: Statements) -> None:
    """A lazy many-to-one relationship loads by one statement."""
    item = put_in(session, Item, 3)
    sql.take()
    assert item.owner.name == "Ann"
    assert len(sql.take()) == 1


def test_change_is_seen(session: Session, put_in: Attach) -> None:
    """A set attribute makes the instance dirty, with the cached value in its history."""
    item = put_in(session, Item, 3)
    item.qty = 99
    assert item in session.dirty
    assert inspect(item).attrs.qty.history.deleted == [3]


def test_flush_updates_only_the_changed_column(session: Session, put_in: Attach, sql: Statements) -> None:
    """The UPDATE sets the changed column and the version, and checks the cached version."""
    item = put_in(session, Item, 3)
    item.qty = 99
    sql.take()
    session.flush()
    (statement,) = sql.take()
    head, _, where = statement.partition(" WHERE ")
    assert head.startswith("UPDATE items SET qty=")
    assert head.count("=") == 2
    assert "version_id" in head
    assert "items.version_id" in where


def test_rollback_expires(session: Session, put_in: Attach, sql: Statements) -> None:
    """After a rollback the instance reads its row again."""
    item = put_in(session, Item, 3)
    item.qty = 99
    session.flush()
    session.rollback()
    sql.take()
    assert item.qty == 3
    assert len(sql.take()) == 1


def test_rollback_expires_what_no_statement_touched(db: Engine, session: Session, put_in: Attach) -> None:
    """A rollback expires an attached instance although the session sent no statement at all."""
    item = put_in(session, Item, 3)
    session.rollback()
    assert "qty" not in vars(item)


def test_commit_expires(session: Session, put_in: Attach) -> None:
    """A commit expires an attached instance."""
    item = put_in(session, Item, 3)
    session.commit()
    assert "qty" not in vars(item)
    assert item.qty == 3


def test_commit_keeps_values_without_expire_on_commit(db: Engine, put_in: Attach, sql: Statements) -> None:
    """A session that does not expire on commit keeps the attached values."""
    with Session(db, expire_on_commit=False) as session:
        item = put_in(session, Item, 3)
        session.commit()
        sql.take()
        assert item.qty == 3
        assert sql.take() == []


def test_stale_version_is_refused(session: Session, cached: Cached) -> None:
    """A flush over a cached version that is not the row's raises StaleDataError."""
    plan, payload = cached(Item, 3)
    state = list(plan.unpack(payload)[1])
    state[plan.attrs.index("version_id")] = 0
    item: Any = plan.attach(session, tuple(state))
    item.qty = 7
    with pytest.raises(StaleDataError):
        session.flush()


def test_row_deleted_elsewhere(db: Engine, session: Session, put_in: Attach) -> None:
    """An expired attached instance whose row is gone raises ObjectDeletedError."""
    item = put_in(session, Item, 3)
    with db.begin() as connection:
        connection.execute(table_of(Item).delete())
    session.expire(item)
    with pytest.raises(ObjectDeletedError):
        _ = item.qty


def test_inheritance_shares_the_identity_of_the_root(session: Session, put_in: Attach, sql: Statements) -> None:
    """Joined and single-table subclasses are found under their base class."""
    dog, cat, animal = put_in(session, Dog, 1), put_in(session, Animal, 2), put_in(session, Animal, 3)
    sql.take()
    assert [type(obj) for obj in (dog, cat, animal)] == [Dog, Cat, Animal]
    assert session.get(Animal, 1) is dog
    assert session.get(Dog, 1) is dog
    assert session.get(Animal, 2) is cat
    assert session.get(Cat, 1) is None
    assert sql.take() == []


def test_concrete_subclass_has_its_own_identity(session: Session, put_in: Attach, sql: Statements) -> None:
    """A concrete subclass and its base keep two rows of one primary key apart."""
    vehicle = put_in(session, Vehicle, 1)
    truck = put_in(session, Truck, 1)
    sql.take()
    assert session.get_one(Vehicle, 1) is vehicle
    assert session.get_one(Truck, 1) is truck
    assert (vehicle.wheels, truck.wheels, truck.load) == (2, 6, 9)
    assert plan_of(Truck).root is Truck
    assert sql.take() == []


def test_deferred_column_loads_on_access(session: Session, put_in: Attach, sql: Statements) -> None:
    """A deferred column stays out and loads by one statement."""
    dog = put_in(session, Dog, 1)
    sql.take()
    assert "big" not in vars(dog)
    assert dog.big == "B"
    assert len(sql.take()) == 1


def test_loaded_deferred_column_is_kept(db: Engine, session: Session, sql: Statements) -> None:
    """A deferred column that was loaded before comes along."""
    with Session(db) as other:
        dog = other.scalars(select(Dog).options(undefer(Animal.big))).one()
        plan = plan_of(Dog)
        payload = plan.pack(plan.dehydrate(dog))
    sql.take()
    attached: Any = plan.attach(session, plan.unpack(payload)[1])
    assert attached.big == "B"
    assert sql.take() == []


def test_sql_expression_loads_on_access(session: Session, put_in: Attach, sql: Statements) -> None:
    """A column_property over an expression is not cached and loads when it is read."""
    dog = put_in(session, Dog, 1)
    sql.take()
    assert "upper" not in vars(dog)
    assert dog.upper == "REX"
    assert len(sql.take()) == 1


def test_query_expression_is_none(session: Session, put_in: Attach, sql: Statements) -> None:
    """A query_expression that no query filled reads as None, without SQL, as after a load."""
    priced = put_in(session, Priced, 1)
    sql.take()
    assert (priced.net, priced.gross) == (100, None)
    assert inspect(priced).expired_attributes == set()
    assert sql.take() == []


def test_unloaded_column_loads_on_access(session: Session, cached: Cached, sql: Statements) -> None:
    """A column that the state lacks loads when it is read instead of reading as None."""
    plan, payload = cached(User, 1)
    state = list(plan.unpack(payload)[1])
    state[plan.attrs.index("name")] = UNLOADED
    sql.take()
    user: Any = plan.attach(session, plan.unpack(plan.pack(tuple(state)))[1])
    assert sql.take() == []
    assert user.name == "Ann"
    assert len(sql.take()) == 1


def test_collection_loads(session: Session, put_in: Attach) -> None:
    """A lazy collection loads."""
    assert [item.id for item in put_in(session, User, 1).items] == [1, 2, 3]


def test_eager_option_applies(session: Session, put_in: Attach, sql: Statements) -> None:
    """A select with selectinload fills the collection of an attached instance."""
    user = put_in(session, User, 1)
    assert session.scalars(select(User).options(selectinload(User.items)).where(User.id == 1)).one() is user
    sql.take()
    assert len(user.items) == 3
    assert sql.take() == []


def test_refresh_and_expire(session: Session, put_in: Attach, sql: Statements) -> None:
    """Refresh and expire read the row again, by one statement each."""
    user = put_in(session, User, 1)
    sql.take()
    session.refresh(user)
    assert len(sql.take()) == 1
    session.expire(user, ["name"])
    assert user.name == "Ann"
    assert len(sql.take()) == 1


def test_select_overwrites_only_when_asked(db: Engine, session: Session, put_in: Attach) -> None:
    """A select keeps the attached values, one with populate_existing replaces them."""
    user = put_in(session, User, 1)
    with db.begin() as connection:
        connection.execute(update(User).where(User.id == 1).values(name="Changed"))
    chosen = select(User).where(User.id == 1)
    assert session.scalars(chosen).one().name == "Ann"
    assert session.scalars(chosen.execution_options(populate_existing=True)).one() is user
    assert user.name == "Changed"


def test_mutable_value_is_tracked(session: Session, put_in: Attach) -> None:
    """A MutableDict column notices a change in place."""
    doc = put_in(session, Doc, 1)
    assert type(doc.data) is MutableDict
    assert doc not in session.dirty
    doc.data["a"] = 2
    assert doc in session.dirty


def test_mutable_composite_is_tracked(session: Session, put_in: Attach) -> None:
    """A composite is built from its columns and notices a change in place."""
    doc = put_in(session, Doc, 1)
    assert doc.spot == Point(3, 4)
    doc.spot.x = 5
    assert doc in session.dirty
    session.flush()
    assert session.scalar(select(table_of(Doc).c.spot_x)) == 5


def test_reconstructor_runs_and_init_does_not(session: Session, put_in: Attach) -> None:
    """Like a load, an attach calls the reconstructor and never __init__."""
    assert put_in(session, Doc, 1).made_by == "reconstructor"
    assert put_in(session, Plain, 1).label == "p"


def test_synonym_hybrid_and_column_names(session: Session, put_in: Attach) -> None:
    """Synonyms, hybrids and columns under another name read the cached values."""
    doc = put_in(session, Doc, 1)
    assert (doc.id, doc.heading, doc.shout) == (1, "t", "T")


def test_composite_primary_key(session: Session, put_in: Attach, sql: Statements) -> None:
    """A primary key of two columns keeps the mapper's order."""
    seat = put_in(session, Seat, ("B", 7))
    sql.take()
    assert session.get(Seat, ("B", 7)) is seat
    assert sql.take() == []


def test_excluded_column_is_no_attribute(session: Session, put_in: Attach) -> None:
    """A column that the mapping leaves out is neither cached nor set."""
    plain = put_in(session, Plain, 1)
    assert plan_of(Plain).attrs == ("id", "label")
    assert not hasattr(plain, "secret")


def test_mapped_dataclass_is_like_a_loaded_one(db: Engine, session: Session, put_in: Attach) -> None:
    """A mapped dataclass holds what a load gives it, its defaults included."""
    with Session(db) as other:
        loaded = other.get_one(Card, 1)
        attached = put_in(session, Card, 1)
        assert {key: value for key, value in vars(attached).items() if key != "_sa_instance_state"} == {
            key: value for key, value in vars(loaded).items() if key != "_sa_instance_state"
        }
        assert (attached.count, attached.note, attached.hidden) == (loaded.count, loaded.note, loaded.hidden)


def test_listener_added_later_hears_the_load(session: Session, put_in: Attach) -> None:
    """A load listener is called also when it came after the plan."""
    plan_of(Item)
    heard: list[tuple[object, object]] = []

    def listener(target: object, context: object) -> None:
        heard.append((target, context))

    event.listen(Item, "load", listener)
    try:
        item = put_in(session, Item, 3)
    finally:
        event.remove(Item, "load", listener)
    assert [call for call in heard if call[0] is item] == [(item, None)]


def test_listener_hears_loaded_as_persistent(session: Session, put_in: Attach) -> None:
    """A session's loaded_as_persistent listener is called."""
    heard: list[object] = []
    event.listen(session, "loaded_as_persistent", lambda _session, obj: heard.append(obj))
    assert heard == [put_in(session, Item, 3)]


def test_attribute_set_by_a_load_listener_is_no_change(session: Session, put_in: Attach) -> None:
    """What a load listener sets does not make the instance dirty."""

    def listener(target: Item, _context: object) -> None:
        target.qty = 1000

    event.listen(Item, "load", listener)
    try:
        item = put_in(session, Item, 3)
    finally:
        event.remove(Item, "load", listener)
    assert item.qty == 1000
    assert item not in session.dirty


def test_is_weakly_referenced(session: Session, put_in: Attach) -> None:
    """The session does not keep an attached instance alive."""
    put_in(session, Item, 3)
    gc.collect()
    assert len(session.identity_map) == 0


def test_is_freed_without_the_garbage_collector(session: Session, put_in: Attach) -> None:
    """An instance that nobody holds is out of the identity map at once, and its state is let go of too."""
    item = put_in(session, Item, 3)
    state = inspect(item)
    gc.disable()
    try:
        del item
        assert len(session.identity_map) == 0
        assert (state.obj(), state.session_id, state.session) == (None, None, None)
        gone = weakref.ref(state)
        del state
        assert gone() is None
    finally:
        gc.enable()


def test_another_of_the_same_identity_stays(session: Session, put_in: Attach) -> None:
    """An instance that was put out of the session takes nobody along when it is freed."""
    first = put_in(session, Item, 3)
    session.expunge(first)
    second = put_in(session, Item, 3)
    del first
    gc.collect()
    assert session.get(Item, 3) is second
    assert second in session


def test_delete(session: Session, put_in: Attach, sql: Statements) -> None:
    """An attached instance can be deleted, and a rollback brings it back."""
    item = put_in(session, Item, 3)
    session.delete(item)
    session.flush()
    assert sql.take()[-1].startswith("DELETE FROM items")
    session.rollback()
    assert inspect(item).persistent
    assert item.qty == 3


def test_expunge_pickle_merge(db: Engine, session: Session, put_in: Attach, sql: Statements) -> None:
    """An attached instance can be expunged, pickled, and merged without a load."""
    item = put_in(session, Item, 3)
    session.expunge(item)
    assert inspect(item).detached
    copy = pickle.loads(pickle.dumps(item))
    assert (copy.sku, inspect(copy).detached) == ("SKU-3", True)
    sql.take()
    with Session(db) as other:
        assert other.merge(item, load=False).sku == "SKU-3"
    assert sql.take() == []


def test_close_detaches(db: Engine, put_in: Attach) -> None:
    """Closing the session detaches the instance and keeps its values."""
    with Session(db) as session:
        item = put_in(session, Item, 3)
    assert inspect(item).detached
    assert item.sku == "SKU-3"


def test_mutable_values_are_not_shared(db: Engine, cached: Cached) -> None:
    """Two readers of one payload hold two JSON values."""
    plan, payload = cached(Item, 3)
    with Session(db) as one, Session(db) as two:
        first: Any = plan.attach(one, plan.unpack(payload)[1])
        second: Any = plan.attach(two, plan.unpack(payload)[1])
        first.attrs["dims"].append(3)
        assert second.attrs == {"dims": [1, 2]}


def test_begins_a_transaction(session: Session, put_in: Attach) -> None:
    """An attach begins the session's transaction, as any read does."""
    assert not session.in_transaction()
    put_in(session, Item, 3)
    assert session.in_transaction()


def test_session_without_autobegin_raises(db: Engine, put_in: Attach) -> None:
    """A session with autobegin=False refuses as session.get does."""
    with Session(db, autobegin=False) as session:
        with pytest.raises(InvalidRequestError, match="Autobegin is disabled"):
            put_in(session, Item, 3)
        with session.begin():
            assert put_in(session, Item, 3).qty == 3


def test_closed_session_raises(db: Engine, put_in: Attach) -> None:
    """A session that was closed for good refuses."""
    session = Session(db, close_resets_only=False)
    session.close()
    with pytest.raises(InvalidRequestError, match="permanently closed"):
        put_in(session, Item, 3)


def test_inactive_transaction_raises(session: Session, put_in: Attach) -> None:
    """After a failed flush the session refuses, and holds nothing, until it is rolled back."""
    session.add(Item(id=1, owner_id=1, sku="twice", qty=1, attrs={}, version_id=1))
    with pytest.raises(Exception, match=r"(?i)unique"):
        session.flush()
    with pytest.raises(PendingRollbackError):
        put_in(session, Item, 3)
    assert len(session.identity_map) == 0
    session.rollback()
    assert put_in(session, Item, 3).qty == 3


def test_what_is_held_needs_no_transaction(db: Engine, put_in: Attach) -> None:
    """An instance in the identity map is given although no transaction may begin."""
    with Session(db, autobegin=False, expire_on_commit=False) as session:
        with session.begin():
            item = put_in(session, Item, 3)
        assert put_in(session, Item, 3) is item


def test_savepoint_rollback(session: Session, put_in: Attach) -> None:
    """A rolled back savepoint expires the change that was made within."""
    session.begin()
    item = put_in(session, Item, 3)
    with session.begin_nested() as savepoint:
        item.qty = 50
        session.flush()
        savepoint.rollback()
    assert item.qty == 3


def test_positions_are_kept(session: Session, cached: Cached) -> None:
    """attach_many keeps positions, gives repeats the same instance, and takes an empty list."""
    states = [plan_of(Item).unpack(cached(Item, number)[1])[1] for number in (2, 1, 2)]
    items: list[Any] = plan_of(Item).attach_many(session, states)
    assert [item.id for item in items] == [2, 1, 2]
    assert items[0] is items[2]
    assert plan_of(Item).attach_many(session, []) == []


@pytest.mark.parametrize("way", ["attach_many", "attach_whole"])
def test_is_told_of_those_that_lack_something(session: Session, cached: Cached, way: str) -> None:
    """The function given hears of instances that were there already and lack a value, and of all of them where somebody hears refreshes."""
    plan = plan_of(Item)
    states: list[Any] = plan.unpack_all([cached(Item, number)[1] for number in (1, 2, 3)]) or []
    told: list[object] = []

    def attach() -> list[Any]:
        told.clear()
        found: list[Any] = getattr(plan, way)(session, states, lambda item, state: told.append((item.id, state)))
        return found

    items = attach()
    assert told == []
    assert attach() == items
    assert told == []
    session.expire(items[1], ["qty"])
    assert attach() == items
    assert told == [(2, states[1])]

    def listener(_item: object, _context: object, _names: object) -> None:
        pass

    event.listen(Item, "refresh", listener)
    try:
        assert attach() == items
    finally:
        event.remove(Item, "refresh", listener)
    assert told == [(number, states[number - 1]) for number in (1, 2, 3)]


@pytest.mark.parametrize(("cls", "identity"), [(User, 1), (Item, 3), (Dog, 1), (Cat, 2), (Truck, 1), (Doc, 1), (Seat, ("B", 7)), (Card, 1)])
def test_instance_state_is_like_a_loaded_one(db: Engine, session: Session, put_in: Attach, cls: type, identity: object) -> None:
    """The instance state equals that of a load in all that an instance keeps."""
    with Session(db) as other:
        loaded, attached = inspect(other.get(cls, identity)), inspect(put_in(session, cls, identity))
        for name in ("key", "identity_token", "class_", "manager", "committed_state", "modified", "expired", "load_options", "callables"):
            assert getattr(attached, name) == getattr(loaded, name), name
        expressions = {"upper"} & set(attached.mapper.attrs.keys())
        assert attached.expired_attributes == loaded.expired_attributes | expressions


class TestDetached:
    """An instance that no session holds."""

    def test_columns_read_without_a_session(self, cached: Cached, sql: Statements) -> None:
        """A hydrated instance is detached, and its columns read without SQL."""
        plan, payload = cached(User, 1)
        sql.take()
        user: Any = plan.hydrate(plan.unpack(payload)[1])
        assert inspect(user).detached
        assert (user.id, user.name, user.prefs["theme"]) == (1, "Ann", "dark")
        assert sql.take() == []

    def test_relationships_raise(self, cached: Cached) -> None:
        """A relationship of a hydrated instance raises as of any detached one."""
        plan, payload = cached(User, 1)
        user: Any = plan.hydrate(plan.unpack(payload)[1])
        with pytest.raises(DetachedInstanceError):
            _ = user.items

    @pytest.mark.parametrize("name", ["big", "upper"])
    def test_what_is_not_cached_raises(self, cached: Cached, name: str) -> None:
        """A deferred column and an SQL expression raise instead of reading as None."""
        plan, payload = cached(Dog, 1)
        with pytest.raises(DetachedInstanceError):
            getattr(plan.hydrate(plan.unpack(payload)[1]), name)

    def test_unloaded_column_raises(self, cached: Cached) -> None:
        """A column that the state lacks raises instead of reading as None."""
        plan, payload = cached(User, 1)
        state = list(plan.unpack(payload)[1])
        state[plan.attrs.index("name")] = UNLOADED
        user: Any = plan.hydrate(tuple(state))
        assert user.email == "ann@example.com"
        with pytest.raises(DetachedInstanceError):
            _ = user.name

    def test_load_events_fire(self, cached: Cached) -> None:
        """Mutable values, composites and the reconstructor work on a hydrated instance."""
        plan, payload = cached(Doc, 1)
        doc: Any = plan.hydrate(plan.unpack(payload)[1])
        assert (type(doc.data), doc.spot, doc.made_by) == (MutableDict, Point(3, 4), "reconstructor")

    def test_can_be_added_and_merged(self, session: Session, cached: Cached, sql: Statements) -> None:
        """A hydrated instance can be added to a session, changed and flushed."""
        plan, payload = cached(Item, 3)
        item: Any = plan.hydrate(plan.unpack(payload)[1])
        session.add(item)
        item.qty = 4
        sql.take()
        session.flush()
        assert [statement.split(" SET ")[0] for statement in sql.take()] == ["UPDATE items"]
