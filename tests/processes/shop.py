"""A row in a database, and a chain with process memory above it, as every process of these tests opens it."""

import gc
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import NamedTuple

from redis import Redis
from sqlalchemy import create_engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.pool import NullPool

from stockstore import ChainedStore, ProcessMemoryStore, RedisStore, SqlAlchemyStore
from tests.patience import be_patient

be_patient()

PATIENCE = 30.0
"""Seconds within which another process's write is heard; less than ``STALENESS``, after which it would be seen in any case."""
STALENESS = 60.0
THREAD = "stockstore channel"


class Base(DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "process_rows"
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int]


class Shop(NamedTuple):
    """Where everything is.

    Attributes:
        redis: The URL of a Redis between memory and database; empty where PostgreSQL carries the channel.
        database: The URL of a PostgreSQL.
        namespace: Nobody else's.
    """

    redis: str
    database: str
    namespace: str

    def open(self) -> ChainedStore:
        """Open the chain; connects to nothing."""
        if not self.redis:
            memory = ProcessMemoryStore(namespace=self.namespace, max_staleness=STALENESS, channel=self.database)
            return ChainedStore([memory, SqlAlchemyStore(self.database)])
        memory = ProcessMemoryStore(namespace=self.namespace, max_staleness=STALENESS)
        return ChainedStore([memory, RedisStore(self.redis, namespace=self.namespace), SqlAlchemyStore(self.database)])

    def write_behind(self, key: int, value: int) -> None:
        """Write to the database without telling anybody, and take from Redis what it has: only memory has the old value then."""
        engine = create_engine(self.database, poolclass=NullPool)
        with engine.begin() as connection:
            assert connection.execute(text("UPDATE process_rows SET value = :value WHERE id = :id"), {"value": value, "id": key}).rowcount
        if self.redis:
            with closing(Redis.from_url(self.redis)) as client:
                for name in client.scan_iter(f"{self.namespace}:*"):
                    client.delete(name)


def value_of(store: ChainedStore, key: int = 1) -> int:
    """Read a row."""
    row = store.get(Row, key)
    assert row is not None
    return row.value


def eventually(true: Callable[[], bool], what: str) -> None:
    """Wait for what another process does, which tells nobody that it has done it."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.002)


def channel_threads() -> int:
    """Give the number of threads that listen, of stores that anybody has still."""
    gc.collect()
    return sum(thread.name == THREAD for thread in threading.enumerate())


def shop_from_command_line() -> tuple[Shop, list[str]]:
    """Give the shop that a script is for, and its other arguments."""
    return Shop(*sys.argv[1:4]), sys.argv[4:]
