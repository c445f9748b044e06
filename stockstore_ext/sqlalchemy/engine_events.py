"""What a hook hears of the engines that its sessions use."""

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExecutionContext
from sqlalchemy.exc import InvalidRequestError

from stockstore.coherence.protocol import Outcome
from stockstore.locks import fork_safe_lock
from stockstore.mapped.hydrate import is_flushing
from stockstore_ext.sqlalchemy.frames import Frame, frame_on
from stockstore_ext.sqlalchemy.outcomes import finish_all, unwatch, watch

if TYPE_CHECKING:
    from stockstore_ext.sqlalchemy.recording import Recording

_INTERNAL: Final = "stockstore_internal"


class EngineEvents:
    """The listeners of one hook on all engines that it has met."""

    def __init__(self, recording: "Recording") -> None:
        """Listen to none yet."""
        self._recording = recording
        self._known: WeakKeyDictionary[Engine, None] = WeakKeyDictionary()
        self._lock = fork_safe_lock()
        self._listeners: dict[str, Callable[..., None]] = {
            "commit": self._before_commit,
            "prepare_twophase": self._before_commit,
            "commit_twophase": self._before_commit,
            "before_cursor_execute": self._before_statement,
            "after_cursor_execute": self._after_statement,
        }

    def engines(self) -> list[Engine]:
        """Give the engines known."""
        return list(self._known)

    def hear(self, engine: Engine) -> None:
        """Listen to an engine, if that is not done yet."""
        if engine not in self._known:
            with self._lock:
                if engine not in self._known:
                    self._listen(engine)

    def _listen(self, engine: Engine) -> None:
        for name, listener in self._listeners.items():
            event.listen(engine, name, listener)
        watch(engine.dialect)
        self._known[engine] = None

    def leave(self) -> None:
        """Listen no more; what somebody else has removed is left alone."""
        with self._lock:
            for engine in self.engines():
                for name, listener in self._listeners.items():
                    with suppress(InvalidRequestError):
                        event.remove(engine, name, listener)
                unwatch(engine.dialect)
                del self._known[engine]

    # -- listeners -------------------------------------------------------------------------------

    def _before_commit(self, connection: Connection, *_rest: object) -> None:
        frame = frame_on(connection.info, self._recording)
        if frame is not None:
            frame.prepare(connection)

    def _before_statement(
        self, connection: Connection, _cursor: object, sql: str, _parameters: object, context: ExecutionContext | None, _many: bool
    ) -> None:
        frame = frame_on(connection.info, self._recording)
        if frame is None or not frame.sessions or frame.quiet or frame.is_prepared:
            return
        if context is not None and context.execution_options.get(_INTERNAL):
            return
        if frame.statement:
            _finish_statement(frame)
        self._recording.statement(connection, frame, sql, context)

    def _after_statement(self, connection: Connection, *_rest: Any) -> None:
        frame = frame_on(connection.info, self._recording)
        if frame is not None and frame.statement and not frame.quiet:
            _finish_statement(frame)


def _finish_statement(frame: Frame) -> None:
    """Finish a statement that has committed by itself; had it failed, that would do no harm."""
    finishing, frame.statement = frame.statement, []
    if not any(is_flushing(session) for session in frame.sessions):
        finishing += frame.commit()
    finish_all(finishing, Outcome.COMMITTED)


def base_engine(connection: Connection) -> Engine:
    """Give the engine that all engines with other options have come from: listeners on it hear them all."""
    engine: Any = connection.engine
    while (proxied := getattr(engine, "_proxied", None)) is not None:
        engine = proxied
    found: Engine = engine
    return found
