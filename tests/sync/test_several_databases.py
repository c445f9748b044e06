"""Sessions of several databases, shards and tenants: each cache holds the rows of its own database, and nobody sees another's."""

from collections.abc import Callable, Iterator
from pathlib import Path as Folder
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, create_engine, delete, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from stockstore import ChainedStore, ConfigurationError, SqlAlchemyStore, Store
from stockstore_ext.sqlalchemy import SessionSync
from tests.stores.shop import Customer, create_tables
from tests.sync.conftest import ON_POSTGRES, Attach
from tests.sync.paths import Path


class Base(DeclarativeBase):
    pass


class Linked(Base):
    """Its constraint is looked at by COMMIT."""

    __tablename__ = "linked"
    id: Mapped[int] = mapped_column(primary_key=True)
    other_id: Mapped[int | None] = mapped_column(ForeignKey("linked.id", deferrable=True, initially="DEFERRED"))


def seed(path: Path) -> Path:
    """Insert two customers, and have the first cached."""
    path.seed(Customer(id=1, email="a", name="ann"), Customer(id=2, email="b", name="bob"))
    path.prove_cached((Customer, 1))
    return path


def ann(path: Path) -> object:
    """Give the name that the chain has for the first customer."""
    return (path.read(Customer, 1) or {})["name"]


@pytest.fixture
def second(tmp_path: Folder) -> Iterator[Engine]:
    """A second database, of the same tables, in which customer 1 is somebody else."""
    engine = create_engine(f"sqlite:///{tmp_path / 'second.db'}")
    create_tables(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Customer(id=1, email="z", name="zoe"))
        session.commit()
    yield engine
    engine.dispose()


@pytest.fixture
def hooked(db: Engine, other: Engine, cache: Store) -> Iterator[Callable[..., Path]]:
    """A function of a sessionmaker and options that hooks it."""
    made: list[Path] = []

    def hook(maker: "sessionmaker[Any]", **options: Any) -> Path:
        store = ChainedStore([cache, SqlAlchemyStore(engine=db)])
        made.append(Path(db, other, store, maker, SessionSync(store, **options).attach(maker)))
        return made[-1]

    yield hook
    for path in made:
        path.sync.detach()
        path.store.close()


def test_second_database_that_refuses(db: Engine, second: Engine, hooked: Callable[..., Path]) -> None:
    """What the first database of a session has committed is in its cache, although the second one refuses; and the other way round."""
    path = seed(hooked(sessionmaker(binds={Customer: db, Linked: second}, class_=type("Watched", (Session,), {}))))
    ends = set()
    for number in range(40):  # which one is the first is SQLAlchemy's secret
        before = ann(path)
        with path.maker() as session:
            session.get_one(Customer, 1).name = f"name {number}"
            session.add(Linked(id=1, other_id=404))
            with pytest.raises(IntegrityError):
                session.commit()
        path.compare((Customer, 1))
        ends.add(ann(path) == before)
        if len(ends) == 2:
            break
    path.prove_cached((Customer, 1))
    assert False in ends


def test_session_of_several_databases_reads_its_own_writes(db: Engine, second: Engine, hooked: Callable[..., Path]) -> None:
    """A session without a bind for every class reads what it has written by the bind of the class."""
    path = seed(hooked(sessionmaker(binds={Customer: db, Linked: second}, class_=type("Watched", (Session,), {}))))
    with path.maker() as session:
        session.get_one(Customer, 1).name = "mine"
        session.flush()
        found = path.store.batch_get(Customer, [1, {"email": "a"}, 2], session=session)
        assert [row and row.name for row in found] == ["mine", "mine", "bob"]
        session.commit()
    path.compare((Customer, 1))


class Sharded(ShardedSession):
    pass


@pytest.fixture
def sharded(db: Engine, second: Engine, hooked: Callable[..., Path]) -> Path:
    """Sessions of two shards, the first of which is the chain's database; rows are on the second from number 100 on."""
    shards = {"first": db, "second": second}
    with second.begin() as connection:
        connection.execute(delete(Customer))

    def choose(_mapper: object, instance: Any, clause: object = None) -> str:
        return "second" if instance is not None and instance.id >= 100 else "first"

    maker = sessionmaker(
        class_=Sharded,
        shards=shards,
        shard_chooser=choose,
        identity_chooser=lambda _mapper, key, **_rest: ["second" if key[0] >= 100 else "first"],
        execute_chooser=lambda _execution: ["first", "second"],
    )
    return seed(hooked(maker))


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_sharded_session(sharded: Path, end: str) -> None:
    """What a sharded session writes, on whichever shard, is in the caches as the chain's database has it."""
    with sharded.maker() as session:
        session.get_one(Customer, 1).name = "changed"
        session.add(Customer(id=100, email="far", name="far"))
        session.flush()
        assert ann(sharded) == "ann"
        getattr(session, end)()
    sharded.compare((Customer, 1), (Customer, 2), (Customer, 100))
    assert ann(sharded) == ("changed" if end == "commit" else "ann")
    assert sharded.read(Customer, 100) is None


