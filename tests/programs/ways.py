"""How the transactions of a session are: of which level, of how many phases, or a part of somebody else's."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from psycopg.pq import TransactionStatus
from sqlalchemy import Connection
from sqlalchemy.orm import Session

from tests.programs.world import World

SESSIONS: Final = 3
_IDLE: Final = "idle"
_MODES: Final = ("conditional_savepoint", "rollback_only", "control_fully", "create_savepoint")

Ways: TypeAlias = tuple[str, ...]
Outer: TypeAlias = dict[object, Connection]


@dataclass(frozen=True)
class Way:
    """How the transactions of a session are.

    Attributes:
        engine: The execution options of the engine that it is bound to.
        session: The options of the session.
        joins: The connection that it is bound to: of its own, "shared" with all others of the program, or "idle", where nobody else begins a
            transaction.
    """

    engine: Mapping[str, Any] = field(default_factory=dict)
    session: Mapping[str, Any] = field(default_factory=dict)
    joins: str = ""

    def opened(self, world: World, outer: Outer, at: int) -> Session:
        """Give a session; the connection that it joins stands in ``outer``."""
        if self == Way():
            return world.maker()
        if not self.joins:
            return world.maker(bind=world.engine.execution_options(**self.engine), **self.session)
        key = self.place(at)
        if key not in outer:
            outer[key] = world.engine.connect()
            begin_outer(outer)
        return world.maker(bind=outer[key], **self.session)

    @property
    def is_joined(self) -> bool:
        """Whether somebody else begins and ends a transaction of which the session's are a part."""
        return self.joins in ("own", "shared")

    def place(self, at: int) -> object:
        """Tell where the connection stands that a session joins."""
        return at if self.joins == "own" else (_IDLE, at) if self.joins == _IDLE else self.joins


def begin_outer(outer: Outer) -> None:
    """Have each connection that sessions join a transaction of nobody's: else it were whose who asks it first, and caches may answer first."""
    for key, connection in outer.items():
        if not (connection.in_transaction() or isinstance(key, tuple)):
            connection.rollback()  # one whose COMMIT was refused
            connection.begin()


def is_autocommit(session: Session) -> bool:
    """Whether what a session does now is in no transaction of the database's."""
    transaction: Any = session.get_transaction()
    used = [entry[0] for entry in transaction._connections.values()] if transaction is not None else []
    return any(one.get_execution_options().get("isolation_level") == "AUTOCOMMIT" for one in used or [session.get_bind()])


def is_refused(connection: Connection) -> bool:
    """Whether PostgreSQL refuses all further statements of a transaction."""
    info = getattr(connection.connection.dbapi_connection, "info", None)
    return getattr(info, "transaction_status", None) == TransactionStatus.INERROR


def _level(level: str, **more: Any) -> Way:
    return Way({"isolation_level": level, **more})


def _phased(**options: Any) -> Way:
    return Way(options, {"twophase": True})


WAYS: Final[dict[str, Way]] = {
    "plain": Way(),
    "read committed": _level("READ COMMITTED"),
    "repeatable read": _level("REPEATABLE READ"),
    "serializable": _level("SERIALIZABLE"),
    "autocommit": _level("AUTOCOMMIT"),
    "read only": Way({"postgresql_readonly": True}),
    "serializable read only": _level("SERIALIZABLE", postgresql_readonly=True),
    "two phases": _phased(),
    "two phases repeatable read": _phased(isolation_level="REPEATABLE READ"),
    **{f"joins by {mode}": Way(session={"join_transaction_mode": mode}, joins="own") for mode in _MODES},
    **{f"all join by {mode}": Way(session={"join_transaction_mode": mode}, joins="shared") for mode in _MODES},
    "on a connection": Way(joins=_IDLE),
}
PLAIN: Final = ("plain",) * SESSIONS
_LEVELS: Final = ("plain", "repeatable read", "repeatable read", "serializable", "autocommit", "read only", "serializable read only")
DOMAINS: Final[dict[str, tuple[Ways, Ways]]] = {
    "plain": (("plain",), ()),
    "autocommit": (("plain", "autocommit"), ("begin_at",)),
    "levels": (_LEVELS, ("begin_at",)),
    "phases": (("plain", "two phases", "two phases", "two phases repeatable read"), ("prepare", "lose")),
    "joined": (("plain", *(name for name, way in WAYS.items() if way.joins)), ("outer_end", "outer_savepoint", "outer_write")),
}
"""Of which sorts the sessions of a program are, and the steps that are theirs alone."""
