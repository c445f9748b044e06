"""What is guaranteed, by the caches and databases that there are."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import Engine, MetaData, create_engine, event, inspect, text
from sqlalchemy.orm import sessionmaker

from stockstore import ChainedStore, ConfigurationError, MappingStore, OriginError, ProcessMemoryStore, RedisStore, SqlAlchemyStore, Store
from stockstore_ext.sqlalchemy import SessionSync
from tests.servers.redis import RedisServer
from tests.stores.shop import Customer
from tests.sync.conftest import ON_MEMORY, ON_POSTGRES, ON_REDIS, ON_SQLITE, Attach
from tests.sync.paths import Path

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


def test_a_database_that_cannot_be_asked(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Each warning is one line that says which database and why, without a password of its URL."""
    engine = create_engine("postgresql+psycopg://localhost:1/shop?password=s3cret")
    chain = ChainedStore([RedisStore(redis_url), SqlAlchemyStore(engine=engine)])
    with caplog.at_level(logging.WARNING):
        sync = SessionSync(chain).attach(sessionmaker(engine))
        (tier,) = sync.guarantee.tiers
        sync.detach()
        with pytest.raises(OriginError):
            chain.put(Customer(id=1, name="ann"))
    told = [record.message for record in caplog.records if "Connection refused" in record.message]
    name = "postgresql+psycopg://localhost:1/shop?password=hidden"
    assert {line.partition(": ")[0] for line in told} == {
        f"{name} could not be asked for what the strict protocol needs; until then its commits are fast",
        f"SqlAlchemyStore('{name}') does not tell how its transactions end; its caches are invalidated after them",
        tier.tier,
    }
    assert str(tier).count(f"fast - {name} could not be asked: ") == str(tier).count("Connection refused") == 1
    assert not any("\n" in line or "s3cret" in line for line in [*told, str(tier)])
    chain.close()


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
