"""Writes by the chain's own verbs, to rows that nothing else writes.

A put takes the version that it is given, so one process at a time writes a row: it holds a lock of the database, which goes when it dies.
"""

import random
import time
from collections.abc import Sequence
from typing import Any, Final, Protocol

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    Table,
    create_engine,
    func,
    insert,
    select,
    update,
)

from tests.race.job import Job
from tests.race.log import Change, Log
from tests.race.models import SHELVES, slug_of

PUTS: Final = Table(
    "stockstore_race_puts",
    MetaData(),
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False),
    # A put that died may commit yet: an insert waits for it, a delete would pass it by.
    Column("is_known", Boolean, nullable=False),
)
_LOCK: Final = 471_100


def make_puts(engine: Engine, numbers: Sequence[int]) -> None:
    """Make the table, anew, for some rows."""
    PUTS.drop(engine, checkfirst=True)
    PUTS.create(engine)
    if numbers:
        with engine.begin() as connection:
            connection.execute(insert(PUTS), [{"id": number, "version": 1, "is_known": True} for number in numbers])


class Chain(Protocol):
    """What can be put to."""

    item: Any

    def put(self, row: Any) -> None:
        """Put an object."""

    def delete(self, number: int) -> None:
        """Delete by id."""


class Putter:
    """Puts and deletes."""

    def __init__(self, job: Job, chain: Chain, log: Log, chance: random.Random) -> None:
        """Connect at the first use."""
        self._job, self._chain, self._log, self._chance = job, chain, log, chance
        self._engine: Engine = create_engine(job.database, isolation_level="AUTOCOMMIT", pool_size=1)

    def step(self) -> None:
        """Write one row, if nobody else does."""
        number = self._chance.randrange(self._job.session_keys, self._job.keys)
        with self._engine.connect() as connection:
            if connection.scalar(select(func.pg_try_advisory_lock(_LOCK + number))):
                try:
                    self._write(connection, number)
                finally:
                    connection.execute(select(func.pg_advisory_unlock(_LOCK + number)))

    def _write(self, connection: Connection, number: int) -> None:
        is_known = connection.scalar(select(PUTS.c.is_known).where(PUTS.c.id == number))
        mine = update(PUTS).where(PUTS.c.id == number)
        version = connection.scalar(mine.values(version=PUTS.c.version + 1, is_known=False).returning(PUTS.c.version))
        gone = bool(is_known) and self._chance.random() < 0.2
        changes = [Change(number, version, gone), Change(self._job.keys + number, version, gone)]
        start = time.monotonic_ns()
        self._log.count("writes attempted")
        self._log.attempt(changes, start)
        if gone:
            self._chain.delete(number)
        else:
            row = {
                "id": number,
                "slug": slug_of(number),
                "version": version,
                "slug_version": version,
                "double": 2 * version,
                "shelf": number % SHELVES,
            }
            self._chain.put(self._chain.item(**row))
        self._log.acknowledged(changes, start, time.monotonic_ns())
        connection.execute(mine.values(is_known=True))
