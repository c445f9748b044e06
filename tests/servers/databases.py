"""The fixtures that give a test module a database of its own, empty: an SQLite file, a PostgreSQL schema, each in turn, or one of MariaDB."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine

from tests.servers.mariadb import fresh_database
from tests.servers.postgres import fresh_schema


@pytest.fixture(scope="module")
def sqlite_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of an SQLite file of the test module's own."""
    return f"sqlite:///{tmp_path_factory.mktemp('sqlite') / 'test.db'}"


@pytest.fixture(scope="module")
def postgres_schema_url(postgres_url: str) -> Iterator[str]:
    """The URL of PostgreSQL whose connections work in a schema of the test module's own."""
    with fresh_schema(postgres_url) as url:
        yield url.render_as_string(hide_password=False)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a database of the test module's own, SQLite and PostgreSQL in turn."""
    return str(request.getfixturevalue({"sqlite": "sqlite_url", "postgres": "postgres_schema_url"}[request.param]))


@pytest.fixture(scope="module")
def sqlite_engine(sqlite_url: str) -> Iterator[Engine]:
    """An engine on `sqlite_url`."""
    yield from _engine(sqlite_url)


@pytest.fixture(scope="module")
def postgres_engine(postgres_schema_url: str) -> Iterator[Engine]:
    """An engine on `postgres_schema_url`."""
    yield from _engine(postgres_schema_url)


@pytest.fixture(scope="module")
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on `database_url`: the test runs on SQLite and on PostgreSQL. Tests make and drop their tables."""
    yield from _engine(database_url)


@pytest.fixture(scope="module")
def mariadb_engine(mariadb_url: str) -> Iterator[Engine]:
    """An engine on a MariaDB database of the test module's own."""
    with fresh_database(mariadb_url) as url:
        yield from _engine(url.render_as_string(hide_password=False))


def _engine(url: str) -> Iterator[Engine]:
    engine = create_engine(url)
    yield engine
    engine.dispose()
