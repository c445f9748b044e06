"""What SQLAlchemy's own tests of its ORM found wrong with a hook attached."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, delete, update
from sqlalchemy.orm import Session

from stockstore import ProcessMemoryStore, RedisStore
from tests.regressions.hooked import Hooked, Person, hook


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
    persons = Person.__table__

    def write(session: Session) -> None:
        chosen = session.query(persons.c.id).where(persons.c.id == 1).scalar_subquery()
        statement = delete(persons) if deletes else update(persons).values(name="new")
        session.execute(statement.where(persons.c.id.in_(chosen)))

    hooked.check(write)
