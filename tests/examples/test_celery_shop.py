"""The shop's tasks on Celery, in the forked processes of a worker."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import NullPool

from examples.shop_api.models import Base, Item, open_shop
from stockstore import ChainedStore, RedisStore, SqlAlchemyStore, Store
from tests.patience import SECONDS

pytestmark = pytest.mark.sa_agnostic

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0


@pytest.fixture(scope="module")
def engine(postgres_schema_url: str) -> Iterator[Engine]:
    """A shop's database."""
    made = create_engine(postgres_schema_url, poolclass=NullPool)
    with made.begin() as connection:
        open_shop(connection)
    yield made
    Base.metadata.drop_all(made)


@pytest.fixture(scope="module")
def tasks(engine: Engine, redis_url: str, postgres_schema_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Celery]:
    """A worker with two forked processes, by the client that sends it tasks."""
    tmp_path = tmp_path_factory.mktemp("celery")
    app = Celery("shop", broker=redis_url, backend=redis_url)
    given = {
        "SHOP_BROKER": redis_url,
        "SHOP_DATABASE": postgres_schema_url,
        # A read that gave a busy server up would ask the database.
        "SHOP_CACHE": f"thread:// memory:// {redis_url}?connect_timeout={SECONDS}&read_timeout={SECONDS}",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "celery", "--app", "examples.shop_celery.app", "worker", "--pool", "prefork", "--concurrency", "2"]
    with (tmp_path / "log").open("w") as log:
        worker = subprocess.Popen(
            [*command, "--without-gossip", "--without-mingle"], cwd=tmp_path, env=os.environ | given, stdout=log, stderr=log
        )
    try:
        yield app
    finally:
        worker.terminate()
        worker.wait(PATIENCE)
        app.close()
    assert "Traceback" not in (tmp_path / "log").read_text()


def run(tasks: Celery, name: str, *arguments: int) -> dict[str, object]:
    """Have the worker run a task."""
    found: dict[str, object] = tasks.send_task(f"examples.shop_celery.app.{name}", arguments).get(timeout=PATIENCE, interval=0.01)
    return found


def stock_of(store: Store) -> int:
    """Tell what a store says that there is of an item."""
    item = store.get(Item, 3)
    assert item is not None
    return item.stock


def test_what_a_task_commits_is_seen_by_all_at_once(tasks: Celery, engine: Engine, redis_url: str) -> None:
    """The row of a shared cache is true as soon as the task has ended, in this process and in each of the worker's."""
    with ChainedStore([RedisStore(redis_url), SqlAlchemyStore(engine=engine)]) as store:
        assert stock_of(store) == 5
        with engine.begin() as connection:
            connection.execute(text("UPDATE shop_items SET stock = 7 WHERE id = 3"))
        assert stock_of(store) == 5
        assert run(tasks, "restock", 3, 10)["stock"] == 17
        assert stock_of(store) == 17
        store.clear()


def test_each_task_has_a_scope_of_its_own(tasks: Celery) -> None:
    """A task's second read is answered by its own tier, and the next task's first one is not; both processes do so."""
    processes: set[object] = set()
    deadline = time.monotonic() + PATIENCE
    while len(processes) < 2:
        assert time.monotonic() < deadline
        seen = [tasks.send_task("examples.shop_celery.app.look", [4]) for _ in range(4)]
        told = [task.get(timeout=PATIENCE, interval=0.01) for task in seen]
        # While its process has not heard its channel yet, or another holds the lease, a task keeps nothing.
        assert {each["hits"] for each in told} <= {0, 1}
        assert {each["item"]["stock"] for each in told} == {5}
        processes |= {each["process"] for each in told if each["hits"]}
