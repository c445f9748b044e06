"""How COMMITs end.

The engine has an event before COMMIT and none after it; a session has one after it, but also for savepoints and for transactions that
a caller is yet to commit, and none where a second database fails. So the dialect's verbs, which are its public interface and by which the
pool resets connections too, are wrapped per engine.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.engine import Dialect
from sqlalchemy.pool import PoolProxiedConnection

from stockstore.aio.bridge import uncancelled
from stockstore.coherence.protocol import Outcome
from stockstore.evidence.along import Along
from stockstore.locks import fork_safe_lock
from stockstore_ext.sqlalchemy.drivers import has_transaction, is_over
from stockstore_ext.sqlalchemy.frames import Finish, Frame, end_untouched, frames_ending, frames_on
from stockstore_ext.sqlalchemy.refusals import raise_as_commits

_VERBS: Final = (
    "do_commit",
    "do_rollback",
    "do_prepare_twophase",
    "do_commit_twophase",
    "do_rollback_twophase",
    "do_savepoint",
    "do_release_savepoint",
    "do_rollback_to_savepoint",
)
_log: Final = logging.getLogger(__name__)
_lock: Final = fork_safe_lock()
_SLOT: Final = "_stockstore_outcomes"
"""The attribute of a dialect; a dictionary of all would keep them, as what is in it knows its dialect."""


class Outcomes:
    """Wraps the verbs of one dialect, for all hooks, and tells frames how transactions have ended."""

    def __init__(self, dialect: Dialect) -> None:
        """Wrap; what a verb did before is done by it still."""
        self._original: dict[str, Callable[..., Any]] = {verb: getattr(dialect, verb) for verb in _VERBS}
        self._wrapped: dict[str, Callable[..., Any]] = {verb: getattr(self, verb) for verb in _VERBS}
        self._is_disconnect = dialect.is_disconnect
        self._error: type[BaseException] = getattr(dialect.loaded_dbapi, "Error", Exception)
        self._lite = dialect.name == "sqlite"
        self.users = 0
        for verb, wrapped in self._wrapped.items():
            setattr(dialect, verb, wrapped)

    def unwrap(self, dialect: Dialect) -> None:
        """Give the dialect its verbs back; one that somebody else has wrapped since stays, and does nothing more of its own."""
        for verb, wrapped in self._wrapped.items():
            if dialect.__dict__.get(verb) is wrapped:
                delattr(dialect, verb)

    # -- the root --------------------------------------------------------------------------------

    def do_commit(self, connection: PoolProxiedConnection) -> None:
        """COMMIT, and tell before and after."""
        if end_untouched(connection.info):  # as after most transactions, which only read
            self._original["do_commit"](connection)
            return
        with Along(connection, self._original["do_commit"]) as along:
            for frame in frames_on(connection.info):
                frame.prepare_on(connection)
        pending = [finish for frame in frames_ending(connection.info) for finish in frame.commit()]
        if not pending:
            along.commit()
            return
        try:
            along.commit()
        except BaseException as error:
            refused = self._is_refusal(error, connection)
            finish_all(pending, self._rolled_back(connection) if refused else Outcome.UNKNOWN)
            raise
        finish_all(pending, Outcome.COMMITTED)

    def _rolled_back(self, connection: PoolProxiedConnection) -> Outcome:
        """Make sure that what was refused is over: SQLite keeps the transaction open, and SQLAlchemy takes it for ended."""
        try:
            self._original["do_rollback"](connection)
        except self._error:
            return Outcome.UNKNOWN
        return Outcome.ROLLED_BACK

    def do_rollback(self, connection: PoolProxiedConnection) -> None:
        """ROLLBACK, and tell."""
        if end_untouched(connection.info):  # as where the pool resets a connection
            self._original["do_rollback"](connection)
            return
        frames = frames_ending(connection.info)
        # Somebody has ended the transaction past SQLAlchemy, by the driver's own commit for instance.
        lost = any(frame.written for frame in frames) and is_over(connection)
        pending = [finish for frame in frames for finish in (frame.commit() if lost else frame.end())]
        self._end("do_rollback", pending, Outcome.UNKNOWN if lost else Outcome.ROLLED_BACK, connection)

    def do_prepare_twophase(self, connection: Connection, xid: Any) -> None:
        """PREPARE, by statements that are none of the application's."""
        with _silenced(connection):
            self._original["do_prepare_twophase"](connection, xid)

    def do_commit_twophase(self, connection: Connection, xid: Any, is_prepared: bool = True, recover: bool = False) -> None:
        """COMMIT PREPARED, and tell."""
        self._end_twophase("do_commit_twophase", Outcome.COMMITTED, connection, xid, is_prepared, recover)

    def do_rollback_twophase(self, connection: Connection, xid: Any, is_prepared: bool = True, recover: bool = False) -> None:
        """ROLLBACK PREPARED, and tell."""
        self._end_twophase("do_rollback_twophase", Outcome.ROLLED_BACK, connection, xid, is_prepared, recover)

    def _end_twophase(self, verb: str, outcome: Outcome, connection: Connection, *arguments: Any) -> None:
        frames = frames_ending(connection.info)
        committing = outcome is Outcome.COMMITTED
        pending = [finish for frame in frames for finish in (frame.commit() if committing else frame.end())]
        with _silenced(connection):
            self._end(verb, pending, outcome, connection, *arguments)

    def _end(self, verb: str, pending: list[Finish], outcome: Outcome, *arguments: Any) -> None:
        try:
            self._original[verb](*arguments)
        except BaseException:
            finish_all(pending, Outcome.UNKNOWN)
            raise
        finish_all(pending, outcome)

    def _is_refusal(self, error: BaseException, connection: PoolProxiedConnection) -> bool:
        return isinstance(error, self._error) and not self._is_disconnect(error, connection, None)  # type: ignore[arg-type]

    # -- savepoints ------------------------------------------------------------------------------

    def do_savepoint(self, connection: Connection, name: str) -> None:
        """SAVEPOINT."""
        frames = frames_on(connection.info)
        outermost = bool(frames) and self._lite and not has_transaction(connection)
        self._original["do_savepoint"](connection, name)
        for frame in frames:
            frame.push(name, outermost=outermost)

    def do_rollback_to_savepoint(self, connection: Connection, name: str) -> None:
        """ROLLBACK TO SAVEPOINT."""
        self._original["do_rollback_to_savepoint"](connection, name)
        for frame in frames_on(connection.info):
            frame.roll_back(name)

    def do_release_savepoint(self, connection: Connection, name: str) -> None:
        """RELEASE SAVEPOINT; of an outermost one that stands in no transaction, it is a commit on SQLite."""
        frames = frames_on(connection.info)
        committing = [frame for frame in frames if frame.may_commit(name)] if self._lite else []
        for frame in committing:
            raise_as_commits(connection, frame.prepare)
        try:
            self._original["do_release_savepoint"](connection, name)
        except BaseException:
            finish_all([finish for frame in committing for finish in frame.prepared()], Outcome.UNKNOWN)
            raise
        self._released(connection, name, frames, committing)

    def _released(self, connection: Connection, name: str, frames: list[Frame], committing: list[Frame]) -> None:
        committed = bool(committing) and not has_transaction(connection)
        for frame in committing:
            finish_all(frame.end() if committed else frame.prepared(), Outcome.COMMITTED if committed else Outcome.ROLLED_BACK)
        for frame in frames:
            frame.release(name)


