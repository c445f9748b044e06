"""What counts as the same result, and what the list of differing tests has to say."""

import json
from typing import Any

import pytest

from tests.orm_suite.compare import ADDED, REPLACED, RETURNED, SERVED, compare, shortened
from tests.orm_suite.run import Test as Ran
from tests.orm_suite.run import read_report

pytestmark = pytest.mark.sa_agnostic

NAME = "test/orm/test_x.py::XTest::test_x"
TRACEBACK = "Traceback\n  File x\nAssertionError: 1 != 2\nassert 1 == 2"


def passed(*statements: str, error: str = "") -> Ran:
    """Give a test that has passed, with one assertion about SQL."""
    return Ran("passed", sql=[{"statements": list(statements), "error": error}])


def judged(without: Ran, with_hook: Ran, **listed: str) -> tuple[dict[str, str] | None, str | None]:
    """Give how a test differs, and what is wrong with it."""
    found = compare({NAME: without}, {NAME: with_hook}, {NAME: listed} if listed else {})
    return found.differing.get(NAME), found.wrong.get(NAME)


def test_same_result() -> None:
    """A test that does the same is none of the list's."""
    assert judged(passed("SELECT 1"), passed("SELECT 1")) == (None, None)
    assert judged(Ran("skipped", "no JSON"), Ran("skipped", "no JSON")) == (None, None)
    _, wrong = judged(passed(), passed(), reason=SERVED, statement="- SELECT 1")
    assert wrong == "is listed (a read was served), and has the same result"


@pytest.mark.parametrize(
    ("without", "with_hook", "reason", "statement"),
    [
        (["SELECT 1", "SELECT 2"], ["SELECT 2"], SERVED, "- SELECT 1"),
        (["SELECT 1 AS a"], ["SELECT 1"], REPLACED, "- SELECT 1 AS a"),
        (["UPDATE x"], ["UPDATE x", "SELECT 1"], ADDED, "+ SELECT 1"),
        (["UPDATE x"], ["UPDATE x RETURNING id"], RETURNED, "- UPDATE x"),
    ],
)
def test_counted_statements(without: list[str], with_hook: list[str], reason: str, statement: str) -> None:
    """A test whose assertion about SQL fails is to be listed, by its first statement that differs."""
    one, other = passed(*without), passed(*with_hook, error="desired statement count does not match")
    entry = {"reason": reason, "statement": statement}
    assert judged(one, other, **entry) == (entry, None)
    found, wrong = judged(one, other)
    assert found == entry
    assert wrong == f"is not listed; {reason}: {statement}"
    _, wrong = judged(one, other, reason=reason, statement="- SELECT 3")
    assert "is listed otherwise" in str(wrong)


@pytest.mark.parametrize("with_hook", [[], ["UPDATE y RETURNING id"], ["UPDATE x", "DELETE x"]])
def test_write_made_otherwise(with_hook: list[str]) -> None:
    """It is wrong, listed or not."""
    one, other = passed("UPDATE x"), passed(*with_hook, error="desired statement count does not match")
    found, wrong = judged(one, other)
    assert found is not None
    assert found["reason"] == ""
    assert "is not listed; a write was made otherwise: " in str(wrong)
    assert "a write was made otherwise: " in str(judged(one, other, **found)[1])


def test_value_that_differs() -> None:
    """A test that fails is wrong, unless that very assertion is listed."""
    found, wrong = judged(passed(), Ran("failed", TRACEBACK))
    assert found == {"reason": "", "assertion": "AssertionError: 1 != 2"}
    assert wrong == "failed: AssertionError: 1 != 2"
    entry = {"reason": "listeners are listed", "assertion": "1 != 2"}
    assert judged(passed(), Ran("failed", TRACEBACK), **entry) == (entry, None)
    _, wrong = judged(passed(), Ran("failed", TRACEBACK.replace("2", "3")), **entry)
    assert wrong == "failed: AssertionError: 1 != 3"
    _, wrong = judged(passed(), Ran("failed", TRACEBACK), reason=SERVED, statement="- SELECT 1")
    assert wrong == "failed: AssertionError: 1 != 2"


def test_test_that_did_not_run() -> None:
    """Neither half may lack a test, nor skip it alone."""
    assert compare({NAME: passed()}, {}, {}).wrong == {NAME: "ran without the hook alone"}
    assert compare({}, {NAME: passed()}, {}).wrong == {NAME: "ran with the hook alone"}
    assert judged(passed(), Ran("skipped", "no hook"))[1] == "skipped: no hook"
    assert judged(Ran("skipped", "no JSON"), Ran("skipped", "no sequences")) == (None, None)


def test_report() -> None:
    """The names of tests are the same on all machines."""
    line: dict[str, Any] = {
        "id": "test/orm/x.py::XTest_sqlite+pysqlite_3_40_1::test_x",
        "outcome": "passed",
        "why": "",
        "sql": [],
        "hook": {},
    }
    assert list(read_report([json.dumps(line)])) == ["test/orm/x.py::XTest_sqlite::test_x"]


def test_shortened() -> None:
    """What stands in a list is on one line, of no more than 160 characters, without addresses."""
    assert shortened("Mapper at 0x7f3\n\n 12") == "Mapper at 0x 12"
    assert len(shortened("x" * 500)) == 160
