"""Engines for the URLs of databases."""

from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import SingletonThreadPool, StaticPool

from stockstore.aio.bridge import concurrency
from stockstore.errors import ConfigurationError
from stockstore.mapped.shown import misfit


def engine_of(url: str) -> Engine:
    """Make an engine; ConfigurationError where the URL does not fit."""
    try:
        if make_url(url).get_dialect().is_async:
            return _async_engine(url)
        engine = create_engine(url)
        if isinstance(engine.pool, SingletonThreadPool):  # in memory: of this pool each thread would have a database of its own
            engine = create_engine(url, poolclass=StaticPool, connect_args={"check_same_thread": False})
    except ConfigurationError:
        raise
    except (ArgumentError, NoSuchModuleError, ValueError, TypeError) as error:
        raise misfit(url, error) from None
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f'the database driver is missing: {error.name}; pip install it, for PostgreSQL e.g. pip install "stockstore[postgresql]"'
        ) from error
    return engine


def _async_engine(url: str) -> Engine:
    concurrency()  # tells what is missing
    from sqlalchemy.ext.asyncio import create_async_engine

    return create_async_engine(url).sync_engine
