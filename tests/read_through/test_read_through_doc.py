"""The published list of what is served names tests that exist."""

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from tests.sync.test_write_paths_doc import NAMED, TOKEN

LIST = Path(__file__).parents[2] / "docs" / "guide" / "read-through.md"
HEADING = re.compile(r"test in `(\w+)\.py`")


def named_tests() -> Iterator[tuple[str, str, str | None]]:
    """Give module, function and parameter of every test that is named; what one leaves out is as of the one before it."""
    module = function = ""
    for line in LIST.read_text().splitlines():
        cells = line.strip("| ").split(" | ")
        if line.startswith("|") and cells[-1].startswith("test"):
            found = HEADING.search(line)
            module, function = found[1] if found else module, ""
        elif line.startswith("| ") and len(cells) > 2:
            tokens = TOKEN.findall(cells[-1])
            assert tokens, f"{line} names no test"
            for token in tokens:
                found = NAMED.fullmatch(token)
                assert found, f"{token} is no name of a test"
                module, function = found[1] or module, found[2] or function
                yield module, function, found[3]


def test_list_is_read() -> None:
    """The list is long, so that it was not misread."""
    assert len(list(named_tests())) > 100


@pytest.mark.parametrize(("module", "function"), dict.fromkeys((module, function) for module, function, _ in named_tests()))
def test_named_test_exists(module: str, function: str) -> None:
    """Each is there, and has the parameters that are named."""
    found = import_module(f"tests.read_through.{module}")
    source = Path(found.__file__ or "").read_text()
    assert callable(getattr(found, function))
    for parameter in {parameter for *place, parameter in named_tests() if place == [module, function] and parameter is not None}:
        start = parameter.removesuffix("...")
        assert re.search(rf'^ +"{re.escape(start)}{"" if start != parameter else chr(34)}', source, re.MULTILINE), parameter
