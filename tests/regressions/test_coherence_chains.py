"""Chains whose caches were found stale, or growing, by one who tried to break them."""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import psutil
import pytest
from sqlalchemy import Engine, create_engine, event, insert, text, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import Pool, SingletonThreadPool, StaticPool

from stockstore import CacheUnreachable, ChainedStore, MemcacheStore, OriginError, ProcessMemoryStore, RedisStore, SqlAlchemyStore
from stockstore.backends.redis import RedisBackend
from stockstore.coherence import claims
from stockstore.coherence.protocol import Writes
from stockstore.coherence.writer import WriteThrough
from stockstore.stores import claimed, hits, local
from stockstore.stores.tiers import tier_of
from tests.patience import SECONDS, SHORT
from tests.regressions.cut import way_to
from tests.servers.redis import RedisServer
from tests.servers.server import wait_until


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "items"
    __keys__ = ["id", "code"]
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str] = mapped_column(default="old")


class Other(Base):
    __tablename__ = "others"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="old")


@dataclass
class Animal:
    __keys__ = ["id"]
    id: int


@dataclass
class Dog(Animal):
    __keys__ = ["id"]


@pytest.fixture
def db(engine: Engine) -> Iterator[Engine]:
    """The engine of a database with the tables, empty."""
    Base.metadata.create_all(engine)
    yield engine
    Base.metadata.drop_all(engine)


@pytest.fixture
def pg(postgres_engine: Engine) -> Iterator[Engine]:
    """The engine of a PostgreSQL with the tables, empty."""
    Base.metadata.create_all(postgres_engine)
    yield postgres_engine
    Base.metadata.drop_all(postgres_engine)


def name_of(chain: ChainedStore, tier: int | None = None) -> str | None:
    """Give the name of the item of these tests, by the chain or one of its tiers."""
    item = (chain if tier is None else chain.tiers[tier]).get(Item, 1)
    return None if item is None else item.name


