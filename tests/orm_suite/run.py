"""Runs SQLAlchemy's tests in several processes, and reads what they have written down."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.orm_suite.source import ROOT

_SERVER: Final = re.compile(r"_sqlite\+pysqlite_[\d_]+(?=::|$)")
"""What SQLAlchemy adds to the name of a class that runs once per database: the version of this machine's SQLite."""
_RAN: Final = (0, 1)
_SECONDS: Final = "300"
"""What a test may take, should it never end."""


class BrokenRun(RuntimeError):
    """A process of tests ended before its tests."""


@dataclass
class Test:
    """What one test did.

    Attributes:
        outcome: ``passed``, ``skipped``, ``failed``, or ``failed in`` setup or teardown.
        why: Its traceback, or why it was skipped.
        sql: For each of its assertions about SQL what was executed, and what was wrong about that.
        hook: What the hook did, counted.
    """

    outcome: str
    why: str = ""
    sql: list[dict[str, Any]] = field(default_factory=list)
    hook: dict[str, int] = field(default_factory=dict)


Tests = dict[str, Test]


def run(folder: Path, files: Sequence[str], modes: Iterable[str], *, jobs: int, options: Sequence[str] = ()) -> dict[str, Tests]:
    """Run files of tests once in each mode, in so many processes at a time.

    Raises:
        BrokenRun: A process ended otherwise than by having run its tests.
    """
    groups = _groups(folder, files, 1 if len(files) < jobs * 2 else jobs * 2)
    asked = [(mode, group) for group in groups for mode in modes]
    found: dict[str, Tests] = {mode: {} for mode in modes}
    with ThreadPoolExecutor(jobs) as pool:
        for (mode, _), tests in zip(asked, pool.map(lambda one: _run(folder, one[1], one[0], options), asked), strict=True):
            found[mode].update(tests)
    return found


def _groups(folder: Path, files: Sequence[str], count: int) -> list[list[str]]:
    """Part files into groups that take about as long as one another."""
    groups: list[list[str]] = [[] for _ in range(count)]
    sizes = [0] * count
    for file in sorted(files, key=lambda file: (folder / file).stat().st_size, reverse=True):
        smallest = sizes.index(min(sizes))
        groups[smallest].append(file)
        sizes[smallest] += (folder / file).stat().st_size
    return [sorted(group) for group in groups if group]


def _run(folder: Path, files: Sequence[str], mode: str, options: Sequence[str]) -> Tests:
    with tempfile.TemporaryDirectory() as made:  # where the tests put databases of theirs
        report = Path(made) / "report"
        command = [
            *(sys.executable, "-s", "-m", "pytest", "-q", "--tb=native", "-o", "addopts=", "--strict-markers"),
            *(
                "-p",
                "no:cacheprovider",
                "-p",
                "pytest_timeout",
                "--timeout",
                _SECONDS,
                "-p",
                "tests.orm_suite.plugin",
                "--stockstore-hook",
                mode,
                "--stockstore-report",
                str(report),
            ),
            *("--rootdir", str(folder), "-c", str(folder / "pyproject.toml")),
            *options,
            *(str(folder / file) for file in files),
        ]
        done = subprocess.run(command, cwd=made, env=_environment(folder), capture_output=True, text=True, check=False)
        if done.returncode not in _RAN:
            raise BrokenRun(f"pytest ended with {done.returncode}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
        return read_report(report.read_text(encoding="utf-8").splitlines())


def _environment(folder: Path) -> dict[str, str]:
    """The order of sets is that of the other half, and no plugin of this environment takes part."""
    own = {"PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", "PYTHONHASHSEED": "0", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return {**{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}, **own}


def read_report(lines: Iterable[str]) -> Tests:
    """Read what a process has written down."""
    found = {}
    for line in lines:
        told = json.loads(line)
        name = _SERVER.sub("_sqlite", told.pop("id"))
        found[name] = Test(**told)
    return found
