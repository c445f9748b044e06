"""Generations that stand in each slot hold over every interleaving, and each of their defences is needed."""

from dataclasses import replace

import pytest

from tests.model.replicas import KEYED, WIDE, Faults, Replicas, explore

pytestmark = [pytest.mark.sa_agnostic, pytest.mark.timeout(300)]
SHIPPED = Replicas()
AFTER_COMMIT, AT_REST = "stale after commit", "stale at rest"


@pytest.mark.parametrize(
    ("writers", "faults"),
    [
        pytest.param((WIDE,), Faults(crashes=1, losses=1), id="wide-faults"),
        pytest.param((WIDE,), Faults(evictions=2), id="wide-evictions"),
        pytest.param((WIDE, KEYED), Faults(crashes=1), id="keyed-crash"),
        pytest.param((WIDE, WIDE), Faults(), id="two-wide"),
        pytest.param((KEYED,), Faults(evictions=1), id="keyed-eviction"),
    ],
)
def test_nothing_goes_wrong(writers: tuple[str, ...], faults: Faults) -> None:
    """No read that begins at any moment is stale, and nothing is stale at rest."""
    assert explore(SHIPPED, writers, faults) == {}


@pytest.mark.parametrize(
    ("defect", "writers", "faults", "wrong"),
    [
        ("installs_unleased", (WIDE,), Faults(), AT_REST),
        ("asks_home_first", (WIDE,), Faults(evictions=1), AT_REST),
        ("marks_home_alone", (WIDE,), Faults(), AT_REST),
        ("marks_replicas_late", (WIDE,), Faults(), AFTER_COMMIT),
        ("renews_joined", (WIDE, WIDE), Faults(), AT_REST),
        ("goes_on_unmarked", (WIDE,), Faults(losses=1), AFTER_COMMIT),
    ],
)
def test_each_defence_is_needed(defect: str, writers: tuple[str, ...], faults: Faults, wrong: str) -> None:
    """Without it something goes wrong."""
    assert wrong in explore(replace(SHIPPED, **{defect: True}), writers, faults, until=wrong)
