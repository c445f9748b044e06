"""The chain that the demo runs on, in a namespace and tables of its own."""

import os
import secrets
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from examples.shop.models import Base
from stockstore import (
    ChainedStore,
    ConfigurationError,
    MemcacheStore,
    OriginError,
    ProcessMemoryStore,
    RedisStore,
    SqlAlchemyStore,
    StockstoreError,
    Store,
)
from stockstore.evidence.aside import is_private
from stockstore.mapped.shown import shown

NAMES = {"postgresql": "PostgreSQL", "sqlite": "SQLite", "mysql": "MySQL", "mariadb": "MariaDB"}
LIFETIME = 600
"""Seconds after which a server forgets the demo's entries, were it killed before it could clear them."""


class Places(NamedTuple):
    """Where the tiers are: all that another process needs to open the same ones."""

    redis: str | None
    memcached: str | None
    database: str
    namespace: str

    def stores(self) -> dict[str, Store]:
        remote: dict[str, Store] = {}
        if self.redis is not None:
            remote["Redis"] = RedisStore(self.redis, namespace=self.namespace, lifetime=LIFETIME, on_error="raise")
        if self.memcached is not None:
            remote["memcached"] = MemcacheStore(self.memcached, namespace=self.namespace, lifetime=LIFETIME, on_error="raise")
        return remote


@dataclass(frozen=True)
class Tiers:
    memory: ProcessMemoryStore
    remote: dict[str, Store]
    database: SqlAlchemyStore
    places: "Places"

    @property
    def chain(self) -> ChainedStore:
        return ChainedStore([self.memory, *self.remote.values(), self.database])

    @property
    def names(self) -> list[str]:
        dialect = self.database.engine.dialect.name
        return ["process memory", *self.remote, NAMES.get(dialect, dialect)]


@dataclass
class Trial:
    """What is put to see whether a server takes it; a replica only gives."""

    __keys__: ClassVar[list[str]] = ["id"]
    id: int = 0


@contextmanager
def opened(redis: str | None, memcached: str | None, database: str | None) -> Iterator[Tiers]:
    """Open the tiers, check that each answers and takes what is put, and leave nothing behind."""
    with ExitStack() as stack:
        if database is None:
            database = f"sqlite:///{stack.enter_context(tempfile.TemporaryDirectory())}/shop.db"
        places = Places(redis, memcached, database, f"stockstore-demo-{secrets.token_hex(4)}")
        remote = places.stores()
        for store in remote.values():
            stack.callback(store.close)
        origin = SqlAlchemyStore(database)
        refuse_unshared(origin.engine)
        stack.enter_context(origin)
        for store in remote.values():
            store.put(Trial())
            stack.callback(quietly, store.clear)
        stack.enter_context(tables(origin.engine))
        yield Tiers(ProcessMemoryStore(), remote, origin, places)


def refuse_unshared(engine: Engine) -> None:
    """The demo starts processes that open the same database, and calls it without an event loop."""
    if engine.dialect.is_async:
        raise ConfigurationError(f"the demo needs a blocking driver, not that of {shown(engine.url)}; write e.g. postgresql+psycopg://")
    if is_private(engine):
        raise ConfigurationError(
            f"the demo's other processes do not see {shown(engine.url)}, which is in memory; name a file, e.g. sqlite:///shop.db"
        )


@contextmanager
def tables(engine: Engine) -> Iterator[None]:
    # libpq waits for a host that does not answer as long as the system's TCP does.
    os.environ.setdefault("PGCONNECT_TIMEOUT", "5")
    try:
        Base.metadata.drop_all(engine)
        Base.metadata.create_all(engine)
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().split("\n", 1)[0]
        raise OriginError(
            f"the database {shown(engine.url)} cannot be used: {reason}; check the URL, the server and what its user may do"
        ) from error
    try:
        yield
    finally:
        quietly(lambda: Base.metadata.drop_all(engine))


def quietly(clean: Callable[[], object]) -> None:
    """Clean up as far as the server still answers; another Ctrl-C must not leave tables behind."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(StockstoreError, SQLAlchemyError):
        clean()
    signal.signal(signal.SIGINT, before)
