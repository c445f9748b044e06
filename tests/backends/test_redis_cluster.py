"""A cluster whose primaries are replaced and whose slots move: nothing old is believed, and nothing is done by halves."""

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

import pytest
import redis.asyncio
from redis.connection import AbstractConnection

from stockstore.backends import RedisBackend
from stockstore.backends.coherent import CoherentBackend
from stockstore.backends.redis_cluster import OnCluster
from stockstore.backends.redis_errands import Errand, Telling
from stockstore.backends.redis_replicas import Replicas
from stockstore.backends.redis_shards import Shard, by_shard, shards_of, without_tag
from stockstore.backends.redis_telling import Numbers
from stockstore.cells import generation_of
from stockstore.errors import CacheUnreachable, ConfigurationError
from stockstore.testing.coherent_basics import bodies, body, fresh_token, item, lease
from tests.aio.driven_backend import DrivenBackend, running
from tests.patience import SECONDS
from tests.servers.redis_cluster import SLOTS, ClusterNodeServer, ClusterServers, running_redis_nodes, slots_of
from tests.servers.server import wait_until

pytestmark = pytest.mark.sa_agnostic

ONE, TWO = b"db.1", b"db.2"
GENERATION = "n:C:"
KEYS = [f"n:C:id:i{number}" for number in range(100)]


@pytest.fixture(scope="module")
def nodes() -> Iterator[ClusterServers]:
    """Three primaries, and a replica of the first."""
    with running_redis_nodes(3, 1) as nodes:
        yield nodes


@pytest.fixture
def cluster(nodes: ClusterServers) -> ClusterServers:
    """The same, healthy and empty."""
    nodes.heal()
    return nodes


Connect = Callable[[], CoherentBackend]
BLOCKING = pytest.mark.parametrize("connect", ["blocking"], indirect=True)
"""What looks at redis-py's own connections."""


@pytest.fixture(params=["blocking", "awaited"])
def connect(request: pytest.FixtureRequest, cluster: ClusterServers) -> Iterator[Connect]:
    """A function that gives a backend with a client of its own."""
    with contextlib.ExitStack() as stack:
        if request.param == "blocking":
            yield lambda: RedisBackend(client=stack.enter_context(cluster.client(socket_timeout=SECONDS)))
        else:
            loop = stack.enter_context(running(asyncio.new_event_loop))
            yield lambda: stack.enter_context(awaited(cluster, loop))


@contextlib.contextmanager
def awaited(cluster: ClusterServers, loop: asyncio.AbstractEventLoop) -> Iterator[CoherentBackend]:
    """Give a backend on an asyncio client of a cluster."""

    async def make() -> redis.asyncio.RedisCluster:
        return redis.asyncio.RedisCluster.from_url(cluster.url, socket_timeout=SECONDS, socket_connect_timeout=SECONDS)

    client = asyncio.run_coroutine_threadsafe(make(), loop).result()
    try:
        yield DrivenBackend(RedisBackend(client=client), loop)
    finally:
        asyncio.run_coroutine_threadsafe(client.aclose(), loop).result()


def shard_of(key: str) -> Shard:
    """Give where a key lies."""
    (shard,) = by_shard([key], [key])
    return shard


def keys_of(cluster: ClusterServers, node: ClusterNodeServer) -> list[str]:
    """Give the keys that a primary has."""
    slots = [slots for slots, port in slots_of(cluster.nodes[2].client).items() if port == node.port]
    return [key for key in KEYS if any(first <= shard_of(key).slot <= last for first, last in slots)]


def noting(events: list[str], name: str, original: Callable[..., object]) -> Callable[..., object]:
    """Give a method that notes each call of it."""

    def noted(*arguments: object, **options: object) -> object:
        events.append(name)
        return original(*arguments, **options)

    return noted


