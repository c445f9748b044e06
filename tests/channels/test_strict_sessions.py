"""Sessions that read through, where memory has not heard yet of what another process has written."""

from collections.abc import Iterator
from inspect import signature
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select, text
from sqlalchemy.orm import Session

from stockstore import ChainedStore, ProcessMemoryStore, SqlAlchemyStore
from stockstore.stores.tiers.ears import Ear
from stockstore_ext.sqlalchemy import SessionSync
from tests.channels.conftest import Sides
from tests.channels.sides import Side, unseen
from tests.stores.listed import Animal
from tests.stores.shop import Customer

STRICT: Any = {"stockstore_strict": True}
BY_KEY = select(Customer).where(Customer.id == 1)
BY_EMAIL = select(Customer).where(Customer.email == "e1")


@pytest.fixture
def behind(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> Iterator[Side]:
    """A side whose memory has "old", where the shared cache has "new" and the database what nobody was told of."""
    mine, theirs = sides
    sync = SessionSync(mine.chain, read_through=True).attach(Session)
    _all_by(mine)
    monkeypatch.setattr(Ear, "heard", lambda *_: None)
    theirs.write("new")
    theirs.caught_up()
    unseen(mine.engine, "unseen")
    assert _all_by(mine) == ["old"] * 3
    yield mine
    sync.detach()


def _all_by(side: Side, **options: Any) -> list[str]:
    """Read by each way, twice, as the second time may be by a shorter one; each time in a session of its own."""
    names = []
    for _ in range(2):
        with Session(side.engine) as one, Session(side.engine) as two, Session(side.engine) as three:
            rows = [one.get_one(Customer, 1, **options), two.scalars(BY_KEY, **options).one(), three.scalars(BY_EMAIL, **options).one()]
            names = [row.name for row in rows]
    return names


def test_by_the_options_of_a_read(behind: Side) -> None:
    """``get`` and statements give what the shared cache has, and memory stays as it is."""
    for _ in range(2):
        assert _all_by(behind, execution_options=STRICT) == ["new"] * 3
        assert _all_by(behind) == ["old"] * 3
        assert behind.kept() == "old"
    with Session(behind.engine) as session:
        assert session.scalars(BY_KEY.execution_options(**STRICT)).one().name == "new"


def test_an_expired_instance(behind: Side) -> None:
    """What ``get`` refreshes is refreshed as strictly as it reads."""
    with Session(behind.engine) as session:
        customer = session.get_one(Customer, 1)
        assert customer.name == "old"
        session.expire(customer)
        assert session.get_one(Customer, 1, execution_options=STRICT).name == "new"
        session.expire(customer)
        assert session.get_one(Customer, 1).name == "old"


def test_by_the_options_of_a_session(behind: Side) -> None:
    """All that the session reads is strict, refreshes too; what says otherwise is not. Sessions have options from SQLAlchemy 2.1 on."""
    maker: Any = Session
    if "execution_options" not in signature(Session).parameters:
        return
    for _ in range(2):
        with maker(behind.engine, execution_options=STRICT) as one, maker(behind.engine, execution_options=STRICT) as two:
            customer = one.get_one(Customer, 1)
            assert [customer.name, two.scalars(BY_KEY).one().name] == ["new", "new"]
            one.expire(customer)
            assert customer.name == "new"
    with maker(behind.engine, execution_options=STRICT) as session:
        assert session.get_one(Customer, 1, execution_options={"stockstore_strict": False}).name == "old"


def test_a_list(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    """A strict read of a list gives the one that the shared cache has, with its rows."""
    mine, theirs = sides
    Animal.metadata.create_all(mine.engine)
    sync = SessionSync(mine.chain, read_through=True).attach(Session)
    try:
        theirs.chain.put(Animal(id=1, owner_id=7, kind="animal"))
        mine.caught_up()
        assert _ids(mine) == _ids(mine) == [1]
        monkeypatch.setattr(Ear, "heard", lambda *_: None)
        theirs.chain.put(Animal(id=2, owner_id=7, kind="animal"))
        assert [animal.id for animal in theirs.chain.get_all(Animal, 7)] == [1, 2]
        with mine.engine.begin() as connection:
            connection.execute(insert(Animal).values(id=9, owner_id=7, kind="animal"))
        assert [_ids(mine), _ids(mine, **STRICT), _ids(mine)] == [[1], [1, 2], [1]]
    finally:
        sync.detach()
        Animal.metadata.drop_all(mine.engine)


def _ids(side: Side, **options: Any) -> list[int]:
    with Session(side.engine) as session:
        return [animal.id for animal in session.scalars(select(Animal).where(Animal.owner_id == 7).execution_options(**options))]


def test_without_a_shared_cache(db: Engine) -> None:
    """Where memory is all there is, the database answers."""
    with ChainedStore([ProcessMemoryStore(channel=None, max_staleness=60), SqlAlchemyStore(engine=db)]) as chain:
        sync = SessionSync(chain, read_through=True).attach(Session)
        try:
            chain.put(Customer(id=1, email="e1", name="old"))
            with db.begin() as connection:
                connection.execute(text("UPDATE customers SET name = 'new'"))
            with Session(db) as one, Session(db) as two:
                strict = two.get_one(Customer, 1, execution_options=STRICT)
                assert [one.get_one(Customer, 1).name, strict.name] == ["old", "new"]
        finally:
            sync.detach()
