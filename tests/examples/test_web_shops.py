"""The shops on Flask and FastAPI, as processes of their own, driven over HTTP."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil
import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from examples.shop_api.models import Base, open_shop
from tests.patience import SECONDS
from tests.servers.server import own_port

ROOT = Path(__file__).parents[2]
FLASK = ["flask", "--app", "examples.shop_flask.app", "run", "--without-threads", "--port"]
FASTAPI = ["uvicorn", "--factory", "examples.shop_fastapi.app:create_app", "--port"]
GUNICORN = ["gunicorn", "examples.shop_flask.app:create_app()", "--preload", "--workers", "2", "--max-requests", "20", "--bind"]
ANN, BOB = {"X-User": "ann@example.org"}, {"X-User": "bob@example.org"}
PATIENCE = 60.0
"""Seconds; gunicorn itself waits for half a minute for a worker that was told to end before it could hear that."""


class Shop(NamedTuple):
    """A shop that runs, and the database under it."""

    http: httpx.Client
    database: str
    pid: int

    def get(self, path: str) -> Any:
        """Give what a path answers."""
        return self.http.get(path).raise_for_status().json()

    def behind(self, statement: str) -> None:
        """Write to the database without the shop."""
        engine = create_engine(make_url(self.database), poolclass=NullPool)
        with engine.begin() as connection:
            assert connection.execute(text(statement)).rowcount != 0

    def request_hits(self) -> int:
        """Give the hits of the tier that is one request's alone."""
        found: int = next(tier["hits"] for name, tier in self.get("/stats")["tiers"].items() if name.startswith("ThreadLocalStore"))
        return found


class Running(NamedTuple):
    """How a shop is started."""

    command: list[str]
    cache: str | None = None
    database: str | None = None
    own_tiers: str = "thread:// memory://"


def patient(url: str) -> str:
    """Give the URL of a Redis that may take long to answer on a busy machine: a read that gave it up would ask the database."""
    return f"{url}?connect_timeout={SECONDS}&read_timeout={SECONDS}"


DEFAULTS = [Running(FLASK), Running(FASTAPI)]
SHOPS = [Running(FLASK, "redis_url"), Running(FASTAPI, "redis_url", "postgres_schema_url")]


def environment_of(running: Running, request: pytest.FixtureRequest) -> dict[str, str]:
    """Give the variables that a shop reads."""
    given = {**os.environ, "PYTHONPATH": str(ROOT)}
    if running.cache is not None:
        url = patient(str(request.getfixturevalue(running.cache)))
        given["SHOP_CACHE"] = (
            f"{running.own_tiers} {url if running.command is not FASTAPI else url.replace('redis://', 'redis+asyncio://')}"
        )
    if running.database is not None:
        given["SHOP_DATABASE"] = request.getfixturevalue(running.database)
    return given


@pytest.fixture(scope="module")
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A shop of its own on a free port, in a folder of its own, where its SQLite file is by default."""
    running: Running = request.param
    folder, port = tmp_path_factory.mktemp("shop"), own_port(request)
    environment = environment_of(running, request)
    with (folder / "log").open("w") as log:
        command = [sys.executable, "-m", *running.command, f"127.0.0.1:{port}" if running.command is GUNICORN else str(port)]
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as http:
            wait_for(http, process, folder / "log")
            yield Shop(http, environment.get("SHOP_DATABASE", f"sqlite:///{folder}/shop.db"), process.pid)
    finally:
        process.terminate()
        process.wait(PATIENCE)
    if running.command is FASTAPI:
        assert "Application shutdown complete." in (folder / "log").read_text()


def wait_for(http: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a shop answers."""
    end = time.monotonic() + PATIENCE
    while not answers(http):
        if process.poll() is not None or time.monotonic() > end:
            pytest.fail(log.read_text())
        time.sleep(0.05)


def answers(http: httpx.Client) -> bool:
    """Whether anybody listens."""
    try:
        return http.get("/stats").is_success
    except httpx.TransportError:
        return False


def named(running: Running) -> str:
    """Name a shop by what it runs on."""
    return "-".join(filter(None, (running.command[0], running.cache, running.database)))


AS_IT_IS = pytest.mark.parametrize("shop", DEFAULTS, indirect=True, ids=named)
EACH = pytest.mark.parametrize("shop", SHOPS, indirect=True, ids=named)


@pytest.mark.sa_agnostic
@AS_IT_IS
def test_it_runs_without_settings(shop: Shop) -> None:
    """One command starts it on SQLite and process memory, with something to sell."""
    assert shop.get("/items/3") == {"id": 3, "sku": "SKU-3", "name": "Item 3", "cents": 300, "stock": 5, "version": 1, "seller": "Bob"}
    assert {name.partition("(")[0] for name in shop.get("/stats")["tiers"]} == {"ThreadLocalStore", "ProcessMemoryStore", "SqlAlchemyStore"}


