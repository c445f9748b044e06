"""Both kinds of what is compiled, and how to count references."""

import gc
from collections.abc import Iterator

import pytest

from tests.native.kinds import COMPILED, PLAIN, Kind


@pytest.fixture(params=[PLAIN, COMPILED], ids=["plain", "compiled"])
def kind(request: pytest.FixtureRequest) -> Kind:
    """One of both."""
    found: Kind = request.param
    return found


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Without collections meanwhile, which let go of what earlier tests have left."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
