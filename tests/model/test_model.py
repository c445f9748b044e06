"""The shipped protocols hold over every interleaving, and each of their defences is needed."""

from dataclasses import replace

import pytest

from tests.model.explore import explore
from tests.model.protocols import (
    DELETE_AFTER_COMMIT,
    FAST,
    MEMCACHED,
    PROCESS_MEMORY,
    PUT_AFTER_COMMIT,
    PUT_EARLY,
    STRICT,
    STRICT_OUTBOX,
    WATCHED,
    WATCHED_OUTBOX,
    Protocol,
)
from tests.model.state import INVISIBLE, INVISIBLY_LISTED, KEYED, LISTED, WIDE, WIDE_ELSEWHERE, Faults

pytestmark = [pytest.mark.sa_agnostic, pytest.mark.timeout(900)]
NONE, ROLLBACK, CRASH, LOSS, EVICTION = Faults(), Faults(rollbacks=1), Faults(crashes=1), Faults(losses=1), Faults(evictions=1)
RESTART = Faults(restarts=1)
AFTER_ACK, AFTER_COMMIT, AT_REST, DIRTY = "stale after acknowledgement", "stale after commit", "stale at rest", "dirty"


@pytest.mark.parametrize(
    ("protocol", "writers", "faults"),
    [
        pytest.param(STRICT, (KEYED, WIDE), ROLLBACK, id="strict-wide-rollback"),
        pytest.param(STRICT, (KEYED, KEYED), CRASH, id="strict-crash"),
        pytest.param(STRICT, (KEYED, WIDE), LOSS, id="strict-loss"),
        pytest.param(STRICT, (WIDE, WIDE_ELSEWHERE), CRASH, id="strict-two-wide-crash"),
        pytest.param(STRICT_OUTBOX, (KEYED, INVISIBLE), NONE, id="outbox-invisible"),
        pytest.param(MEMCACHED, (KEYED, KEYED), ROLLBACK, id="memcached-rollback"),
        pytest.param(MEMCACHED, (WIDE, WIDE_ELSEWHERE), NONE, id="memcached-two-wide"),
        pytest.param(STRICT, (LISTED, LISTED), ROLLBACK, id="lists-rollback"),
        pytest.param(STRICT, (LISTED, LISTED), CRASH, id="lists-crash"),
        pytest.param(MEMCACHED, (LISTED, LISTED), NONE, id="memcached-lists"),
        pytest.param(STRICT, (LISTED, WIDE_ELSEWHERE), NONE, id="lists-wide"),
        pytest.param(STRICT_OUTBOX, (LISTED, INVISIBLY_LISTED), NONE, id="outbox-lists-invisible"),
        pytest.param(WATCHED, (KEYED, KEYED), NONE, id="watch-two"),
        pytest.param(WATCHED, (KEYED,), EVICTION, id="watch-eviction"),
        pytest.param(WATCHED, (KEYED,), CRASH, id="watch-crash"),
        pytest.param(WATCHED, (KEYED, WIDE), ROLLBACK, id="watch-wide-rollback"),
        pytest.param(WATCHED_OUTBOX, (KEYED, INVISIBLE), NONE, id="watch-outbox-invisible"),
        pytest.param(PROCESS_MEMORY, (LISTED, LISTED), EVICTION, id="memory-lists-eviction"),
        pytest.param(PROCESS_MEMORY, (KEYED, WIDE), ROLLBACK, id="memory-wide-rollback"),
        pytest.param(PROCESS_MEMORY, (KEYED, WIDE), EVICTION, id="memory-eviction"),
    ],
)
def test_nothing_goes_wrong(protocol: Protocol, writers: tuple[str, ...], faults: Faults) -> None:
    """No read is stale or dirty, nothing is stale at rest, and no marker is left."""
    # A second reader meets the lease of the first; with a wide writer besides it the number of states would grow past what CI has time for.
    many = WIDE in writers or LISTED in writers or (protocol.watches and len(writers) > 1)
    assert explore(protocol, writers, faults, readers=1 if many else 2) == {}


@pytest.mark.parametrize("writers", [(KEYED, KEYED), (KEYED, WIDE)], ids=["keyed", "wide"])
def test_fast_is_right_once_the_commit_was_acknowledged(writers: tuple[str, ...]) -> None:
    """Between COMMIT and its acknowledgement an old value may be read, and never afterwards."""
    assert set(explore(FAST, writers, ROLLBACK, readers=1)) == {AFTER_COMMIT}