def test_a_class_is_spread_evenly_over_all_slots() -> None:
    """Whatever its name, a class has a slot in each sixteenth of them, and keys of all sorts are spread over these."""
    for head in ("n:C:", "shop:models.User:", "tenant-7:models.User:"):
        for kind in ("i%d", "s%dx", "i%d0"):
            groups = by_shard(keys := [f"{head}id:{kind % number}" for number in range(3200)], keys)
            assert sorted(shard.slot * 16 // SLOTS for shard in groups) == list(range(16))
            assert all(150 < len(group) < 250 for group in groups.values())


def test_redis_agrees_about_the_slots(connect: Connect, cluster: ClusterServers) -> None:
    """Each key lies in the slot that was reckoned, under its tag."""
    connect().put_many([item(key, b"body") for key in KEYS])
    for node in cluster.nodes[:3]:
        for key in map(bytes.decode, node.client.keys()):
            assert node.client.execute_command("CLUSTER KEYSLOT", key) == shard_of(without_tag(key)).slot


@BLOCKING
def test_marks_that_were_sent_late_are_told_of_again(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message went along with the first of them, though what the client knew of the slots was old, and others stood later."""
    backend, told, travel = connect(), list[bool](), OnCluster._travel

    def refused_once(self: OnCluster, errands: Sequence[Errand]) -> None:
        if told:
            travel(self, errands)
        else:
            for errand in errands:
                errand.answer = redis.ConnectionError("refused")
        told.append(any(isinstance(errand, Telling) for errand in errands))

    # Its node knows the script, so that nothing else has the mark sent again.
    backend.mark_many(KEYS[:1], TWO)
    with monkeypatch.context() as patch:
        patch.setattr(OnCluster, "_travel", refused_once)
        backend.mark_many(KEYS[:1], ONE)
    assert told == [True, True, True]


def test_a_forked_process_is_another_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it has the number of the one that it was forked from, in a namespace of its own."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    numbers = Numbers()
    ours, (reading, writing) = numbers.next().split(b".")[0], os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, numbers.next())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading, "rb") as said:
        assert said.read().split(b".") not in ([ours, b"1"], [ours, b"2"], [b""])
    assert numbers.next().split(b".") == [ours, b"2"]


@BLOCKING
def test_a_batch_asks_all_nodes_at_once(connect: Connect, cluster: ClusterServers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is sent before the first answer is read, and each node is asked once; what was marked is told of when all is marked."""
    backend, events = connect(), list[str]()
    backend.put_many([item(key, b"body") for key in KEYS])
    for name in ("send_packed_command", "read_response"):
        monkeypatch.setattr(AbstractConnection, name, noting(events, name.partition("_")[0], getattr(AbstractConnection, name)))
    steps: dict[Callable[[], object], list[str]] = {
        lambda: backend.get_many([*KEYS, GENERATION]): [],
        lambda: backend.lease_many(dict.fromkeys(KEYS), fresh_token(), GENERATION): [],
        lambda: backend.fill_many([item(key, b"read") for key in KEYS], fresh_token()): [],
        lambda: backend.mark_many(KEYS, ONE, ["n:S:"], [GENERATION]): ["send", "read"],
        lambda: backend.release_many(KEYS, ONE, committed=True, values=[item(key, b"new") for key in KEYS]): [],
        lambda: backend.invalidate_many(KEYS): ["send", "read"],
    }
    for step in [*steps, *steps]:
        events.clear()
        step()
    for step, told in steps.items():
        events.clear()
        step()
        assert events[:4] == ["send", "send", "send", "read"]
        last = events[3:].index("send") + 3 if "send" in events[3:] else len(events)
        assert events[last:] == told


def test_a_slot_that_moves_is_followed(connect: Connect, cluster: ClusterServers) -> None:
    """At every moment of a move each step does all keys once: those that are still there, those that are gone, and those between."""
    backend, source, to = connect(), cluster.nodes[1], cluster.nodes[2]
    mine = [key for key in KEYS if shard_of(key) == shard_of(keys_of(cluster, source)[0])]
    backend.put_many([item(key, b"old") for key in KEYS])
    slot = shard_of(mine[0]).slot
    cluster.begin_move(slot, to)
    assert set(backend.get_many(KEYS)) == set(KEYS)
    assert cluster.move_keys(slot, source, to, 2) == 2
    # What has moved is of the other node's life.
    assert len(backend.get_many(KEYS)) == len(KEYS) - 2
    token = fresh_token()
    granted = backend.lease_many(dict.fromkeys([*mine, "n:C:id:new"]), token, GENERATION).granted
    assert len(granted) == 3
    assert backend.fill_many([item(key, b"new") for key in granted], token) == len(granted)
    backend.mark_many(mine, ONE)
    cluster.move_keys(slot, source, to, 1)
    assert backend.get_many(mine) == dict.fromkeys(mine, b"W-" + ONE)
    assert backend.release_many(mine, ONE, committed=True, values=[item(key, b"new") for key in mine]) == len(mine)
    cluster.end_move(slot, source, to)
    assert backend.invalidate_many(mine) <= len(mine)
    assert backend.get_many(mine) == {}
    backend.put_many([item(key, b"last") for key in mine])
    assert bodies(connect(), *mine) == dict.fromkeys(mine, body(b"last"))


def test_markers_move_with_their_slot(connect: Connect, cluster: ClusterServers) -> None:
    """A marker is honoured at the new node, a lease is not filled there, and a slot that comes back has nothing that was outdated meanwhile."""
    backend, source, to = connect(), cluster.nodes[1], cluster.nodes[2]
    marked, leased, old, *_ = [key for key in KEYS if shard_of(key) == shard_of(keys_of(cluster, source)[0])]
    backend.put_many([item(old, b"old")])
    backend.mark_many([marked], ONE)
    token = lease(backend, leased)
    cluster.move(shard_of(old).slot, to)
    assert backend.get_many([marked, leased, old]) == {marked: b"W-" + ONE}
    assert backend.fill_many([item(leased, b"old")], token) == 0
    backend.mark_many([old], TWO)
    backend.release_many([old], TWO, committed=True)
    cluster.move(shard_of(old).slot, source)
    assert backend.get_many([marked, leased, old]).keys() - {leased} == {marked}
    assert backend.release_many([marked], ONE, committed=True, values=[item(marked, b"new")]) == 1
    assert bodies(backend, marked) == {marked: body(b"new")}


def test_a_replica_that_takes_over_reads_as_empty(connect: Connect, cluster: ClusterServers) -> None:
    """Of the values that it has none is believed; its markers are, and one that it never got leaves nothing behind."""
    backend, late = connect(), connect()
    replica = cluster.replica()
    primary = cluster.primary_by(replica)
    one, two, three, four, *_ = keys_of(cluster, primary)
    backend.put_many([item(key, b"old") for key in KEYS])
    backend.mark_many([one], ONE)
    assert primary.client.wait(1, 20_000) == 1
    primary.client.execute_command("CLIENT", "KILL", "TYPE", "replica")
    backend.mark_many([two], TWO)
    cluster.fail_over()
    wait_until(cluster.is_whole, "the cluster")
    cells = late.get_many(KEYS)
    assert cells[one] == b"W-" + ONE
    assert {three, four}.isdisjoint(cells)
    late.put_many([item(two, b"old")])
    assert backend.release_many([one, two], ONE, committed=False) == 1
    assert backend.release_many([two], TWO, committed=True, values=[item(two, b"new")]) in (0, 1)
    assert bodies(late, two) in ({}, {two: body(b"new")})
    elsewhere = [key for key in KEYS if key not in keys_of(cluster, replica)]
    assert set(late.get_many(elsewhere)) == set(elsewhere)


def test_an_idle_connection_does_not_outlive_its_primarys_office(
    connect: Connect, cluster: ClusterServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that lost its office and won it back has what it had, and is not believed by a connection from before."""
    backend = connect()
    replica = cluster.replica()
    primary = cluster.primary_by(replica)
    key = keys_of(cluster, primary)[0]
    backend.put_many([item(key, b"old")])
    assert bodies(backend, key) == {key: body(b"old")}
    assert primary.client.wait(1, 20_000) == 1
    for taking in (replica, primary):
        cluster.take_over(taking)
        wait_until(cluster.is_whole, "the cluster")
    assert primary.client.exists(shard_of(key).tag + key)
    monkeypatch.setattr("stockstore.backends.redis_cluster._IDLE_SECONDS", 0.0)
    assert backend.get_many([key]) == {}


def test_a_generation_is_one_for_all_nodes(connect: Connect) -> None:
    """All leases of a call carry it, whichever node has it, and where a writer is at work on it none is left."""
    backend = connect()
    first = backend.lease_many(dict.fromkeys(KEYS[:50]), fresh_token(), GENERATION)
    second = connect().lease_many(dict.fromkeys(KEYS[50:]), fresh_token(), GENERATION)
    assert first.generation == second.generation == generation_of(backend.get_many([GENERATION])[GENERATION])
    assert backend.mark_many(KEYS, ONE, ["n:S:"], [GENERATION]) == {GENERATION: first.generation}
    backend.release_many(KEYS, ONE, committed=True)
    backend.mark_many([], TWO, [GENERATION])
    stopped = backend.lease_many(dict.fromkeys(KEYS), fresh_token(), GENERATION)
    assert (stopped.generation, stopped.granted) == (None, frozenset())
    assert backend.get_many(KEYS) == {}


def generations_in(cluster: ClusterServers) -> dict[str, bytes | None]:
    """Give the cells of the class's generation by their names in Redis."""
    nodes = [node for node in cluster.nodes if node.is_primary]
    return {name.decode(): node.client.get(name) for node in nodes for name in node.client.keys(f"*}}{GENERATION}")}


def warm(backend: CoherentBackend) -> bytes:
    """Have a generation in each slot, and give its token."""
    token = backend.lease_many(dict.fromkeys(KEYS), fresh_token(), GENERATION).generation
    assert token is not None
    return token


def test_each_slot_has_the_generation(connect: Connect, cluster: ClusterServers) -> None:
    """The first leases put it beside their keys; a mark of the class is in all slots, and its release leaves a new one there."""
    backend = connect()
    token = warm(backend)
    assert {generation_of(cell) for cell in generations_in(cluster).values()} == {token}
    assert set(generations_in(cluster)) == {shard.tag + GENERATION for shard in shards_of(GENERATION)}
    backend.mark_many([], ONE, [GENERATION])
    assert [*generations_in(cluster).values()] == [b"W-" + ONE] * 16
    connect().mark_many([], TWO, [GENERATION])
    assert backend.release_many([GENERATION], ONE, committed=True) == 1
    assert [*generations_in(cluster).values()] == [b"W+" + TWO] * 16
    assert backend.release_many([GENERATION], TWO, committed=True) == 1
    assert generations_in(cluster) == {}
    assert warm(backend) != token
    backend.mark_many([], ONE, [GENERATION])
    backend.release_many([GENERATION], ONE, committed=True)
    (renewed,) = {generation_of(cell) for cell in generations_in(cluster).values()}
    assert len(generations_in(cluster)) == 16
    assert renewed not in (None, token)
    assert backend.invalidate_many([GENERATION]) == 1
    assert generations_in(cluster) == {}


@BLOCKING
def test_one_row_is_one_node(connect: Connect, cluster: ClusterServers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read, a lease and a mark of one row ask its node alone, for the generation too, and the mark is told of in the same exchange."""
    backend, sent = connect(), list[str]()
    warm(backend)
    backend.release_many(KEYS, ONE, committed=True, values=[item(key, b"old") for key in KEYS])
    elsewhere = [key for key in KEYS if cluster.primary_of(shard_of(key).slot) is not cluster.primary_of(shard_of(GENERATION).slot)]
    for key in elsewhere[:2]:
        backend.mark_many([key], ONE, (), [GENERATION])
        backend.release_many([key], ONE, committed=True)
        send = AbstractConnection.send_packed_command
        with monkeypatch.context() as patch:
            patch.setattr(AbstractConnection, "send_packed_command", noting(sent, "send", send))
            backend.get_many([key, GENERATION])
            backend.lease_many({key: None}, fresh_token(), GENERATION)
            assert backend.mark_many([key], ONE, (), [GENERATION]).keys() == {GENERATION}
        backend.release_many([key], ONE, committed=True)
    assert len(sent) == 6


@BLOCKING
def test_a_replica_is_put_by_its_lease(connect: Connect, cluster: ClusterServers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer of the whole class who comes between the lease and the answer of the generation prevents it, and so does one before."""
    backend, writer = connect(), connect()
    key = next(key for key in KEYS if shard_of(key) != shard_of(GENERATION))
    replica = shard_of(key).tag + GENERATION
    old = warm(writer)
    node = cluster.primary_of(shard_of(key).slot)
    node.client.delete(replica)
    put = Replicas._put

    def after_a_write(self: Replicas, *arguments: Any) -> None:
        writer.mark_many([], TWO, [GENERATION])
        writer.release_many([GENERATION], TWO, committed=True)
        node.client.delete(replica)
        put(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Replicas, "_put", after_a_write)
        assert backend.lease_many({f"{key}9": None, key: None}, fresh_token(), GENERATION).generation == old
    assert node.client.get(replica) is None
    assert generation_of(backend.get_many([key, GENERATION])[GENERATION]) not in (None, old)
    assert generation_of(node.client.get(replica)) not in (None, old)


def invalidated(backend: CoherentBackend) -> None:
    """Take the generation away, as a writer does that need not mark."""
    backend.invalidate_many([GENERATION])


def released(backend: CoherentBackend) -> None:
    """End a write of the class whose markers were lost."""
    assert backend.release_many([GENERATION], ONE, committed=True) == 0


@pytest.mark.parametrize("end", [invalidated, released])
def test_a_generation_ends_before_its_replicas(connect: Connect, cluster: ClusterServers, end: Callable[[CoherentBackend], None]) -> None:
    """A replica that was gone while its generation still stood was put again by whoever read meanwhile, and stayed."""
    writer, reader = connect(), connect()
    home = cluster.primary_of(shard_of(GENERATION).slot)
    key = next(key for key in KEYS if cluster.primary_of(shard_of(key).slot) is not home)
    warm(writer)
    end(writer)
    old = warm(reader)
    home.client.execute_command("CLIENT", "PAUSE", 300, "WRITE")
    thread = threading.Thread(target=end, args=[writer])
    thread.start()
    # In vain, as it is to be: the others are reached after the one that is held up.
    wait_until(lambda: not thread.is_alive() or reader.get_many([GENERATION, key]).get(GENERATION) is None, "the end")
    reader.get_many([GENERATION, key])
    thread.join()
    assert generation_of(reader.get_many([GENERATION, key]).get(GENERATION)) != old


def test_replicas_that_disagree_are_made_one(connect: Connect, cluster: ClusterServers) -> None:
    """Where the generation was lost and made anew, what others say goes."""
    backend = connect()
    old = warm(backend)
    cluster.primary_of(shard_of(GENERATION).slot).client.delete(shard_of(GENERATION).tag + GENERATION)
    home = [key for key in KEYS if shard_of(key) == shard_of(GENERATION)]
    made = backend.mark_many(home, ONE, (), [GENERATION])[GENERATION]
    backend.release_many(home, ONE, committed=True)
    assert made != old
    for _ in range(2):
        assert generation_of(backend.get_many([*KEYS, GENERATION])[GENERATION]) == made
    assert {generation_of(cell) for cell in generations_in(cluster).values()} == {made}


def behind(cluster: ClusterServers, change: Callable[[], object]) -> ClusterNodeServer:
    """Change something while a replica is frozen and cut off, put that in its primary's place, and give it."""
    replica = cluster.replica()
    fallen = cluster.primary_by(replica)
    assert fallen.client.wait(1, 20_000) == 1
    replica.freeze()
    try:
        # What is in the replica's socket would be done when it goes on.
        fallen.client.execute_command("CLIENT", "KILL", "TYPE", "replica")
        change()
        assert fallen.client.wait(1, 50) == 0
        fallen.stop()
    finally:
        replica.thaw()
    try:
        cluster.take_over(replica)
    finally:
        fallen.start()
    return replica


def from_an_old_file(cluster: ClusterServers, change: Callable[[], object]) -> ClusterNodeServer:
    """Change something after a node without a replica has saved what it has, start that again, and give it."""
    others = {cluster.replica(), cluster.primary_by(cluster.replica())}
    node = next(node for node in cluster.nodes if node not in others)
    node.client.save()
    change()
    node.stop()
    node.start()
    return node


@pytest.mark.parametrize("come_back", [behind, from_an_old_file])
def test_a_node_that_comes_back_with_an_old_generation(
    connect: Connect, cluster: ClusterServers, come_back: Callable[..., ClusterNodeServer]
) -> None:
    """Rows and generation go together there, and none of both is believed: not by who was connected, nor by who comes, row by row or in a batch."""
    writer, reader = connect(), connect()
    token = fresh_token()
    old = writer.lease_many(dict.fromkeys(KEYS), token, GENERATION).generation
    assert writer.fill_many([item(key, b"old") for key in KEYS], token) == len(KEYS)
    kept = reader.get_many([*KEYS, GENERATION])
    assert (len(kept), generation_of(kept[GENERATION])) == (len(KEYS) + 1, old)

    def write_all() -> None:
        writer.mark_many([], ONE, [GENERATION])
        writer.release_many([GENERATION], ONE, committed=True)

    node = come_back(cluster, write_all)
    wait_until(cluster.is_whole, "the cluster")
    there = keys_of(cluster, node)
    assert {generation_of(node.client.get(shard_of(key).tag + GENERATION)) for key in there} == {old}
    assert all(node.client.exists(shard_of(key).tag + key) for key in there)
    for backend in (reader, connect()):
        for asked in ([*KEYS, GENERATION], *([key, GENERATION] for key in there)):
            cells = backend.get_many(asked)
            assert not cells.keys() & set(there)
            assert generation_of(cells.get(GENERATION)) != old
    assert warm(writer) not in (None, old)
    assert {generation_of(cell) for cell in generations_in(cluster).values()} == {warm(reader)}


def test_a_class_cannot_be_marked_without_one_of_its_nodes(connect: Connect, cluster: ClusterServers) -> None:
    """Then its writer is told so, and what the others have is marked still."""
    backend, node = connect(), cluster.nodes[1]
    warm(backend)
    node.stop()
    try:
        with pytest.raises(CacheUnreachable):
            backend.mark_many([], ONE, [GENERATION])
    finally:
        node.start()
    wait_until(cluster.is_whole, "the cluster")
    backend.release_many([GENERATION], ONE, committed=False)
    assert backend.get_many([GENERATION]).keys() <= {GENERATION}


def test_two_classes_of_one_checksum(connect: Connect) -> None:
    """They are in the same slots, and none of them loses a key to the other."""
    heads: dict[Shard, str] = {}
    pair = next(
        (heads[shard], head) for head in map("n:C{}:".format, count()) if heads.setdefault(shard := shards_of(head)[0], head) != head
    )
    keys = [f"{head}id:i{number}" for number in range(40) for head in pair]
    backend = connect()
    backend.mark_many(keys, ONE, (), pair)
    assert backend.get_many([*keys, *pair]).items() >= dict.fromkeys(keys, b"W-" + ONE).items()
    assert backend.release_many(keys, ONE, committed=True) == len(keys)


def test_a_node_that_is_gone_is_unreachable_at_once(connect: Connect, cluster: ClusterServers) -> None:
    """What it has cannot be asked for, what others have can; and its return is noticed."""
    backend, node = connect(), cluster.nodes[1]
    gone = keys_of(cluster, node)
    backend.put_many([item(key, b"body") for key in KEYS])
    node.stop()
    with pytest.raises(CacheUnreachable):
        backend.get_many(KEYS)
    with pytest.raises(CacheUnreachable):
        backend.mark_many(gone, ONE)
    node.start()
    wait_until(cluster.is_whole, "the cluster")
    assert backend.get_many(gone) == {}
    backend.put_many([item(key, b"new") for key in gone])
    assert bodies(backend, *gone) == dict.fromkeys(gone, body(b"new"))


def test_scripts_are_loaded_again_where_a_node_forgot_them(connect: Connect, cluster: ClusterServers) -> None:
    """A node without the scripts gets them once more, unseen by the caller."""
    backend = connect()
    for _ in range(2):
        for node in cluster.nodes:
            node.client.script_flush()
        backend.put_many([item(key, b"body") for key in KEYS])
        assert len(backend.get_many(KEYS)) == len(KEYS)


def test_a_client_that_reads_from_replicas_is_refused(cluster: ClusterServers) -> None:
    """They may be behind, and no life tells."""
    with cluster.client() as client:
        client.read_from_replicas = True
        with pytest.raises(ConfigurationError, match="reads from replicas"):
            RedisBackend(client=client)
