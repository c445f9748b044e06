"""A short race of each sort: the library's protocol is right, others and one with a defence less are found wrong."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.race.__main__ import main
from tests.race.checker import STALE
from tests.race.job import READS
from tests.race.mutations import MUTATIONS, take_away
from tests.race.report import failing

# The races themselves take seconds; beginning their processes takes what the machine leaves them.
pytestmark = pytest.mark.timeout(400)


def race(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the race as a user does."""
    return subprocess.run([sys.executable, "-m", "tests.race", *arguments], capture_output=True, text=True, check=False)


def figures(path: Path, *arguments: str) -> dict[str, Any]:
    """Race and give the figures; what went wrong in the processes is shown."""
    done = race("--processes", "4", "--keys", "8", "--json", str(path), *arguments)
    assert path.exists(), done.stderr
    report = json.loads(path.read_text())
    assert report["figures"]["errors"] == 0, done.stdout
    assert done.returncode == (1 if failing(report) else 0)
    found: dict[str, Any] = report["figures"]
    return found


def is_found(path: Path, *arguments: str) -> bool:
    """Race until a stale read is found, for a busy machine at most ten times."""
    return any(figures(path, *arguments, "--seconds", "2")[STALE] for _ in range(10))


@pytest.mark.parametrize("reads", [pytest.param(reads, marks=() if reads == "sessions" else pytest.mark.sa_agnostic) for reads in READS])
def test_strict_is_right_while_writers_are_killed(redis_url: str, postgres_schema_url: str, reads: str) -> None:
    """No read is stale, and nothing is stale, lost or marked at rest, though processes die at every point of the protocol."""
    servers = ["--cache", redis_url, "--database", postgres_schema_url]
    done = race(*servers, "--reads", reads, "--seconds", "3", "--processes", "4", "--faults", "kill,stop,drop", "--on-unreachable", "abort")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All that has to be zero is zero." in done.stdout


@pytest.mark.sa_agnostic
def test_two_releases_side_by_side_are_right(redis_url: str, postgres_schema_url: str) -> None:
    """Half of the processes know one column more: neither release is given what the other has outdated, though processes die."""
    servers = ["--cache", redis_url, "--database", postgres_schema_url]
    done = race(*servers, "--releases", "2", "--seconds", "2.5", "--processes", "4", "--faults", "kill", "--on-unreachable", "abort")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.sa_agnostic
def test_memory_is_never_further_behind_than_it_may_be(redis_url: str, postgres_schema_url: str, tmp_path: Path) -> None:
    """Processes that believe their own memory for half a second, while some of them die."""
    servers = ["--cache", redis_url, "--database", postgres_schema_url]
    held = ["--memory", "bounded", "--max-staleness", "0.5"]
    told = figures(tmp_path / "race.json", *servers, *held, "--seconds", "2.5", "--faults", "kill,stop", "--on-unreachable", "abort")
    assert (told["stale beyond the bound"], told["non-linearizable beyond the bound"], told["own writes missed"]) == (0, 0, 0)
    assert told["memory hit ratio"] > 0.1


@pytest.mark.sa_agnostic
def test_a_channel_that_is_cut_and_loses_messages_leaves_nothing_stale(redis_url: str, postgres_schema_url: str, tmp_path: Path) -> None:
    """No read is further behind than it may be, and no memory holds anything old at rest."""
    servers = ["--cache", redis_url, "--database", postgres_schema_url]
    faults = ["--faults", "cut,lose,kill", "--on-unreachable", "abort"]
    for _ in range(4):
        told = figures(tmp_path / "race.json", *servers, "--memory", "--seconds", "4", *faults)
        assert (told["stale beyond the bound"], told["non-linearizable beyond the bound"], told["stale at rest"]) == (0, 0, 0)
        # A busy machine may come to one of them only.
        if told["counts"]["messages heard"] and told["faults injected"].get("channels cut"):
            return
    pytest.fail(f"the channel was not cut, or carried nothing: {told}")


