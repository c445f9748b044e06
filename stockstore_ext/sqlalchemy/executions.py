"""What is executed on an engine.

An engine that has any listener pays for it in every statement, also in those that only read, and more than for the listener itself. So the
class of the dialect's execution contexts, which every statement goes through, is replaced by one that tells of what may write.
"""

from typing import Any, Final, Protocol

from sqlalchemy.engine import Dialect, ExecutionContext
from sqlalchemy.engine.default import DefaultExecutionContext

from stockstore.locks import fork_safe_lock
from stockstore_ext.sqlalchemy.collect import may_write

_lock: Final = fork_safe_lock()
_SLOT: Final = "_stockstore_hearing"
"""The attribute of a dialect; a dictionary of all would keep them, as listeners know the engines they listen to."""


class Listener(Protocol):
    """What a hook does about statements."""

    def before(self, context: ExecutionContext) -> None:
        """Do what comes before a statement that may write; what this raises refuses it."""

    def after(self, context: ExecutionContext) -> None:
        """Do what follows it where it has not failed."""


class _Hearing:
    """The listeners of one dialect, and the class that tells them."""

    def __init__(self, dialect: Dialect) -> None:
        self.listeners: tuple[Listener, ...] = ()
        self.context_class = _telling(dialect.execution_ctx_cls, self)
        dialect.execution_ctx_cls = self.context_class

    def end(self, dialect: Dialect) -> None:
        """Give the dialect its own class back, unless somebody else has replaced it since."""
        if dialect.__dict__.get("execution_ctx_cls") is self.context_class:
            del dialect.execution_ctx_cls


def _telling(original: Any, hearing: _Hearing) -> Any:
    prepare = original.pre_exec
    does_nothing = prepare is DefaultExecutionContext.pre_exec

    class Telling(original):  # type: ignore[misc]
        def pre_exec(self) -> None:
            if may_write(self):
                # What only reads has no more to do afterwards than without anybody who listens.
                self.__class__ = Writing
                for listener in hearing.listeners:
                    listener.before(self)
            if not does_nothing:
                prepare(self)

    class Writing(Telling):
        def post_exec(self) -> None:
            super().post_exec()
            for listener in hearing.listeners:
                listener.after(self)

    for made in (Telling, Writing):
        made.__name__, made.__qualname__, made.__module__ = original.__name__, original.__qualname__, original.__module__
    return Telling


def hear(dialect: Dialect, listener: Listener) -> None:
    """Begin to tell of a dialect's statements."""
    with _lock:
        hearing: _Hearing | None = getattr(dialect, _SLOT, None)
        if hearing is None:
            hearing = _Hearing(dialect)
            setattr(dialect, _SLOT, hearing)
        hearing.listeners += (listener,)


def leave(dialect: Dialect, listener: Listener) -> None:
    """End it, if nobody else has begun it."""
    with _lock:
        hearing: _Hearing | None = getattr(dialect, _SLOT, None)
        if hearing is None:
            return
        hearing.listeners = tuple([other for other in hearing.listeners if other is not listener])
        if not hearing.listeners:
            delattr(dialect, _SLOT)
            hearing.end(dialect)
