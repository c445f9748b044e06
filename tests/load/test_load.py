"""The load of the web shops: that it measures what it says, and refuses what it cannot do."""

import json
import multiprocessing
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import port_for
import pytest

from bench.load.__main__ import main
from bench.load.client import Caller, Result, Share
from bench.load.figures import figures, staleness
from bench.load.rows import ITEMS, first_item, item_place, places, seller_of, user_place

pytestmark = pytest.mark.sa_agnostic

ROOT = Path(__file__).parents[2]
SECOND = 10**9
REFUSED = 2


def load(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script from another folder than the repository's."""
    return subprocess.run(
        [ROOT / "scripts" / "load", *arguments],
        capture_output=True,
        encoding="utf-8",
        cwd="/",
        env={**os.environ, "PYTHONUTF8": "1"},
        check=False,
    )


def test_workers_of_both_servers_are_measured(redis_url: str, postgres_url: str, tmp_path: Path) -> None:
    """A short run on each: answers without an error, hits of every tier, and nothing older than process memory's second."""
    told = tmp_path / "told.json"
    short = ["--workers", "2", "--rounds", "1", "--users", "3", "--connections", "4"]
    # A slow machine may come to no change, or to no second read, in a second.
    for seconds in ("1", "5"):
        result = load(
            "--cache", "memory", "--redis", redis_url, "--database", postgres_url, "--json", str(told), "--seconds", seconds, *short
        )
        assert (result.returncode, result.stderr) == (0, ""), result.stdout
        servers = json.loads(told.read_text())["servers"]
        if all(shops["memory"]["writes"] and shops["memory"]["hit ratio"]["ProcessMemoryStore"] for shops in servers.values()):
            break
    assert servers.keys() == {"gunicorn", "uvicorn"}
    for shops in servers.values():
        found = shops["memory"]
        assert (found["errors"], found["error"]) == (0, None)
        assert found["requests"] > 0
        assert found["rows read"] > 0
        assert found["writes"] > 0
        assert list(found["hit ratio"]) == ["ProcessMemoryStore", "RedisStore", "SqlAlchemyStore"]
        assert found["hit ratio"]["ProcessMemoryStore"] > 0
        assert 0 <= found["staleness, largest (ms)"] <= 1000
    assert re.search(r"^gunicorn +memory$", result.stdout, re.MULTILINE)
    assert re.search(r"^errors +0$", result.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--workers", "0"], "'0' is no whole number from 1 to 10000"),
        (["--workers", "many"], "'many' is no whole number"),
        (["--seconds", "-1"], "'-1' is no number of seconds above 0"),
        (["--seconds", "inf"], "'inf' is no number of seconds above 0"),
        (["--server", "apache"], "invalid choice: 'apache'"),
        (["--cache", "disk"], "invalid choice: 'disk'"),
        (["--redis", "localhost"], "'localhost' is no URL of a Redis"),
        (["--memcached", "localhost"], "'localhost' is no host:port"),
        (["--database", "sqlite:///shop.db"], "no URL such as postgresql+psycopg://user@host/shop"),
        (["--database", "nothing"], "no URL such as postgresql+psycopg://user@host/shop"),
        (["--json", "/nowhere/told.json"], "'/nowhere/told.json' cannot be written"),
        (["--fast"], "unrecognized arguments: --fast"),
    ],
)
def test_bad_arguments_are_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Refused before anything is started, with status 2."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == REFUSED
    assert said in line_of(*capsys.readouterr())