@pytest.mark.sa_agnostic
@AS_IT_IS
def test_a_database_that_fails_is_told_as_such(shop: Shop) -> None:
    """Where the database refuses, the shop says that it is closed; it goes on as soon as it can."""
    shop.behind("ALTER TABLE shop_orders RENAME TO shop_orders_away")
    answer = shop.http.post("/orders", json={"item_id": 1, "quantity": 1}, headers=ANN)
    assert (answer.status_code, [*answer.json().values()]) == (503, ["the shop is closed for the moment"])
    shop.behind("ALTER TABLE shop_orders_away RENAME TO shop_orders")
    assert shop.http.post("/orders", json={"item_id": 1, "quantity": 1}, headers=ANN).status_code == 201


@pytest.mark.sa_agnostic
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_workers_that_start_at_once_stock_the_shop_once(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """One makes the tables and the rows, and the others wait for it and find them."""
    url = f"sqlite:///{tmp_path}/shop.db" if database == "sqlite" else request.getfixturevalue("postgres_schema_url")
    engine = create_engine(make_url(url), poolclass=NullPool)

    def start(_: int) -> None:
        with engine.begin() as connection:
            open_shop(connection)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(start, range(4)))
    with engine.begin() as connection:
        assert connection.scalars(text("SELECT sku FROM shop_items ORDER BY id")).all() == [f"SKU-{n}" for n in range(1, 11)]
        Base.metadata.drop_all(connection)


def order_at_once(shop: Shop) -> None:
    """Have eight customers want one of five each: five get it, three are told, and nothing is left."""
    assert shop.get("/items/6")["stock"] == 5

    def order(_: int) -> int:
        return shop.http.post("/orders", json={"item_id": 6, "quantity": 1}, headers=ANN).status_code

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(order, range(8))) == [201] * 5 + [409] * 3
    assert shop.get("/items/6")["stock"] == 0


@pytest.mark.sa_agnostic
@AS_IT_IS
def test_orders_at_once_take_no_more_than_there_is_of_sqlite(shop: Shop) -> None:
    """Also where the database locks no rows."""
    order_at_once(shop)


@EACH
def test_orders_at_once_take_no_more_than_there_is(shop: Shop) -> None:
    """Whoever comes second waits, and sees what the first one has left."""
    order_at_once(shop)


@EACH
def test_reads_come_from_the_cache(shop: Shop) -> None:
    """What was read once is not read from the database again: a change that goes past the caches stays unseen."""
    before = shop.get("/items/3"), shop.get("/users/1")
    shop.behind("UPDATE shop_items SET name = 'unseen', stock = 0 WHERE id = 3")
    shop.behind("UPDATE shop_users SET name = 'unseen' WHERE id = 1")
    assert (shop.get("/items/3"), shop.get("/users/1")) == before
    assert before[0]["name"] == "Item 3"
    shop.behind("UPDATE shop_users SET name = 'Ann' WHERE id = 1")


@EACH
def test_writes_are_seen_at_once(shop: Shop) -> None:
    """A commit of the shop's sessions is in the next read, wherever the row shows up."""
    assert (shop.get("/users/2")["name"], shop.get("/items/5")["seller"]) == ("Bob", "Bob")
    answer = shop.http.patch("/users/me", json={"name": "Robert"}, headers=BOB)
    assert (answer.status_code, answer.json()) == (200, {"id": 2, "email": "bob@example.org", "name": "Robert", "version": 2})
    assert (shop.get("/users/2")["name"], shop.get("/items/5")["seller"]) == ("Robert", "Robert")
    shop.behind("UPDATE shop_users SET name = 'unseen' WHERE id = 2")
    assert shop.get("/users/2")["name"] == "Robert"
    shop.http.patch("/users/me", json={"name": "Bob"}, headers=BOB)


@EACH
def test_a_page_of_rows_comes_from_the_cache_and_shows_each_write(shop: Shop) -> None:
    """The list of a user's items, and the items, are not read again; a price that was committed is in the next page, one version on."""
    shop.get("/users/1/items")  # keeps the list; the next one the items
    before = shop.get("/users/1/items")
    assert [item["id"] for item in before["items"]] == [2, 4, 6, 8, 10]
    shop.behind("UPDATE shop_items SET cents = 1 WHERE id = 8")
    assert shop.get("/users/1/items") == before
    answer = shop.http.patch("/items/10", json={"cents": 1100}, headers=ANN)
    assert (answer.status_code, answer.json()) == (200, before["items"][4] | {"cents": 1100, "version": 2})
    assert shop.get("/users/1/items")["items"] == [*before["items"][:4], answer.json()]
    shop.behind("UPDATE shop_items SET cents = 800 WHERE id = 8")


