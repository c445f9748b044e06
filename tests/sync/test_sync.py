"""Attaching and detaching, options, guarantees, and sessions that work elsewhere."""

import gc
import logging
import sys
from collections.abc import Callable
from typing import Any
from weakref import ref

import pytest
from redis import Redis
from sqlalchemy import Engine, MetaData, create_engine, event, inspect, text, update
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import StaticPool

from stockstore import ChainedStore, ConfigurationError, MappingStore, NullStore, ProcessMemoryStore, RedisStore, SqlAlchemyStore, Store
from stockstore_ext.sqlalchemy import SessionSync, frames
from tests.servers.redis import RedisServer
from tests.stores.shop import Car, Customer, create_tables
from tests.stores.things import Animal, Dog
from tests.sync.conftest import ON_MEMORY, ON_POSTGRES, ON_REDIS, ON_SQLITE, Attach
from tests.sync.paths import Path


def seed(path: Path) -> Path:
    """Insert two customers, and have the first cached."""
    path.seed(Customer(id=1, email="a", name="ann"), Customer(id=2, email="b", name="bob"))
    path.prove_cached((Customer, 1))
    return path


def rename(session: Session, name: str) -> None:
    """Change the first customer."""
    session.get_one(Customer, 1).name = name
    session.flush()


def ann(path: Path) -> object:
    """Give the name that the chain has for the first customer."""
    return (path.read(Customer, 1) or {})["name"]


# -- attaching --------------------------------------------------------------------------------------


@ON_MEMORY
def test_attached_twice(path: Path) -> None:
    """Attaching twice is refused, by the same hook and by another one of the same store; after a detach it is not."""
    with pytest.raises(ConfigurationError, match="attached already"):
        path.sync.attach(path.maker)
    with pytest.raises(ConfigurationError, match="another SessionSync of this store"):
        SessionSync(path.store).attach(path.maker)
    with pytest.raises(ConfigurationError, match="another SessionSync of this store"):
        SessionSync(path.store).attach()
    path.sync.detach()
    path.sync.detach()
    every = SessionSync(path.store).attach()
    with pytest.raises(ConfigurationError, match="another SessionSync of this store"):
        path.sync.attach(path.maker)
    every.detach()
    assert path.sync.attach(path.maker) is path.sync


@ON_MEMORY
def test_targets(db: Engine, path: Path) -> None:
    """A Session class, a scoped_session, and every session, can be attached to."""

    class Own(Session):
        pass

    scoped = scoped_session(sessionmaker(db))
    seed(path)
    path.sync.detach()
    targets: list[tuple[Any, Callable[[], Session]]] = [(Own, lambda: Own(db)), (scoped, scoped), (None, lambda: Session(db))]
    for number, (target, make) in enumerate(targets):
        sync = SessionSync(path.store).attach(target)
        session = make()
        rename(session, f"name {number}")
        session.commit()
        session.close()
        assert ann(path) == f"name {number}"
        path.compare((Customer, 1))
        sync.detach()


@pytest.mark.parametrize("target", ["sessions", Engine, 1], ids=repr)
def test_targets_that_are_none(target: Any) -> None:
    """Anything else is refused."""
    with pytest.raises(ConfigurationError, match="attach takes"):
        SessionSync(ProcessMemoryStore()).attach(target)


@ON_MEMORY
def test_detached(path: Path) -> None:
    """A detached hook does nothing more, also where others have removed its listeners."""
    seed(path)
    with path.maker() as session:
        session.connection()
        del path.engine.dialect.execution_ctx_cls
    for name, listener in path.sync._sessions._listeners.items():
        event.remove(path.maker, name, listener)
    path.sync.detach()
    assert "do_commit" not in path.engine.dialect.__dict__
    with path.maker() as session:
        rename(session, "unseen")
        session.commit()
    assert ann(path) == "ann"


def test_detached_within_a_transaction(path: Path) -> None:
    """A transaction that was open when the hook was detached is finished as it was begun."""
    seed(path)
    with path.maker() as session:
        rename(session, "changed")
        path.sync.detach()
        session.commit()
    assert ann(path) == "changed"
    path.compare((Customer, 1))
    assert "do_commit" not in path.engine.dialect.__dict__


