"""The shipped protocols hold over every interleaving, and each of their defences is needed."""

from dataclasses import replace

import pytest

from tests.model.machine import INVISIBLE, KEYED, WIDE, WIDE_ELSEWHERE, Faults, explore
from tests.model.protocols import (
    DELETE_AFTER_COMMIT,
    FAST,
    MEMCACHED,
    PROCESS_MEMORY,
    PUT_AFTER_COMMIT,
    PUT_EARLY,
    STRICT,
    STRICT_OUTBOX,
    Protocol,
)

pytestmark = [pytest.mark.sa_agnostic, pytest.mark.timeout(300)]
NONE, ROLLBACK, CRASH, LOSS, EVICTION = Faults(), Faults(rollbacks=1), Faults(crashes=1), Faults(losses=1), Faults(evictions=1)
AFTER_ACK, AFTER_COMMIT, AT_REST, DIRTY = "stale after acknowledgement", "stale after commit", "stale at rest", "dirty"


@pytest.mark.parametrize(
    ("protocol", "writers", "faults"),
    [
        pytest.param(STRICT, (KEYED, WIDE), ROLLBACK, id="strict-wide-rollback"),
        pytest.param(STRICT, (KEYED, KEYED), CRASH, id="strict-crash"),
        pytest.param(STRICT, (KEYED, KEYED), LOSS, id="strict-loss"),
        pytest.param(STRICT, (WIDE, WIDE_ELSEWHERE), CRASH, id="strict-two-wide-crash"),
        pytest.param(STRICT_OUTBOX, (KEYED, INVISIBLE), NONE, id="outbox-invisible"),
        pytest.param(MEMCACHED, (KEYED, KEYED), ROLLBACK, id="memcached-rollback"),
        pytest.param(MEMCACHED, (WIDE, WIDE_ELSEWHERE), NONE, id="memcached-two-wide"),
        pytest.param(PROCESS_MEMORY, (KEYED, WIDE), ROLLBACK, id="memory-wide-rollback"),
        pytest.param(PROCESS_MEMORY, (KEYED, KEYED), EVICTION, id="memory-eviction"),
    ],
)
def test_nothing_goes_wrong(protocol: Protocol, writers: tuple[str, ...], faults: Faults) -> None:
    """No read is stale or dirty, nothing is stale at rest, and no marker is left."""
    assert explore(protocol, writers, faults) == {}


@pytest.mark.parametrize("writers", [(KEYED, KEYED), (KEYED, WIDE)], ids=["keyed", "wide"])
def test_fast_is_right_once_the_commit_was_acknowledged(writers: tuple[str, ...]) -> None:
    """Between COMMIT and its acknowledgement an old value may be read, and never afterwards."""
    assert set(explore(FAST, writers, ROLLBACK)) == {AFTER_COMMIT}


@pytest.mark.parametrize(
    ("protocol", "wrong"),
    [
        (PUT_AFTER_COMMIT, {AFTER_ACK, AFTER_COMMIT, AT_REST}),
        (DELETE_AFTER_COMMIT, {AFTER_ACK, AFTER_COMMIT, AT_REST}),
        (PUT_EARLY, {AFTER_ACK, AFTER_COMMIT, AT_REST, DIRTY}),
    ],
    ids=["put", "delete", "early"],
)
def test_the_naive_ways_are_wrong_without_any_fault(protocol: Protocol, wrong: set[str]) -> None:
    """What others do goes permanently stale by timing alone."""
    assert set(explore(protocol, (KEYED, KEYED), NONE)) == wrong


@pytest.mark.parametrize(
    ("defect", "protocol", "writers", "faults", "wrong"),
    [
        ("marks", STRICT, (KEYED, KEYED), NONE, AFTER_COMMIT),
        ("unleased", STRICT, (KEYED, KEYED), NONE, AT_REST),
        ("leases_over_markers", STRICT, (KEYED, KEYED), NONE, AFTER_COMMIT),
        ("releases_always_with_value", STRICT, (KEYED, KEYED), NONE, AFTER_COMMIT),
        ("keeps_where_marker_was_lost", replace(STRICT, pinned=False), (KEYED,), EVICTION, AT_REST),
        ("janitor_deletes", STRICT_OUTBOX, (KEYED, INVISIBLE), NONE, AFTER_COMMIT),
        ("invalidation_spares_sole_markers", STRICT, (KEYED, INVISIBLE), NONE, AT_REST),
        ("generation_of_the_fill", STRICT, (WIDE,), NONE, AT_REST),
        ("generation_of_the_release", STRICT, (KEYED, WIDE), NONE, AT_REST),
        ("generation_unmarked", STRICT, (WIDE,), NONE, AFTER_COMMIT),
        ("blind_generation", STRICT, (WIDE, WIDE_ELSEWHERE), NONE, AFTER_COMMIT),
        ("snapshot_first", STRICT, (KEYED,), NONE, AT_REST),
        ("goes_on_unmarked", STRICT, (KEYED,), LOSS, AFTER_COMMIT),
        ("resolver", STRICT, (KEYED,), CRASH, "marker left"),
        ("pinned", replace(STRICT, resolver=False), (KEYED,), EVICTION, AFTER_COMMIT),
    ],
)
def test_each_defence_is_needed(defect: str, protocol: Protocol, writers: tuple[str, ...], faults: Faults, wrong: str) -> None:
    """Without it something goes wrong."""
    broken = replace(protocol, **{defect: not getattr(protocol, defect)})
    assert wrong in explore(broken, writers, faults)
