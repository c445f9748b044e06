"""Connections beside the application's: no caller's transaction and no caller's pool is touched by them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from sqlalchemy import URL, Connection, Engine
from sqlalchemy.engine.interfaces import IsolationLevel
from sqlalchemy.pool import SingletonThreadPool, StaticPool

from stockstore.aio.bridge import in_greenlet, in_own_task, run_apart
from stockstore.errors import OriginError, StockstoreError
from stockstore.mapped.hydrate import level_on_connect
from stockstore.mapped.shown import first_line, shown

T = TypeVar("T")
INTERNAL: Final = {"stockstore_internal": True, "schema_translate_map": None}
"""Execution options of every statement that the protocol itself sends on an application's connection; its table is one, whoever's it is."""

UNHEARD: Final = {"skip_user_error_events": True}
"""SQLAlchemy's own option for its own questions: an error is none of the application's ``handle_error`` listeners' business."""


@contextmanager
def aside(engine: Engine, level: IsolationLevel = "AUTOCOMMIT") -> Iterator[Connection]:
    """Open one connection by the settings of an engine, and close it.

    In the application's own pool a reader that holds the last connection would wait for itself; a kept one would be shared
    with a forked process. It is needed seldom enough.
    """
    own = Engine(engine.pool.recreate(), engine.dialect, engine.url, hide_parameters=engine.hide_parameters)
    try:
        options = {**engine.get_execution_options(), **UNHEARD, "isolation_level": level}
        with own.execution_options(**options).connect() as connection:
            yield connection
    finally:
        own.dispose()


def asking(engine: Engine, work: Callable[[], T]) -> T:
    """Do work that opens connections beside an engine's: an async engine's need an event loop, which is made where there is none.

    Raises:
        OriginError: The database could not be asked, or refused.
    """
    try:
        return _asking(engine, work)
    except StockstoreError:
        raise
    except Exception as error:  # an asyncio driver's own too, where it cannot connect
        raise OriginError(
            f"{shown(engine.url)} could not be asked: {first_line(error)}; check that it is up, and takes connections"
        ) from error


def _asking(engine: Engine, work: Callable[[], T]) -> T:
    if not engine.dialect.is_async:
        return work()
    return in_own_task(work, whole=True) if in_greenlet() else run_apart(work)


def is_private(engine: Engine) -> bool:
    """Whether the database is this process's own memory, where there is one connection and nobody else."""
    # Such a pool alone says nothing: it may as well keep the one connection to a file or a server.
    return isinstance(engine.pool, StaticPool | SingletonThreadPool) and engine.dialect.name == "sqlite" and _is_in_memory(engine.url)


def _is_in_memory(url: URL) -> bool:
    database = url.database or ":memory:"
    return ":memory:" in database or "mode=memory" in database or url.query.get("mode") == "memory"


def commits_each_statement(engine: Engine) -> bool:
    """Whether an engine was made for AUTOCOMMIT, so that a write that fails may be done in part."""
    level = engine.get_execution_options().get("isolation_level") or level_on_connect(engine.dialect)
    return level == "AUTOCOMMIT"
