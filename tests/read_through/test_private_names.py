"""The private names of SQLAlchemy that the reading of statements builds on mean what it takes them to mean."""

from inspect import signature
from typing import Any
from weakref import WeakKeyDictionary, ref

import pytest
from sqlalchemy import Column, bindparam, create_engine, event, inspect, literal, select, tuple_
from sqlalchemy.engine import ChunkedIteratorResult
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import ORMExecuteState, PassiveFlag, Session, load_only, selectinload
from sqlalchemy.orm.context import QueryContext

from stockstore_ext.sqlalchemy.read_through import answering, glance, lazy_lists, listeners, parts, results
from stockstore_ext.sqlalchemy.read_through.entities import entity_of, entity_selected, unannotated
from stockstore_ext.sqlalchemy.read_through.shapes import recognise
from tests.read_through.models import Item, Owner
from tests.read_through.racks import Base, Rack
from tests.stores.shop import Car, Customer, Place

BY_ID: Any = select(Owner).where(Owner.id == 5)


def _context(option: Any) -> Any:
    return option.context


def _never(*_: Any, **__: Any) -> Any:
    raise AssertionError


def _nothing(*_: Any) -> None: ...


def _bind(statement: Any) -> Any:
    return statement._where_criteria[0].right


def test_statement() -> None:
    """A statement keeps what it consists of in its dict, by names of which the harmless ones are known; others are added when it is used."""
    assert [type(criterion).__name__ for criterion in BY_ID._where_criteria] == ["BinaryExpression"]
    assert vars(BY_ID).keys() <= parts._HARMLESS
    str(BY_ID)
    assert list(BY_ID.selected_columns)
    BY_ID._generate_cache_key()
    assert vars(BY_ID).keys() - parts._HARMLESS <= {"_compile_options"}
    for name, changed in {
        "_limit_clause": BY_ID.limit(1),
        "_order_by_clauses": BY_ID.order_by(Owner.id),
        "_with_options": BY_ID.options(load_only(Owner.id)),
        "_from_obj": BY_ID.select_from(Owner),
    }.items():
        assert name in vars(changed)
    query = vars(Session().query(Owner).filter_by(id=5)._statement_20())
    assert query.keys() - parts._HARMLESS == {"_compile_options"}


def test_entities_and_columns() -> None:
    """What is selected and compared is annotated with the mapper that it is of, and stands for the table's own column."""
    assert entity_selected(BY_ID._raw_columns[0]) is entity_of(inspect(Owner))
    assert entity_selected(select(Owner.id)._raw_columns[0]) is None
    for cls in (Owner, Car):
        left = select(cls).where(cls.id == 5)._where_criteria[0].left
        assert left._annotations["parententity"] is inspect(cls)
        assert unannotated(left) is cls.__table__.c.id
        assert type(unannotated(left)) is Column


def test_binds() -> None:
    """A compared value has the type of the column, and a name that a statement's parameters have only where the user gave it."""
    bind = _bind(BY_ID)
    assert (bind.value, bind.unique, bind.callable, bind.expanding) == (5, True, None, False)
    assert bind.type is Owner.__table__.c.id.type
    named = _bind(select(Owner).where(Owner.id.in_(bindparam("wanted"))))
    assert (named.key, named.unique, named.expanding) == ("wanted", False, True)
    pairs = _bind(select(Place).where(tuple_(Place.row, Place.number).in_([("a", 1)])))
    assert pairs.type.types == [Place.__table__.c.row.type, Place.__table__.c.number.type]


def test_get_statement() -> None:
    """The statement of ``session.get`` is one that is recognised."""
    seen = _executed(lambda session: session.get(Customer, 5))
    question = recognise(seen.statement, seen.parameters)  # type: ignore[arg-type]
    assert question is not None
    assert [lookup.values for lookup in question.lookups] == [(5,)]


def test_options_of_loading() -> None:
    """What a load was asked for stands in its options, by names of which the defaults are falsy."""
    default: Any = QueryContext.default_load_options
    for name in (*answering._ODD, "_refresh_state", "_identity_token", "_sa_top_level_orm_context"):
        assert not getattr(default, name)
    assert default._autoflush is True
    seen = _executed(lambda session: session.get(Customer, 5, populate_existing=True))
    assert seen.execution_options[answering._LOADING]._populate_existing is True
    compiled: Any = seen.statement._compile_options
    assert compiled._only_load_props is None
    assert parts._compiles_plainly(compiled)


def test_execution() -> None:
    """An execution knows which listeners are still to come."""
    places = []

    def listener(execution: ORMExecuteState) -> None:
        places.append(len(execution._events_todo) - execution._starting_event_idx)

    def another(execution: ORMExecuteState) -> None:
        listener(execution)

    _executed(lambda session: session.get(Customer, 5), listener, another)
    assert places == [3, 2]


def test_loader_options() -> None:
    """An option consists of elements, each with its path: mappers at even places, relationships and columns at odd ones."""
    (element,) = _context(selectinload(Item.owner))
    assert element.path.path == (inspect(Item), inspect(Item).relationships.owner, inspect(Owner))
    assert (element._extra_criteria, element.local_opts.get("recursion_depth")) == ((), None)
    assert _context(selectinload(Item.owner.and_(Owner.id > 1)))[0]._extra_criteria
    wildcard = _context(load_only(Item.id))[-1]
    assert wildcard.path.path == (inspect(Item), "column:*")


