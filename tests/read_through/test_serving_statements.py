"""What becomes of the caches and of other listeners when statements are served."""

from typing import Any

import pytest
from sqlalchemy import event, select, update
from sqlalchemy.orm import ORMExecuteState, Session, with_loader_criteria

from tests.read_through.served import Served
from tests.stores.shop import Customer
from tests.sync.conftest import CROSSED, ON_MEMORY

ALL = select(Customer).where(Customer.id.in_([1, 2, 3])).order_by(Customer.id)
BY_EMAIL = select(Customer).where(Customer.email == "2@x")


@pytest.fixture
def shop(served: Served) -> Served:
    """Three customers, none of them cached."""
    served.seed(*(Customer(id=n, email=f"{n}@x", name=f"name {n}") for n in (1, 2, 3)))
    return served


def _statuses(session: Session, statement: Any, **options: object) -> list[str]:
    return [customer.status for customer in session.scalars(statement, execution_options=options)]


@CROSSED
def test_comes_from_the_cache(shop: Served) -> None:
    """What is loaded once is served from then on: what another connection writes past everybody stays unseen."""
    for statement in (ALL, BY_EMAIL):
        for _ in range(2):
            with shop.session() as session:
                _statuses(session, statement)
        with shop.changed(Customer, 2) as value:
            with shop.session() as session:
                assert value not in _statuses(session, statement)
                assert value in _statuses(session, statement.execution_options(populate_existing=True))
            with shop.session() as session:
                assert value in _statuses(session, statement, stockstore=False)


def test_one_statement_for_all_misses(shop: Served) -> None:
    """What the caches lack is read by one statement, and kept."""
    with shop.session() as session:
        session.get(Customer, 1)
    with shop.statements() as seen, shop.session() as session:
        assert len(session.scalars(ALL).all()) == 3
    assert len([statement for statement in seen if "customers" in statement]) == 1
    shop.hits(lambda session: session.scalars(ALL).all())


def test_written_by_others(shop: Served) -> None:
    """What another session commits is served as soon as it is committed."""
    shop.hits(lambda session: session.scalars(ALL).all())
    with shop.session() as session:
        session.get_one(Customer, 2).status = "written"
        session.execute(update(Customer).where(Customer.id == 3).values(status="by a statement"))
        session.commit()
    with shop.session() as session:
        assert _statuses(session, ALL) == ["new", "written", "by a statement"]
    with shop.session() as session:
        session.delete(session.get_one(Customer, 2))
        session.commit()
    assert len(shop.same(lambda session: session.scalars(ALL).all())) == 2
    assert shop.same(lambda session: session.scalars(BY_EMAIL).all()) == []


def test_own_writes(shop: Served) -> None:
    """What the session itself has written it reads from the database, by any key, until it commits."""
    shop.hits(lambda session: session.scalars(ALL).all())
    with shop.session() as session:
        session.execute(update(Customer).where(Customer.id == 2).values(status="mine"), execution_options={"synchronize_session": False})
        assert _statuses(session, ALL) == ["new", "mine", "new"]
        assert _statuses(session, BY_EMAIL) == ["mine"]
        with shop.session() as other:
            assert _statuses(other, ALL) == ["new", "new", "new"]


def test_asked_anew(shop: Served) -> None:
    """With stockstore_refresh the database is read, and the caches keep what it has."""
    shop.hits(lambda session: session.scalars(ALL).all())
    with shop.changed(Customer, 2) as value:
        with shop.session() as session:
            assert value in _statuses(session, ALL, stockstore_refresh=True)
        with shop.session() as session:
            assert value in _statuses(session, ALL)
    with shop.session() as session:
        assert value in _statuses(session, BY_EMAIL)


@ON_MEMORY
def test_listener_that_comes_later(shop: Served) -> None:
    """A listener that hears of statements after the hook, and so may change them, keeps them from being served."""
    shop.hits(lambda session: session.scalars(ALL).all())
    heard = []

    def listener(execution: ORMExecuteState) -> None:
        heard.append(execution.is_select)
        execution.statement = execution.statement.options(with_loader_criteria(Customer, Customer.id != 2))

    event.listen(shop.path.maker, "do_orm_execute", listener)
    with shop.session() as session:
        assert [customer.id for customer in session.scalars(ALL)] == [1, 3]
    event.remove(shop.path.maker, "do_orm_execute", listener)
    assert heard
    shop.hits(lambda session: session.scalars(ALL).all())


@ON_MEMORY
def test_listener_that_came_before(shop: Served) -> None:
    """What a listener that came first makes of a statement is what is recognised, or not."""
    shop.hits(lambda session: session.scalars(ALL).all())

    def listener(execution: ORMExecuteState) -> None:
        execution.statement = execution.statement.options(with_loader_criteria(Customer, Customer.id != 2))

    shop.path.sync.detach()
    event.listen(shop.path.maker, "do_orm_execute", listener)
    shop.path.sync.attach(shop.path.maker)
    with shop.session() as session:
        assert [customer.id for customer in session.scalars(ALL)] == [1, 3]


@ON_MEMORY
def test_detached(shop: Served) -> None:
    """A hook that was detached answers no more."""
    shop.hits(lambda session: session.scalars(ALL).all())
    shop.path.sync.detach()
    with shop.changed(Customer, 2) as value, shop.session() as session:
        assert value in _statuses(session, ALL)
