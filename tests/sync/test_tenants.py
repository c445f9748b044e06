"""Tenants with rows of their own: what scope= names is part of the keys, so that no tenant ever sees another's object."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path as PathOfFile
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, delete, event, insert, text, update
from sqlalchemy.orm import Session

from stockstore import ChainedStore, ConfigurationError, ProcessMemoryStore, RedisStore, SqlAlchemyStore, Store
from stockstore.evidence import Outbox
from stockstore_ext.sqlalchemy import SessionSync
from stockstore_ext.sqlalchemy.janitor import Janitor
from tests.stores.shop import Base, Customer, Note, Order, create_tables
from tests.stores.things import Dog
from tests.sync.conftest import CROSSED, ON_POSTGRES, ON_SQLITE, Attach
from tests.sync.paths import Path

NAMES = ("red", "blue")


class Tenants:
    """Each tenant's database (SQLite), or schema, and the hooked path."""

    def __init__(self, path: Path, engines: dict[str, Engine]) -> None:
        self.path = path
        self.store = path.store
        self.engines = engines

    def session(self, name: str | None, **options: Any) -> Session:
        """Give a session of a tenant, or of none."""
        return self.path.maker(info={"tenant": name}, **({"bind": self.engines[name]} if name else {}), **options)

    def get(self, name: str | None, cls: type[Any] = Customer, key: object = 1) -> str | None:
        """Give the name of what a fresh session of a tenant is given."""
        with self.session(name) as session:
            found = self.store.get(cls, key, session=session)
            return None if found is None else found.name

    def seen(self) -> list[str | None]:
        """Give what each of them sees, the one without a tenant last."""
        return [self.get(name) for name in (*NAMES, None)]

    def out_of_band(self, name: str, value: str) -> None:
        """Change a row past every session."""
        with self.engines[name].begin() as connection:
            connection.execute(update(Customer).where(Customer.id == 1).values(name=value))


def tenant_of(session: Session) -> str | None:
    """Give the name of a session's tenant."""
    found: str | None = session.info.get("tenant")
    return found


@pytest.fixture(scope="module")
def made_engines(shop_tables: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Engine]]:
    """An engine for each tenant: of a database of his own on SQLite, of a schema on PostgreSQL."""
    if shop_tables.dialect.name == "sqlite":
        made = {name: create_engine(f"sqlite:///{tmp_path_factory.mktemp(name)}/tenant.db") for name in NAMES}
        for engine in made.values():
            create_tables(engine)
            Outbox().create(engine)
        yield made
        for engine in made.values():
            engine.dispose()
        return
    with shop_tables.begin() as connection:
        for name in NAMES:
            connection.execute(text(f"CREATE SCHEMA {name}"))
            for table in ("customers", "orders", "notes"):
                connection.execute(text(f"CREATE TABLE {name}.{table} (LIKE {table} INCLUDING ALL)"))
    yield {name: shop_tables.execution_options(schema_translate_map={None: name}) for name in NAMES}
    with shop_tables.begin() as connection:
        for name in NAMES:
            connection.execute(text(f"DROP SCHEMA {name} CASCADE"))


@pytest.fixture
def engines(db: Engine, made_engines: dict[str, Engine]) -> dict[str, Engine]:
    """An engine for each tenant, without rows."""
    del db
    for engine in made_engines.values():
        with engine.begin() as connection:
            for table in (Note, Order, Customer):
                connection.execute(delete(table))
    return made_engines


@pytest.fixture
def tenants(attach: Attach, engines: dict[str, Engine]) -> Tenants:
    """Customer 1 is another one for each tenant; everyone has read his own."""
    return seeded(attach(scope=tenant_of), engines)


def seeded(path: Path, engines: dict[str, Engine]) -> Tenants:
    """Insert everyone's row, and have it cached."""
    path.seed(Customer(id=1, email="none", name="none"))
    for name, engine in engines.items():
        with engine.begin() as connection:
            connection.execute(insert(Customer).values(id=1, email=name, name=name))
    tenants = Tenants(path, engines)
    assert tenants.seen() == ["red", "blue", "none"]
    for name in engines:
        tenants.out_of_band(name, "out of band")
    assert tenants.seen() == ["red", "blue", "none"]
    return tenants


@ON_POSTGRES
@CROSSED
def test_each_sees_his_own(tenants: Tenants) -> None:
    """Tenants' rows of one primary key stand side by side in every cache, also by other keys and as a batch, and nobody else's read finds them."""
    assert tenants.path.read(Customer, 1) == tenants.path.row(Customer, 1)
    with tenants.session("red") as session:
        found = tenants.store.batch_get(Customer, [1, {"email": "red"}, {"email": "blue"}, 2], session=session)
        assert [row and row.name for row in found] == ["red", "red", None, None]
    assert tenants.get("blue", key={"email": "red"}) is None
    assert tenants.get("blue", key={"email": "blue"}) == "blue"