def test_sessions_at_a_glance() -> None:
    """A session keeps its bind, its options and its binds of classes in its dict, and what a flush would write in three collections."""
    engine = create_engine("sqlite://")
    session = Session(engine)
    own: Any = vars(session)
    assert (own["bind"], own.get("execution_options"), own[glance._BINDS]) == (engine, None, {})
    session.bind_mapper(Owner, engine)
    assert own[glance._BINDS]
    if "execution_options" in signature(Session).parameters:  # from SQLAlchemy 2.1 on
        made: Any = Session
        assert vars(made(engine, execution_options={"a": 1}))["execution_options"] == {"a": 1}
    assert "shard_chooser" in vars(ShardedSession(shard_chooser=_never, identity_chooser=_never, execute_chooser=_never))
    assert [*session._new, *session._deleted, *session.identity_map._modified] == []
    Owner.metadata.create_all(engine)
    session.add_all([Owner(id=1, email="1@x", name="a"), Owner(id=2, email="2@x", name="b")])
    assert len(session._new) == 2
    session.commit()
    first, second = session.get_one(Owner, 1), session.get_one(Owner, 2)
    first.name = "changed"
    session.delete(second)
    assert (session.identity_map._modified, [*session._deleted]) == ({inspect(first)}, [inspect(second)])
    session.close()
    engine.dispose()


def test_listeners_at_a_glance() -> None:
    """A session's own listeners are told apart from those of its class."""
    cls: type[Session] = type("Heard", (Session,), {})
    heard: Any = cls().dispatch.do_orm_execute
    before = [*heard.parent_listeners]
    assert [*heard.listeners] == []
    event.listen(cls, "do_orm_execute", _never)
    heard = cls().dispatch.do_orm_execute
    assert ([*heard.listeners], [*heard.parent_listeners]) == ([], [*before, _never])
    session = cls()
    event.listen(session, "do_orm_execute", _nothing)
    heard = session.dispatch.do_orm_execute
    assert ([*heard.listeners], [*heard.parent_listeners]) == ([_nothing], [*before, _never])


def test_executed_unheard() -> None:
    """A session executes at once what it is given with a state of execution that has no listeners left."""
    engine = create_engine("sqlite://")
    cls: type[Session] = type("Heard", (Session,), {})
    event.listen(cls, "do_orm_execute", _never)
    with cls(engine) as session:
        for statement in (select(literal(1)), select(literal(1)).execution_options(logging_token="a")):
            with pytest.raises(AssertionError):
                session.execute(statement)
            made: Any = session
            assert made._execute_internal(statement, None, _parent_execute_state=listeners.UNHEARD).scalar() == 1
    engine.dispose()


def test_connections_at_a_glance() -> None:
    """A connection has its engine's very options until it has its own, and its pooled connection with the driver's; a dialect knows the level it sets."""
    engine = create_engine("sqlite://", isolation_level="SERIALIZABLE")
    with engine.connect() as connection:
        assert connection._execution_options is engine._execution_options
        pooled: Any = connection._dbapi_connection
        assert pooled is connection.connection
        assert pooled.info is connection.info
        driver: Any = pooled.dbapi_connection
        assert driver.in_transaction is False
        connection.execution_options(some="thing")
        assert connection._execution_options is not engine._execution_options
    assert connection._dbapi_connection is None
    assert engine.dialect._on_connect_isolation_level == "SERIALIZABLE"
    assert create_engine("sqlite://").dialect._on_connect_isolation_level is None
    engine.dispose()


def test_journals_at_a_glance() -> None:
    """A dictionary with weak keys finds in its data by a reference what it finds by the key."""
    session = Session()
    kept = WeakKeyDictionary({session: 1})
    assert kept.data[ref(session)] == 1  # type: ignore[attr-defined]
    assert type(glance._journals) is dict


def test_results() -> None:
    """A result is told by its attributes to Query, and by its metadata how to make rows unique."""
    made: Any = results.entity_result(entity_of(inspect(Owner)), [1])
    assert isinstance(made, ChunkedIteratorResult)
    assert made._attributes == {"filtered": True, "is_single_entity": True}
    assert isinstance(made._metadata, SimpleResultMetaData)
    assert made._yield_per is None


def test_lazy_loads() -> None:
    """What loads a relationship is called by its attribute with the state and how it is asked, and is the lazy loader's; its statement tells of both."""
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    prop = inspect(Rack).relationships.bottles
    impl: Any = inspect(Rack).class_manager["bottles"].impl
    loader = impl.callable_
    strategy = loader.__self__
    assert strategy.parent_property is prop
    for lazy, name in {"select": "bottles", "raise": "raising", "raise_on_sql": "raising_on_sql"}.items():
        other: Any = inspect(Rack).class_manager[name].impl.callable_
        assert other.__self__.strategy_opts["lazy"] == lazy
    called: list[Any] = []

    def load(*given: Any) -> Any:
        called.append(given)
        return loader(*given)

    impl.callable_ = load
    try:
        with Session(engine) as session:
            session.add(Rack(id=1))
            session.commit()
            rack = session.get_one(Rack, 1)
            event.listen(session, "do_orm_execute", called.append)
            assert rack.bottles == []
    finally:
        impl.callable_ = loader
    asked, execution = called
    state: Any = inspect(rack)
    assert asked == (state, PassiveFlag.PASSIVE_OFF)
    assert (state.load_options, state.key is None) == ((), False)
    assert answering.loading_of(execution)._lazy_loaded_from is state
    assert execution.statement._compile_options._current_path.path[-1] is prop
    assert execution.session.execute.__func__ is lazy_lists._EXECUTE
    engine.dispose()


def _executed(run: Any, *listeners: Any) -> ORMExecuteState:
    """Give the execution that a session's read makes."""
    engine, seen = create_engine("sqlite://"), []

    def keep(execution: ORMExecuteState) -> None:
        seen.append(execution)

    Customer.metadata.create_all(engine)
    with Session(engine) as session:
        for listener in (*listeners, keep):
            event.listen(session, "do_orm_execute", listener)
        run(session)
    engine.dispose()
    return seen[-1]
