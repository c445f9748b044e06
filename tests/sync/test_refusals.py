"""A COMMIT that the database refuses while a hook prepares it: the application is told what it would be told without the hook."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from psycopg.errors import AdminShutdown
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from tests.stores.shop import Customer
from tests.sync.conftest import ON_POSTGRES, Attach

pytestmark = ON_POSTGRES
Told = list[tuple[type[BaseException], type[BaseException], str | None, bool]]


@pytest.fixture
def engine_of_mine(db: Engine) -> Iterator[Engine]:
    """An engine whose connections nobody else has."""
    engine = create_engine(db.url)
    yield engine
    engine.dispose()


def by_unit_of_work(session: Session) -> None:
    """Have a row written that is read again before COMMIT."""
    session.add(Customer(id=1, email="one"))
    session.flush()


def by_text(session: Session) -> None:
    """Have something written of which nothing is read again; the transaction's id is asked for by itself."""
    session.execute(text("UPDATE customers SET name = 'x'"))
    session.execute(text("INSERT INTO customers (id, name, tenant, balance) VALUES (1, 'ann', 7, 0)"))


def telling(told: Told) -> Callable[[ExceptionContext], None]:
    """Give a listener that notes what it is told."""

    def note(context: ExceptionContext) -> None:
        told.append(
            (type(context.original_exception), type(context.sqlalchemy_exception), context.statement, context.is_disconnect)  # type: ignore[arg-type]
        )

    return note


def end_connection(engine: Engine, session: Session) -> None:
    """Have the server end a session's connection."""
    number = session.connection().connection.driver_connection.info.backend_pid  # type: ignore[union-attr]
    with engine.connect() as other:
        assert other.execute(text("SELECT pg_terminate_backend(:number, 20000)"), {"number": number}).scalar_one()


def refused(engine: Engine, maker: "sessionmaker[Session]", write: Callable[[Session], object]) -> tuple[OperationalError, Told]:
    """Have the server end a session's connection before COMMIT, and give the error and what listeners were told."""
    told: Told = []
    note = telling(told)
    with maker() as session:
        write(session)
        end_connection(engine, session)
        event.listen(engine, "handle_error", note)
        with pytest.raises(OperationalError) as raised:
            session.commit()
        event.remove(engine, "handle_error", note)
    return raised.value, told


@pytest.mark.parametrize("twophase", [False, True])
@pytest.mark.parametrize("write", [by_unit_of_work, by_text])
def test_a_connection_that_the_server_ends(
    engine_of_mine: Engine, attach: Attach, write: Callable[[Session], object], twophase: bool
) -> None:
    """Class, message and events are those of the COMMIT; nothing of the hook's own statements is in them."""
    bare: sessionmaker[Session] = sessionmaker(engine_of_mine, twophase=twophase)
    path = attach(engine=engine_of_mine, twophase=twophase)
    found: list[Any] = []
    for maker in (bare, path.maker):
        error, told = refused(engine_of_mine, maker, write)
        found.append((type(error.orig), str(error), error.statement, error.connection_invalidated, told))
    assert found[0] == found[1]
    assert found[1][0] is AdminShutdown
    assert found[1][-1] == [(AdminShutdown, OperationalError, None, True)]


def test_a_connection_that_the_server_ends_before_a_statement_that_commits(db: Engine, attach: Attach) -> None:
    """Of what the hook asks first the application is told what it would be told of its statement."""
    found: list[Any] = []
    for hooked in (False, True):
        engine = create_engine(db.url, isolation_level="AUTOCOMMIT")
        maker = attach(engine=engine).maker if hooked else sessionmaker(engine)
        told: Told = []
        with maker() as session:
            end_connection(engine, session)
            event.listen(engine, "handle_error", telling(told))
            with pytest.raises(OperationalError) as raised:
                session.execute(text("UPDATE customers SET name = :name"), {"name": "x"})
        error = raised.value
        found.append((type(error.orig), str(error), error.statement, error.params, error.connection_invalidated, told))
        engine.dispose()
    assert found[0] == found[1]
    assert found[1][-1] == [(AdminShutdown, OperationalError, "UPDATE customers SET name = %(name)s", True)]
