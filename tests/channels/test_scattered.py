"""The channel of a Redis Cluster and under Sentinels: what a node has told is heard, whichever it is and whichever takes its place."""

from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis
from redis.sentinel import Sentinel
from sqlalchemy import Engine

from stockstore.instrumentation import Event, hooked
from tests.channels.sides import Side, unseen
from tests.servers.redis_cluster import ClusterServers, running_redis_nodes
from tests.servers.redis_sentinel import SERVICE, SentinelServers, running_sentinels
from tests.servers.server import wait_until

pytestmark = pytest.mark.sa_agnostic

KEYS = range(1, 31)
Sides = tuple[Side, Side]


@pytest.fixture(scope="module")
def nodes() -> Iterator[ClusterServers]:
    """Three primaries, and a replica of the first."""
    with running_redis_nodes(3, 1) as nodes:
        yield nodes


@pytest.fixture
def on_cluster(nodes: ClusterServers, db: Engine, namespace: str) -> Iterator[Sides]:
    """Two sides above a cluster, whose memories hold many customers."""
    nodes.heal()
    options: dict[str, Any] = {"namespace": namespace, "max_staleness": 0.5}
    with nodes.client(socket_timeout=1) as one, nodes.client(socket_timeout=1) as other:
        mine, theirs = Side(one, db, **options), Side(other, db, **options)
        with mine.chain, theirs.chain:
            for key in KEYS:
                theirs.write("old", key)
            hold(mine)
            yield mine, theirs


def hold(side: Side) -> None:
    """Have all customers in a memory that hears; another subscription may empty it once more, while servers settle."""

    def holds() -> bool:
        assert {side.name(key) for key in KEYS} == {"old"}
        side.caught_up()
        return [side.kept(key) for key in KEYS] == ["old"] * len(KEYS)

    wait_until(holds, "memory")


def test_a_write_on_any_node_is_heard(on_cluster: Sides) -> None:
    """What another process writes is dropped within moments, on whichever node it is; the rest stays."""
    mine, theirs = on_cluster
    for key in KEYS[::2]:
        theirs.write("new", key)
    unseen(mine.engine, "unseen")
    mine.caught_up()
    assert [mine.kept(key) for key in KEYS] == [None, "old"] * (len(KEYS) // 2)
    assert {mine.name(key) for key in KEYS[1::2]} == {"old"}


def test_a_clear_is_heard(on_cluster: Sides) -> None:
    """That of a whole namespace, which no single node has."""
    mine, theirs = on_cluster
    theirs.redis.clear()
    mine.caught_up()
    assert [mine.kept(key) for key in KEYS] == [None] * len(KEYS)


def test_a_primary_that_is_replaced(on_cluster: Sides, nodes: ClusterServers) -> None:
    """Memory is emptied before it is believed again, and hears the new primary."""
    mine, theirs = on_cluster
    events: list[Event] = []
    with hooked(events.append):
        nodes.fail_over()
        wait_until(lambda: any(event.kind == "flush" for event in events), "memory to be emptied")
    wait_until(nodes.is_whole, "the cluster")
    hold(mine)
    for key in KEYS:
        theirs.write("new", key)
    mine.caught_up()
    assert [mine.kept(key) for key in KEYS] == [None] * len(KEYS)


def test_a_node_that_is_gone(on_cluster: Sides, nodes: ClusterServers) -> None:
    """While one of them cannot be heard, memory is passed by."""
    mine, _ = on_cluster
    node = nodes.nodes[1]
    node.freeze()
    try:
        wait_until(lambda: not mine.memory.is_fresh(), "the bound to pass")
        unseen(mine.engine, "unseen")
        assert mine.name() == "unseen" or mine.kept() is None
    finally:
        node.thaw()
    wait_until(mine.memory.is_fresh, "the node to be heard")


@pytest.fixture(scope="module")
def sentinels() -> Iterator[SentinelServers]:
    """A primary, a replica and three Sentinels."""
    with running_sentinels() as servers:
        yield servers


def test_a_fail_over_by_sentinels(sentinels: SentinelServers, db: Engine, namespace: str) -> None:
    """Memory is emptied, and hears the new primary."""

    def client() -> Redis:
        asked = Sentinel([("127.0.0.1", one.port) for one in sentinels.sentinels], socket_timeout=1)  # type: ignore[no-untyped-call]
        return asked.master_for(SERVICE, socket_timeout=1)  # type: ignore[no-any-return, no-untyped-call]

    mine, theirs = (Side(client(), db, namespace=namespace, max_staleness=0.5) for _ in range(2))
    with mine.chain, theirs.chain:
        for key in KEYS:
            theirs.write("old", key)
        hold(mine)
        events: list[Event] = []
        with hooked(events.append):
            sentinels.fail_over()
            wait_until(lambda: any(event.kind == "flush" for event in events), "memory to be emptied")
        wait_until(mine.memory.is_fresh, "the new primary")
        hold(mine)
        for key in KEYS:
            theirs.write("new", key)
        mine.caught_up()
        assert [mine.kept(key) for key in KEYS] == [None] * len(KEYS)