@ON_POSTGRES
@CROSSED
def test_writes_are_told_to_the_tenant(tenants: Tenants) -> None:
    """What a tenant's session commits its tenant reads at once, and fills again; another one's entries stay."""
    with tenants.session("red") as session:
        session.get_one(Customer, 1).name = "changed"
        session.flush()
        mine = tenants.store.get(Customer, 1, session=session)
        assert mine is not None
        assert mine.name == "changed"
        assert tenants.seen() == ["red", "blue", "none"]
        session.commit()
    assert tenants.seen() == ["changed", "blue", "none"]
    tenants.out_of_band("red", "unseen")
    assert tenants.seen() == ["changed", "blue", "none"]


WRITES: dict[str, Callable[[Session], object]] = {
    "flush": lambda session: setattr(session.get_one(Customer, 1), "name", "changed"),
    "update by key": lambda session: session.execute(update(Customer).where(Customer.id == 1).values(name="changed")),
    "update of a table": lambda session: session.execute(update(Base.metadata.tables["customers"]).values(name="changed")),
    "update on the connection": lambda session: session.connection().execute(update(Customer).values(name="changed")),
}


@pytest.mark.parametrize("write", WRITES)
def test_write_paths(tenants: Tenants, write: str) -> None:
    """Each way to write is told in the tenant's own scope."""
    with tenants.session("red") as session:
        WRITES[write](session)
        session.rollback()
    assert tenants.seen() == ["red", "blue", "none"]
    with tenants.session("red") as session:
        WRITES[write](session)
        session.commit()
    assert tenants.seen() == ["changed", "blue", "none"]


def test_fast(attach: Attach, engines: dict[str, Engine]) -> None:
    """Without markers the tenant is told after the commit."""
    tenants = seeded(attach(scope=tenant_of, consistency="fast"), engines)
    with tenants.session("red") as session:
        WRITES["flush"](session)
        session.commit()
    assert tenants.seen() == ["changed", "blue", "none"]


def test_new_and_deleted_rows(tenants: Tenants) -> None:
    """A row that a tenant inserts or deletes is there, or gone, for him alone."""
    with tenants.session("red") as session:
        session.execute(delete(Customer).where(Customer.id == 1))
        session.add(Customer(id=2, email="two", name="two"))
        session.commit()
    assert tenants.seen() == [None, "blue", "none"]
    assert [tenants.get(name, key=2) for name in (*NAMES, None)] == ["two", None, None]


def test_rows_that_all_see(tenants: Tenants) -> None:
    """What a tenant writes leaves the entries of those without a tenant, who may see the same rows."""
    assert tenants.get(None) == "none"
    with tenants.path.other.begin() as connection:
        connection.execute(update(Customer).values(name="new"))
    assert tenants.get(None) == "none"
    with tenants.session("red") as session:
        WRITES["flush"](session)
        session.commit()
    assert tenants.get(None) == "new"


def test_transaction_that_has_written_fills_nothing(attach: Attach, engines: dict[str, Engine]) -> None:
    """Once a tenant's session has written something, what it reads is for itself: triggers may have changed other rows along."""
    tenants = seeded(attach(scope=tenant_of, snapshot="latest"), engines)
    for name in (None, "red"):
        with tenants.session(name) as session:
            session.add(Customer(id=3, email="three", name="three"))
            session.commit()
    with tenants.session("red") as session:
        session.add(Order(id=1, number="one", customer_id=1))
        session.flush()
        found = tenants.store.get(Customer, 3, session=session)
        assert found is not None
        assert found.name == "three"
        session.rollback()
    with tenants.engines["red"].begin() as connection:
        connection.execute(update(Customer).where(Customer.id == 3).values(name="new"))
    assert tenants.get("red", key=3) == "new"


def test_two_levels(db: Engine, other: Engine, engines: dict[str, Engine], redis_url: str, namespace: str) -> None:
    """A chain of process memory above Redis keeps tenants apart in both."""
    memory, shared = ProcessMemoryStore(max_staleness=None, namespace=namespace), RedisStore(redis_url, namespace=namespace)
    store = ChainedStore([memory, shared, SqlAlchemyStore(engine=db)])
    with store, hooked(db, other, store) as path:
        tenants = seeded(path, engines)
        memory.clear()
        assert tenants.seen() == ["red", "blue", "none"]
        with tenants.session("red") as session:
            WRITES["flush"](session)
            session.commit()
        assert tenants.seen() == ["changed", "blue", "none"]


