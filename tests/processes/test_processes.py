"""Process memory and its channel where processes fork, start and end: real servers with workers, and Python's own ways."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from http.client import HTTPConnection
from itertools import cycle
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import Engine, create_engine, insert

from tests.processes.shop import Base, Row, Shop, eventually
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer
from tests.servers.server import own_port, wait_until
from tests.subprocesses import ending

pytestmark = pytest.mark.sa_agnostic
ROOT = Path(__file__).parents[2]
CARRIERS = pytest.mark.parametrize("carrier", ["redis", "postgresql"])
GUNICORN = "-m gunicorn tests.processes.web:app --preload --workers 2 --bind 127.0.0.1:{0}"
UVICORN = "-m uvicorn tests.processes.web:async_app --workers 2 --port {0}"
UWSGI = (
    "--module tests.processes.web:app --need-app --master --processes 3 --enable-threads --py-call-osafterfork --die-on-term "
    # Each worker has a socket of its own: the test says whom it asks.
    "--http-socket 127.0.0.1:{0} --http-socket 127.0.0.1:{1} --http-socket 127.0.0.1:{2} --map-socket 0:1 --map-socket 1:2 --map-socket 2:3"
)
SOON = 9.0
"""Seconds that a busy machine may take to end a process; who waited for a server's answer would take longer."""


@pytest.fixture
def database(postgres_engine: Engine) -> Iterator[str]:
    """The URL of a database with two rows."""
    seed(postgres_engine)
    yield postgres_engine.url.render_as_string(hide_password=False)
    Base.metadata.drop_all(postgres_engine)


def seed(engine: Engine) -> None:
    """Make the rows."""
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(Row), [{"id": 1, "value": 0}, {"id": 2, "value": 0}])


@pytest.fixture
def shop(carrier: str, request: pytest.FixtureRequest, database: str, namespace: str) -> Shop:
    """Redis between memory and database, or nothing."""
    return Shop(request.getfixturevalue("redis_url") if carrier == "redis" else "", database, namespace)


