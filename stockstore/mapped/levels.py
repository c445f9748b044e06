"""The isolation level of transactions, as far as it is known without asking for it."""

from typing import Final

from sqlalchemy import Connection, Engine

from stockstore.mapped.hydrate import level_on_connect

PINNING: Final = frozenset(("REPEATABLE READ", "SERIALIZABLE", "SNAPSHOT"))
"""The levels at which all of a transaction reads from one snapshot."""
UNKNOWN: Final = "UNKNOWN"


def first_level(bind: Engine | Connection) -> str:
    """Give the isolation level at which transactions of a bind begin, as far as somebody has chosen it and there is none to be asked."""
    # Of MySQL and MariaDB it is the default, at which the first reads of a transaction are served. Of PostgreSQL nobody knows it until
    # an engine has connected once, which the first read does.
    default = getattr(bind.dialect, "default_isolation_level", UNKNOWN) if bind.dialect.name == "postgresql" else None
    level = bind.get_execution_options().get("isolation_level") or level_on_connect(bind.dialect) or default
    return str(level).replace("_", " ").upper()


def may_refuse_locks(connection: Connection) -> bool:
    """Whether a database may refuse to lock what others have changed, as PostgreSQL does since a transaction's snapshot."""
    return connection.dialect.name == "postgresql" and first_level(connection) in PINNING
