"""What a writer tells by NOTIFY, in its own transaction or after it."""

import logging
import os
import re
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, TwoPhaseTransaction, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import Pool

from stockstore.aio.bridge import in_greenlet
from stockstore.aio.threads import in_thread
from stockstore.channels.notices import TEXTS_LIMIT, class_of, payloads_of
from stockstore.evidence.along import goes_along
from stockstore.evidence.aside import INTERNAL
from stockstore.evidence.direct import receive, send
from stockstore.locks import fork_safe_lock
from stockstore.mapped.shown import shown

T = TypeVar("T")
CHANNEL: Final = "stockstore"
_TELL: Final = text("SELECT pg_notify(:channel, told) FROM unnest(string_to_array(:told, ' ')) AS told")
_IDENTITY: Final = text("SELECT current_database(), CAST(extract(epoch FROM pg_postmaster_start_time()) AS text)")
_AS_IT_IS: Final = {**INTERNAL, "no_parameters": True}
_is_literal: Final = re.compile(r"[\w:%*,/@.+~\n-]*", re.ASCII).fullmatch
"""What stands between quotes as it is, as keys and tickets do."""
RETRY_SECONDS: Final = 1.0
_log: Final = logging.getLogger(__name__)


class Telling:
    """Tells the listeners of one database.

    Args:
        engine: Opens connections to it that are nobody else's; blocking.
    """

    def __init__(self, engine: Engine) -> None:
        """Keep the engine; no I/O."""
        self._engine = engine
        self._pid = os.getpid()
        self._carried: WeakKeyDictionary[Pool, bool] = WeakKeyDictionary()
        self._owed: dict[str, None] = {}
        self._payer = 0
        """The process whose thread tells what is owed; 0 for none."""
        self._lock = fork_safe_lock()

    def within(self, connection: Connection, texts: Sequence[str], ticket: bytes) -> bool:
        """Tell as a part of a connection's transaction; ``False`` where that is of another database, or in two phases.

        PostgreSQL prepares no transaction that has told anybody anything. Where it cannot be found out which database it is, as when
        there are no more connections, it is told, and ``False`` all the same.
        """
        if isinstance(connection.get_transaction(), TwoPhaseTransaction):
            return False
        carried = self._carries(connection)
        if carried is not False:
            _tell(connection, payloads_of(texts, ticket))
        return bool(carried)

    def afterwards(self, texts: Sequence[str], ticket: bytes) -> None:
        """Tell in a transaction of its own; what fails is logged and tried again until it is done, as nobody's commit may fail for it."""
        payloads = payloads_of(texts, ticket)
        try:
            _aside(lambda: self._tell(payloads))
        except SQLAlchemyError as error:
            _log.warning(
                "processes that listen to %r were not told of a write, and are told later: %s",
                shown(self._engine.url),
                getattr(error, "orig", error),
            )
            self._owe(texts)

    # -- what could not be told --------------------------------------------------------------------

    def _owe(self, texts: Sequence[str]) -> None:
        with self._lock:
            # Without the ticket: by now the writer itself may have lost what it has kept.
            self._owed.update(dict.fromkeys(texts))
            starts = self._payer != os.getpid()
            self._payer = os.getpid()
        if starts:
            # Too late, where the interpreter is about to end.
            with suppress(RuntimeError):
                threading.Thread(target=_keep_telling, args=[weakref.ref(self)], name="stockstore telling", daemon=True).start()

    def pay(self) -> bool:
        """Tell what is owed, and say whether anything is left; the thread ends where nothing is."""
        with self._lock:
            owed, self._owed = self._owed, {}
        try:
            self._tell_alone(payloads_of([*owed], b""))
        except SQLAlchemyError:
            with self._lock:
                self._owed = {**owed, **self._owed}
        with self._lock:
            if len(self._owed) > TEXTS_LIMIT:
                self._owed = dict.fromkeys(map(class_of, self._owed))
            if not self._owed:
                self._payer = 0
            return bool(self._owed)

    def _tell(self, payloads: Sequence[str]) -> None:
        with self.connect() as connection, connection.begin():
            _tell(connection, payloads)

    def _tell_alone(self, payloads: Sequence[str]) -> None:
        with self.connect() as connection:
            # The pool may be closed meanwhile, and would never close what comes back to it later.
            connection.detach()
            with connection.begin():
                _tell(connection, payloads)

    def connect(self) -> Connection:
        """Open a connection; in a forked process none that was opened before the fork."""
        if self._pid != os.getpid():
            self._engine.dispose(close=False)
            self._pid = os.getpid()
        return self._engine.connect()

    def close(self) -> None:
        """Close what is open."""
        if self._pid == os.getpid():
            self._engine.dispose()

    # -- which database it is --------------------------------------------------------------------

    def _carries(self, connection: Connection) -> bool | None:
        """Whether what a connection tells is heard by those who listen here; ``None`` where nobody can say."""
        if connection.dialect.name != "postgresql":
            return False
        pool = connection.engine.pool
        known = self._carried.get(pool)
        if known is None:
            known = self._is_same(connection)
            if known is not None:
                self._carried[pool] = known
        return known

    def _is_same(self, connection: Connection) -> bool | None:
        try:
            expected = _aside(self._own_identity)
        except SQLAlchemyError:
            return None
        return _identity(connection) == expected

    def _own_identity(self) -> tuple[Any, ...]:
        with self.connect() as own:
            return _identity(own)


def _keep_telling(debtor: "weakref.ref[Telling]") -> None:
    owing = True
    while owing:
        time.sleep(RETRY_SECONDS)
        telling = debtor()
        owing = telling is not None and telling.pay()
        # Not held while it sleeps: a channel that nobody else has goes.
        del telling


def _aside(work: Callable[[], T]) -> T:
    """Do what blocks, in a thread where an event loop would stand still."""
    return in_thread(work, whole=True) if in_greenlet() else work()


def _identity(connection: Connection) -> tuple[Any, ...]:
    return tuple(connection.execute(_IDENTITY, execution_options=INTERNAL).one())


def notify(connection: Connection, texts: Sequence[str]) -> None:
    """Tell who listens to a connection's database of keys, as a part of the transaction."""
    if texts:
        _tell(connection, payloads_of(texts, b""))


def _tell(connection: Connection, payloads: Sequence[str]) -> None:
    if len(payloads) == 1 and _is_literal(payloads[0]):
        # Every commit waits for it, and by the one below for three times as long.
        _execute(connection, f"NOTIFY {CHANNEL}, '{payloads[0]}'")
    else:
        connection.execute(_TELL, {"channel": CHANNEL, "told": " ".join(payloads)}, execution_options=INTERNAL)


def _execute(connection: Connection, statement: str) -> None:
    if goes_along(connection, statement):
        return
    driver = send(connection, statement)
    if driver is None:
        connection.exec_driver_sql(statement, execution_options=_AS_IT_IS)
    else:
        receive(connection, driver, statement)