def environment(**more: str) -> dict[str, str]:
    """Give what a process of these tests needs."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def run(script: str, shop: Shop, *arguments: str) -> None:
    """Run a script of this folder, which fails by itself."""
    command = [sys.executable, "-m", f"tests.processes.{script}", *shop, *arguments]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("carrier", "method"), [("redis", "fork"), ("postgresql", "fork"), ("redis", "spawn"), ("postgresql", "forkserver")]
)
def test_children_are_told_by_threads_of_their_own(shop: Shop, method: str) -> None:
    """They begin with empty memory, hear everybody's writes, and disturb nobody's connections by their end."""
    run("forking", shop, method)


@CARRIERS
@pytest.mark.parametrize("way", ["end", "close"])
def test_a_process_ends_at_once(shop: Shop, way: str) -> None:
    """Whether its store was closed or not."""
    assert seconds_to_end(shop, way, lambda: None) < SOON


def test_a_process_ends_at_once_with_a_frozen_redis(start_redis: Callable[..., RedisServer], database: str) -> None:
    """Nobody waits for an answer."""
    server = start_redis()
    try:
        assert seconds_to_end(Shop(server.url, database, "frozen"), "end", server.freeze) < SOON
    finally:
        server.thaw()


def test_a_store_closes_at_once_with_a_frozen_database(start_postgres: Callable[[], PostgresServer]) -> None:
    """Nobody waits for an answer."""
    server = start_postgres()
    engine = create_engine(server.url)
    seed(engine)
    engine.dispose()
    try:
        assert seconds_to_end(Shop("", server.url, "frozen"), "close", server.freeze) < SOON
    finally:
        server.thaw()


def seconds_to_end(shop: Shop, way: str, before: Callable[[], None]) -> float:
    """Have a process use its store and end, and give the seconds that this took, but for the interpreter's own."""
    command = [sys.executable, "-m", "tests.processes.exiting", *shop]
    process = subprocess.Popen(command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with ending(process):
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        before()
        process.stdin.write(f"{way}\n")
        process.stdin.flush()
        seconds = process.stdout.readline()
        assert (process.wait(30), process.stderr.read()) == (0, "")
    return float(seconds)


class Web:
    """A web server with two workers at one port, or each at its own."""

    def __init__(self, process: "subprocess.Popen[bytes]", ports: Sequence[int]) -> None:
        self.process, self._ports = process, cycle(ports)
        self.workers = max(2, len(ports))

    def ask(self, path: str = "") -> dict[str, Any]:
        """Ask one of the workers, each time by a connection of its own."""
        with closing(HTTPConnection("127.0.0.1", next(self._ports), timeout=30)) as connection:
            connection.request("GET", f"/{path}")
            found: dict[str, Any] = json.load(connection.getresponse())
        return found

    def is_up(self) -> bool:
        """Tell whether it answers."""
        assert self.process.poll() is None
        try:
            self.ask()
        except OSError:
            return False
        return True

    def ask_all(self, *, but: int = 0) -> dict[int, dict[str, Any]]:
        """Give an answer of each worker, the last one of many, by process."""
        found: dict[int, dict[str, Any]] = {}

        def all_of_them() -> bool:
            answer = self.ask()
            found[answer["pid"]] = answer
            return len(found.keys() - {but}) == self.workers

        eventually(all_of_them, "another worker")
        return {pid: answer for pid, answer in found.items() if pid != but}

    def values(self) -> set[int]:
        """Give what the workers have."""
        return {answer["value"] for answer in self.ask_all().values()}


@pytest.fixture
def serve(shop: Shop, tmp_path: Path) -> Iterator[Callable[..., Web]]:
    """A function that starts a web server with several workers, by a command without the program and the ports."""
    started: list[subprocess.Popen[bytes]] = []

    def served(command: str, program: str = sys.executable, ports: int = 1, **more: str) -> Web:
        chosen = [own_port(served) for _ in range(ports)]
        with (tmp_path / "log").open("w") as log:
            whole = [program, *command.format(*chosen).split()]
            process = subprocess.Popen(whole, cwd=tmp_path, env=environment(SHOP=",".join(shop), **more), stdout=log, stderr=log)
        started.append(process)
        web = Web(process, chosen)
        wait_until(web.is_up, "the web server")
        return web

    yield served
    for process in [process for process in started if process.poll() is None]:
        # A worker of uvicorn's would stay.
        for worker in psutil.Process(process.pid).children(recursive=True):
            worker.kill()
        process.kill()
        process.wait()


def check_workers(web: Web, shop: Shop) -> None:
    """Have all workers remember and be told, each by a thread of its own."""
    assert web.values() == {0}
    shop.write_behind(1, 1)
    assert web.values() == {0}
    for value in (2, 3, 4):
        assert web.ask(str(value))["value"] == value
        eventually(lambda value=value: web.values() == {value}, "a write")  # type: ignore[misc]
    assert [(answer["threads"], answer["flushes"]) for answer in web.ask_all().values()] == [(1, ["start"])] * web.workers


def end(web: Web) -> None:
    """End a server as a supervisor does."""
    web.process.terminate()
    assert web.process.wait(30) in {0, -signal.SIGTERM}


def check_replacement(web: Web) -> None:
    """Kill a worker, and have the one in its place remember and be told."""
    killed, *others = web.ask_all()
    os.kill(killed, signal.SIGKILL)
    answers = web.ask_all(but=killed)
    assert [answers[other]["flushes"] for other in others] == [["start"]] * len(others)
    assert web.ask("5")["value"] == 5
    eventually(lambda: {answer["value"] for answer in web.ask_all(but=killed).values()} == {5}, "a write")


@pytest.mark.parametrize(("carrier", "threads"), [("redis", "1"), ("postgresql", "4")])
def test_gunicorn_with_a_store_that_was_used_before_the_fork(serve: Callable[..., Web], shop: Shop, threads: str) -> None:
    """Workers remember and are told, also one that takes the place of one that was killed."""
    web = serve(f"{GUNICORN} --threads {threads}", PRELOAD="1")
    check_workers(web, shop)
    check_replacement(web)
    end(web)


@CARRIERS
def test_uwsgi_with_a_store_that_was_used_before_the_fork(serve: Callable[..., Web], shop: Shop) -> None:
    """As gunicorn's; uWSGI forks in C, without Python."""
    web = serve(UWSGI, str(Path(sys.executable).with_name("uwsgi")), 3, PRELOAD="1")
    check_workers(web, shop)
    check_replacement(web)
    end(web)


@pytest.mark.parametrize("carrier", ["redis"])
def test_uvicorn_with_several_workers(serve: Callable[..., Web], shop: Shop) -> None:
    """Workers with event loops remember and are told."""
    web = serve(UVICORN)
    check_workers(web, shop)
    end(web)
