"""What was wrong with the transactions of sessions that are served without a statement."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, select, text, update
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import ORMExecuteState, Session, with_loader_criteria

from stockstore import ProcessMemoryStore
from stockstore_ext.sqlalchemy import SessionSync
from tests.regressions.hooked import Hooked, Person, hook


@pytest.fixture
def hooked(engine: Engine, namespace: str) -> Iterator[Hooked]:
    """Two persons, both cached, and sessions that read through."""
    with hook(engine, ProcessMemoryStore(max_staleness=None, namespace=namespace)) as made:
        made.sync.detach()
        sync = SessionSync(made.store, read_through=True).attach(made.maker)
        for identity in (1, 2):
            made.prove_cached(identity)
        yield made
        sync.detach()


def _read_attribute(person: Person, _session: Session) -> str:
    return person.name


def _select(_person: Person, session: Session) -> str:
    return session.scalars(select(Person).where(Person.id == 1)).one().name


def _get(_person: Person, session: Session) -> str:
    return session.get_one(Person, 1).name


EACH_READ = pytest.mark.parametrize("read", [_read_attribute, _select, _get])


@EACH_READ
def test_what_is_served_expires_by_a_rollback(hooked: Hooked, read: Callable[[Person, Session], str]) -> None:
    """A read that finds its instance in the session, and its columns in a cache, begins a transaction as a statement would."""
    with hooked.maker() as session:
        person = session.get_one(Person, 1)
        session.commit()
        read(person, session)
        assert session.in_transaction()
        with hooked.maker() as writer:
            writer.get_one(Person, 1).name = "new"
            writer.commit()
        session.rollback()
        assert read(person, session) == "new"


@EACH_READ
def test_session_that_may_not_begin(hooked: Hooked, read: Callable[[Person, Session], str]) -> None:
    """Where a statement would be refused, so is what a cache could answer."""
    with hooked.maker() as session:
        person = session.get_one(Person, 1)
        session.commit()
        with session.begin():
            session.commit()
            with pytest.raises(InvalidRequestError, match="closed transaction"):
                read(person, session)


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize("told_by", ["engine", "option", "driver"])
def test_repeatable_read_that_begins_with_a_cached_row(hooked: Hooked, level: str, told_by: str) -> None:
    """It stays repeatable: the first read already shows the snapshot of the transaction."""
    url = hooked.engine.url
    given = f"{url.query.get('options', '')} -c default_transaction_isolation={level.lower()}".replace("e r", "e\\ r")
    options: dict[str, dict[str, Any]] = {"engine": {"isolation_level": level}, "driver": {"connect_args": {"options": given}}}
    engine = create_engine(url, **options.get(told_by, {}))
    if told_by == "option":
        engine = engine.execution_options(isolation_level=level)
    engine.connect().close()
    with hooked.maker(bind=engine) as session:
        person = session.get_one(Person, 1)
        assert person.name == "old"
        with hooked.maker() as writer:
            writer.get_one(Person, 1).name = "new"
            writer.commit()
        assert hooked.name() == "new"
        session.expire(person)
        assert person.name == "old"
    engine.dispose()


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_attribute_that_was_given_the_value_it_had(hooked: Hooked) -> None:
    """The flush writes no row for it, so that the commit waits for nobody who does."""
    with hooked.other.connect() as connection, hooked.maker() as session:
        connection.execute(update(Person).where(Person.id == 1).values(name="open"))
        session.execute(text("SET LOCAL lock_timeout = '1s'"))
        person = session.get_one(Person, 1)
        person.name = str(person.name)
        session.add(Person(id=3))
        session.commit()
        assert hooked.row(3) == hooked.name(3) == "old"
        connection.commit()
    hooked.sync.invalidate(Person)
    with hooked.maker() as session:
        session.get_one(Person, 1).name = "new"
        session.commit()
    assert hooked.row() == hooked.name() == "new"


def test_listener_of_a_package_with_a_similar_name(hooked: Hooked) -> None:
    """It is the application's, and may add criteria."""

    def refuse(execution: ORMExecuteState) -> None:
        execution.statement = execution.statement.options(with_loader_criteria(Person, Person.name == "nobody"))

    refuse.__module__ = "stockstorefront.criteria"
    with hooked.maker() as session:
        event.listen(session, "do_orm_execute", refuse)
        assert session.get(Person, 1) is None
