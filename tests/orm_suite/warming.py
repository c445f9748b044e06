"""Caches that hold every committed row of a class before a session first reads one, so that nearly all reads are served."""

from typing import Any

from sqlalchemy import create_engine, inspect, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from stockstore import ChainedStore, SqlAlchemyStore, StockstoreError, Store
from stockstore.mapped import plan_of
from stockstore_ext.sqlalchemy import SessionSync


def warm(sync: SessionSync, cache: Store) -> None:
    """Fill a cache with all rows of a class when a hook's sessions first ask for one, by an engine that no test knows."""
    from sqlalchemy.testing import config

    database: Any = config.db
    engine = create_engine(database.url, poolclass=NullPool)
    chain = ChainedStore([cache, SqlAlchemyStore(engine=engine)])
    serving: Any = sync._read_through and sync._read_through.serving
    read, known = serving._read, set()

    def fill(root: type) -> None:
        mapper: Any = inspect(root)
        with engine.connect() as connection:
            keys = [tuple(row) for row in connection.execute(select(*mapper.primary_key).select_from(mapper.persist_selectable))]
        chain.batch_fetch(root, keys)

    def warmed(session: Any, cls: type, *rest: Any, **named: Any) -> Any:
        root = plan_of(cls).root
        if root not in known:
            known.add(root)
            try:
                fill(root)
            except (SQLAlchemyError, StockstoreError):  # a table that is not there yet, or a class that no cache keeps
                known.discard(root)
        return read(session, cls, *rest, **named)

    serving._read = warmed