def test_a_restart_costs_markers_and_no_more() -> None:
    """Where its marker was lost, an old value may be read between COMMIT and its acknowledgement, and never afterwards."""
    assert set(explore(STRICT, (KEYED,), RESTART)) == {AFTER_COMMIT}


@pytest.mark.parametrize(
    ("protocol", "wrong", "readers"),
    [
        (PUT_AFTER_COMMIT, {AFTER_ACK, AFTER_COMMIT, AT_REST}, 1),
        (DELETE_AFTER_COMMIT, {AFTER_ACK, AFTER_COMMIT, AT_REST}, 2),
        (PUT_EARLY, {AFTER_ACK, AFTER_COMMIT, AT_REST, DIRTY}, 1),
    ],
    ids=["put", "delete", "early"],
)
def test_the_naive_ways_are_wrong_without_any_fault(protocol: Protocol, wrong: set[str], readers: int) -> None:
    """What others do goes permanently stale by timing alone."""
    assert set(explore(protocol, (KEYED, KEYED), NONE, readers)) == wrong


@pytest.mark.parametrize(
    ("defect", "protocol", "writers", "faults", "wrong", "readers"),
    [
        ("marks", STRICT, (KEYED, KEYED), NONE, AFTER_COMMIT, 1),
        ("unleased", STRICT, (KEYED, KEYED), NONE, AT_REST, 1),
        ("leases_over_markers", STRICT, (KEYED, KEYED), NONE, AFTER_COMMIT, 2),
        ("releases_always_with_value", STRICT, (KEYED, KEYED), NONE, AFTER_COMMIT, 1),
        ("keeps_where_marker_was_lost", replace(STRICT, pinned=False), (KEYED,), EVICTION, AT_REST, 1),
        ("janitor_deletes", STRICT_OUTBOX, (KEYED, INVISIBLE), NONE, AFTER_COMMIT, 2),
        ("invalidation_spares_sole_markers", STRICT, (KEYED, INVISIBLE), NONE, AT_REST, 1),
        ("generation_of_the_fill", STRICT, (WIDE,), NONE, AT_REST, 1),
        ("generation_of_the_release", STRICT, (KEYED, WIDE), NONE, AT_REST, 1),
        ("generation_made_late", STRICT, (KEYED, WIDE), NONE, AT_REST, 1),
        ("generation_unmarked", STRICT, (WIDE,), NONE, AFTER_COMMIT, 1),
        ("blind_generation", STRICT, (WIDE, WIDE_ELSEWHERE), NONE, AFTER_COMMIT, 2),
        ("blind_lists", STRICT, (LISTED, LISTED), CRASH, AT_REST, 1),
        ("lists_end_in_values", STRICT, (LISTED, LISTED), NONE, AT_REST, 1),
        ("unleased", STRICT, (LISTED, LISTED), NONE, AT_REST, 1),
        ("watch_fills_anything", WATCHED, (KEYED, KEYED), NONE, AFTER_COMMIT, 2),
        ("release_stirs_nothing", WATCHED, (KEYED, KEYED), NONE, AT_REST, 1),
        ("release_stirs_nothing", WATCHED, (KEYED,), EVICTION, AT_REST, 1),
        ("invalidation_stirs_nothing", WATCHED_OUTBOX, (INVISIBLE,), NONE, AT_REST, 1),
        ("snapshot_first", WATCHED, (KEYED,), NONE, AT_REST, 1),
        ("snapshot_first", STRICT, (KEYED,), NONE, AT_REST, 1),
        ("goes_on_unmarked", STRICT, (KEYED,), LOSS, AFTER_COMMIT, 1),
        ("resolver", STRICT, (KEYED,), CRASH, "marker left", 1),
        ("believes_earlier_lives", STRICT, (KEYED,), RESTART, AFTER_ACK, 1),
        ("pinned", replace(STRICT, resolver=False), (KEYED,), EVICTION, AFTER_COMMIT, 2),
    ],
)
def test_each_defence_is_needed(
    defect: str, protocol: Protocol, writers: tuple[str, ...], faults: Faults, wrong: str, readers: int
) -> None:
    """Without it something goes wrong."""
    broken = replace(protocol, **{defect: not getattr(protocol, defect)})
    assert wrong in explore(broken, writers, faults, readers, until=wrong)
