"""The sessions that the store of a database has of its own."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import SingletonThreadPool, StaticPool

from stockstore.aio.bridge import TaskLock, in_greenlet, in_own_task
from stockstore.errors import ConfigurationError, OriginError, StockstoreError
from stockstore.locks import fork_safe_lock
from stockstore.mapped import TURNED
from stockstore.mapped.shown import first_line
from stockstore.stores.outcome import UnconfirmedError

R = TypeVar("R")
ORIGIN_MARK = "stockstore.origin"
_MOST_TURNED = 100
"""Connections that are left for others at once: a listener of the engine may turn every one."""


class OwnSessions:
    """Short sessions on an engine, their errors told with the name of who has them."""

    _engine: Engine
    _alone: AbstractContextManager[object]

    @property
    def _awaited(self) -> bool:
        return self._engine.dialect.is_async

    def _turn(self) -> AbstractContextManager[object]:
        """Give what a thread or task waits for where all share one connection."""
        if not isinstance(self._engine.pool, StaticPool):
            return nullcontext()
        return TaskLock() if self._awaited else fork_safe_lock()

    def _again(self, read: Callable[[], R]) -> R:
        """Repeat a read whose connection broke, as by a restart of the database; SQLAlchemy has dropped the others of the pool."""
        whole = isinstance(self._engine.pool, StaticPool)
        try:
            return self._unit(read, whole=whole)
        except OriginError as error:
            if not getattr(error.__cause__, "connection_invalidated", False):
                raise
        return self._unit(read, whole=whole)

    @contextmanager
    def _session(self) -> Iterator[Session]:
        with self._alone, self._own_session() as session:
            yield session

    def _unit(self, work: Callable[[], R], *, whole: bool = True) -> R:
        """Do what one session does; under asyncio no cancellation interrupts it in the middle."""
        self._refuse_blocking()
        return in_own_task(work, whole=whole) if self._awaited else work()

    def _refuse_blocking(self) -> None:
        if self._awaited and not in_greenlet():
            raise ConfigurationError(f"{self!r} has an async engine, and was called by blocking code; await AsyncStore(store) instead")

    @contextmanager
    def _own_session(self) -> Iterator[Session]:
        with self._mapped_errors():
            if isinstance(self._engine.pool, StaticPool):
                # Before it is checked out: giving it back would roll back what the other session has written.
                self._refuse_shared(self._engine.pool.connection.driver_connection)
        with self._mapped_errors(Exception):  # drivers raise what they like where they do not know an option of the URL
            connection = self._connect()
        try:
            self._refuse_shared(connection.connection.driver_connection)
            session = Session(connection, expire_on_commit=False, autoflush=False, info={ORIGIN_MARK: True})
            try:
                yield session
            except BaseException:
                with suppress(SQLAlchemyError):
                    session.close()
                raise
            with self._mapped_errors():
                session.close()
        finally:
            connection.close()

    def _connect(self) -> Connection:
        """Take a connection of the pool, or a new one, that no session has left with other tables than the mapped ones."""
        for _ in range(_MOST_TURNED):
            connection = self._engine.connect()
            if TURNED not in connection.info:
                return connection
            only = isinstance(self._engine.pool, (StaticPool, SingletonThreadPool))
            if not only:
                connection.invalidate()
            # Another one is opened by the engine, whose listeners may have begun a transaction on this one.
            connection.close()
            if only:
                raise OriginError(
                    f"on the only connection of {self!r} a session has made a temporary table of a mapped one's name, or had names mean "
                    "other tables; use a database in a file"
                )
        raise OriginError(
            f"on {_MOST_TURNED} connections of {self!r} somebody has made temporary tables of mapped ones' names, or had names mean other "
            "tables; give it an engine of its own"
        )

    def _refuse_shared(self, connection: object) -> None:
        """An in-memory database has one connection: what another session has not committed must not be seen, nor ended here."""
        if getattr(connection, "in_transaction", False) is True:
            raise OriginError(
                f"the only connection of {self!r} has an open transaction of another session; commit it first, or use a database in a file"
            )

    @contextmanager
    def _mapped_errors(self, *others: type[Exception]) -> Iterator[None]:
        refused: tuple[type[Exception], ...] = (SQLAlchemyError, OverflowError, UnicodeError, *others)
        try:
            yield
        except UnconfirmedError as error:
            raise UnconfirmedError(f"{self!r}: {error}") from error.__cause__
        except StockstoreError:
            raise
        except refused as error:
            raise OriginError(f"{self!r} refused: {first_line(error)}") from error
