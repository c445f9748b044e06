"""The channel of a Redis Cluster and under Sentinels: what a node has told is heard, whichever it is and whichever takes its place."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis
from redis.client import PubSub
from redis.sentinel import Sentinel
from sqlalchemy import Engine

from stockstore.backends import RedisBackend
from stockstore.backends.redis_clients import CLUSTER_CHANNEL
from stockstore.backends.redis_shards import by_shard
from stockstore.channels.redis_cluster import ClusterChannel
from stockstore.channels.redis_streams import Streams
from stockstore.instrumentation import Event, hooked
from tests.channels.garbled import LINES, TEXT, check_garbled
from tests.channels.sides import Side, unseen
from tests.patience import SECONDS
from tests.servers.redis_cluster import ClusterNodeServer, ClusterServers, running_redis_nodes
from tests.servers.redis_sentinel import SERVICE, SentinelServers, running_sentinels
from tests.servers.server import wait_until
from tests.stores.shop import Customer

pytestmark = pytest.mark.sa_agnostic

KEYS = range(1, 31)
MARK = b"0\n\n~:"
Sides = tuple[Side, Side]


@pytest.fixture(scope="module")
def nodes() -> Iterator[ClusterServers]:
    """Three primaries, and a replica of the first."""
    with running_redis_nodes(3, 1) as nodes:
        yield nodes


@contextlib.contextmanager
def two_above(nodes: ClusterServers, db: Engine, patience: float = SECONDS, **options: Any) -> Iterator[Sides]:
    """Give two sides above a cluster, the memory of the first one with many customers."""
    nodes.heal()
    with nodes.client(socket_timeout=patience) as one, nodes.client(socket_timeout=patience) as other:
        mine, theirs = Side(one, db, **options), Side(other, db, **options)
        with mine.chain, theirs.chain:
            for key in KEYS:
                theirs.write("old", key)
            hold(mine)
            yield mine, theirs


@pytest.fixture
def on_cluster(nodes: ClusterServers, db: Engine, namespace: str) -> Iterator[Sides]:
    """Two sides above a cluster."""
    with two_above(nodes, db, namespace=namespace) as sides:
        yield sides


def hold(side: Side) -> None:
    """Have all customers in a memory that hears; another subscription may empty it once more, while servers settle."""

    def holds() -> bool:
        assert {side.name(key) for key in KEYS} == {"old"}
        side.caught_up()
        return [side.kept(key) for key in KEYS] == ["old"] * len(KEYS)

    wait_until(holds, "memory")


def dropped(side: Side) -> None:
    """Wait until all customers are gone from a memory that hears; what a server that was replaced did not tell is told later."""

    def is_told() -> bool:
        side.caught_up()
        return side.memory.is_fresh() and [side.kept(key) for key in KEYS] == [None] * len(KEYS)

    wait_until(is_told, "the other's writes")


def test_a_write_on_any_node_is_heard(on_cluster: Sides) -> None:
    """What another process writes is dropped within moments, on whichever node it is; the rest stays."""
    mine, theirs = on_cluster
    for key in KEYS[::2]:
        theirs.write("new", key)
    unseen(mine.engine, "unseen")
    mine.caught_up()
    assert [mine.kept(key) for key in KEYS] == [None, "old"] * (len(KEYS) // 2)
    assert {mine.name(key) for key in KEYS[1::2]} == {"old"}


@contextlib.contextmanager
def published(nodes: ClusterServers, at: int) -> Iterator[list[tuple[str, list[str]]]]:
    """Give the messages of one writer, by their numbers and keys, that a node tells of while the block lasts."""
    found: list[tuple[str, list[str]]] = []
    with nodes.nodes[at].client.pubsub() as line:
        line.subscribe(CLUSTER_CHANNEL)
        assert line.get_message(timeout=30)
        until_now(nodes, line)
        yield found
        for message in until_now(nodes, line):
            number, _, texts = message.decode().split("\n")
            found.append((number, texts.split(" ")))
        # They come by several nodes, in any order.
        found.sort(key=lambda message: int(message[0].rpartition(".")[2]))


def until_now(nodes: ClusterServers, line: PubSub) -> list[bytes]:
    """Hear what any node was told by now: what one has told before its mark comes before it."""
    marks = {MARK + uuid4().hex.encode() for _ in nodes.nodes}
    for mark, node in zip(marks, nodes.nodes, strict=True):
        node.client.publish(CLUSTER_CHANNEL, mark)
    found: list[bytes] = []
    while not marks <= set(found):
        message = line.get_message(timeout=30)
        assert message, "A node was not heard."
        found.append(message["data"])
    return [message for message in found if not message.startswith(MARK)]


def publishes(node: ClusterNodeServer) -> int:
    """Give how many messages a node was told to publish."""
    return int(node.client.info("commandstats").get("cmdstat_publish", {"calls": 0})["calls"])


def test_one_message_for_a_commit(on_cluster: Sides, nodes: ClusterServers) -> None:
    """Of one row or many, on however many nodes; and one writer's messages are numbered without a gap."""
    _, theirs = on_cluster
    keys = [f"{theirs.redis._namespace()}:tests.stores.shop.Customer:id:i{key}" for key in KEYS]
    assert len({nodes.primary_of(shard.slot).port for shard in by_shard(keys, keys)}) == 3
    with published(nodes, 0) as first, published(nodes, 2) as last:
        theirs.write("new", 7)
        theirs.chain.batch_put([Customer(id=key, email=f"e{key}", name="newer") for key in KEYS])
        theirs.write("newest", 8)
    assert first == last
    assert [sorted(key for key in texts if ":id:" in key) for _, texts in first] == [[keys[6]], sorted(keys), [keys[7]]]
    (writer,) = {number.partition(".")[0] for number, _ in first}
    begin = int(first[0][0].rpartition(".")[2])
    assert [number for number, _ in first] == [f"{writer}.{begin + step}" for step in range(3)]


