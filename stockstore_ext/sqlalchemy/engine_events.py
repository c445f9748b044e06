"""What a hook hears of the engines that its sessions use."""

from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet, ref

from sqlalchemy import Connection, Engine, TwoPhaseTransaction, event
from sqlalchemy.engine import ExecutionContext

from stockstore.coherence.protocol import Outcome
from stockstore.locks import fork_safe_lock
from stockstore.mapped.hydrate import is_flushing
from stockstore_ext.sqlalchemy import executions
from stockstore_ext.sqlalchemy.collect.told import TOLD
from stockstore_ext.sqlalchemy.drivers import is_over
from stockstore_ext.sqlalchemy.frames import Frame, frame_on, frames_on
from stockstore_ext.sqlalchemy.outcomes import finish_all, unwatch, watch
from stockstore_ext.sqlalchemy.refusals import raise_as_commits
from stockstore_ext.sqlalchemy.turns import heed

if TYPE_CHECKING:
    from stockstore_ext.sqlalchemy.recording import Recording

_INTERNAL: Final = "stockstore_internal"


class EngineEvents:
    """The listeners of one hook on all engines that it has met."""

    def __init__(self, recording: "Recording") -> None:
        """Listen to none yet."""
        self._recording = recording
        # As a WeakSet, which takes longer, and each transaction asks.
        self._known: set[ref[Engine]] = set()
        self._asked: WeakSet[Engine] = WeakSet()
        self._lock = fork_safe_lock()

    def engines(self) -> list[Engine]:
        """Give the engines known."""
        return [engine for known in tuple(self._known) if (engine := known()) is not None]

    def hear(self, connection: Connection) -> bool:
        """Listen to the engine of a connection, if that is not done yet; whether it is one: a test of the application's may have others."""
        return ref(connection.engine) in self._known or self._hear_first(connection)

    def _hear_first(self, connection: Connection) -> bool:
        given: object = connection.engine
        if not isinstance(given, Engine):
            return False
        engine = base_engine(connection)
        with self._lock:
            if ref(engine) not in self._known:
                self._listen(engine)
        return True

    def _listen(self, engine: Engine) -> None:
        executions.hear(engine.dialect, self)
        watch(engine.dialect)
        self._known.add(ref(engine, self._known.discard))

    def leave(self) -> None:
        """Listen no more."""
        with self._lock:
            for engine in self.engines():
                executions.leave(engine.dialect, self)
                unwatch(engine.dialect)
                self._known.discard(ref(engine))

    # -- statements ------------------------------------------------------------------------------

    def before(self, context: ExecutionContext) -> None:
        """Note what a statement writes, and have the COMMIT after it prepared."""
        connection = context.root_connection
        frame = frame_on(connection.info, self._recording)
        if frame is None or not (frame.joined or frame.users):
            heed(connection, context.statement or "")
            return
        if frame.quiet or frame.is_prepared:
            return
        if context.execution_options.get(_INTERNAL):
            return
        if frame.statement:
            _finish_statement(frame, connection)
        if not frame.written:
            self._ask(base_engine(connection))
        self._recording.statement(connection, frame, context.statement or "", context)
        # What a flush notes afterwards stands for what its statements have noted; what was told is noted when it has been executed.
        if frame.noted or context.execution_options.get(TOLD):
            _hear_commits(connection, frame)

    def _ask(self, engine: Engine) -> None:
        """Ask a database what it offers before the first write, whose lock the question would have to wait for on SQLite."""
        if engine not in self._asked:
            self._asked.add(engine)
            self._recording.learn(engine)

    def after(self, context: ExecutionContext) -> None:
        """Finish what has committed by itself."""
        connection = context.root_connection
        frame = frame_on(connection.info, self._recording)
        if frame is not None and (frame.statement or frame.doubtful) and not frame.quiet:
            _finish_statement(frame, connection)


def _hear_commits(connection: Connection, frame: Frame) -> None:
    """Have the COMMIT of a connection prepared: in the dialect's verb, but where it has two phases, of which an event tells."""
    twophase = isinstance(connection.get_transaction(), TwoPhaseTransaction)
    heard = ref(connection), twophase
    if frame.heard != heard:
        frame.heard = heard
        for name in ("prepare_twophase", "commit_twophase") if twophase else ():
            event.listen(connection, name, _before_commit)


def _before_commit(connection: Connection, *_rest: object) -> None:
    for frame in frames_on(connection.info):
        raise_as_commits(connection, frame.prepare)


def _finish_statement(frame: Frame, connection: Connection) -> None:
    """Finish a statement that has committed by itself; had it failed, that would do no harm."""
    finishing, frame.statement = frame.statement, []
    doubtful, frame.doubtful = frame.doubtful, False
    if doubtful and not is_over(connection.connection):
        frame.autocommitted = False
    elif not any(is_flushing(session) for session in frame.sessions):
        finishing += frame.commit()
    finish_all(finishing, Outcome.COMMITTED)


def base_engine(connection: Connection) -> Engine:
    """Give the engine that all engines with other options have come from: listeners on it hear them all."""
    engine: Any = connection.engine
    while (proxied := getattr(engine, "_proxied", None)) is not None:
        engine = proxied
    found: Engine = engine
    return found
