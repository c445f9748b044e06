"""Parts of a run that go side by side: ``--part 0/2`` keeps one half of the files."""

import os
import zlib
from functools import cache
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the part."""
    parser.addoption("--part", metavar="K/N", default="0/1", help="keep one part of the files: K, from 0, of N")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import no file of another part; pytest does not ask about those that are given by name."""
    return True if collection_path.is_file() and not _is_kept(collection_path, config) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item], config: pytest.Config) -> None:
    """Leave what is given by name to its part, too."""
    if gone := [item for item in items if not _is_kept(item.path, config)]:
        config.hook.pytest_deselected(items=gone)
        items[:] = [item for item in items if _is_kept(item.path, config)]


@cache
def _is_kept(path: Path, config: pytest.Config) -> bool:
    # By its name, so that a file stays in its part whatever others come and go.
    part, parts = map(int, config.getoption("part").split("/"))
    return zlib.crc32(os.path.relpath(path, config.rootpath).encode()) % parts == part