def _used_and_left(engine: Engine) -> "ref[Store]":
    """Attach a hook, have a session of it use a connection, and detach it; give what is left of its cache."""
    cache = ProcessMemoryStore()
    store = ChainedStore([cache, SqlAlchemyStore(engine=engine)])
    maker: sessionmaker[Session] = sessionmaker(engine, class_=type("Leaving", (Session,), {}))
    sync = SessionSync(store).attach(maker)
    with maker() as session:
        session.connection()
    sync.detach()
    store.close()
    return ref(cache)


def test_connections_keep_no_hooks_that_have_left() -> None:
    """What a pooled connection holds of a detached hook goes when a session of another one uses it."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    caches = [_used_and_left(engine) for _ in range(3)]
    for _ in range(3):  # what has a finalizer goes at the second time
        gc.collect()
    assert [cache() is None for cache in caches] == [True, True, False]


def test_derived_execution_contexts(path: Path) -> None:
    """Who replaces the class of execution contexts by one that is derived from it loses nothing, and keeps it when the hook is detached."""
    seed(path)
    with path.maker() as session:
        dialect: Any = session.connection().dialect
        derived = dialect.execution_ctx_cls = type("Derived", (dialect.execution_ctx_cls,), {})
        rename(session, "changed")
        session.commit()
    assert ann(path) == "changed"
    path.compare((Customer, 1))
    path.sync.detach()
    assert dialect.execution_ctx_cls is derived
    del dialect.execution_ctx_cls


def test_engines_are_not_listened_to(path: Path) -> None:
    """An engine with a listener would cost every statement, and a transaction that reads is to cost nothing to speak of."""
    seed(path)
    with path.maker() as session:
        assert session.get(Customer, 1)
        rename(session, "changed")
        for dispatch in (session.connection().dispatch, path.engine.dispatch):
            assert not any((dispatch.commit, dispatch.before_cursor_execute, dispatch.after_cursor_execute))


def test_listener_to_commits_that_writes(path: Path) -> None:
    """What the application's own listener to COMMITs writes belongs to the commit, whenever it began to listen."""
    seed(path)
    with path.maker() as session:
        rename(session, "changed")
        event.listen(session.connection(), "commit", lambda connection: connection.execute(update(Customer).values(name="last")) and None)
        session.commit()
    assert ann(path) == "last"
    path.compare((Customer, 1), (Customer, 2))


