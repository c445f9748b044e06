"""What a hook hears of sessions."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sqlalchemy import Connection, Result, Select, event
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import ORMExecuteState, Session, SessionTransaction, UOWTransaction

from stockstore.coherence.protocol import Outcome, Writes
from stockstore.stores.sql_sessions import ORIGIN_MARK
from stockstore_ext.sqlalchemy.collect import before_flush, flushed, orm_statement
from stockstore_ext.sqlalchemy.engine_events import EngineEvents
from stockstore_ext.sqlalchemy.outcomes import finish_all
from stockstore_ext.sqlalchemy.recording import Recording
from stockstore_ext.sqlalchemy.shards import Token, is_sharded


class SessionEvents:
    """The listeners of one hook on the sessions that it is attached to."""

    def __init__(self, recording: Recording, engines: EngineEvents) -> None:
        """Listen to none yet."""
        self._recording = recording
        self._engines = engines
        self._listeners: dict[str, Callable[..., Any]] = {
            "after_begin": self._after_begin,
            "after_transaction_end": self._after_transaction_end,
            "before_flush": self._before_flush,
            "after_flush": self._after_flush,
            "do_orm_execute": self._do_orm_execute,
        }

    def hear(self, target: Any) -> None:
        """Listen to a Session class, sessionmaker or scoped_session; first of all, but where rows are looked for that others may add to."""
        for name, listener in self._listeners.items():
            event.listen(target, name, listener, insert=name != "before_flush")

    def leave(self, target: Any) -> None:
        """Listen no more; what somebody else has removed is left alone."""
        for name, listener in self._listeners.items():
            with suppress(InvalidRequestError, ValueError):
                event.remove(target, name, listener)

    # -- listeners -------------------------------------------------------------------------------

    def _after_begin(self, session: Session, _transaction: SessionTransaction, connection: object) -> None:
        # A test of the application's may let something else stand for a connection.
        if isinstance(connection, Connection) and not is_origin(session) and self._engines.hear(connection):
            self._recording.begin(session, connection)

    def _after_transaction_end(self, session: Session, transaction: SessionTransaction) -> None:
        if transaction.parent is None:
            self._recording.end(session)
        elif not transaction.nested:
            self._recording.end_part(session)

    def _before_flush(self, session: Session, _context: UOWTransaction, _instances: object) -> None:
        if not is_origin(session) and not is_sharded(session):
            self._recording.end_part(session)
            before_flush(session, self._recording.writes_of(session), self._recording.collecting)

    def _after_flush(self, session: Session, context: UOWTransaction) -> None:
        if is_origin(session):
            return
        if is_sharded(session):
            self._spread(session, context)
        else:
            flushed(session, context, self._recording.writes_of(session), self._recording.collecting)
        self._end_autocommitted(session)

    def _do_orm_execute(self, execution: ORMExecuteState) -> Result[Any] | None:
        # Nearly all statements end here.
        if type(execution.statement) is Select or is_origin(execution.session) or is_sharded(execution.session):
            return None
        return orm_statement(execution, self._recording.collecting)

    # -- where a flush goes ----------------------------------------------------------------------

    def _spread(self, session: Session, context: UOWTransaction) -> None:
        """Note a flush's rows on the connection of their shard; on one of a database that was not named all rows, as it may have any."""
        for frame in self._recording.frames_of(session):
            writes = self._flushed_on(session, context, frame.shard)
            for scope in frame.scopes if writes or writes.inserted else ():
                noted = frame.writes(scope)
                # Its statements have told of classes; the rows are known now.
                noted.drop_tentative()
                noted.update(writes)

    def _flushed_on(self, session: Session, context: UOWTransaction, shard: Token | None) -> Writes:
        writes = Writes()
        only = None if shard is None else lambda state: state.identity_token == shard
        flushed(session, context, lambda _mapper: writes, self._recording.collecting, only=only)
        return writes

    def _end_autocommitted(self, session: Session) -> None:
        for frame in self._recording.frames_of(session):
            if frame.autocommitted:
                finish_all(frame.commit(), Outcome.COMMITTED)


def is_origin(session: Session) -> bool:
    """Whether it is a store's own, which writes through by itself."""
    # Its info is made when somebody first asks for it, which takes longer.
    return ORIGIN_MARK in vars(session).get("info", ())
