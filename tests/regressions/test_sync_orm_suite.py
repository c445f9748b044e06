"""What SQLAlchemy's own tests of its ORM found wrong with a hook attached."""

from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import pytest
from sqlalchemy import Column, Delete, Engine, Integer, MetaData, Table, Update, create_engine, delete, event, insert, literal, update
from sqlalchemy.orm import Mapped, ORMExecuteState, Session, aliased, mapped_column, registry, sessionmaker

from stockstore import ProcessMemoryStore, RedisStore
from stockstore_ext.sqlalchemy import SessionSync
from tests.regressions.hooked import Base, Hooked, Person, hook


@pytest.fixture
def hooked(engine: Engine, redis_url: str, namespace: str) -> Iterator[Hooked]:
    """Hooked sessions, with process memory above SQLite and Redis above PostgreSQL."""
    on_sqlite = engine.dialect.name == "sqlite"
    cache = ProcessMemoryStore(max_staleness=None, namespace=namespace) if on_sqlite else RedisStore(redis_url, namespace=namespace)
    with hook(engine, cache) as made:
        yield made


@pytest.mark.parametrize("deletes", [True, False])
def test_statement_on_a_table_with_a_query_in_it(hooked: Hooked, deletes: bool) -> None:
    """A statement on a table that embeds one of a class goes through the ORM, which cannot say what class it is about."""
    persons: Any = Person.__table__

    def write(session: Session) -> None:
        chosen = session.query(persons.c.id).where(persons.c.id == 1).scalar_subquery()
        statement = delete(persons) if deletes else update(persons).values(name="new")
        session.execute(statement.where(persons.c.id.in_(chosen)))

    hooked.check(write)


def test_statement_on_an_alias(hooked: Hooked) -> None:
    """Its rows are not counted as those of the class beside it."""
    alias = aliased(Person)
    statement = update(alias).where(alias.id == 1).values(name="new")
    hooked.check(lambda session: session.execute(statement, execution_options={"synchronize_session": False}))


class Stamped(Base):
    __tablename__ = "stamped"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    stamp: Mapped[str | None] = mapped_column(onupdate=literal("changed"))


def test_statement_that_returns_defaults(hooked: Hooked) -> None:
    """Where the application has asked for defaults, the keys cannot be asked for too."""
    with hooked.maker() as session:
        session.add(Stamped(id=1, name="old"))
        session.commit()
        session.execute(update(Stamped).where(Stamped.id == 1).values(name="new").return_defaults())
        session.commit()
    found = hooked.store.get(Stamped, 1)
    assert found is not None
    assert (found.name, found.stamp) == ("new", "changed")


class Routed(Session):
    """It writes by one engine and reads by another, as the documentation of SQLAlchemy has it."""

    leader: Engine
    follower: Engine

    def get_bind(self, mapper: Any = None, *, clause: Any = None, **_rest: Any) -> Engine:
        """Give the engine for a flush or a statement."""
        return self.leader if self._flushing or isinstance(clause, Update | Delete) else self.follower


def test_session_that_writes_by_another_engine(hooked: Hooked) -> None:
    """What a statement writes is noted on the connection that executes it, not on the one that the class is read by: a replica's."""
    Routed.leader, Routed.follower = hooked.engine, create_engine("sqlite://")
    Base.metadata.create_all(Routed.follower)
    maker = sessionmaker(class_=Routed)
    sync = SessionSync(hooked.store).attach(maker)
    hooked.prove_cached()
    try:
        with maker() as session:
            session.execute(update(Person).where(Person.id == 1).values(name="new"))
            session.commit()
    finally:
        sync.detach()
        Routed.follower.dispose()
    assert hooked.row() == "new"
    assert hooked.store.tiers[0].contains(Person, 1)
    assert hooked.name() == "new"


def test_listener_that_chooses_the_engine(hooked: Hooked) -> None:
    """A session may have no bind at all but for what a listener of its statements gives them."""

    def choose(execution: ORMExecuteState) -> Any:
        return execution.invoke_statement(bind_arguments={**execution.bind_arguments, "bind": hooked.engine})

    def write(_session: Session) -> None:
        with hooked.maker.class_() as session:
            event.listen(session, "do_orm_execute", choose, retval=True)
            session.execute(update(Person).where(Person.id == 1).values(name="new"))
            session.commit()

    hooked.check(write)


def test_flush_begins_when_it_writes(hooked: Hooked) -> None:
    """The hook's part before a flush needs no connection, which other listeners would see begin too early."""
    heard: list[str] = []
    with hooked.maker() as session:
        for name in ("before_flush", "after_begin", "after_flush"):
            event.listen(session, name, lambda *_, name=name: heard.append(name))
        session.add(Person(id=3))
        session.commit()
    assert heard == ["before_flush", "after_begin", "after_flush"]


def test_class_that_is_mapped_once_more(hooked: Hooked) -> None:
    """Its keys are those of the mapping that there is now."""
    metadata = MetaData()
    first = Table("first", metadata, Column("id", Integer, primary_key=True), Column("value", Integer))
    second = Table("second", metadata, Column("a", Integer, primary_key=True), Column("b", Integer, primary_key=True))
    metadata.drop_all(hooked.engine)
    metadata.create_all(hooked.engine)

    class Thing:
        def __init__(self, **values: int) -> None:
            for name, value in values.items():
                setattr(self, name, value)

    for table, values, identity in ((first, {"id": 1, "value": 2}, 1), (second, {"a": 1, "b": 2}, (1, 2))):
        mappings = registry()
        mappings.map_imperatively(Thing, table)
        with hooked.maker() as session:
            session.add(Thing(**values))
            session.commit()
        found = hooked.store.get(Thing, identity)
        assert {name: getattr(found, name) for name in values} == values
        mappings.dispose()


@pytest.mark.filterwarnings("ignore:The engine provided as bind")  # SQLAlchemy 2.0 asks the mock whether it is in a transaction
def test_connection_that_is_none(hooked: Hooked) -> None:
    """A test of an application may have a mock in the place of a connection."""
    hooked.prove_cached()
    with hooked.maker.class_(bind=Mock(spec=Engine)) as session:
        session.execute(update(Person).where(Person.id == 1).values(name="new"), execution_options={"synchronize_session": False})
        session.commit()
    assert hooked.name() == hooked.row() == "old"


def test_class_that_is_mapped_no_more(hooked: Hooked) -> None:
    """A write to what was its table is no write of its rows, also as long as somebody holds its mapper."""
    table = Table("first", MetaData(), Column("id", Integer, primary_key=True))
    table.drop(hooked.engine, checkfirst=True)
    table.create(hooked.engine)
    mappings = registry()
    held: Any = mappings.map_imperatively(type("Thing", (), {}), table)
    with hooked.maker() as session:
        session.execute(insert(table), [{"id": 1}])
        session.commit()
    mappings.dispose()
    with hooked.maker() as session:
        session.execute(insert(table), [{"id": 2}])
        session.execute(update(table).values(id=table.c.id + 10))
        session.commit()
    del held