@pytest.mark.parametrize(
    ("option", "address"),
    [("--redis", "redis://127.0.0.1:{}"), ("--memcached", "127.0.0.1:{}"), ("--database", "postgresql+psycopg://me@127.0.0.1:{}/shop")],
)
def test_a_server_that_does_not_answer_is_one_line(option: str, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Found out before anything is started, with status 2."""
    assert main([option, address.format(port_for.select_random())]) == REFUSED
    assert "a server did not answer" in line_of(*capsys.readouterr())


def test_the_script_ends_with_its_status() -> None:
    """What it cannot do is one line and status 2."""
    result = load("--workers", "0")
    assert result.returncode == REFUSED
    assert "'0' is no whole number" in line_of(result.stdout, result.stderr)


def line_of(out: str, err: str) -> str:
    """Give the one line that was said."""
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("load: ")
    return line


class Behind(BaseHTTPRequestHandler):
    """A shop of one user that counts versions, and shows each as it was so many writes ago."""

    protocol_version = "HTTP/1.1"
    versions: ClassVar[dict[str, int]] = {}
    behind: ClassVar[int] = 0

    def do_PATCH(self) -> None:
        """Count a version up."""
        self.rfile.read(int(self.headers["Content-Length"]))
        path = self.path.replace("/users/me", "/users/1")
        self.versions[path] = self.versions.get(path, 1) + 1
        self._answer({"version": self.versions[path]})

    def do_GET(self) -> None:
        """Show a page, or an item."""
        if self.path.endswith("/items"):
            self._answer({"user": self._shown("/users/1"), "items": [self._shown(f"/items/{n}") | {"id": n} for n in range(1, ITEMS + 1)]})
        else:
            self._answer(self._shown(self.path))

    def _shown(self, path: str) -> dict[str, Any]:
        return {"version": max(self.versions.get(path, 1) - self.behind, 1)}

    def _answer(self, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def found(request: pytest.FixtureRequest) -> Iterator[Result]:
    """What one caller finds of such a shop in a moment."""
    handler = type("Handler", (Behind,), {"versions": {}, "behind": request.param})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        share = Share(number=0, processes=1, connections=1, port=server.server_address[1], users=1)
        # By its number this caller writes first of all.
        caller, result = Caller(share, 0, multiprocessing.get_context("spawn").Array("q", places(1))), Result()
        for _ in range(20):
            result.add(caller.run(0.5))
            # A machine that stands still may leave no time to read what was written.
            if result.stale or not request.param:
                break
        yield result
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("found", [0], indirect=True)
def test_fresh_answers_are_not_stale(found: Result) -> None:
    """Each read shows what was acknowledged before it."""
    assert found.writes
    assert (found.stale, found.errors) == ([], [])


@pytest.mark.parametrize("found", [1], indirect=True)
def test_an_answer_behind_an_acknowledged_write_is_stale(found: Result) -> None:
    """What is shown as it was before the last write counts, with the time since that write, however long it stays so."""
    lasted = (max(start for _, _, start in found.stale) - min(moment for _, _, moment in found.writes)) / 1e6
    assert found.writes
    assert found.stale
    told = figures([found], None, 0.5, {"ProcessMemoryStore": (3, 1), "NullStore": (0, 0)})
    assert told["stale rows"] == len(found.stale)
    assert 0 < told["staleness, largest (ms)"] <= lasted + 1
    assert told["hit ratio"] == {"ProcessMemoryStore": 0.75, "NullStore": None}


def test_staleness_begins_with_the_first_newer_acknowledgement() -> None:
    """Not with the last one, and not with one that was told late."""
    writes = [(7, 4, 9 * SECOND), (7, 3, 4 * SECOND), (7, 2, 5 * SECOND), (8, 9, 1)]
    stale = [(7, 1, 10 * SECOND), (7, 2, 10 * SECOND), (7, 3, 10 * SECOND)]
    assert staleness(stale, writes) == [6.0, 6.0, 1.0]


def test_percentiles_of_all_rows_count_the_fresh_ones() -> None:
    """Two of a hundred rows are stale: the 99th of them is one of the two."""
    result = Result(
        {"page": [0.001], "item": [], "write": []}, rows=100, stale=[(7, 1, 2 * SECOND), (7, 1, 4 * SECOND)], writes=[(7, 2, SECOND)]
    )
    told = figures([result], None, 1.0, {})
    assert told["staleness, 99th percentile of all rows (ms)"] == 3000
    assert told["staleness, largest (ms)"] == 3000
    assert figures([Result({"page": [0.001], "item": [], "write": []}, rows=100)], None, 1.0, {})["staleness, largest (ms)"] == 0


def test_a_row_may_be_ignorant_of_what_was_written_before_the_first_round() -> None:
    """Those writes are known, and count as no round's."""
    result = Result({"page": [0.001], "item": [], "write": []}, rows=1, stale=[(7, 1, 2 * SECOND)])
    told = figures([result], None, 1.0, {}, [(7, 2, SECOND)])
    assert (told["staleness, largest (ms)"], told["writes"]) == (1000, 0)


def test_each_row_has_a_place_of_its_own() -> None:
    """A user's items stand behind him, and nobody else's among them."""
    taken = [place for user in (1, 2, 3) for place in (user_place(user), *(item_place(first_item(user) + n) for n in range(ITEMS)))]
    assert taken == list(range(user_place(1), user_place(4)))
    assert places(3) == user_place(4)
    assert [seller_of(item) for item in (1, ITEMS, ITEMS + 1)] == [1, 1, 2]
