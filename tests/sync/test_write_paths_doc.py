"""The published list of write paths names tests that exist."""

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

LIST = Path(__file__).parents[2] / "docs" / "guide" / "write-paths.md"
HEADING = re.compile(r"test in `(\w+)\.py`")
TOKEN = re.compile(r"`([^`]+)`")
NAMED = re.compile(r"(?:(\w+)\.py)?(?:::(\w+)(?:\.\.\.)?)?(?:\[([^\]]+)\])?")


def named_tests() -> Iterator[tuple[str, str, str | None]]:
    """Give module, function and parameter of every test that is named; what one leaves out is as of the one before it."""
    module = function = ""
    for line in LIST.read_text().splitlines():
        cells = line.strip("| ").split(" | ")
        if found := HEADING.search(line):
            module, function = found[1], ""
        elif len(cells) == 3 and cells[1] != "caches":
            for token in TOKEN.findall(cells[2]):
                found = NAMED.fullmatch(token)
                assert found, f"{token} is no name of a test"
                function = found[2] or function
                yield found[1] or module, function, found[3]


def parameters_of(module: ModuleType, function: str) -> set[str]:
    """Give the texts by which a function is parametrized."""
    found: set[str] = set()
    for mark in getattr(getattr(module, function), "pytestmark", ()):
        if mark.name == "parametrize":
            found |= {str(value) for value in mark.kwargs.get("ids") or mark.args[1] if isinstance(value, str)}
    return found


def test_list_is_read() -> None:
    """The list is long, so that it was not misread."""
    assert len(list(named_tests())) > 60


@pytest.mark.parametrize(("module", "function", "parameter"), dict.fromkeys(named_tests()))
def test_named_test_exists(module: str, function: str, parameter: str | None) -> None:
    """Each is there; a name that ends with dots stands for all that begin so."""
    found = import_module(f"tests.sync.{module}")
    functions = [name for name in vars(found) if name == function or (function.endswith("_") and name.startswith(function))]
    assert functions
    if parameter is not None:
        known = parameters_of(found, function)
        start = parameter.removesuffix("...")
        assert parameter in known or (start != parameter and any(name.startswith(start) for name in known))
