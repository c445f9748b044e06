"""The tests' databases by async drivers."""

from typing import Any

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

DRIVERS = {"aiosqlite": "sqlite+aiosqlite", "asyncpg": "postgresql+asyncpg", "psycopg_async": "postgresql+psycopg_async"}


def async_engine(url: URL, driver: str, **options: Any) -> AsyncEngine:
    """Give an engine on a database by an async driver."""
    made = url.set(drivername=DRIVERS[driver])
    if driver == "asyncpg":
        # It does not know libpq's options.
        path = str(made.query["options"]).partition("search_path=")[2]
        options["connect_args"] = {"server_settings": {"search_path": path}}
        made = made.set(query={})
    return create_async_engine(made, **options)
