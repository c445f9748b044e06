"""What was wrong with the transactions of sessions that are served without a statement."""

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session

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
