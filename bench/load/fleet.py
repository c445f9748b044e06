"""A shop with its server, its workers, its schema and its place in the caches, and the processes that ask it."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any, Final

import port_for
import psutil

from bench.load.client import Result, Share, work
from bench.load.filling import fill
from bench.load.http import Connection
from bench.load.options import Options
from bench.load.rows import places
from bench.servers import Servers
from stockstore import open_store

ROOT: Final = Path(__file__).parents[2]
THREADS: Final = 4
"""Those of a worker of gunicorn."""

_GUNICORN: Final = ["gunicorn", "examples.shop_flask.app:create_app()", "--preload", "--worker-class", "gthread", "--threads", str(THREADS)]
_UVICORN: Final = ["uvicorn", "--factory", "examples.shop_fastapi.app:create_app", "--no-access-log"]
_PATIENCE: Final = 60.0
_SPAWN: Final = get_context("spawn")


class NotServedError(Exception):
    """A shop did not come up, or does not answer as it should; the text has the last that its server said."""


@dataclass(frozen=True)
class Fleet:
    """A shop that runs, and those that ask it."""

    port: int
    workers: int
    server: psutil.Process
    pipes: list[Pipe]

    def ask(self, order: float | None) -> Result:
        """Have all processes ask at once, and give what they found together."""
        before = self._cpu()
        for pipe in self.pipes:
            pipe.send(order)
        total = Result()
        for pipe in self.pipes:
            total.add(pipe.recv())
        total.cpu = self._cpu() - before
        return total

    def _cpu(self) -> float:
        times = [process.cpu_times() for process in (self.server, *self.server.children(recursive=True))]
        return sum(each.user + each.system for each in times)

    def tiers(self) -> dict[str, tuple[int, int]]:
        """Give the hits and misses of each tier in all workers together, from the top down.

        Raises:
            TimeoutError: A worker could not be found: new connections went to the others for half a minute.
        """
        told: dict[int, dict[str, Any]] = {}
        deadline = time.monotonic() + _PATIENCE / 2
        while len(told) < self.workers:
            if time.monotonic() > deadline:
                raise TimeoutError(f"only {len(told)} of {self.workers} workers told what they have counted")
            told |= self._told_at_once()
        total: dict[str, tuple[int, int]] = {}
        for tiers in told.values():
            for name, count in tiers.items():
                hits, misses = total.get(_short(name), (0, 0))
                total[_short(name)] = hits + count["hits"], misses + count["misses"]
        return total

    def _told_at_once(self) -> dict[int, dict[str, Any]]:
        """Ask on several new connections at the same moment: one alone would mostly find the same worker."""
        connections = [Connection(self.port) for _ in range(2 * self.workers)]
        try:
            for connection in connections:
                connection.send("/stats")
            answers = [connection.answer()[1] for connection in connections]
        finally:
            for connection in connections:
                connection.close()
        return {answer["process"]: answer["tiers"] for answer in answers}


def _short(name: str) -> str:
    return name.partition("(")[0]


@contextlib.contextmanager
def running_fleet(server: str, cache: str, options: Options, servers: Servers) -> Iterator[Fleet]:
    """Fill a schema, start a shop on it and the processes that ask, and have its caches filled by reading every page; remove all of it at the end."""
    database = servers.empty_database()
    fill(database, options.users)
    urls = _urls(cache, servers, f"load-{uuid.uuid4().hex}")
    with contextlib.ExitStack() as stack:
        for url in urls[-1:]:
            stack.enter_context(contextlib.closing(shared := open_store(url)))
            stack.callback(shared.clear)
        settings = {"SHOP_DATABASE": database.render_as_string(hide_password=False), "SHOP_CACHE": " ".join(_for(server, urls))}
        port, process = stack.enter_context(_running_shop(server, settings, options.workers))
        fleet = Fleet(port, options.workers, process, stack.enter_context(_clients(port, options)))
        if urls and (errors := fleet.ask(None).errors):
            raise NotServedError(f"the shop does not answer as it should: {errors[0]}")
        yield fleet


def _urls(cache: str, servers: Servers, namespace: str) -> list[str]:
    if cache == "none":
        return []
    if cache == "memcached":
        return [f"memcached://{','.join(servers.memcached)}?namespace={namespace}"]
    return ["memory://"] * (cache == "memory") + [f"{servers.redis}?namespace={namespace}"]


def _for(server: str, urls: list[str]) -> list[str]:
    """Give the same caches to a shop that awaits them."""
    return [re.sub("^(rediss?|unix)://", r"\1+asyncio://", url) for url in urls] if server == "uvicorn" else urls


@contextlib.contextmanager
def _running_shop(server: str, settings: dict[str, str], workers: int) -> Iterator[tuple[int, psutil.Process]]:
    port = int(port_for.select_random())
    command = [
        sys.executable,
        "-m",
        *(_GUNICORN if server == "gunicorn" else _UVICORN),
        "--workers",
        str(workers),
        "--log-level",
        "warning",
    ]
    command += ["--bind", f"127.0.0.1:{port}"] if server == "gunicorn" else ["--port", str(port)]
    with tempfile.TemporaryDirectory(prefix="stockstore-load-") as folder:
        log = Path(folder) / "log"
        with log.open("w") as out:
            # In a group of its own, so that no worker outlives it.
            process = subprocess.Popen(
                command, cwd=folder, env={**os.environ, **settings, "PYTHONPATH": str(ROOT)}, stdout=out, stderr=out, start_new_session=True
            )
        try:
            _wait_for(port, process, log)
            yield port, psutil.Process(process.pid)
        finally:
            _stop(process)


def _wait_for(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        with contextlib.suppress(OSError, ValueError):
            Connection(port).ask("/stats")
            return
        if process.poll() is not None or time.monotonic() > deadline:
            said = log.read_text().strip().splitlines() or ["nothing"]
            raise NotServedError(f"the shop did not start; its server said last: {said[-1]}")
        time.sleep(0.05)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def _clients(port: int, options: Options) -> Iterator[list[Pipe]]:
    processes = min(options.clients, options.connections)
    acknowledged = _SPAWN.Array("q", places(options.users))
    with contextlib.ExitStack() as stack:
        pipes: list[Pipe] = []
        for number in range(processes):
            ours, theirs = _SPAWN.Pipe()
            connections = len(range(number, options.connections, processes))
            share = Share(number, processes, connections, port, options.users)
            client = _SPAWN.Process(target=work, args=(share, acknowledged, theirs), daemon=True)
            client.start()
            theirs.close()
            stack.callback(client.join)
            pipes.append(stack.enter_context(contextlib.closing(ours)))
        yield pipes
