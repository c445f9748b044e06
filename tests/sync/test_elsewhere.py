"""What others wrote, and sessions that work elsewhere."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text, update
from sqlalchemy.orm import Session

from stockstore import ChainedStore, MappingStore, ProcessMemoryStore, Store
from stockstore_ext.sqlalchemy import SessionSync
from tests.stores.shop import Car, Customer, create_tables
from tests.stores.things import Animal, Dog
from tests.sync.conftest import ON_POSTGRES, ON_SQLITE, Attach
from tests.sync.customers import ann, rename, seed
from tests.sync.paths import Path

# -- what others wrote ------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [None, [1], [{"id": 1}], [{"email": "a"}], [{"email": "new"}], [{"tenant": 7, "name": "ann"}]], ids=str)
def test_invalidate(path: Path, keys: list[Any] | None) -> None:
    """A write that nobody here saw is told by hand: of a class, or by any key, old or new."""
    seed(path)
    with path.other.begin() as connection:
        connection.execute(update(Customer).where(Customer.id == 1).values(email="new"))
    assert (path.read(Customer, 1) or {})["email"] == "a"
    path.sync.invalidate(Customer, keys)
    path.compare((Customer, 1), (Customer, 2))
    assert path.read(Customer, {"email": "a"}) is None


@pytest.mark.parametrize("cache", [ProcessMemoryStore, lambda **options: MappingStore({}, **options)])
@pytest.mark.parametrize("keys", [None, [1], [{"name": "rex"}]], ids=str)
def test_invalidate_a_plain_base_class(cache: Callable[..., Store], keys: list[Any] | None) -> None:
    """What a polymorphic cache finds by a base class is told by it, under whatever canonical key it is kept; a stricter one keeps it."""
    for polymorphic in (True, False):
        store = ChainedStore([cache(polymorphic=polymorphic), cache(polymorphic=polymorphic)])
        store.put(Dog(id=1, name="rex", chip=9))
        SessionSync(store).invalidate(Animal, keys)
        assert [store.contains(Animal, 1), store.contains(Dog, 9)] == [False, not polymorphic]


# -- sessions that work elsewhere -------------------------------------------------------------------


@ON_POSTGRES
@pytest.mark.parametrize(("snapshot", "expected"), [("respect", "ann"), ("latest", "changed")])
def test_repeatable_read(attach: Attach, db: Engine, snapshot: str, expected: str) -> None:
    """A transaction that reads from one snapshot is given nothing newer, unless that is asked for."""
    path = seed(attach(engine=db.execution_options(isolation_level="REPEATABLE READ"), snapshot=snapshot))
    with path.maker() as reader:
        reader.execute(text("SELECT count(*) FROM customers"))
        with path.maker() as writer:
            rename(writer, "changed")
            writer.commit()
        assert ann(path) == "changed"
        found = path.store.get(Customer, 1, session=reader)
        assert found is not None
        assert found.name == expected
    assert ann(path) == "changed"
    path.compare((Customer, 1))


def _put_into_its_place(session: Session) -> None:
    session.add(Customer(id=1, email="c", name="new"))


def _change_beside(session: Session) -> None:
    session.get_one(Car, 1).doors = 5


@ON_POSTGRES
@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize(
    ("by_others", "write"),
    [("DELETE FROM customers WHERE id = 1", _put_into_its_place), ("UPDATE vehicles SET plate = 'x' WHERE id = 1", _change_beside)],
    ids=["a row gone", "another table's row"],
)
def test_what_others_have_changed_since_the_snapshot(
    attach: Attach, db: Engine, other: Engine, level: str, by_others: str, write: Callable[[Session], None]
) -> None:
    """It is no hindrance to a transaction that has not written it: its rows are removed from the caches, for which none has to be locked."""
    path = seed(attach(engine=db.execution_options(isolation_level=level)))
    path.seed(Car(id=1, plate="a", doors=4))
    path.prove_cached((Car, 1))
    with path.maker() as session:
        session.get_one(Customer, 2)
        with other.begin() as connection:
            connection.execute(text(by_others))
        path.sync.invalidate(Customer)
        path.sync.invalidate(Car)
        write(session)
        session.commit()
    path.compare((Customer, 1), (Car, 1))


@ON_SQLITE
def test_open_transaction_of_sqlite(path: Path) -> None:
    """Within a transaction of the driver a session reads the database; in none it reads the caches."""
    seed(path)
    with path.other.begin() as connection:
        connection.execute(update(Customer).where(Customer.id == 1).values(name="unseen"))
    with path.maker() as session:
        found = path.store.get(Customer, 1, session=session)
        assert found is not None
        assert found.name == "ann"
    with path.maker() as session:
        session.get_one(Customer, 2).name = "bobby"
        session.flush()
        found = path.store.get(Customer, 1, session=session)
        assert found is not None
        assert found.name == "unseen"


@pytest.fixture
def tenant(db: Engine) -> Any:
    """A second schema with the same tables on PostgreSQL, in which customer 1 is somebody else."""
    with db.begin() as connection:
        connection.execute(text("DROP SCHEMA IF EXISTS tenant CASCADE"))
        connection.execute(text("CREATE SCHEMA tenant"))
        connection.execute(text("CREATE TABLE tenant.customers (LIKE customers INCLUDING ALL)"))
        connection.execute(text("INSERT INTO tenant.customers (id, tenant, name, balance) VALUES (1, 8, 'tom', 0)"))
    yield
    with db.begin() as connection:
        connection.execute(text("DROP SCHEMA tenant CASCADE"))


def _by_engine(path: Path) -> Session:
    return path.maker(bind=path.engine.execution_options(schema_translate_map={None: "tenant"}))


def _by_connection(path: Path) -> Session:
    session = path.maker()
    session.connection(execution_options={"schema_translate_map": {None: "tenant"}})
    return session


def _by_search_path(path: Path) -> Session:
    session = path.maker()
    session.execute(text("SET LOCAL search_path TO tenant"))
    return session


@ON_POSTGRES
@pytest.mark.parametrize("make", [_by_engine, _by_connection, _by_search_path])
def test_tenants_of_other_schemas(path: Path, tenant: None, make: Callable[[Path], Session]) -> None:
    """A session that works in another schema sees its own rows, and nothing of it gets into the caches."""
    seed(path)
    with make(path) as session:
        found = path.store.get(Customer, 1, session=session)
        assert found is not None
        assert found.name == "tom"
        assert ann(path) == "ann"
        found.name = "timothy"
        session.commit()
    assert ann(path) == "ann"
    path.compare((Customer, 1))


@ON_POSTGRES
def test_search_path_that_outlives_its_transaction(path: Path, tenant: None) -> None:
    """A connection whose search_path was set stays apart when the next session gets it from the pool."""
    seed(path)
    path.engine.dispose()
    with path.maker() as session:
        session.execute(text("SET search_path TO tenant"))
        session.commit()
        process = session.scalar(text("SELECT pg_backend_pid()"))
    with path.maker() as session:
        assert session.scalar(text("SELECT pg_backend_pid()")) == process
        found = path.store.get(Customer, 1, session=session)
        assert found is not None
        assert found.name == "tom"
        found.name = "timothy"
        session.commit()
    path.engine.dispose()
    assert ann(path) == "ann"
    path.compare((Customer, 1))


def test_other_database(path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A session on another database sees that one's rows, and puts none of them into the caches."""
    seed(path)
    second = create_engine(f"sqlite:///{tmp_path_factory.mktemp('second') / 'second.db'}")
    create_tables(second)
    with Session(second) as session:
        session.add(Customer(id=1, email="z", name="zoe"))
        session.commit()
    with path.maker(bind=second) as session:
        found = path.store.get(Customer, 1, session=session)
        assert found is not None
        assert found.name == "zoe"
        found.name = "zora"
        session.commit()
    assert ann(path) == "ann"
    path.compare((Customer, 1))
    second.dispose()


def test_other_engine_of_the_same_database(path: Path) -> None:
    """Another engine on the origin's database is the same database."""
    seed(path)
    with path.maker(bind=path.other) as session:
        rename(session, "changed")
        session.commit()
    assert ann(path) == "changed"
    with path.other.begin() as connection:
        connection.execute(text("UPDATE customers SET name = 'unseen' WHERE id = 1"))
    assert ann(path) == "changed"
