"""Which node keeps a key."""

import pytest

from stockstore.backends.rendezvous import router

pytestmark = pytest.mark.sa_agnostic

NODES = [f"cache{number}:11211" for number in range(5)]
KEYS = [f"n:C:id:i{number}" for number in range(10_000)]


def test_every_node_gets_its_share() -> None:
    """No node has a fifth more or less than its share."""
    route = router(NODES)
    counts = [0] * len(NODES)
    for node in route(KEYS):
        counts[node] += 1
    assert min(counts) > 1600
    assert max(counts) < 2400


def test_a_node_that_leaves_moves_its_own_keys_only() -> None:
    """All keys of the other nodes stay where they were."""
    rest = NODES[:2] + NODES[3:]
    moves = list(zip(router(NODES)(KEYS), router(rest)(KEYS), strict=True))
    assert all(rest[after] == NODES[before] for before, after in moves if before != 2)


def test_keys_stay_where_they_are_when_they_are_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a router remembers of some keys, and forgets when it has many, says the same of all."""
    monkeypatch.setattr("stockstore.backends.rendezvous._MANY_KEYS", 100)
    route, homes = router(NODES), router(NODES)(KEYS[:150])
    assert [*route(KEYS[:60]), *route(KEYS[50:110])] == homes[:60] + homes[50:110]
    assert [*route(KEYS[:150]), *route(KEYS[:150])] == homes * 2


@pytest.mark.parametrize(
    ("key", "node"), [("n:C:id:i1", "cache0:11211"), ("n:C:id:i2", "cache1:11211"), ("shop:User:email:sann", "cache3:11211")]
)
def test_the_answer_is_the_same_in_every_process_and_release(key: str, node: str) -> None:
    """Keys are pinned to nodes: a change here would lose every value of a running site."""
    assert NODES[router(NODES)([key])[0]] == node
