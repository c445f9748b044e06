"""Whether a session reads and writes the very rows that the caches hold."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, text
from sqlalchemy.engine import ExecutionContext
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.orm import Session
from sqlalchemy.orm.session import SessionTransactionState

from stockstore.errors import ConfigurationError, OriginError
from stockstore.evidence.aside import aside, asking, is_private
from stockstore.mapped import ELSEWHERE, OWN_WRITE, TENANT, TURNED
from stockstore.mapped.hydrate import is_flushing, open_connection
from stockstore.mapped.levels import PINNING, UNKNOWN, first_level
from stockstore_ext.sqlalchemy.drivers import begins_by_a_read, has_open_cursor, has_transaction
from stockstore_ext.sqlalchemy.frames import FOREIGN, Frame, Scope
from stockstore_ext.sqlalchemy.shards import NO_SHARDS, Shards, Token, is_sharded, shard_name
from stockstore_ext.sqlalchemy.turns import LEVEL

ScopeOf: TypeAlias = Callable[[Session], str | None]
SnapshotRule: TypeAlias = Literal["respect", "latest"]

_IDENTITY: Final = text(
    "SELECT (SELECT CAST(system_identifier AS text) FROM pg_control_system()), pg_is_in_recovery(),"
    " current_database(), CAST(current_schemas(false) AS text), current_user"
)


class Scopes:
    """Tells in which scope a session works.

    Args:
        origin: The engine of the database that the caches are filled from, if that is known.
        scope: The user's own answer.
        snapshot: Whether a transaction that reads from one snapshot throughout is served what is newer.
        shards: The databases of shards by their tokens.
        origins: The engines of the databases that the caches are filled from, where these are several: which one has a row only the store knows.
    """

    def __init__(
        self,
        origin: Engine | None,
        scope: ScopeOf | None,
        snapshot: SnapshotRule,
        shards: Shards = NO_SHARDS,
        origins: Sequence[Engine] = (),
    ) -> None:
        """Keep the settings."""
        self._name_of = scope
        self._snapshot = snapshot
        self._same: WeakKeyDictionary[Engine, bool] = WeakKeyDictionary()
        self._shards = shards
        self.names_differ = scope is not None or bool(shards)
        """Whether a session may have a name of its own, or that of a shard."""
        self._origins = tuple(origins) if origin is None else (origin,)
        self._tokens: WeakKeyDictionary[Engine, Token | None] = WeakKeyDictionary()

    def of(self, session: Session, connection: Connection, frame: Frame) -> Scope:
        """Give the scope of what a session writes on a connection."""
        return self._scope(self.named(session), connection, frame)

    def of_statement(self, connection: Connection, frame: Frame, context: ExecutionContext | None) -> set[Scope]:
        """Give the scopes of which a statement may be: those of the sessions on the connection, or that have left it to whoever goes on."""
        flushing = [session for session in frame.sessions if is_flushing(session)]
        names = self.names_on(connection, flushing or frame.sessions) or frame.names
        return {self._scope(name, connection, frame, context) for name in names}

    def names_on(self, connection: Connection, sessions: Iterable[Session]) -> set[str | None]:
        """Give the names of the scopes in which sessions write on a connection: of a shard its own besides."""
        names = {self.named(session) for session in sessions}
        token = self.shard_on(connection.engine)
        return names if token is None else names | {shard_name(token, name) for name in names}

    def shard_on(self, engine: Engine) -> Token | None:
        """Give the token of the shard that an engine opens; ``None`` where it is none."""
        if not self._shards:
            return None
        if engine not in self._tokens:
            self._tokens[engine] = next((token for token, shard in self._shards.items() if is_same_database(engine, shard)), None)
        return self._tokens[engine]

    def scopes_on(self, connection: Connection, frame: Frame) -> set[Scope]:
        """Give the scopes of those who have used a connection."""
        return {self._scope(name, connection, frame) for name in frame.names}

    def hides_shard(self, engine: Engine, connection: Connection | None, frame: Frame | None) -> str:
        """Tell why a sharded session has to read a shard from its own connection; ``""``: it need not."""
        if told := _told(engine, named=False):
            return told
        if connection is None:
            return self._will_pin(engine)
        return ELSEWHERE if frame is None else self._is_elsewhere(connection, [frame], named=False)

    def _scope(self, name: str | None, connection: Connection, frame: Frame, context: ExecutionContext | None = None) -> Scope:
        if name is not None:
            return name
        options = connection.get_execution_options() if context is None else context.execution_options
        elsewhere = frame.foreign or TURNED in connection.info or bool(options.get("schema_translate_map"))
        return FOREIGN if elsewhere or not self._is_origin(connection.engine) else None

    def named(self, session: Session) -> str | None:
        """Give the user's own answer.

        Raises:
            ConfigurationError: It is neither a text nor ``None``.
        """
        if self._name_of is None:
            return None
        return checked_scope(self._name_of(session))

    def hides(self, session: Session, root: type, frames: list[Frame]) -> str:
        """Tell why a session has to read a class from its own connection, and must fill nothing from it; ``""``: it need not."""
        if is_sharded(session) or len(self._origins) > 1 or _is_prepared(session):
            return ELSEWHERE
        named = self.named(session) is not None
        try:
            bind = session.get_bind(root)
        except UnboundExecutionError:  # what reads with it says so
            return ELSEWHERE
        if told := _told(bind, named) or ("" if named or self._is_origin(bind.engine) else ELSEWHERE):
            return told
        if isinstance(bind, Connection) and (given := _given(bind, named)):
            return given
        connection = open_connection(session, bind) if frames else None
        found = self._will_pin(bind) if connection is None else self._is_elsewhere(connection, frames, named)
        return found or (TENANT if named else "")

    def _will_pin(self, bind: Engine | Connection) -> str:
        """Tell of a transaction that is yet to begin whether its first statement is to show what all later reads show."""
        # SQLite calls every level so, and has a snapshot only while its driver has a transaction.
        respects = self._snapshot == "respect" and bind.dialect.name != "sqlite"
        return "snapshot" if respects and first_level(bind) in {*PINNING, UNKNOWN} else ""

    def _is_elsewhere(self, connection: Connection, frames: list[Frame], named: bool) -> str:
        if told := _told(connection, named):
            return told
        if not named and (TURNED in connection.info or any(frame.foreign for frame in frames)):
            return ELSEWHERE
        pinned = self._snapshot == "respect" and any(_is_pinned(connection, frame) for frame in frames)
        return "snapshot" if pinned else ""

    @property
    def is_same_for_all(self) -> bool:
        """Whether the user leaves it to the engine what a session reads."""
        return self._name_of is None

    def sees(self, connection: Connection, frames: list[Frame]) -> bool:
        """Whether a session that reads on one connection, with options that hide nothing, certainly reads what the caches hold."""
        if len(frames) != 1 or frames[0].foreign:
            return False
        pooled: Any = connection._dbapi_connection  # noqa: SLF001 - for each hit; its public name takes as long as all the rest here
        if pooled is None or TURNED in pooled.info:
            return False
        if self._snapshot == "latest" or frames[0].pinned is False:
            return True
        return connection.dialect.name == "sqlite" and getattr(pooled.dbapi_connection, "in_transaction", True) is False

    def may_fill(self, connection: Connection, frames: list[Frame]) -> bool:
        """Whether what a statement on a connection will read is no older than now, and what others may see.

        Of a transaction that has written it may not be: a trigger may have changed more than what is known to be written.
        """
        if not frames or (connection.dialect.name == "sqlite" and has_open_cursor(connection)):
            return False
        if any(frame.noted for frame in frames):
            return False
        return not any(_is_pinned(connection, frame) for frame in frames)

    def may_lock(self, connection: Connection, frame: Frame) -> bool:
        """Whether rows that a transaction has written can be locked: PostgreSQL refuses what others have changed since its snapshot.

        That may be a row in whose place the transaction has put one of its own, or one of another table that a class is mapped to.
        """
        if connection.dialect.name != "postgresql":
            return True
        return not (first_level(connection) in PINNING if frame.pinned is None else frame.pinned)

    def _is_origin(self, engine: Engine) -> bool:
        if not self._origins or engine in self._origins:
            return True
        if engine not in self._same:
            self._same[engine] = any(is_same_database(engine, origin) for origin in self._origins)
        return self._same[engine]


def checked_scope(name: object) -> str | None:
    """Give the name of a scope.

    Raises:
        ConfigurationError: It is neither a text nor ``None``.
    """
    if name is None or (isinstance(name, str) and name):
        return name
    raise ConfigurationError(f"scope= gives a text that is not empty, or None, not {name!r}")


def _is_prepared(session: Session) -> bool:
    """Whether the first of two phases is done, after which a session executes nothing, and its driver cannot be asked for its isolation level."""
    transaction = session._transaction  # noqa: SLF001 - its public name makes one
    return transaction is not None and transaction._state is SessionTransactionState.PREPARED  # noqa: SLF001


def _told(bind: Engine | Connection, named: bool) -> str:
    """Tell why what reads with the execution options of an engine or a connection is not to be given what caches have."""
    options = bind.get_execution_options()
    if options.get("schema_translate_map") and not named:
        return ELSEWHERE
    return "" if options.get("stockstore") in (None, True) else "option"


def _given(connection: Connection, named: bool) -> str:
    """Tell why a session must not be given what caches have that was given a connection: in its caller's transaction anything may be written."""
    if TURNED in connection.info and not named:
        return ELSEWHERE
    return OWN_WRITE if connection.in_transaction() else ""


