"""The clock of process memory."""

import random
from collections.abc import Iterator

import pytest

from tests.stores.memory.readings import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that process memory looks at."""
    clock = Clock()
    monkeypatch.setattr("stockstore.stores.local._now", clock)
    monkeypatch.setattr("stockstore.stores.memory._now", clock)
    monkeypatch.setattr("stockstore.stores.hits._now", clock)
    return clock


@pytest.fixture(autouse=True)
def _fresh_randomness() -> Iterator[None]:
    state = random.getstate()
    yield
    random.setstate(state)