@EACH
def test_an_order_takes_from_the_stock_once(shop: Shop) -> None:
    """The stock that an order looks at is the database's, whatever the caches say; the new one is seen at once."""
    assert shop.get("/items/4")["stock"] == 5
    shop.behind("UPDATE shop_items SET stock = 3 WHERE id = 4")
    assert shop.get("/items/4")["stock"] == 5
    first = shop.http.post("/orders", json={"item_id": 4, "quantity": 2}, headers=ANN)
    assert first.status_code == 201
    assert {name: first.json()[name] for name in ("user_id", "item_id", "quantity", "cents")} == {
        "user_id": 1,
        "item_id": 4,
        "quantity": 2,
        "cents": 800,
    }
    assert shop.get("/items/4")["stock"] == 1
    second = shop.http.post("/orders", json={"item_id": 4, "quantity": 2}, headers=ANN)
    assert (second.status_code, [*second.json().values()]) == (409, ["there are no 2 of item 4 left"])
    assert shop.get("/items/4")["stock"] == 1


@EACH
def test_a_request_reads_a_row_once_and_keeps_nothing_for_the_next(shop: Shop) -> None:
    """The session finds what the look at the header has read, in the request's own tier; another request finds nothing there."""
    start = shop.request_hits()
    for _ in range(3):
        shop.get("/users/1")
    assert shop.request_hits() == start
    end = time.monotonic() + PATIENCE
    # While process memory has not heard its channel for too long, a request keeps nothing above it.
    while shop.request_hits() == start:
        assert time.monotonic() < end
        shop.http.patch("/users/me", json={"name": "Ann"}, headers=ANN).raise_for_status()


@EACH
def test_a_user_signs_up(shop: Shop) -> None:
    """A new row is found by its other key at once, also where that was asked for in vain; a second of the same is refused."""
    cleo = {"X-User": "cleo@example.org"}
    assert shop.http.patch("/users/me", json={"name": "x"}, headers=cleo).status_code == 401
    answer = shop.http.post("/users", json={"email": "cleo@example.org", "name": "Cleo"})
    assert (answer.status_code, answer.json()["name"]) == (201, "Cleo")
    assert shop.http.patch("/users/me", json={"name": "Kleo"}, headers=cleo).json() == answer.json() | {"name": "Kleo", "version": 2}
    again = shop.http.post("/users", json={"email": "cleo@example.org", "name": "Cleo"})
    assert (again.status_code, [*again.json().values()]) == (409, ["there is one with this value already"])


def workers_of(shop: Shop) -> set[int]:
    """Give the processes that a server has forked."""
    return {child.pid for child in psutil.Process(shop.pid).children()}


@pytest.mark.sa_agnostic
@pytest.mark.parametrize("shop", [Running(GUNICORN, "redis_url", "postgres_schema_url", "thread://")], indirect=True, ids=named)
def test_forked_workers_that_come_and_go_answer_as_one(shop: Shop) -> None:
    """Each read shows the last write, whichever worker answers; after so many requests one gives way to a new one, and on SIGHUP all do."""
    written, seen = 1, set()
    for _ in range(25):
        answer = shop.http.patch("/items/2", json={"cents": written}, headers=ANN)
        written += 1
        assert (answer.status_code, answer.json()["version"]) == (200, written)
        assert shop.get("/items/2")["version"] == written
        seen.add(shop.get("/stats")["process"])
    assert len(seen) > 2
    old = workers_of(shop)
    os.kill(shop.pid, signal.SIGHUP)
    end = time.monotonic() + PATIENCE
    while not old.isdisjoint(workers_of(shop)):
        assert time.monotonic() < end
        time.sleep(0.02)
    assert shop.get("/items/2")["version"] == written


@EACH
@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/users/404", None, 404),
        ("GET", "/items/404", None, 404),
        ("GET", "/nowhere", None, 404),
        ("DELETE", "/users/1", None, 405),
        ("GET", "/users/404/items", None, 404),
        ("PATCH", "/items/404", {"cents": 1}, 404),
        ("PATCH", "/items/1", {"cents": 1}, 403),
        ("PATCH", "/items/2", {"cents": 0}, 422),
        ("POST", "/orders", {"item_id": 404, "quantity": 1}, 404),
        ("POST", "/orders", {"item_id": 1, "quantity": 0}, 422),
        ("POST", "/orders", {"item_id": 1}, 422),
        ("POST", "/users", {"email": "", "name": "x"}, 422),
        ("POST", "/users", ["email"], 422),
    ],
)
def test_errors_are_json_with_a_status(shop: Shop, method: str, path: str, body: object, status: int) -> None:
    """What cannot be done is told in JSON, under one name, with the status that fits."""
    answer = shop.http.request(method, path, json=body, headers=ANN)
    assert answer.status_code == status
    assert answer.json().keys() in ({"error"}, {"detail"})


@EACH
def test_who_does_not_say_who_he_is_orders_nothing(shop: Shop) -> None:
    """An order without the header is refused before anything is looked at."""
    answer = shop.http.post("/orders", json={"item_id": 1, "quantity": 1})
    assert (answer.status_code, [*answer.json().values()]) == (401, ["the header X-User names a user's email"])
