from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine

from stockstore.evidence import Outbox
from tests.servers.server import wait_until


@pytest.fixture(scope="module", params=["sqlite_engine", "postgres_engine", "mariadb_engine"])
def any_engine(request: pytest.FixtureRequest) -> Engine:
    """An engine on each kind of database in turn."""
    engine: Engine = request.getfixturevalue(request.param)
    return engine


@pytest.fixture
def outbox(any_engine: Engine) -> Iterator[Outbox]:
    """An empty outbox in that database."""
    outbox = Outbox()
    outbox.create(any_engine)
    yield outbox
    outbox.definition.drop(any_engine)


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """A function that waits until another process's doing shows."""
    return lambda true: wait_until(true, "what was waited for")
