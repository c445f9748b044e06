"""The assertions about SQL in SQLAlchemy's tests: what was executed, and which of them did not hold.

They are noted and go on, so that a test in which a cache has saved a statement still has to find all of its values right.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.testing import assertsql


class Statements:
    """What the tests' assertions about SQL saw."""

    def __init__(self) -> None:
        self._test: list[dict[str, Any]] = []

    @classmethod
    def watching(cls) -> "Statements":
        """Watch the one method by which all of them are made."""
        made = cls()
        original: Any = assertsql.SQLAsserter.assert_

        def assert_(asserter: Any, *rules: Any) -> None:
            seen = {"statements": [_text(one) for one in asserter._final], "error": ""}
            made._test.append(seen)
            try:
                original(asserter, *rules)
            except AssertionError as error:
                seen["error"] = str(error)

        setattr(assertsql.SQLAsserter, "assert_", assert_)  # noqa: B010 - a method is no variable to a type checker
        return made

    @contextmanager
    def of_one_test(self) -> Iterator[list[dict[str, Any]]]:
        """Give the list that one test fills."""
        self._test = []
        yield self._test


def _text(observed: Any) -> str:
    return "; ".join(" ".join(statement.statement.split()) for statement in observed.statements)
