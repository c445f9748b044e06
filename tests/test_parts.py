"""Parts of a run: each file's tests are in one of them, whether it is found or given by name."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.sa_agnostic
NAMES = [f"test_{number}.py" for number in range(8)]


@pytest.mark.parametrize("given", [(), NAMES], ids=["found", "by-name"])
def test_each_file_is_in_one_part(tmp_path: Path, given: tuple[str, ...]) -> None:
    """None is left out or run twice, and no part is empty."""
    for name in NAMES:
        (tmp_path / name).write_text("def test_it(): pass")
    parts = [_collected(tmp_path, "--part", part, *given) for part in ("0/2", "1/2")]
    assert all(parts)
    assert sorted(parts[0] + parts[1]) == [f"{name}::test_it" for name in NAMES]


def test_a_file_of_another_part_is_not_imported(tmp_path: Path) -> None:
    """Where none is left, pytest says so by a status of its own."""
    (tmp_path / "test_0.py").write_text("raise SystemError")
    ends = {_pytest(tmp_path, "--part", part).returncode for part in ("0/2", "1/2")}
    assert ends == {pytest.ExitCode.INTERRUPTED, pytest.ExitCode.NO_TESTS_COLLECTED}


def _collected(folder: Path, *arguments: str) -> list[str]:
    return [line for line in _pytest(folder, *arguments).stdout.splitlines() if "::" in line]


def _pytest(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "tests.parts", f"--rootdir={folder}", *arguments]
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.run(command, cwd=folder, env=alone, capture_output=True, text=True, check=False)
