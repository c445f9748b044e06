"""The command line of the comparison."""

import argparse
import contextlib
import fnmatch
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import sqlalchemy

from tests.orm_suite.compare import Comparison, compare, list_path, read_list, write_list
from tests.orm_suite.report import numbers, render
from tests.orm_suite.run import BrokenRun, Tests, run
from tests.orm_suite.source import NoSources, sources, test_files
from tests.servers.ending import interrupt_on_sigterm
from tests.servers.redis import running_redis
from tests.servers.source import NoServer

_HOOK: Final = "with reads through caches that are empty at first (read), through such as hold all rows (warm), or no reads (write)"


def parser() -> argparse.ArgumentParser:
    """Give the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="orm-suite",
        description="Runs SQLAlchemy's own tests of its ORM without and with the hook on every session, and compares them.",
    )
    made.add_argument("files", nargs="*", metavar="FILE", help="patterns of names such as test_session.py (all)")
    made.add_argument("--hook", choices=("read", "warm", "write"), default="read", help=_HOOK)
    made.add_argument("--cache", choices=("memory", "redis"), default="memory", help="what the sessions' caches are (memory)")
    made.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many processes at a time (as many as there are CPUs)")
    made.add_argument("--json", type=Path, help="a file for the figures")
    made.add_argument("--update", action="store_true", help="write the list anew of the tests that differ in SQL alone")
    return made


@contextlib.contextmanager
def _cache(kind: str) -> Iterator[list[str]]:
    if kind == "memory":
        yield []
    else:
        with running_redis() as server:
            yield ["--stockstore-cache", server.url]


def chosen(folder: Path, patterns: list[str]) -> list[str]:
    """Give the files that patterns name, all where there are none."""
    return [file for file in test_files(folder) if not patterns or any(fnmatch.fnmatch(Path(file).name, pattern) for pattern in patterns)]


def main(arguments: list[str] | None = None) -> int:
    """Compare, tell, and give 0 where nothing is wrong, else 1."""
    given = parser().parse_args(arguments)
    began = time.monotonic()
    try:
        folder = sources()
        files = chosen(folder, given.files)
        with _cache(given.cache) as options:
            if given.hook == "warm":  # what is committed is read by another connection
                options += ["--dburi", "sqlite:///suite.db"]
            halves = run(folder, files, ("none", given.hook), jobs=given.jobs, options=options)
    except (NoSources, BrokenRun, NoServer) as error:
        sys.stderr.write(f"orm-suite: {error}\n")
        return 2
    path = list_path(sqlalchemy.__version__, given.hook)
    listed = listed_in(path, files)
    comparison = compare(halves["none"], halves[given.hook], listed)
    if given.update:
        comparison = _update(path, files, comparison, halves["none"], halves[given.hook])
    figures = numbers(comparison, halves["none"], halves[given.hook], time.monotonic() - began)
    sys.stdout.write(render(f"SQLAlchemy {sqlalchemy.__version__}, test/orm: {given.hook}, {given.cache}", figures))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1))
    return 1 if comparison.wrong else 0


def listed_in(path: Path, files: list[str]) -> dict[str, dict[str, str]]:
    """Give the tests of some files that may differ."""
    known = set(files)
    return {name: entry for name, entry in read_list(path).items() if name.partition("::")[0] in known}


def _update(path: Path, files: list[str], found: Comparison, without: Tests, with_hook: Tests) -> Comparison:
    """Take what differs in SQL into the list; what fails otherwise is put there by hand."""
    known = set(files)
    kept = {name: entry for name, entry in read_list(path).items() if name.partition("::")[0] not in known}
    kept |= {name: entry for name, entry in found.differing.items() if entry["reason"]}
    write_list(path, kept)
    return compare(without, with_hook, listed_in(path, files))


if __name__ == "__main__":
    interrupt_on_sigterm()
    sys.exit(main())
