"""A race that is told to end leaves nothing running, and tells what it has measured."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.race.log import COUNT, NAMES, READ, records_in
from tests.servers.server import wait_until

pytestmark = [pytest.mark.sa_agnostic, pytest.mark.timeout(300)]
_START_SECONDS = 120.0
_END_SECONDS = 60.0
"""It takes two; a busy machine has more to do."""


@contextmanager
def racing(*arguments: str) -> "Iterator[subprocess.Popen[str]]":
    """Begin a race, and leave nothing of it, whatever it does."""
    command = [sys.executable, "-m", "tests.race", "--processes", "2", "--seconds", "600", *arguments]
    race = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield race
    finally:
        for process in started_by(race):
            process.kill()
        race.kill()
        race.communicate()


def started_by(race: "subprocess.Popen[str]") -> list[psutil.Process]:
    """Give its servers, workers, and what helps them."""
    return psutil.Process(race.pid).children(recursive=True) if race.poll() is None else []


def runs(process: psutil.Process) -> bool:
    """Whether it has not ended yet; one that was killed may take a moment, and its number longer."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(what: Callable[[], bool], race: "subprocess.Popen[str]") -> None:
    """Wait for what the race does."""
    deadline = time.monotonic() + _START_SECONDS
    while not what():
        assert race.poll() is None, race.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def has_measured(kept: Path) -> bool:
    """Whether there are reads, and the count of writes is not in memory alone."""
    seen = {(record.kind, record.register) for path in kept.glob("*.log") for record in records_in(path)}
    return (COUNT, NAMES.index("writes attempted")) in seen and READ in {kind for kind, _ in seen}


def test_a_signal_ends_a_race_and_all_that_it_started(tmp_path: Path) -> None:
    """Its own servers too, be they frozen; what was read until then is judged and told."""
    kept = tmp_path / "kept"
    with racing("--faults", "kill,stop,freeze", "--on-unreachable", "abort", "--keep", str(kept)) as race:
        wait_for(lambda: has_measured(kept), race)
        started = started_by(race)
        race.send_signal(signal.SIGTERM)
        out, err = race.communicate(timeout=_END_SECONDS)
        wait_until(lambda: not any(map(runs, started)), "the end of what the race has started")
    assert race.returncode == 128 + signal.SIGTERM, err
    assert "Ended by SIGTERM: what was measured so far is zero where it has to be." in out
    assert any(line.startswith("reads ") and line.split()[1] != "0" for line in out.splitlines())


def test_a_signal_ends_the_start_of_servers() -> None:
    """Where nothing was measured yet, it says so."""
    with racing() as race:
        wait_for(lambda: any("redis-server" in process.name() for process in started_by(race)), race)
        started = started_by(race)
        race.send_signal(signal.SIGINT)
        _, err = race.communicate(timeout=_END_SECONDS)
        wait_until(lambda: not any(map(runs, started)), "the end of what the race has started")
    assert (race.returncode, err) == (128 + signal.SIGINT, "race: ended by SIGINT before anything was measured\n")