def test_commit_past_the_connection(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that could not be prepared is told afterwards."""
    seed(path)
    monkeypatch.setattr(frames.Frame, "prepare_on", lambda *_: None)
    with path.maker() as session:
        rename(session, "changed")
        session.commit()
    assert ann(path) == "changed"
    path.compare((Customer, 1))


BAD = [
    ({"consistency": "eventual"}, "'strict', 'fast'"),
    ({"write": "behind"}, "'through', 'invalidate'"),
    ({"on_unreachable": "ignore"}, "'outbox', 'commit', 'abort', None"),
    ({"on_raw_sql": "ignore"}, "'invalidate', 'warn', 'raise'"),
    ({"require": "fast"}, "'strict', None"),
    ({"snapshot": "old"}, "'respect', 'latest'"),
    ({"outbox": 1}, "True, False"),
    ({"bulk_limit": -1}, "from 0 on"),
    ({"bulk_limit": "many"}, "from 0 on"),
    ({"scope": "tenant"}, "callable"),
]


@pytest.mark.parametrize(("options", "said"), BAD, ids=str)
def test_bad_options(options: dict[str, Any], said: str) -> None:
    """A bad option is refused with those that exist."""
    with pytest.raises(ConfigurationError) as caught:
        SessionSync(ProcessMemoryStore(), **options)
    assert said in str(caught.value)
    assert repr(next(iter(options.values()))) in str(caught.value)


def test_stores_that_are_no_cache(sqlite_engine: Engine) -> None:
    """A store without a cache is refused."""
    database = SqlAlchemyStore(engine=sqlite_engine)
    for store in (database, ChainedStore([database]), "memory://", None):
        with pytest.raises(ConfigurationError, match=r"cache|store"):
            SessionSync(store)  # type: ignore[arg-type]


@ON_POSTGRES
@pytest.mark.parametrize("chained", [False, True])
@pytest.mark.parametrize("read_through", [False, True])
def test_caching_switched_off(db: Engine, chained: bool, read_through: bool) -> None:
    """Above stores that keep nothing a hook is attached as ever, and does nothing: no row is read again, and no class noted."""
    store: Store = ChainedStore([NullStore(), NullStore(), SqlAlchemyStore(engine=db)]) if chained else NullStore()
    maker: sessionmaker[Session] = sessionmaker(db, class_=type("Watched", (Session,), {}))
    statements: list[str] = []
    sync = SessionSync(store, require="strict", read_through=read_through).attach(maker)

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(db, "before_cursor_execute", note)
    try:
        with maker() as session:
            session.add(Customer(id=1, name="ann"))
            session.commit()
        with maker() as session:
            assert session.get_one(Customer, 1).name == "ann"
    finally:
        sync.detach()
        event.remove(db, "before_cursor_execute", note)
    assert [statement.split()[0] for statement in statements] == ["INSERT", "SELECT"]


@ON_SQLITE
@ON_MEMORY
def test_memory_stays_flat(path: Path) -> None:
    """Thousands of transactions that were rolled back leave nothing behind."""
    seed(path)

    def run(times: int) -> None:
        for number in range(times):
            with path.maker() as session:
                session.connection()
                for frame in path.sync._recording.frames_of(session):
                    frame.writes().add(Customer, number % 100)
                session.rollback()

    _grows_not(run, 2_500)


def test_memory_stays_flat_with_real_writes(path: Path) -> None:
    """Nor do those that have flushed, set savepoints, and executed statements."""
    seed(path)

    def run(times: int) -> None:
        for number in range(times):
            with path.maker() as session:
                rename(session, f"name {number}")
                with session.begin_nested():
                    session.execute(update(Customer).values(status=f"status {number}"))
                session.rollback()

    _grows_not(run, 100)


def _grows_not(run: Callable[[int], None], times: int) -> None:
    """Show a round that needs no more memory than the one before: what each run leaves behind would be counted in all of them."""
    run(200)
    grown = []
    for _ in range(10):
        gc.collect()
        before = sys.getallocatedblocks()
        run(times)
        gc.collect()
        grown.append(sys.getallocatedblocks() - before)
        if grown[-1] < times / 4:
            return
    pytest.fail(f"blocks that each round of {times} runs left behind: {grown}")


@ON_MEMORY
def test_detached_from_a_maker_with_another_class(db: Engine, path: Path) -> None:
    """What was attached to is left, whatever class the sessionmaker was given since, and keeps that class."""
    seed(path)
    watched, path.maker.class_ = path.maker.class_, Session
    path.sync.detach()
    assert path.maker.class_ is Session
    with watched(db) as session:
        rename(session, "anna")
        session.commit()
    assert ann(path) == "ann"


# -- guarantees -------------------------------------------------------------------------------------


REACHABLE = [
    ({}, True, "strict"),
    ({"on_unreachable": "outbox"}, True, "strict"),
    ({"on_unreachable": "abort"}, True, "strict"),
    ({"on_unreachable": "abort"}, False, "strict"),
    ({}, False, "strict while reachable"),
    ({"on_unreachable": "commit"}, True, "strict while reachable"),
]


@ON_REDIS
@ON_POSTGRES
@pytest.mark.parametrize(("options", "outbox", "level"), REACHABLE, ids=str)
def test_strict_on_postgresql(attach: Attach, request: pytest.FixtureRequest, options: dict[str, Any], outbox: bool, level: str) -> None:
    """PostgreSQL's transaction ids are evidence enough; what a commit does without the cache decides whether it is strict for ever."""
    if not outbox:
        request.getfixturevalue("no_outbox")
    path = attach(**options)
    guarantee = path.sync.guarantee
    assert [tier.level for tier in guarantee.tiers] == [level]
    assert guarantee.is_strict is (level == "strict")
    assert guarantee.engines == (path.engine.url.render_as_string(hide_password=True),)


@ON_REDIS
@ON_POSTGRES
def test_all_is_asked_by_one_connection(attach: Attach, db: Engine) -> None:
    """What a database offers is found out by one connection beside the application's."""
    opened: list[object] = []

    def note(connection: object, _record: object) -> None:
        opened.append(connection)

    event.listen(db, "connect", note)
    try:
        attach()
    finally:
        event.remove(db, "connect", note)
    assert len(opened) == 1


@ON_REDIS
@ON_POSTGRES
def test_strict_while_reachable(no_outbox: None, attach: Attach, db: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """Commits that go on without the cache are less than strict: that is said once, is refused where strict is required, and names the fix."""
    with caplog.at_level(logging.WARNING):
        path = attach()
    assert caplog.text.count("on_unreachable='commit'") == 1
    (tier,) = path.sync.guarantee.tiers
    assert "create_outbox(engine)" in str(tier)
    assert "'abort'" in str(tier)
    path.sync.detach()
    with pytest.raises(ConfigurationError, match=r"require='strict'.*\n.*strict while reachable.*create_outbox"):
        SessionSync(path.store, require="strict").attach(path.maker)
    path.sync.create_outbox(db)
    assert path.sync.guarantee.is_strict
    SessionSync(path.store, require="strict").attach(path.maker).detach()


@ON_REDIS
@ON_POSTGRES
def test_lifetimes_while_commits_may_stay_untold(attach: Attach, db: Engine, redis_url: str, namespace: str) -> None:
    """Where a commit goes on without a cache that it could not tell, what is put or filled there lives for an hour at most."""
    path = attach(on_unreachable="commit")
    path.seed(Customer(id=1, name="ann"))
    with path.maker() as session:
        session.add(Customer(id=2, name="bob"))
        session.commit()
    assert path.read(Customer, 1) is not None
    keys = [f"{namespace}:tests.stores.shop.Customer:id:i{number}" for number in (1, 2)]
    with Redis.from_url(redis_url) as client:
        assert all(3500 < client.ttl(key) <= 3601 for key in keys)
    assert "for longer than an hour" in str(path.sync.guarantee)


@ON_REDIS
@ON_SQLITE
def test_fast_on_sqlite_without_outbox(attach: Attach, db: Engine, cache: Store, caplog: pytest.LogCaptureFixture) -> None:
    """SQLite gives evidence by the outbox alone: without it the hook is fast, says so, and what to do; with it it is strict."""
    with db.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS stockstore_outbox"))
    with caplog.at_level(logging.WARNING):
        path = attach()
    assert "create_outbox(engine)" in caplog.text
    assert [tier.level for tier in path.sync.guarantee.tiers] == ["fast"]
    path.sync.detach()
    with pytest.raises(ConfigurationError, match=r"require='strict'.*\n.*evidence"):
        SessionSync(path.store, require="strict").attach(path.maker)
    path.sync.create_outbox(db)
    assert [tier.level for tier in path.sync.guarantee.tiers] == ["strict"]
    SessionSync(path.store, require="strict").attach(path.maker).detach()
    with db.begin() as connection:
        connection.execute(text("DROP TABLE stockstore_outbox"))


@pytest.mark.parametrize(
    ("url", "options", "level"),
    [
        ("sqlite_url", {}, "fast"),
        ("postgres_schema_url", {}, "strict while reachable"),
        ("postgres_schema_url", {"on_unreachable": "abort"}, "strict"),
    ],
)
def test_autocommit(request: pytest.FixtureRequest, redis_url: str, url: str, options: dict[str, Any], level: str) -> None:
    """An engine made for AUTOCOMMIT has no outbox whose rows commit with the data."""
    engine = create_engine(request.getfixturevalue(url), isolation_level="AUTOCOMMIT")
    sync = SessionSync(ChainedStore([RedisStore(redis_url), SqlAlchemyStore(engine=engine)]), **options)
    sync.create_outbox(engine)
    (tier,) = sync.guarantee.tiers
    assert tier.level == level
    engine.dispose()


@ON_MEMORY
def test_fast_by_choice(attach: Attach) -> None:
    """What was chosen is named as the reason."""
    (tier,) = attach(consistency="fast").sync.guarantee.tiers
    assert tier.level == "fast"
    assert "consistency='fast'" in str(tier)


def test_bounded_memory(postgres_engine: Engine) -> None:
    """Process memory over a database that others write is bounded."""
    store = ChainedStore([ProcessMemoryStore(max_staleness=1.5), SqlAlchemyStore(engine=postgres_engine)])
    (tier,) = SessionSync(store).guarantee.tiers
    assert tier.level == "bounded 1.5 s"


def test_weak_custom_store(postgres_engine: Engine) -> None:
    """A cache with plain verbs alone is weak, and required strictness refuses it."""
    store = ChainedStore([MappingStore({}), SqlAlchemyStore(engine=postgres_engine)])
    (tier,) = SessionSync(store).guarantee.tiers
    assert tier.level == "weak"
    with pytest.raises(ConfigurationError, match="weak"):
        SessionSync(store, require="strict").attach(sessionmaker(postgres_engine))


def test_redis_that_evicts_markers(
    postgres_engine: Engine, start_redis: Callable[..., RedisServer], caplog: pytest.LogCaptureFixture
) -> None:
    """An eviction policy that takes markers is said once, with the fix."""
    server = start_redis("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    store = ChainedStore([RedisStore(server.url), SqlAlchemyStore(engine=postgres_engine)])
    sync, maker = SessionSync(store), sessionmaker(postgres_engine)
    with caplog.at_level(logging.WARNING):
        sync.attach(maker)
    assert caplog.text.count("maxmemory-policy") == 1
    assert not sync.guarantee.is_strict
    sync.detach()
    with pytest.raises(ConfigurationError, match="maxmemory-policy"):
        SessionSync(store, require="strict").attach(maker)
    store.close()


def test_database_out_of_reach() -> None:
    """A database that cannot be asked does not keep the hook from being attached; the guarantee says so."""
    engine = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none?connect_timeout=1")
    sync, maker = SessionSync(ChainedStore([ProcessMemoryStore(), SqlAlchemyStore(engine=engine)])), sessionmaker(engine)
    sync.attach(maker)
    sync.detach()


def test_outbox_table(db: Engine, path: Path) -> None:
    """The outbox can be created, twice too, and be given to migrations."""
    path.sync.create_outbox(db)
    path.sync.create_outbox(db)
    assert inspect(db).has_table("stockstore_outbox")
    metadata = MetaData()
    assert path.sync.outbox_table(metadata) is metadata.tables["stockstore_outbox"]
    assert path.sync.outbox_table(metadata) is metadata.tables["stockstore_outbox"]
    with db.begin() as connection:
        connection.execute(text("DROP TABLE stockstore_outbox"))


@ON_REDIS
def test_outbox_without_its_table(attach: Attach, db: Engine) -> None:
    """The guarantee says that the option does nothing, once, until the table is there."""
    with db.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS stockstore_outbox"))
    sync = attach(outbox=True).sync
    said = str(sync.guarantee).splitlines()
    assert sum("outbox=True does nothing" in line for line in said) == 1
    assert len(set(said)) == len(said)
    sync.create_outbox(db)
    assert "does nothing" not in str(sync.guarantee)
    with db.begin() as connection:
        connection.execute(text("DROP TABLE stockstore_outbox"))


@ON_REDIS
@pytest.mark.parametrize("consistency", ["strict", "fast"])
def test_abort_where_caches_are_told_after_the_commit(db: Engine, cache: Store, consistency: Any) -> None:
    """The guarantee says that nothing can be aborted there."""
    with db.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS stockstore_outbox"))
    store = ChainedStore([cache, SqlAlchemyStore(engine=db)])
    said = str(SessionSync(store, on_unreachable="abort", consistency=consistency).guarantee)
    assert ("aborts nothing" in said) is (consistency == "fast" or db.dialect.name == "sqlite")


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
