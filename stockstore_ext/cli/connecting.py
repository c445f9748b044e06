"""What the commands share: a database from its URL."""

from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from stockstore.errors import ConfigurationError
from stockstore.mapped.shown import misfit
from stockstore.mapped.shown import shown as without_secrets


def add_database(parser: ArgumentParser) -> None:
    """Add the argument that names the database."""
    parser.add_argument("--database", metavar="URL", required=True, help="the database, by an URL of SQLAlchemy")


@contextmanager
def database(url: str) -> Iterator[Engine]:
    """Give an engine on a database, and close its connections at the end.

    Raises:
        ConfigurationError: The URL does not fit, or is one for asyncio; what may be a password in it is not shown.
    """
    try:
        engine = create_engine(url, pool_pre_ping=True)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError, ValueError) as error:
        raise misfit(url, error) from None
    if engine.dialect.is_async:
        raise ConfigurationError(
            f"the database URL {without_secrets(engine.url)} names a driver for asyncio; give a blocking one, such as postgresql+psycopg"
        )
    try:
        yield engine
    finally:
        engine.dispose()
