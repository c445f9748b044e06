"""The contract's tables in each database, empty."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from stockstore.testing import metadata


@pytest.fixture(scope="module")
def contract_tables(engine: Engine) -> Iterator[Engine]:
    """The engine of a database that has the contract's tables, SQLite and PostgreSQL in turn."""
    metadata.create_all(engine)
    yield engine
    metadata.drop_all(engine)


@pytest.fixture
def contract_engine(contract_tables: Engine) -> Engine:
    """The engine of a database in which the contract's tables are empty."""
    return _emptied(contract_tables)


@pytest.fixture
def sqlite_contract_engine(sqlite_engine: Engine) -> Engine:
    """The engine of an SQLite database in which the contract's tables are empty."""
    metadata.create_all(sqlite_engine)
    return _emptied(sqlite_engine)


def _emptied(engine: Engine) -> Engine:
    with engine.begin() as connection:
        for table in metadata.sorted_tables:
            connection.execute(table.delete())
    return engine