def _is_pinned(connection: Connection, frame: Frame) -> bool:
    """Whether a connection reads from a snapshot that began earlier than now."""
    if connection.dialect.name == "sqlite":
        return has_transaction(connection)
    if frame.pinned is None:
        pins = _level(connection) in PINNING
        if pins and first_level(connection) not in PINNING and begins_by_a_read(connection):
            return False
        frame.pin(pins)
    return bool(frame.pinned)


def _level(connection: Connection) -> str:
    """Give the isolation level of a connection's transactions, asked for once."""
    given = connection.get_execution_options().get("isolation_level")
    if given is not None:
        return str(given).replace("_", " ").upper()
    known: str | None = connection.info.get(LEVEL)
    if known is None:
        known = connection.info[LEVEL] = connection.get_isolation_level()
    return known


def is_same_database(one: Engine, other: Engine) -> bool:
    """Whether two engines open the same tables of one database."""
    if one.pool is other.pool:
        return True
    if is_private(one) or is_private(other) or one.dialect.name != other.dialect.name:
        return False
    if one.dialect.name == "sqlite":
        return _file(one) == _file(other)
    if one.dialect.name == "postgresql":  # connect_args= and listeners may lead two engines of one URL to two schemas
        return _asked(one) == _asked(other)
    return one.url.set(drivername="x") == other.url.set(drivername="x")


def _file(engine: Engine) -> Path:
    return Path(engine.url.database or "").resolve()


def _asked(engine: Engine) -> object:
    try:
        return asking(engine, lambda: _identity(engine))
    except OriginError:
        return engine


def _identity(engine: Engine) -> object:
    with aside(engine) as connection:
        return tuple(connection.execute(_IDENTITY).one())