@contextmanager
def _silenced(connection: Connection) -> Iterator[None]:
    with ExitStack() as stack:
        for frame in frames_on(connection.info):
            stack.enter_context(frame.silence())
        yield


def finish_all(pending: Iterable[Finish], outcome: Outcome) -> None:
    """Do what follows the end of a transaction; raises what interrupts the thread or the task alone, after the last."""
    steps = list(pending)
    if not steps:
        return
    if len(steps) == 1:
        with uncancelled():
            _finish(steps[0], outcome)
        return
    with uncancelled(), ExitStack() as stack:
        for step in reversed(steps):
            stack.callback(_finish, step, outcome)


def _finish(step: Finish, outcome: Outcome) -> None:
    try:
        step(outcome)
    except Exception:  # noqa: BLE001 - the transaction has ended, and the next one waits for the same
        _log.exception("what follows a transaction that has %s failed; its caches may be invalidated late", outcome.value)


def watch(dialect: Dialect) -> None:
    """Begin to tell how transactions of a dialect's connections end."""
    with _lock:
        outcomes: Outcomes | None = getattr(dialect, _SLOT, None)
        if outcomes is None:
            outcomes = Outcomes(dialect)
            setattr(dialect, _SLOT, outcomes)
        outcomes.users += 1


def unwatch(dialect: Dialect) -> None:
    """End it, if nobody else has begun it."""
    with _lock:
        outcomes: Outcomes | None = getattr(dialect, _SLOT, None)
        if outcomes is None:
            return
        outcomes.users -= 1
        if not outcomes.users:
            delattr(dialect, _SLOT)
            outcomes.unwrap(dialect)