class hooked(ExitStack):
    """A path on a store of one's own."""

    def __init__(self, db: Engine, other: Engine, store: ChainedStore, **options: Any) -> None:
        super().__init__()
        from sqlalchemy.orm import sessionmaker

        maker: sessionmaker[Session] = sessionmaker(db, class_=type("Watched", (Session,), {}))
        sync = SessionSync(store, scope=tenant_of, **options).attach(maker)
        self.callback(sync.detach)
        self.path = Path(db, other, store, maker, sync)

    def __enter__(self) -> Path:  # type: ignore[override]
        return self.path


@ON_SQLITE
def test_new_database_is_asked_before_it_is_locked(attach: Attach, tmp_path: PathOfFile, caplog: pytest.LogCaptureFixture) -> None:
    """A database that the hook meets is asked for what the strict protocol needs before the first write has locked it."""
    path = attach(scope=tenant_of)
    engine = create_engine(f"sqlite:///{tmp_path}/new.db")
    create_tables(engine)
    Outbox().create(engine)
    with path.maker(bind=engine, info={"tenant": "green"}) as session:
        session.add(Customer(id=1, name="green"))
        session.commit()
    engine.dispose()
    assert "could not be asked" not in caplog.text


# -- whoever else asks ------------------------------------------------------------------------------


def test_events_read_for_nobody(tenants: Tenants) -> None:
    """What a load event reads without a session, while a tenant's row is loaded, is everybody's."""
    heard: list[object] = []

    def loaded(_customer: Customer, _context: object) -> None:
        other = tenants.store.get(Order, 1)
        heard.append(None if other is None else other.number)

    tenants.path.seed(Order(id=1, number="everybody's", customer_id=1))
    with tenants.engines["red"].begin() as connection:
        connection.execute(insert(Order).values(id=1, number="red's", customer_id=1))
    tenants.path.sync.invalidate(Customer, scope="red")
    event.listen(Customer, "load", loaded)
    try:
        assert tenants.get("red") == "out of band"
    finally:
        event.remove(Customer, "load", loaded)
    assert set(heard) == {"everybody's"}
    with tenants.session("red") as session:
        order = tenants.store.get(Order, 1, session=session)
        assert order is not None
        assert order.number == "red's"


def test_other_store_on_the_same_server(tenants: Tenants, db: Engine, namespace: str, redis_url: str) -> None:
    """A store that no hook knows has nothing for a tenant's session, and is given nothing of it."""
    with ChainedStore([RedisStore(redis_url, namespace=namespace), SqlAlchemyStore(engine=db)]) as unknown:
        assert unknown.get(Customer, 1) is not None
        with tenants.session("red") as session:
            found = unknown.get(Customer, 1, session=session)
            assert found is not None
            assert found.name == "out of band"
        again = unknown.get(Customer, 1)
        assert again is not None
        assert again.name == "none"


class Remembering(ProcessMemoryStore):
    """Keeps objects in a way of its own, which knows no namespaces."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[object, object] = {}

    def batch_put(self, objects: Any) -> None:
        """Keep objects by their numbers."""
        self.kept.update({obj.id: obj for obj in objects})

    def batch_get(self, cls: type[Any], keys: Any, *, session: Session | None = None) -> list[Any]:
        """Give what is kept."""
        del session
        return [self.kept.get(key["id"] if isinstance(key, dict) else getattr(key, "native", key)) for key in keys]

    def batch_delete(self, targets: Any, keys: Any = None) -> int:
        """Delete what is kept."""
        del targets
        return sum(self.kept.pop(key["id"] if isinstance(key, dict) else getattr(key, "native", key), None) is not None for key in keys)


def test_store_of_ones_own(db: Engine, other: Engine, engines: dict[str, Engine]) -> None:
    """A store with verbs of its own, which may know no namespaces, is left out for tenants, but told of what they write."""
    own = Remembering()
    with ChainedStore([own, SqlAlchemyStore(engine=db)]) as store, hooked(db, other, store) as path:
        path.seed(Customer(id=1, name="none"))
        with engines["red"].begin() as connection:
            connection.execute(insert(Customer).values(id=1, name="red"))
        tenants = Tenants(path, engines)
        assert tenants.path.read(Customer, 1) is not None
        assert tenants.get("red") == "red"
        assert [row.name for row in own.kept.values()] == ["none"]  # type: ignore[attr-defined]
        with tenants.session("red") as session:
            WRITES["flush"](session)
            session.commit()
        assert tenants.get("red") == "changed"
        assert own.kept == {}


def test_get_or_load_keeps_nothing_of_a_tenant(tenants: Tenants, cache: Store) -> None:
    """What is loaded for a tenant's session goes into no cache that others read."""
    with tenants.session("red") as session:
        loaded = cache.get_or_load(Customer, 5, lambda: Customer(id=5, name="red's"), session=session)
        assert loaded is not None
    assert cache.get(Customer, 5) is None


