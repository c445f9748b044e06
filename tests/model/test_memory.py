"""Process memory above a shared cache holds over every interleaving, and each of its defences is needed."""

from dataclasses import replace

import pytest

from tests.model.memory import LOCAL, REMOTE, UNSEEN, Faults, Memory
from tests.model.memory_explore import explore

pytestmark = [pytest.mark.sa_agnostic, pytest.mark.timeout(900)]
CHANNEL, BOUNDED = Memory(), Memory(channel=False)
NOTIFY, NOTIFY_ALONE = Memory(with_commit=True), Memory(with_commit=True, shared=False)
BEYOND, AT_REST = "stale beyond the bound", "stale at rest"


@pytest.mark.parametrize(
    ("way", "writers", "faults"),
    [
        pytest.param(CHANNEL, (REMOTE,), Faults(cuts=1), id="cut"),
        pytest.param(CHANNEL, (REMOTE,), Faults(losses=1), id="lost-marker"),
        pytest.param(CHANNEL, (REMOTE,), Faults(drops=1), id="dropped-message"),
        pytest.param(CHANNEL, (REMOTE,), Faults(crashes=1, cuts=1), id="crash-cut"),
        pytest.param(CHANNEL, (UNSEEN,), Faults(cuts=1), id="unseen-cut"),
        pytest.param(CHANNEL, (REMOTE, LOCAL), Faults(rollbacks=1, reads=0, ticks=0), id="two-rollback"),
        pytest.param(CHANNEL, (REMOTE, LOCAL), Faults(ticks=0), id="two-writers"),
        pytest.param(CHANNEL, (UNSEEN, LOCAL), Faults(ticks=0), id="two-unseen"),
        pytest.param(NOTIFY, (REMOTE,), Faults(cuts=1, losses=1), id="notify-cut"),
        pytest.param(NOTIFY, (UNSEEN,), Faults(), id="notify-unseen"),
        pytest.param(NOTIFY_ALONE, (REMOTE, LOCAL), Faults(ticks=1), id="notify-alone"),
        pytest.param(NOTIFY_ALONE, (UNSEEN,), Faults(cuts=1), id="notify-alone-cut"),
        pytest.param(BOUNDED, (REMOTE, LOCAL), Faults(ticks=3), id="bounded"),
        pytest.param(BOUNDED, (REMOTE,), Faults(crashes=1, losses=1, ticks=3), id="bounded-crash"),
    ],
)
def test_nothing_goes_wrong(way: Memory, writers: tuple[str, ...], faults: Faults) -> None:
    """No read misses more than the bound allows or what its own process wrote, and nothing is stale at rest."""
    assert explore(way, writers, faults) == {}


@pytest.mark.parametrize(
    ("defect", "writers", "faults", "wrong"),
    [
        ("flushes_early", (REMOTE,), Faults(cuts=1), AT_REST),
        ("never_flushes", (REMOTE,), Faults(cuts=1), AT_REST),
        ("ignores_gaps", (REMOTE,), Faults(drops=1), AT_REST),
        ("ignores_gaps", (REMOTE,), Faults(drops=1), BEYOND),
        ("ignores_silence", (REMOTE,), Faults(cuts=1), BEYOND),
        ("pong_counts", (REMOTE,), Faults(ticks=3), BEYOND),
        ("spares_leases", (REMOTE,), Faults(), AT_REST),
        ("spares_markers", (LOCAL, REMOTE), Faults(ticks=0, reads=0), AT_REST),
        ("publishes_first", (REMOTE,), Faults(), AT_REST),
        ("publishes_late", (REMOTE,), Faults(crashes=1), AT_REST),
        ("lost_unpublished", (REMOTE,), Faults(losses=1), AT_REST),
        ("janitor_silent", (UNSEEN,), Faults(), AT_REST),
        ("fills_past_markers", (REMOTE,), Faults(), AT_REST),
    ],
)
def test_each_defence_of_the_channel_is_needed(defect: str, writers: tuple[str, ...], faults: Faults, wrong: str) -> None:
    """Without it something goes wrong."""
    assert wrong in explore(replace(CHANNEL, **{defect: True}), writers, faults, until=wrong)


@pytest.mark.parametrize("defect", ["counts_from_fill", "believes_for_ever"])
def test_each_defence_of_the_bound_is_needed(defect: str) -> None:
    """Without a channel, what is filled is believed for a while from its lease on."""
    assert BEYOND in explore(replace(BOUNDED, **{defect: True}), (REMOTE,), Faults(), until=BEYOND)