def test_no_message_overtakes_a_mark(on_cluster: Sides, nodes: ClusterServers) -> None:
    """While one node has not marked yet nobody is told, though the others have."""
    _, theirs = on_cluster
    keys = [f"{theirs.redis._namespace()}:Thing:id:i{key}" for key in range(60)]
    primaries = dict.fromkeys(nodes.primary_of(shard.slot) for shard in by_shard(keys, keys))
    # The first one is the one that publishes, or might have done so.
    first, slow, last = primaries
    others = [first, last]
    backend = theirs.redis.backend
    assert isinstance(backend, RedisBackend)
    marking = threading.Thread(target=backend.mark_many, args=(keys, b"ticket"))
    with published(nodes, nodes.nodes.index(others[0])) as early:
        before = sum(map(publishes, others))
        slow.freeze()
        try:
            marking.start()
            wait_until(lambda: all(any(b":Thing:" in key for key in node.client.keys("*")) for node in others), "the marks")
            assert sum(map(publishes, others)) == before
        finally:
            slow.thaw()
        marking.join()
        assert sum(b":Thing:" in key for node in [slow, *others] for key in node.client.keys("*")) == len(keys)
    assert [texts for _, texts in early] == [keys]


def test_a_message_that_is_missing(on_cluster: Sides, nodes: ClusterServers) -> None:
    """Memory is emptied where a writer's numbers leave one out."""
    mine, _ = on_cluster
    events: list[Event] = []
    with hooked(events.append):
        for number in (1, 2, 4):
            nodes.nodes[0].client.publish(CLUSTER_CHANNEL, b"writer.%d\n\n~:" % number)
        wait_until(lambda: any(event.kind == "flush" and event.reason == "gap" for event in events), "memory to be emptied")
    assert mine.kept(3) is None


def test_copies_late_ones_and_gaps() -> None:
    """A message counts once, from whichever node; one that is late is no gap, one that does not come after a whole beat is."""
    streams = Streams()
    assert [streams.is_new(name) for name in (b"a.7", b"a.7", b"a.9", b"b.1", b"a.8", b"a.8", b"a.6")] == [1, 0, 1, 1, 1, 0, 1]
    streams.ask()
    assert streams.is_new(b"a.11")
    assert streams.answered()
    streams.ask()
    assert streams.is_new(b"b.3")
    assert not streams.answered()
    streams.ask()
    assert streams.is_new(b"b.2")
    assert streams.answered()
    assert streams.is_new(b"a.10")


def test_messages_that_no_writer_has_sent(nodes: ClusterServers, caplog: pytest.LogCaptureFixture) -> None:
    """Without a name, with one that has no number, or with a true one and nothing to read behind it."""
    nodes.heal()
    said = [
        *LINES,
        b"writer\n\nn:C:id:i1",
        b"writer.\n\nn:C:id:i1",
        b"writer.x\n\nn:C:id:i1",
        b".1\n\nn:C:id:i1",
        b"writer.1",
        b"writer.1\n\n\xff\xfe",
    ]
    with nodes.client(socket_timeout=1) as client:
        channel, publisher = ClusterChannel(client), nodes.nodes[0].client
        check_garbled(channel, lambda one: publisher.publish(CLUSTER_CHANNEL, one), said, f"writer.1\n\n{TEXT}".encode(), caplog)


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
    dropped(mine)


def test_a_node_that_is_gone(nodes: ClusterServers, db: Engine, namespace: str) -> None:
    """While one of them cannot be heard, memory is passed by."""
    node = nodes.nodes[1]
    with two_above(nodes, db, 1.0, namespace=namespace, max_staleness=0.5) as (mine, _):
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
        where = [("127.0.0.1", one.port) for one in sentinels.sentinels]
        asked = Sentinel(where, socket_timeout=SECONDS)  # type: ignore[no-untyped-call]
        return asked.master_for(SERVICE, socket_timeout=SECONDS)  # type: ignore[no-any-return, no-untyped-call]

    mine, theirs = (Side(client(), db, namespace=namespace) for _ in range(2))
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
        dropped(mine)
