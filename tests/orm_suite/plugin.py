"""The pytest plugin that SQLAlchemy's tests are run with: it attaches a hook for each test, and writes down what each test did.

It is loaded by ``-p``, before SQLAlchemy's own plugin, which wants to import SQLAlchemy first.
"""

import json
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

MODES = ("none", "write", "read", "warm")
_BYTES = 4 << 30
"""What a process may take, should a test never end."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that the runner gives."""
    group = parser.getgroup("stockstore")
    group.addoption("--stockstore-hook", choices=MODES, default="none", help="what is attached to every session")
    group.addoption("--stockstore-cache", default="", help="the URL of a Redis; process memory where empty")
    group.addoption("--stockstore-report", help="a file for a line of JSON per test")


def pytest_configure(config: pytest.Config) -> None:
    """Begin to write down, where a file is given."""
    resource.setrlimit(resource.RLIMIT_AS, (_BYTES, _BYTES))
    if config.option.stockstore_report:
        config.pluginmanager.register(_Recorder(config.option))


class _Recorder:
    """Tells of each test its outcome, the SQL that it asserted, and what the hook did."""

    def __init__(self, option: Any) -> None:
        self._hooking = (option.stockstore_hook, option.stockstore_cache)
        self._file = Path(option.stockstore_report).open("a", encoding="utf-8")  # noqa: SIM115 - closed at the end of the run
        self._test: dict[str, Any] = {}
        self._sql: Any = None

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self) -> None:
        """Look at the assertions about SQL."""
        from tests.orm_suite.statements import Statements

        self._sql = Statements.watching()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Run one test with a hook of its own."""
        from tests.orm_suite.hook import hooked

        self._test = {"id": item.nodeid, "outcome": "passed", "why": ""}
        with self._sql.of_one_test() as asserted, hooked(*self._hooking) as counts:
            done = yield
        self._test.update(sql=asserted, hook=counts)
        self._file.write(json.dumps(self._test) + "\n")
        self._file.flush()
        return done

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the first thing that went wrong."""
        if report.outcome != "passed" and self._test["outcome"] == "passed":
            self._test["outcome"] = report.outcome if report.when == "call" or report.skipped else f"{report.outcome} in {report.when}"
            self._test["why"] = _why(report)

    def pytest_unconfigure(self) -> None:
        """Close the file."""
        self._file.close()


def _why(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2])
    return report.longreprtext