def test_statement_of_a_sharded_session(sharded: Path) -> None:
    """A statement goes to all shards."""
    with sharded.maker() as session:
        session.execute(update(Customer).values(status="changed"), execution_options={"synchronize_session": False})
        session.commit()
    sharded.compare((Customer, 1), (Customer, 2))
    assert (sharded.read(Customer, 1) or {})["status"] == "changed"


def test_sharded_session_reads_its_own(sharded: Path) -> None:
    """Its shards are asked: a row of another one is found by it, and by nobody else; a store would not know which shard's an object is."""
    with sharded.maker() as session:
        session.add(Customer(id=100, email="far", name="far"))
        session.commit()
    with sharded.maker() as session:
        assert [session.get_one(Customer, key).name for key in (1, 100)] == ["ann", "far"]
        with pytest.raises(ConfigurationError, match="takes no session of horizontal shards"):
            sharded.store.batch_get(Customer, [1, 100], session=session)
    assert sharded.store.batch_get(Customer, [100, {"email": "far"}]) == [None, None]


# -- tenants ----------------------------------------------------------------------------------------


@pytest.fixture
def tenant(db: Engine) -> Iterator[None]:
    """A second schema with the same tables, in which customer 1 is somebody else, and a function that leads there."""
    with db.begin() as connection:
        connection.execute(text("CREATE SCHEMA tenant"))
        connection.execute(text("CREATE TABLE tenant.customers (LIKE customers INCLUDING ALL)"))
        connection.execute(text("INSERT INTO tenant.customers (id, tenant, name, balance) VALUES (1, 8, 'tom', 0)"))
        enter = "BEGIN PERFORM set_config('search' || '_path', 'tenant', true); END"
        connection.execute(text(f"CREATE FUNCTION enter_tenant() RETURNS void LANGUAGE plpgsql AS $$ {enter} $$"))
    yield
    with db.begin() as connection:
        connection.execute(text("DROP SCHEMA tenant CASCADE"))
        connection.execute(text("DROP FUNCTION enter_tenant()"))


def _tenant_of(session: Session) -> str | None:
    found: str | None = session.info.get("tenant")
    return found


@ON_POSTGRES
def test_scope(attach: Attach, db: Engine, tenant: None) -> None:
    """A session for which scope gives a name sees its own rows alone, and what it writes is in no cache."""
    path = seed(attach(scope=_tenant_of))
    schema = db.url.query["options"]
    home = str(schema).rpartition("=")[2]
    with path.maker(info={"tenant": "t"}) as session:
        session.execute(select(text(f'"{home}".enter_tenant()')))
        found = path.store.get(Customer, 1, session=session)
        assert found is not None
        assert found.name == "tom"
        assert ann(path) == "ann"
        found.name = "timothy"
        session.commit()
    assert ann(path) == "ann"
    with path.maker() as session:
        mine = path.store.get(Customer, 1, session=session)
        assert mine is not None
        assert mine.name == "ann"
    path.compare((Customer, 1))
    path.prove_cached((Customer, 1))


def test_scope_invalidates(attach: Attach) -> None:
    """Where a scoped session wrote rows that the caches do have, they go."""
    path = seed(attach(scope=_tenant_of))
    with path.maker(info={"tenant": "t"}) as session:
        session.get_one(Customer, 1).name = "changed"
        session.commit()
    assert ann(path) == "changed"
    path.compare((Customer, 1))


@pytest.mark.parametrize("named", ["", 7], ids=repr)
def test_scope_that_is_no_name(attach: Attach, named: object) -> None:
    """What scope gives is a text or None; anything else is refused, and nothing committed."""
    path = seed(attach())
    path.sync.detach()
    sync = SessionSync(path.store, scope=lambda _session: named)  # type: ignore[arg-type, return-value]
    sync.attach(path.maker)
    try:
        with path.maker() as session, pytest.raises(ConfigurationError, match="scope="):
            session.execute(update(Customer).values(name="changed"))
    finally:
        sync.detach()
    path.compare((Customer, 1))