@pytest.mark.sa_agnostic
@pytest.mark.parametrize(("cache", "faults"), [("cluster", "failover,reshard"), ("sentinel", "failover")])
def test_strict_is_right_while_primaries_are_replaced(postgres_schema_url: str, cache: str, faults: str) -> None:
    """No read is stale, and nothing is stale, lost or marked at rest, though a replica that is behind takes over, and slots move."""
    servers = ["--cache", cache, "--database", postgres_schema_url]
    missing, said = set(faults.split(",")), ""
    # On a busy machine one fault may take a whole race.
    for _ in range(4):
        done = race(*servers, "--seconds", "3", "--processes", "2", "--faults", ",".join(sorted(missing)), "--on-unreachable", "abort")
        said += done.stdout + done.stderr
        assert done.returncode == 0, said
        missing -= {fault for fault in missing if re.search(rf"^ +{fault} +[1-9]", done.stdout, re.MULTILINE)}
        if not missing:
            break
    assert not missing, said


@pytest.mark.sa_agnostic
def test_the_naive_way_is_found_stale(redis_url: str, postgres_schema_url: str, tmp_path: Path) -> None:
    """The same race sees the staleness of a cache that is written after the commit."""
    late = ["--pause", "after read:0.5", "--pause", "before fill:0.5", "--pause", "after commit:0.3"]
    servers = ["--cache", redis_url, "--database", postgres_schema_url]
    assert is_found(tmp_path / "race.json", *servers, *late, "--protocol", "naive")


@pytest.mark.sa_agnostic
def test_a_protocol_without_a_defence_is_found_wrong(redis_url: str, postgres_schema_url: str, tmp_path: Path) -> None:
    """The same race sees what leases are for, and the model too."""
    path, name = tmp_path / "race.json", "a fill looks for its lease"
    servers = ["--cache", redis_url, "--database", postgres_schema_url]
    done = race(*servers, "--mutate", "--only", name, "--seconds", "60", "--json", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    (told,) = json.loads(path.read_text())["defences"]
    assert (told["defence"], told["verdict"]) == (name, "race and model"), done.stdout
    assert f"{name}  " in done.stdout


@pytest.mark.sa_agnostic
@pytest.mark.parametrize("name", MUTATIONS)
def test_each_defence_can_be_taken_away(name: str) -> None:
    """What a mutation changes is still there to be changed."""
    child = os.fork()
    if not child:
        try:
            take_away(name)
        except BaseException:  # noqa: BLE001 - the parent's assertion tells
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.sa_agnostic
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--seconds", "x"], "'x' is no number of seconds above 0"),
        (["--processes", "0"], "'0' is no number from 1 on"),
        (["--cache", "http://localhost"], "'http://localhost' is none of redis, cluster, sentinel, memcached, nor a URL of one"),
        (["--cache", "sentinel", "--reads", "awaited"], "Sentinels are raced by blocking clients only"),
        (["--database", "sqlite://"], "'sqlite://' is no URL of a PostgreSQL"),
        (["--faults", "kill,fire"], "no fault is called fire; there are kill,"),
        (["--protocol", "naive", "--reads", "sessions"], "naive knows no --reads sessions"),
        (["--only", "a gap flushes"], "--only is for --mutate"),
        (["--mutate", "--cache", "memcached"], "--mutate takes the defences away that there are over one Redis"),
        (["--pause", "lunch:1"], "'lunch:1' is no point and chance"),
        (["--cache", "redis://127.0.0.1:1", "--database", "postgresql+psycopg://127.0.0.1:1/x"], "a server did not answer, or refused"),
    ],
)
def test_bad_arguments_are_told_in_one_line(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    """They end it with status 2."""
    assert status_of(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert told in err
    assert err.count("\n") == 1


def status_of(arguments: list[str]) -> int:
    """Give the status that the command ends with."""
    try:
        return main(arguments)
    except SystemExit as ended:
        return int(str(ended.code))
