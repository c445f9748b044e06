"""Attaching and detaching, and options."""

import gc
import sys
from collections.abc import Callable
from typing import Any
from weakref import ref

import pytest
from sqlalchemy import Engine, create_engine, event, update
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import StaticPool

from stockstore import ChainedStore, ConfigurationError, NullStore, ProcessMemoryStore, RedisStore, SqlAlchemyStore, Store
from stockstore_ext.sqlalchemy import SessionSync, frames
from tests.stores.shop import Customer
from tests.sync.conftest import ON_MEMORY, ON_POSTGRES, ON_SQLITE
from tests.sync.customers import ann, rename, seed
from tests.sync.paths import Path


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


def test_no_message_shows_a_password_of_a_url(redis_url: str) -> None:
    """What makes sessions, and an engine in place of something else, are named without one in the query of a database's URL."""
    engine, other = (create_engine(f"postgresql+psycopg://localhost:1/{name}?password=s3cret") for name in ("one", "two"))
    maker = sessionmaker(engine, binds={Customer: other})
    store = RedisStore(redis_url)
    sync = SessionSync(store).attach(maker)
    uses: list[Callable[[], object]] = [
        lambda: sync.attach(maker),
        lambda: SessionSync(store).attach(maker),
        lambda: SessionSync(store).attach(engine),  # type: ignore[arg-type]
        lambda: SessionSync(engine),  # type: ignore[arg-type]
        lambda: SessionSync(RedisStore("redis+asyncio://h")).attach(maker),
    ]
    told = [repr(sync)]
    for use in uses:
        with pytest.raises(ConfigurationError) as caught:
            use()
        told.append(str(caught.value))
    sync.detach()
    store.close()
    assert all("/one?password=hidden" in text and "s3cret" not in text for text in told)
