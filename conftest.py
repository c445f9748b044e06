"""Loads the plugins of the tests, and runs the examples of README, docs and docstrings."""

import gc
import os
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from sybil import Sybil
from sybil.document import PythonDocStringDocument
from sybil.integration.pytest import SybilItem
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser
from sybil.parsers.rest import DocTestParser

from tests.patience import be_patient

be_patient()

# No timed tests, and on a busy machine any example may take long. In CI the same examples each time, so that a failure is the change's own.
settings.register_profile("stockstore", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ)
settings.load_profile("stockstore")

pytest_plugins = ["tests.parts", "tests.servers.plugin", "tests.servers.databases"]

_BY_CHANCE = ("tests/race/", "tests/model/", "tests/programs/")
"""What these find, they find by chance: one stale read is a defect, whatever a second run says."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where ``--reruns`` asks for second runs, give none to a test that searches by chance, nor to an example: it goes on from the one before."""
    for item in items:
        if isinstance(item, SybilItem) or item.nodeid.startswith(_BY_CHANCE):
            item.add_marker(pytest.mark.flaky(reruns=0))


def pytest_collection() -> None:
    """What is imported stays."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Have no garbage be looked for among all that is imported, which takes a third of a second each time."""
    gc.collect()
    gc.freeze()
    gc.enable()


def enter_empty_folder(namespace: dict[str, Any]) -> None:
    """Let a document's examples name files as a reader would."""
    namespace["_folder"], namespace["_back"] = tempfile.TemporaryDirectory(), Path.cwd()
    os.chdir(namespace["_folder"].name)


def leave_empty_folder(namespace: dict[str, Any]) -> None:
    """Go back, and drop the folder."""
    os.chdir(namespace["_back"])
    namespace["_folder"].cleanup()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Show an example's error without its cause: Sybil's report of a chain of errors fails itself, and ends the run."""
    try:
        return (yield)
    except Exception as error:
        if isinstance(item, SybilItem):
            error.__cause__, error.__suppress_context__ = None, True
        raise


documents = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["README.md", "docs/*.md", "docs/**/*.md"],
    fixtures=["redis_url", "memcached_address", "postgres_schema_url"],
    setup=enter_empty_folder,
    teardown=leave_empty_folder,
)
docstrings = Sybil(
    parsers=[DocTestParser()],
    patterns=["stockstore/*.py", "stockstore/**/*.py", "stockstore_ext/*.py", "stockstore_ext/**/*.py"],
    document_types={".py": PythonDocStringDocument},
)

pytest_collect_file = (documents + docstrings).pytest()
