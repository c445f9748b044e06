"""A sample of SQLAlchemy's own tests, without and with the hook on every session; `scripts/orm-suite` runs all of them."""

import pytest
import sqlalchemy

from tests.orm_suite.__main__ import chosen, listed_in
from tests.orm_suite.compare import compare, list_path
from tests.orm_suite.report import numbers, render
from tests.orm_suite.run import run
from tests.orm_suite.source import sources

# Each version of SQLAlchemy has another part of the sample.
FILES = ["test_expire.py"] if sqlalchemy.__version__ < "2.1" else ["test_session.py"]


@pytest.mark.timeout(600)
def test_sample() -> None:
    """The results are the same, but for SQL that a test counts and that a cache has saved: each such test is listed."""
    folder = sources()
    files = chosen(folder, FILES)
    halves = run(folder, files, ("none", "read"), jobs=2)
    found = compare(halves["none"], halves["read"], listed_in(list_path(sqlalchemy.__version__, "read"), files))
    figures = numbers(found, halves["none"], halves["read"], 0)
    assert not found.wrong, render("if the statements are right, scripts/orm-suite FILE --update lists them", figures)
    assert figures["tests"] > 200
    assert figures["failing without the hook"] == 0
    assert figures["hook fired"] > 1000
    assert figures["caches"]["hits"] > 10
