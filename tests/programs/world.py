"""Two databases with the same rows: one is used through the hook and caches, one without."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from unittest.mock import patch

from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from stockstore import ChainedStore, SqlAlchemyStore, Store
from stockstore.coherence.resolver import Resolver
from stockstore.evidence import Outbox
from stockstore_ext.sqlalchemy import SessionSync
from tests.programs.rows import Reset

_PREPARED: Final = text("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()")

_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "sqlite": {"connect_args": {"timeout": 0}},
    # At its default caches answer the first reads of a transaction, which then have no part in its snapshot.
    "mariadb": {"isolation_level": "READ COMMITTED"},
}

MakeTiers = Callable[[], list[Store]]


@dataclass
class World:
    """One of the two databases, as a program uses it.

    Attributes:
        engine: What its sessions use.
        other: Another engine on the same database, which nobody watches.
        maker: Makes its sessions.
        store: The chain above it, if there is one.
        sync: The hook, if there is one.
    """

    engine: Engine
    other: Engine
    maker: sessionmaker[Session]
    store: Store | None = None
    sync: SessionSync | None = None

    def end_prepared(self, how: str) -> int:
        """End all transactions that PostgreSQL has prepared, by COMMIT or ROLLBACK; tell how many these were."""
        if self.other.dialect.name != "postgresql":
            return 0
        with self.other.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            prepared = connection.scalars(_PREPARED).all()
            for name in prepared:
                connection.exec_driver_sql(f"{how} PREPARED '{name}'")
        return len(prepared)


class Database:
    """A database that is used again and again.

    Args:
        url: Its URL.
        outbox: Whether it has the outbox table.
    """

    def __init__(self, url: str, *, outbox: bool) -> None:
        """Make the tables and the first rows."""
        self.engine, self.other = self._engine(url), create(url)
        self.reset = Reset(self.other)
        if outbox:
            Outbox().create(self.other)

    @contextmanager
    def plain(self, **options: Any) -> Iterator[World]:
        """Give it without the hook."""
        self.reset()
        yield World(self.engine, self.other, self._maker(options))
        self._check_free()

    @contextmanager
    def hooked(self, tiers: MakeTiers, settings: dict[str, Any], **options: Any) -> Iterator[World]:
        """Give it with the hook, on caches that are empty; markers of transactions that have ended are resolved by the first reader who meets them."""
        self.reset()
        maker = self._maker(options)
        chain = ChainedStore([*tiers(), SqlAlchemyStore(engine=self.engine)])
        with patch.dict(Resolver.__init__.__kwdefaults__, after=0.0), patch("stockstore.coherence.resolver._EVERY", 0.0):
            sync = SessionSync(chain, read_through=True, **settings).attach(self._target(maker))
            store = self._used(chain)
            try:
                yield World(self.engine, self.other, maker, store, sync)
            finally:
                sync.detach()
                store.close()
        self._check_free()

    def _engine(self, url: str) -> Engine:
        return create(url)

    def _maker(self, options: dict[str, Any]) -> "sessionmaker[Session]":
        return sessionmaker(self.engine, class_=type("Watched", (Session,), {}), **options)

    def _target(self, maker: "sessionmaker[Session]") -> Any:
        """Give what the hook is attached to."""
        return maker

    def _used(self, chain: ChainedStore) -> Store:
        """Give what programs use a chain by."""
        return chain

    def _check_free(self) -> None:
        for engine in (self.engine, self.other):
            assert engine.pool.checkedout() == 0, "a connection was kept"  # type: ignore[attr-defined]
        try:
            self.reset()
        except OperationalError as error:
            raise AssertionError("a lock was kept") from error

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()
        self.other.dispose()


def create(url: str) -> Engine:
    """Give an engine of which no connection waits for a lock."""
    engine = create_engine(url, **_OPTIONS.get(make_url(url).get_backend_name(), {}))
    event.listen(engine, "connect", impatient)
    event.listen(engine, "checkin", _roll_back)
    return engine


def _roll_back(connection: Any, record: object) -> None:
    """End what SQLAlchemy leaves open of which a COMMIT was refused."""
    del record
    if connection is not None:
        connection.rollback()


def impatient(connection: Any, record: object) -> None:
    """Wait for no lock: all sessions are of one thread."""
    del record
    cursor = connection.cursor()
    if "sqlite" in type(connection).__module__:
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA synchronous=OFF")
    elif type(connection).__module__.startswith("pymysql"):
        cursor.execute("SET innodb_lock_wait_timeout = 0, lock_wait_timeout = 0")
        cursor.execute("SET GLOBAL innodb_flush_log_at_trx_commit = 0")
    else:
        cursor.execute("SET lock_timeout = '20ms'")
        cursor.execute("SET statement_timeout = '5s'")
        connection.commit()
    cursor.close()
