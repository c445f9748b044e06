"""The janitor: takes from the caches what the rows of the outbox name, and then the rows."""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import TIMEOUT_MAX, Event
from typing import Final, NamedTuple

from sqlalchemy import Connection, Engine, delete, select
from sqlalchemy.exc import SQLAlchemyError

from stockstore.backends.base import Backend
from stockstore.backends.coherent import CoherentBackend
from stockstore.channels.postgresql_telling import notify
from stockstore.errors import CacheUnreachable, ConfigurationError, OriginError
from stockstore.evidence import Lag, Outbox
from stockstore.evidence.aside import INTERNAL, is_private
from stockstore.instrumentation import emit, listening
from stockstore.mapped.shown import hidden
from stockstore.stores.backed import BackendStore
from stockstore.stores.base import Store
from stockstore.stores.chained import ChainedStore
from stockstore.stores.tiers import shards_of

_KEY_LIMIT: Final = 250
_KEYS_AT_ONCE: Final = 1000
_ASIDE: Final = 1000
_LONGEST_WAIT: Final = 30.0
_TELL_EVERY: Final = 1.0
_log: Final = logging.getLogger(__name__)


class _Taken(NamedTuple):
    """A row of the outbox."""

    id: int
    ticket: str | None
    texts: str

    def legal_keys(self) -> list[str]:
        """Give the texts that can be keys; no cache has anything under another one."""
        return [text for text in self.texts.split("\n") if _is_key(text)]


class _Refused(Exception):  # noqa: N818 - it never leaves this module
    """A cache did not accept rows; the cause tells why."""

    def __init__(self, rows: Sequence[_Taken]) -> None:
        super().__init__()
        self.rows = rows


class Janitor:
    """Drains an outbox into caches: at least once, in any number of copies, whatever is killed.

    A row goes only after every cache has accepted it. While one cannot be reached the rows stay, and are tried again after a
    time that grows to half a minute. A row that is refused for itself is set aside for as long, and holds up no other.

    Args:
        engine: The database of the outbox.
        stores: The shared caches, or chains of which the shared caches are meant.
        outbox: The outbox; the table ``stockstore_outbox`` by default.
        batch: How many rows are taken at once.
        every: The seconds from one look for rows to the next.

    Raises:
        ConfigurationError: There is no shared cache, or the database is in this process's memory, or engine or stores are for asyncio.
    """

    def __init__(
        self, engine: Engine, stores: Iterable[Store], *, outbox: Outbox | None = None, batch: int = 100, every: float = 0.5
    ) -> None:
        """Keep the settings; no I/O."""
        _refuse_awaited(engine, stores := list(stores))
        if is_private(engine):
            raise ConfigurationError("a janitor needs a connection of its own, and a database in memory has one only; use a file")
        if batch < 1:
            raise ConfigurationError(f"batch is a number of rows from 1 on, not {batch!r}")
        if not 0 < every <= TIMEOUT_MAX:
            raise ConfigurationError(f"every is a number of seconds above 0, for which a thread can wait, not {every!r}")
        # Rows of transactions that are still open must neither be seen nor waited for.
        self._engine = engine if engine.dialect.name == "sqlite" else engine.execution_options(isolation_level="READ COMMITTED")
        self._outbox = outbox or Outbox()
        self._backends = _backends_of(stores)
        self._batch = self._limit = batch
        self._every = every
        self._aside: dict[int, float] = {}
        self._tell_at = 0.0

    def run(self, stop: Event) -> None:
        """Drain until the event is set. Whatever a server does is logged, and does not end it."""
        failures = 0
        while not stop.is_set():
            if listening and time.monotonic() >= self._tell_at:
                self._tell_lag()
            try:
                busy = self._step() is not None
            except Exception as error:  # noqa: BLE001 - it has to outlive whatever fails
                if not failures:
                    _log.warning("the outbox is not drained now, and its rows stay: %s", error)
                stop.wait(min(_LONGEST_WAIT, self._every * 2 ** min(failures, 10)))
                failures += 1
                continue
            if failures:
                _log.info("the outbox is drained again")
            failures = 0
            if not busy:
                stop.wait(self._every)

    def run_once(self) -> int:
        """Drain what is there now, and give the number of rows.

        Raises:
            CacheUnreachable: A cache did not accept rows, which stay.
            OriginError: The database did not answer, or has no outbox.
        """
        drained = 0
        try:
            while (step := self._step()) is not None:
                drained += step
        finally:
            self._tell_lag()
        if self._aside:
            raise CacheUnreachable(
                f"{drained} rows of the outbox were drained, and {len(self._aside)} were refused by a cache; see the log"
            )
        return drained

    def check(self) -> None:
        """Ask the database and every cache whether they are there.

        Raises:
            OriginError: The database did not answer, or has no outbox.
            CacheUnreachable: A cache did not answer.
        """
        self.lag()
        self._ask_caches()

    def lag(self) -> Lag:
        """Tell how many rows wait, and the age of the oldest."""
        with self._connection() as connection:
            return self._outbox.lag(connection)

    def _tell_lag(self) -> None:
        if not listening:
            return
        self._tell_at = time.monotonic() + _TELL_EVERY
        try:
            rows, seconds = self.lag()
        except Exception as error:  # noqa: BLE001 - it is no part of the work
            _log.debug("the outbox did not tell its lag: %s", error)
        else:
            emit("outbox lag", hidden(self._engine.url), count=rows, seconds=seconds)

    def _step(self) -> int | None:
        """Drain some rows, or find out which one is at fault; give how many were drained, ``None`` where none are left."""
        try:
            drained = self._drain()
        except _Refused as refused:
            cause = refused.__cause__ or refused
            if len(self._aside) >= _ASIDE or not self._alive():
                raise cause from None
            # The first time a cache may have been out of reach, and be back by now.
            if len(refused.rows) == 1 == self._limit:
                self._set_aside(refused.rows[0], cause)
            self._limit = 1
            return 0
        self._limit = min(self._batch, 2 * self._limit)
        return drained or None

    def _drain(self) -> int:
        with self._connection() as connection, connection.begin():
            rows = self._take(connection)
            try:
                self._deliver(rows)
            except Exception as error:
                raise _Refused(rows) from error
            if rows:
                # Only now: a janitor that dies before leaves the rows to the next one.
                gone = delete(self._outbox.definition).where(self._outbox.definition.c.id.in_([row.id for row in rows]))
                connection.execute(gone, execution_options=INTERNAL)
                if connection.dialect.name == "postgresql":
                    # Memory that listens to the database drops what it has from the caches only when these are right.
                    notify(connection, [key for row in rows for key in row.legal_keys()])
        if listening:
            emit("drain", hidden(self._engine.url), count=len(rows))
        return len(rows)

    def _take(self, connection: Connection) -> list[_Taken]:
        now = time.monotonic()
        self._aside = {row: until for row, until in self._aside.items() if until > now}
        table = self._outbox.definition
        wanted = select(table.c.id, table.c.ticket, table.c.texts).where(self._outbox.waiting(), table.c.id.not_in(self._aside))
        # By id alone, past which nothing is remembered: a row of a lower id may be committed later.
        rows = connection.execute(
            wanted.order_by(table.c.id).limit(self._limit).with_for_update(skip_locked=True), execution_options=INTERNAL
        )
        return [_Taken(*row) for row in rows]

    def _deliver(self, rows: Sequence[_Taken]) -> None:
        keys = list(dict.fromkeys(key for row in rows for key in row.legal_keys()))
        for backend in self._backends:
            for at in range(0, len(keys), _KEYS_AT_ONCE):
                _invalidate(backend, keys[at : at + _KEYS_AT_ONCE])
            for row in rows:
                _release(backend, row)

    def _set_aside(self, row: _Taken, cause: BaseException) -> None:
        self._aside[row.id] = time.monotonic() + _LONGEST_WAIT
        _log.error("row %d of the outbox was refused by a cache, and is tried again in %.0f s: %s", row.id, _LONGEST_WAIT, cause)

    def _alive(self) -> bool:
        try:
            self._ask_caches()
        except Exception:  # noqa: BLE001 - the caller has a cause to report
            return False
        return True

    def _ask_caches(self) -> None:
        for backend in self._backends:
            backend.get_many(["stockstore:janitor:"])

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            told = str(getattr(error, "orig", error)).strip()
            raise OriginError(
                f"the outbox {self._outbox.definition.fullname} of {hidden(self._engine.url)!r} could not be used: {told}; "
                "check the database, and that the table was made by sync.create_outbox(engine)"
            ) from error