def test_detached(tenants: Tenants) -> None:
    """A hook that is detached names nobody any more."""
    tenants.path.sync.detach()
    with tenants.path.maker(info={"tenant": "red"}) as session:
        found = tenants.store.get(Customer, 1, session=session)
        assert found is not None
        assert found.name == "none"


# -- what cannot be told ----------------------------------------------------------------------------


@ON_POSTGRES
@pytest.mark.parametrize("left", [False, True], ids=["open", "left"])
def test_connection_of_two_tenants(tenants: Tenants, left: bool) -> None:
    """A statement on a connection that sessions of two tenants share counts as both tenants', also when they have left it."""
    with tenants.engines["red"].connect() as connection:
        sessions = [tenants.path.maker(bind=connection, info={"tenant": name}) for name in NAMES]
        with connection.begin():
            for session in sessions:
                session.connection()
                if left:
                    session.close()
            connection.execute(text("UPDATE red.customers SET name = 'changed'"))
            connection.execute(text("UPDATE blue.customers SET name = 'changed'"))
        for session in sessions:
            session.close()
    assert tenants.seen() == ["changed", "changed", "none"]


@ON_POSTGRES
def test_flush_on_a_connection_of_two_tenants(tenants: Tenants) -> None:
    """A flush is its session's alone."""
    with (
        tenants.engines["red"].connect() as connection,
        connection.begin(),
        tenants.path.maker(bind=connection, info={"tenant": "blue"}) as blue,
        tenants.path.maker(bind=connection, info={"tenant": "red"}) as red,
    ):
        blue.connection()
        WRITES["flush"](red)
        red.commit()
    assert tenants.seen() == ["changed", "blue", "none"]


# -- by hand, and by the outbox ---------------------------------------------------------------------


@pytest.mark.parametrize("keys", [None, [1]])
def test_invalidate(tenants: Tenants, keys: list[int] | None) -> None:
    """One call is for one scope; without its name, for those who have none."""
    tenants.path.sync.invalidate(Customer, keys)
    assert tenants.seen() == ["red", "blue", "none"]
    tenants.path.sync.invalidate(Customer, keys, scope="red")
    assert tenants.seen() == ["out of band", "blue", "none"]


@ON_POSTGRES
@pytest.mark.parametrize(("scope", "keys"), [("", None), (7, None), ("red", [{"email": "red"}])], ids=repr)
def test_bad_invalidations(tenants: Tenants, scope: Any, keys: Any) -> None:
    """A scope that is no name, and keys that only the tenant's own database could look up, are refused."""
    with pytest.raises(ConfigurationError):
        tenants.path.sync.invalidate(Customer, keys, scope=scope)


@ON_POSTGRES
@pytest.mark.parametrize("keys", [None, [1], [{"name": "rex"}]], ids=str)
def test_plain_objects_are_of_no_scope(tenants: Tenants, keys: Any) -> None:
    """They are nobody's own: an invalidation that would drop nothing is refused, whatever their key."""
    with pytest.raises(ConfigurationError, match=r"a .*\.Dog is a plain object.*leave out scope="):
        tenants.path.sync.invalidate(Dog, keys, scope="red")


def test_namespace_with_a_separator() -> None:
    """A namespace cannot look like a tenant's."""
    with pytest.raises(ConfigurationError, match="NUL"):
        ProcessMemoryStore(namespace="shop\0red")


@ON_POSTGRES
def test_janitor(attach: Attach, engines: dict[str, Engine], cache: Store) -> None:
    """The rows of the outbox name the entries of their tenant."""
    tenants = seeded(attach(scope=tenant_of, outbox=True), engines)
    with tenants.session("red") as session:
        WRITES["flush"](session)
        session.commit()
    assert tenants.seen() == ["changed", "blue", "none"]
    tenants.out_of_band("red", "unseen")
    assert tenants.seen() == ["changed", "blue", "none"]
    Janitor(tenants.path.engine, [cache]).run_once()
    assert tenants.seen() == ["unseen", "blue", "none"]
