"""The shop's tables in each database, and a hook on a chain above it."""

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session, sessionmaker

from stockstore import ChainedStore, MemcacheStore, ProcessMemoryStore, RedisStore, SqlAlchemyStore, Store
from stockstore.evidence import Outbox
from stockstore_ext.sqlalchemy import SessionSync
from tests.stores.shop import create_tables, empty
from tests.sync.paths import Path

ON_POSTGRES = pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
ON_MEMORY = pytest.mark.parametrize("cache", ["memory"], indirect=True)
ON_REDIS = pytest.mark.parametrize("cache", ["redis"], indirect=True)
MEMCACHED = pytest.param("memcached", marks=pytest.mark.sa_agnostic)
"""It is told by the same code as Redis is, which shows what SQLAlchemy's version changes."""
CROSSED = pytest.mark.parametrize("cache", ["memory", "redis", MEMCACHED], indirect=True)
"""Every cache above each database."""
OTHER_CACHES = pytest.mark.parametrize("cache", ["other", MEMCACHED], indirect=True)
"""Caches above databases as no test has them that names none."""


@pytest.fixture(scope="module")
def shop_tables(engine: Engine) -> Engine:
    """The engine of a database that has the shop's tables and the outbox, without which SQLite would be fast; SQLite and PostgreSQL in turn."""
    create_tables(engine)
    Outbox().create(engine)
    return engine


@pytest.fixture
def db(shop_tables: Engine) -> Engine:
    """The engine of a database in which the shop's tables are empty."""
    empty(shop_tables)
    return shop_tables


@pytest.fixture
def no_outbox(db: Engine) -> Iterator[None]:
    """The outbox is not there for as long as the test runs."""
    Outbox().definition.drop(db)
    yield
    Outbox().create(db)


@pytest.fixture(scope="module")
def other_engine(engine: Engine) -> Iterator[Engine]:
    """Another engine on the same database."""
    other = create_engine(engine.url)
    yield other
    other.dispose()


@pytest.fixture
def other(db: Engine, other_engine: Engine) -> Engine:
    """Another engine on the same database, which nobody watches."""
    return other_engine


@pytest.fixture
def cache(request: pytest.FixtureRequest, namespace: str, db: Engine) -> Store:
    """A cache: process memory above SQLite, Redis above PostgreSQL, the other way round, or the one that a test names."""
    usual, other = ("memory", "redis") if db.dialect.name == "sqlite" else ("redis", "memory")
    kind = getattr(request, "param", usual)
    kind = other if kind == "other" else kind
    if kind == "memory":
        return ProcessMemoryStore(max_staleness=None, namespace=namespace)
    if kind == "redis":
        return RedisStore(request.getfixturevalue("redis_url"), namespace=namespace)
    return MemcacheStore([request.getfixturevalue("memcached_address")], namespace=namespace)


Attach = Callable[..., Path]


@pytest.fixture
def attach(db: Engine, other: Engine, cache: Store) -> Iterator[Attach]:
    """A function of SessionSync's options that gives a hooked path."""
    made: list[Path] = []

    def attached(*, engine: Engine = db, expire_on_commit: bool = True, twophase: bool = False, **options: object) -> Path:
        store = ChainedStore([cache, SqlAlchemyStore(engine=db)])
        maker: sessionmaker[Session] = sessionmaker(
            engine, expire_on_commit=expire_on_commit, twophase=twophase, class_=type("Watched", (Session,), {})
        )
        sync = SessionSync(store, **options)  # type: ignore[arg-type]
        sync.attach(maker)
        made.append(Path(db, other, store, maker, sync))
        return made[-1]

    yield attached
    for path in made:
        path.sync.detach()
        path.store.close()


@pytest.fixture
def path(attach: Attach) -> Path:
    """A hooked path with the default options."""
    return attach()
