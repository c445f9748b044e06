"""The contract of the store on a database, SQLite and PostgreSQL in turn."""

import pytest
from sqlalchemy import Engine

from stockstore import SqlAlchemyStore, Store
from stockstore.testing import StoreContract


class TestSqlAlchemy(StoreContract):
    holds_plain_objects = False
    forgets_mapped = False

    @pytest.fixture
    def store(self, contract_engine: Engine) -> Store:
        """On a file, and on a schema."""
        return SqlAlchemyStore(engine=contract_engine)