def _invalidate(backend: Backend, keys: Sequence[str]) -> None:
    if isinstance(backend, CoherentBackend):
        backend.invalidate_many(keys)
        return
    # Such a cache has no generations: what names a class is the beginning of its keys.
    backend.delete_many([key for key in keys if not key.endswith(":")])
    for key in keys:
        if key.endswith(":"):
            backend.clear(key)


def _release(backend: Backend, row: _Taken) -> None:
    if isinstance(backend, CoherentBackend) and row.ticket and row.ticket.isascii() and row.ticket.isprintable() and "|" not in row.ticket:
        keys = row.legal_keys()
        for at in range(0, len(keys), _KEYS_AT_ONCE):
            backend.release_many(keys[at : at + _KEYS_AT_ONCE], row.ticket.encode(), committed=False)


def _is_key(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text and text.count(":") > 1 and len(text) <= _KEY_LIMIT


def _refuse_awaited(engine: object, stores: Sequence[Store]) -> None:
    awaited = [engine] if isinstance(engine, Engine) and engine.dialect.is_async else [store for store in stores if store.io == "awaited"]
    if awaited or not isinstance(engine, Engine):
        raise ConfigurationError(
            f"a janitor blocks its thread, and {(awaited or [engine])[0]!r} is for asyncio; give it an Engine and stores of its own"
        )


def _backends_of(stores: Iterable[Store]) -> list[Backend]:
    # What a chain keeps last is its origin, of which nothing is to be removed.
    members = [tier for store in stores for tier in (store.tiers[:-1] if isinstance(store, ChainedStore) else [store])]
    tiers = [shard for tier in members for shard in shards_of(tier) or (tier,)]
    backends = [tier._backend for tier in tiers if isinstance(tier, BackendStore)]  # noqa: SLF001 - this is where they part
    if not backends:
        raise ConfigurationError(f"a janitor needs a shared cache, such as a RedisStore or MemcacheStore, and there is none in {tiers!r}")
    return backends