@pytest.mark.parametrize("pool", [StaticPool, SingletonThreadPool])
def test_one_connection_to_what_others_write(db: Engine, database_url: str, pool: type[Pool], monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool of one connection is no sign of a database in this process's memory: memory is bounded as over any other."""
    now = time.monotonic()
    for module in (claimed, local, claims, hits):
        monkeypatch.setattr(module, "_now", lambda: now)
    own = create_engine(database_url, poolclass=pool)
    chain = ChainedStore([ProcessMemoryStore(max_staleness=1.5), SqlAlchemyStore(engine=own)])
    chain.put(Item(id=1, code="x"))
    with db.begin() as connection:
        connection.execute(update(Item).values(name="new"))
    assert name_of(chain, 0) == name_of(chain) == "old"
    now += 2
    assert name_of(chain) == "new"
    own.dispose()


@pytest.mark.parametrize("then", [lambda _: None, lambda chain: chain.get(Other, 1)], ids=["nothing more", "other classes"])
def test_what_is_owed_is_told_though_nobody_here_asks(
    pg: Engine, redis_url: str, namespace: str, then: Callable[[ChainedStore], object]
) -> None:
    """A process that could not tell Redis of a write tells it when it is back, also if it never reads that class again."""
    with way_to(redis_url) as way, ExitStack() as stack:
        mine, theirs = (
            stack.enter_context(ChainedStore([RedisStore(url, namespace=namespace), SqlAlchemyStore(engine=pg)]))
            for url in (way.url, redis_url)
        )
        mine.put(Item(id=1, code="x"))
        assert name_of(theirs, 0) == "old"
        way.cut()
        mine.put(Item(id=1, code="x", name="new"))
        assert name_of(theirs, 0) == "old"
        way.mend()

        def told() -> bool:
            then(mine)
            return name_of(theirs) == "new"

        wait_until(told, "the other process to be told")


@pytest.mark.sa_agnostic
@pytest.mark.parametrize("cache", ["redis", "memcached"])
def test_what_is_told_after_the_end_leaves_no_connection(request: pytest.FixtureRequest, cache: str) -> None:
    """A store that is closed while it owes tells its server when that is back, and closes again what it has opened for that."""
    server = request.getfixturevalue(f"start_{cache}")()

    def store(seconds: float) -> RedisStore | MemcacheStore:
        return RedisStore(server.url, read_timeout=seconds) if cache == "redis" else MemcacheStore(server.address, timeout=seconds)

    with store(SECONDS) as theirs:
        theirs.put(Animal(1))
    with store(SHORT) as mine:
        server.freeze()
        writes = Writes()
        writes.add_class(Animal)
        tier = tier_of(mine)
        WriteThrough([tier]).invalidate(writes)
        assert not tier.readable(Animal)
        server.thaw()
    wait_until(lambda: tier.readable(Animal), "the server to be told")
    with store(SECONDS) as theirs:
        assert not theirs.contains(Animal, 1)
    own = psutil.Process()
    wait_until(lambda: server.port not in {port for other in own.net_connections() for port in other.raddr[1:]}, "the end")


def test_what_is_owed_for_a_class_is_owed_for_those_below_it(start_redis: Callable[..., RedisServer]) -> None:
    """A whole plain class that could not be dropped is dropped later with its subclasses, each under its own keys."""
    server = start_redis()
    with (
        way_to(server.url) as way,
        RedisStore(way.url, polymorphic=True) as cache,
        RedisStore(server.url, polymorphic=True) as theirs,
    ):
        theirs.batch_put([Animal(1), Dog(2)])
        way.cut()
        writes = Writes()
        writes.add_class(Animal)
        WriteThrough([tier_of(cache)]).invalidate(writes)
        assert theirs.get(Animal, 1)
        assert theirs.get(Dog, 2)
        way.mend()
        wait_until(lambda: theirs.get(Animal, 1) is None and theirs.get(Dog, 2) is None, "both to be dropped")


def test_a_handler_that_fails_after_the_commit(db: Engine, redis_url: str, namespace: str) -> None:
    """An error of the application's own, raised by SQLAlchemy in its handler of the commit, says nothing of the commit."""
    chain = ChainedStore([RedisStore(redis_url, namespace=namespace), SqlAlchemyStore(engine=db)])
    chain.put(Item(id=1, code="x"))
    assert name_of(chain, 0) == "old"

    def fail(_session: Session) -> None:
        with db.begin() as connection:
            connection.execute(insert(Item), {"id": 1, "code": "x", "name": "twice"})

    event.listen(Session, "after_commit", fail)
    try:
        with pytest.raises(OriginError, match=r"the commit was not confirmed, and may have been done: .*(unique|UNIQUE)"):
            chain.put(Item(id=1, code="x", name="new"))
    finally:
        event.remove(Session, "after_commit", fail)
    assert name_of(chain) == "new"


def _put(chain: ChainedStore) -> None:
    chain.batch_put([Item(id=1, code="x", name="new"), Item(id=2, code="y", name="new"), Item(id=3, code="x")])


def _delete(chain: ChainedStore) -> None:
    chain.batch_delete(Item, [1, 3])


@pytest.mark.parametrize("way", ["options", "engine"])
@pytest.mark.parametrize("write", [_put, _delete])
def test_a_write_that_is_done_in_part(
    db: Engine, database_url: str, redis_url: str, namespace: str, way: str, write: Callable[[ChainedStore], None]
) -> None:
    """In AUTOCOMMIT a batch that is refused may have written its first rows: no cache has the old ones."""
    made = create_engine(database_url, isolation_level="AUTOCOMMIT")
    engine = db.execution_options(isolation_level="AUTOCOMMIT") if way == "options" else made
    memory, redis = ProcessMemoryStore(max_staleness=None), RedisStore(redis_url, namespace=namespace)
    chain = ChainedStore([memory, redis, SqlAlchemyStore(engine=engine)])
    chain.batch_put([Item(id=1, code="x"), Item(id=2, code="y"), Item(id=3, code="z")])
    assert name_of(chain, 0) == name_of(chain, 1) == "old"
    with db.begin() as connection:
        connection.execute(text("CREATE TABLE references_items (id INTEGER REFERENCES items (id))"))
        connection.execute(text("INSERT INTO references_items VALUES (3)"))
    try:
        if write is _put or db.dialect.name != "sqlite":
            with pytest.raises(OriginError):
                write(chain)
        with Session(db) as session:
            row = session.get(Item, 1)
            there = None if row is None else row.name
        assert name_of(chain) == there
    finally:
        with db.begin() as connection:
            connection.execute(text("DROP TABLE references_items"))
        made.dispose()


def test_chains_made_again_and_again_over_the_same_stores(pg: Engine, redis_url: str) -> None:
    """A chain for each request leaves nothing behind on the stores that all share."""
    with RedisStore(redis_url) as cache:
        database = SqlAlchemyStore(engine=pg)
        for _ in range(20):
            ChainedStore([cache, database]).get(Item, 1)
        gc.collect()
        assert len(vars(tier_of(cache))["resolvers"]) == 1


def test_what_was_tried_again_arrives_late(pg: Engine, redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mark and a release that timed out, were done by a second attempt, and arrive after the next write bring nothing back."""
    cache = RedisStore(redis_url, namespace=namespace)
    chain = ChainedStore([cache, SqlAlchemyStore(engine=pg)])
    late: list[Callable[[], object]] = []

    def delay_first(name: str) -> None:
        step = getattr(RedisBackend, name)
        seen: list[bool] = []

        def sent(self: RedisBackend, *arguments: object, **options: object) -> object:
            if not seen:
                seen.append(True)
                late.append(lambda: step(self, *arguments, **options))
                raise CacheUnreachable("timed out")
            return step(self, *arguments, **options)

        monkeypatch.setattr(RedisBackend, name, sent)

    delay_first("mark_many")
    delay_first("release_many")
    chain.put(Item(id=1, code="x", name="first"))
    chain.put(Item(id=1, code="x", name="second"))
    assert name_of(chain, 0) == "second"
    for step in late:
        step()
    assert name_of(chain) == "second"
