"""LISTEN and NOTIFY of PostgreSQL as a channel, where there is no Redis."""

import weakref
from collections.abc import Hashable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Connection, Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError

from stockstore.channels.base import Channel, Line
from stockstore.channels.postgresql_telling import Telling
from stockstore.errors import ConfigurationError
from stockstore.mapped.shown import misfit, shown

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

_DRIVER = "postgresql+psycopg"
_PATIENCE = 5
"""Seconds that a connection may take, where the URL does not say it."""


class PostgresChannel(Channel):
    """Tells of writes by NOTIFY: within the writer's transaction, so that it is heard exactly if that commits, wherever that can be.

    It cannot be where the transaction has two phases, is another database's, or commits each statement by itself; then it is told
    just after the end, and a process that dies between the two tells nobody.

    Args:
        database: The URL of a PostgreSQL database, or an engine on it. Connections are made by psycopg, whatever the driver of an engine.

    Raises:
        ConfigurationError: It is no PostgreSQL, the URL does not fit, or psycopg is not installed.
    """

    is_early = False

    def __init__(self, database: "str | URL | Engine | AsyncEngine") -> None:
        """Keep the address; opens no connection."""
        self._engine = _engine_of(database)
        self._telling = Telling(self._engine)
        weakref.finalize(self, Telling.close, self._telling)

    def __repr__(self) -> str:
        """Name the database, without its password."""
        return f"PostgresChannel({shown(self._engine.url)!r})"

    @property
    def address(self) -> Hashable:
        """The database, and who connects to it."""
        return _DRIVER, self._engine.url.set(drivername=_DRIVER)

    def open(self) -> Line:
        """Connect and subscribe."""
        from stockstore.channels.postgresql_line import PostgresLine

        return PostgresLine(self._engine)

    def within(self, connection: Connection, texts: Sequence[str], ticket: bytes) -> bool:
        """Tell of writes as a part of their transaction; ``False`` where that cannot be."""
        return self._telling.within(connection, texts, ticket)

    def afterwards(self, texts: Sequence[str], ticket: bytes) -> None:
        """Tell of writes now; never raises for the database's sake."""
        self._telling.afterwards(texts, ticket)


def _engine_of(database: Any) -> Engine:
    """Give an engine of our own: what an application's pool lends out would be missing there."""
    engine = getattr(database, "sync_engine", database)
    if isinstance(engine, Engine):
        if (engine.dialect.name, engine.dialect.driver, engine.dialect.is_async) == ("postgresql", "psycopg", False):
            return Engine(engine.pool.recreate(), engine.dialect, engine.url, hide_parameters=True)
        return _new_engine(engine.url)
    try:
        url = make_url(database)
    except ValueError as error:
        raise misfit(database, error) from None
    except (ArgumentError, AttributeError) as error:
        raise ConfigurationError(
            f"channel takes the URL of a PostgreSQL database, or an engine on it, not a {type(database).__name__}"
        ) from error
    return _new_engine(url)


def _new_engine(url: URL) -> Engine:
    if url.get_backend_name() != "postgresql":
        raise ConfigurationError(
            f"of databases only PostgreSQL carries a channel, not {url.get_backend_name()}; use Redis, or channel=None"
        )
    if find_spec("psycopg") is None:
        raise ConfigurationError('the channel on PostgreSQL needs psycopg: pip install "stockstore[postgresql]"')
    timeout = {} if "connect_timeout" in url.query else {"connect_timeout": _PATIENCE}
    try:
        engine = create_engine(url.set(drivername=_DRIVER), pool_size=1, pool_pre_ping=True, hide_parameters=True, connect_args=timeout)
    except ArgumentError as error:
        raise misfit(url, error) from None
    _check(engine)
    return engine


def _check(engine: Engine) -> None:
    from psycopg import Error
    from psycopg.conninfo import make_conninfo

    _, options = engine.dialect.create_connect_args(engine.url)
    try:
        # What SQLAlchemy adds is for psycopg itself.
        make_conninfo(**{name: value for name, value in options.items() if name != "context"})
    except Error as error:
        raise ConfigurationError(
            f"psycopg, which the channel on PostgreSQL uses, does not understand the URL {shown(engine.url)!r}: {str(error).strip()}; "
            "give channel= a URL of its own"
        ) from None
