"""A chain whose database or cache server is lost in the middle of a write."""

import os
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from redis import Redis
from sqlalchemy import Connection, Engine, ForeignKey, event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import stockstore.coherence.recovery
from stockstore import ChainedStore, MappingStore, OriginError, ProcessMemoryStore, RedisStore, SqlAlchemyStore
from tests.patience import SHORT
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer

pytestmark = pytest.mark.sa_agnostic


class Base(DeclarativeBase):
    pass


class Shop(Base):
    __tablename__ = "shops"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="old")


class Shelf(Base):
    """Deleted with its shop by the database."""

    __tablename__ = "shelves"
    id: Mapped[int] = mapped_column(primary_key=True)
    shop_id: Mapped[int] = mapped_column(ForeignKey("shops.id", ondelete="CASCADE"))
    label: Mapped[str] = mapped_column(default="old")


@pytest.fixture
def db(postgres_engine: Engine) -> Iterator[Engine]:
    """The engine of a database with the tables, empty."""
    Base.metadata.create_all(postgres_engine)
    yield postgres_engine
    Base.metadata.drop_all(postgres_engine)


@pytest.fixture
def lose_the_commit(db: Engine) -> Iterator[None]:
    """The database commits, and the connection is lost before it says so."""

    def lose(connection: Connection) -> None:
        connection.connection.commit()
        cast("Any", connection.connection.dbapi_connection).close()

    event.listen(db, "commit", lose)
    yield
    event.remove(db, "commit", lose)


@pytest.fixture
def chain(db: Engine, request: pytest.FixtureRequest) -> ChainedStore:
    """Two caches that have the rows, over a database whose next commit is not confirmed."""
    chain = ChainedStore([ProcessMemoryStore(), MappingStore({}), SqlAlchemyStore(engine=db)])
    chain.put(Shop(id=1))
    chain.put(Shelf(id=1, shop_id=1))
    request.getfixturevalue("lose_the_commit")
    return chain


def test_a_put_that_was_not_confirmed(chain: ChainedStore) -> None:
    """A put whose commit was not confirmed is raised, and what the database has is read."""
    with pytest.raises(
        OriginError, match=r"SqlAlchemyStore\(.*\): the commit was not confirmed, and may have been done: the connection is closed"
    ):
        chain.put(Shop(id=1, name="new"))
    shop = chain.get(Shop, 1)
    assert shop is not None
    assert shop.name == "new"


@pytest.mark.parametrize("delete", [lambda chain: chain.delete(Shop, 1), lambda chain: chain.delete(Shop(id=1))])
def test_a_delete_that_was_not_confirmed(chain: ChainedStore, delete: Callable[[ChainedStore], object]) -> None:
    """A delete whose commit was not confirmed is raised, and nothing that it may have deleted is read from a cache."""
    with pytest.raises(OriginError, match="the commit was not confirmed"):
        delete(chain)
    assert chain.get(Shop, 1) is None
    assert chain.get(Shelf, 1) is None


@pytest.fixture
def remote(
    db: Engine, start_redis: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[ChainedStore, RedisServer]]:
    """A chain that tries a lost server again at once, and the server."""
    monkeypatch.setattr(stockstore.coherence.recovery, "RETRY_SECONDS", 0.0)
    server = start_redis()
    with (
        Redis.from_url(server.url, socket_timeout=SHORT) as client,
        ChainedStore([RedisStore(client=client), SqlAlchemyStore(engine=db)]) as chain,
    ):
        yield chain, server


def test_a_sweep_beside_a_key_that_is_owed(remote: tuple[ChainedStore, RedisServer]) -> None:
    """Of a class whose server owes one key, the rows that the database deleted are gone as well when the server is back."""
    chain, server = remote
    chain.put(Shop(id=1))
    chain.batch_put([Shelf(id=number, shop_id=1) for number in (1, 2)])
    server.freeze()
    chain.put(Shelf(id=1, shop_id=1, label="new"))
    chain.delete(Shop, 1)
    server.thaw()
    assert chain.batch_get(Shelf, [1, 2]) == [None, None]


def test_a_changed_primary_key_that_is_owed(remote: tuple[ChainedStore, RedisServer]) -> None:
    """The old primary key of a row that was put while the server was away misses when it is back."""
    chain, server = remote
    chain.put(Shop(id=1))
    shop = chain.get(Shop, 1)
    assert shop is not None
    server.freeze()
    shop.id = 2
    chain.put(shop)
    server.thaw()
    assert chain.get(Shop, 1) is None
    assert chain.contains(Shop, 2)


def test_a_forked_child_has_connections_of_its_own(db: Engine) -> None:
    """Parent and child read the database at the same time, each by its own connections."""
    with SqlAlchemyStore(db.url.render_as_string(hide_password=False)) as database:
        database.batch_put([Shop(id=number, name=str(number)) for number in range(50)])
        child = os.fork()
        status = 1
        try:
            read = [database.get(Shop, number % 50) for number in range(500)]
            status = int([shop and shop.name for shop in read] != [str(number % 50) for number in range(500)])
        finally:
            if child == 0:
                os._exit(status)
        assert status == 0
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_read_after_a_restart_of_the_database_is_repeated(start_postgres: Callable[[], PostgresServer]) -> None:
    """The first read on connections that a restart has broken gives the row; a write on them raises and writes nothing."""
    server = start_postgres()
    with SqlAlchemyStore(server.url) as database:
        Base.metadata.create_all(database.engine)
        database.put(Shop(id=1, name="here"))
        server.restart()
        shop = database.get(Shop, 1)
        assert shop is not None
        assert shop.name == "here"
        server.restart()
        shop.name = "lost"
        with pytest.raises(OriginError):
            database.put(shop)
        read = database.get(Shop, 1)
        assert read is not None
        assert read.name == "here"
