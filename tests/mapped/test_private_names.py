"""The private names of SQLAlchemy that hydration builds on mean what it takes them to mean."""

import gc
import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, inspect
from sqlalchemy.exc import ArgumentError, InvalidRequestError
from sqlalchemy.orm import DeclarativeBase, Mapper, Session, UOWTransaction
from sqlalchemy.orm.session import SessionTransactionState
from sqlalchemy.orm.state import InstanceState

import stockstore.mapped
from stockstore.mapped import hydrate, plan_of
from tests.mapped.models import Animal, Dog, Item, Truck, User

PACKAGE = Path(stockstore.mapped.__file__).parent


def test_only_hydrate_uses_private_names() -> None:
    """No other module of the package but its sources reads a private attribute of another object."""
    private = re.compile(r"(?<!self)(?<!cls)\.(_[a-z]\w*)")
    found = {path.name: private.findall(path.read_text()) for path in PACKAGE.glob("*.py") if path.name not in {"hydrate.py", "sources.py"}}
    allowed = {"_name_"}
    assert {name: sorted(set(names) - allowed) for name, names in found.items() if set(names) - allowed} == {}


def test_class_manager_is_an_attribute_of_the_class(session: Session) -> None:
    """A mapped class holds its manager, and the manager counts its attributes and keeps a dict."""
    manager = vars(User)["_sa_class_manager"]
    assert manager is inspect(User).class_manager
    assert len(manager) == len(inspect(User).attrs)
    assert isinstance(manager.info, dict)
    assert hydrate.plan_slot(int) is None


def test_identity_class() -> None:
    """_identity_class is the first part of an identity key."""
    for cls in (User, Animal, Dog, Truck):
        mapper: Mapper[Any] = inspect(cls)
        assert hydrate.identity_class(mapper) is mapper.identity_key_from_primary_key((1,))[0]


def test_instance_state(session: Session) -> None:
    """An instance holds its InstanceState, which the constructor builds from the instance and the manager."""
    user = session.get_one(User, 1)
    assert vars(user)["_sa_instance_state"] is inspect(user)
    assert type(inspect(user)) is InstanceState
    fresh: InstanceState[User] = InstanceState(user, inspect(User).class_manager)
    assert set(InstanceState.__slots__) == {"__dict__", "__weakref__", "class_", "manager", "obj", "committed_state", "expired_attributes"}
    assert vars(fresh) == {}
    assert (fresh.key, fresh.session_id, fresh.identity_token) == (None, None, None)


def test_identity_map(session: Session) -> None:
    """The identity map's _dict holds states by identity key, and _add_unpresent enters one."""
    item = session.get_one(Item, 1)
    key, state = inspect(item).key, inspect(item)
    assert key == (Item, (1,), None)
    assert session.identity_map._dict == {key: state}
    assert state.session_id == session.hash_key
    session.expunge(item)
    state.session_id = session.hash_key
    session.identity_map._add_unpresent(state, key)
    assert inspect(item).persistent
    assert vars(state)["_instance_dict"]() is session.identity_map


def test_session_transaction(session: Session) -> None:
    """_transaction is None until _autobegin_t, its _state then ACTIVE."""
    assert vars(session)["_transaction"] is None
    transaction = session._autobegin_t()
    assert vars(session)["_transaction"] is transaction
    assert transaction is session.get_transaction()
    assert transaction._state is SessionTransactionState.ACTIVE
    session.rollback()
    assert vars(session)["_transaction"] is None
    with pytest.raises(InvalidRequestError, match="Autobegin is disabled"):
        Session(autobegin=False)._autobegin_t()


def test_connections_of_a_transaction(db: Engine, session: Session) -> None:
    """_connections holds the connection by its bind and by itself, the connection first of what stands there, and _parent leads to the transaction around."""
    assert hydrate.open_connection(session, db) is None
    session.get_one(User, 1)
    outer: Any = session.get_transaction()
    connection = hydrate.open_connection(session, db)
    assert connection is session.connection()
    assert outer._connections.keys() == {db, connection}
    assert [entry[0] for entry in outer._connections.values()] == [connection, connection]
    assert outer._parent is None
    with session.begin_nested() as inner:
        assert inner._parent is outer
        assert hydrate.open_connection(session, db) is connection


def test_all_registries() -> None:
    """_all_registries and _managers give every mapped class, and do not fail for one that is not mapped to its end."""

    class Base(DeclarativeBase):
        pass

    with pytest.raises(ArgumentError, match="could not assemble any primary key columns"):
        type("WithoutAnyKey", (Base,), {"__tablename__": "without_any_key"})
    mappers = hydrate.all_mappers()
    assert {inspect(User), inspect(Dog), inspect(Truck)} <= mappers
    assert all(mapper.class_.__name__ != "WithoutAnyKey" for mapper in mappers)


def test_events(session: Session) -> None:
    """The dispatchers of load and loaded_as_persistent are false without listeners, and impl tells what loads."""
    assert not inspect(User).class_manager.dispatch.load
    assert not session.dispatch.loaded_as_persistent
    assert inspect(Dog).class_manager["upper"].impl.accepts_scalar_loader


def test_commit_all(session: Session) -> None:
    """_commit_all takes the present values for the database's."""
    item = session.get_one(Item, 1)
    item.qty = 5
    inspect(item)._commit_all(vars(item), session.identity_map)
    assert item not in session.dirty
    assert not inspect(item).modified


def test_flush(session: Session) -> None:
    """_flushing tells of a flush, and its context lists the states with whether they are deleted and only listed."""
    seen: list[object] = []
    item, gone = session.get_one(Item, 1), session.get_one(Item, 2)

    def look(flushing: Session, context: UOWTransaction) -> None:
        seen.append(flushing._flushing)
        seen.append({state.obj(): flags for state, flags in context.states.items() if state.obj() in {item, gone}})

    event.listen(session, "after_flush", look)
    assert not session._flushing
    item.qty = 5
    session.delete(gone)
    session.flush()
    assert seen == [True, {item: (False, False), gone: (True, False)}]
    assert not session._flushing


def test_weak_reference_of_the_identity_map(session: Session) -> None:
    """_wr refers to the identity map itself, and _cleanup takes a dead instance's state out of it."""
    item = session.get_one(Item, 1)
    assert session.identity_map._wr() is session.identity_map
    state = inspect(item)
    del item
    gc.collect()
    assert state.obj() is None
    assert session.identity_map._dict == {}
    assert "_instance_dict" not in vars(state)
    assert (state.session_id, state._strong_obj) == (None, None)


def test_a_dead_instance_takes_nobody_along(db: Engine, session: Session) -> None:
    """What stands in the identity map in place of an attached instance stays there when that dies, as with _cleanup."""
    with Session(db) as other:
        second = inspect(other.get_one(Item, 1))
        plan = plan_of(Item)
        first = plan.attach(session, plan.dehydrate(other.get_one(Item, 1)))
        session.identity_map._dict[inspect(first).key] = second
        del first
        gc.collect()
        assert session.identity_map._dict == {(Item, (1,), None): second}


def test_the_level_that_an_engine_was_made_with() -> None:
    """A dialect tells it before there is any connection; an option of the engine's is another matter."""
    engine = create_engine("sqlite://", isolation_level="SERIALIZABLE")
    assert hydrate.level_on_connect(engine.dialect) == "SERIALIZABLE"
    assert hydrate.level_on_connect(create_engine("sqlite://").execution_options(isolation_level="SERIALIZABLE").dialect) is None
