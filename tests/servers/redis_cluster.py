"""A Redis Cluster of a test's own, with fail-overs and slots that move."""

import contextlib
from collections.abc import Iterator
from typing import Any

from redis import Redis, RedisCluster

from tests.servers.redis import RedisServer
from tests.servers.server import HOST, folder, own_port, wait_until

SLOTS = 16384
NODE_TIMEOUT_MS = 15000


class ClusterNodeServer(RedisServer):
    """A node of a cluster, which knows no other at first."""

    def __init__(self, directory: Any, *options: str) -> None:
        self.bus = own_port(self)
        cluster = ["--cluster-enabled", "yes", "--cluster-announce-ip", HOST, "--cluster-port", str(self.bus)]
        timing = ["--cluster-node-timeout", str(NODE_TIMEOUT_MS), "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"]
        super().__init__(directory, *cluster, *timing, *options)
        self.client: Any = Redis(host=HOST, port=self.port, socket_timeout=30)

    @property
    def id(self) -> str:
        """By what the others know it."""
        return str(self.client.execute_command("CLUSTER MYID").decode())

    @property
    def is_primary(self) -> bool:
        """Whether it takes writes."""
        return bool(self.client.info("replication")["role"] == "master")

    def cluster_fact(self, name: str) -> str:
        """Give a line of CLUSTER INFO."""
        return str(self.client.execute_command("CLUSTER INFO")[f"cluster_{name}"])


class ClusterServers:
    """The nodes of a cluster: primaries, then the replicas of the first ones.

    Attributes:
        nodes: All of them, whatever they are at the moment.
    """

    def __init__(self, nodes: list[ClusterNodeServer], primaries: int) -> None:
        self.nodes = nodes
        self._primaries = primaries

    @property
    def url(self) -> str:
        """The URL of one of them."""
        return self.nodes[-1].url

    @contextlib.contextmanager
    def client(self, **options: Any) -> Iterator[RedisCluster]:
        """Give a client of redis-py's."""
        with contextlib.closing(RedisCluster.from_url(self.url, **options)) as client:
            yield client

    def form(self) -> None:
        """Make a cluster of the nodes, the slots shared evenly."""
        first = self.nodes[0]
        for at, node in enumerate(self.nodes):
            node.client.execute_command("CLUSTER SET-CONFIG-EPOCH", at + 1)
            if at < self._primaries:
                begin, end = (SLOTS * position // self._primaries for position in (at, at + 1))
                node.client.execute_command("CLUSTER ADDSLOTSRANGE", begin, end - 1)
            if at:
                first.client.execute_command("CLUSTER MEET", HOST, node.port, node.bus)
        wait_until(lambda: all(int(node.cluster_fact("known_nodes")) == len(self.nodes) for node in self.nodes), "the cluster's nodes")
        for replica, primary in zip(self.nodes[self._primaries :], self.nodes, strict=False):
            wait_until(lambda one=replica, other=primary: follows(one, other.id), "the replicas")  # type: ignore[misc]
        wait_until(self.is_whole, "the cluster")

    def is_whole(self) -> bool:
        """Whether all nodes know of all slots' primaries, and all replicas are in step."""
        replicas = [node for node in self.nodes if not node.is_primary]
        linked = all(node.client.info("replication")["master_link_status"] == "up" for node in replicas)
        views = {tuple(sorted(slots_of(node.client).items())) for node in self.nodes}
        return linked and len(views) == 1 and all(node.cluster_fact("state") == "ok" for node in self.nodes)

    def primary_of(self, slot: int) -> ClusterNodeServer:
        """Give the node that has a slot, as a node that runs knows it."""
        ports = slots_of(next(node for node in self.nodes if node.ready()).client)
        port = next(port for (first, last), port in ports.items() if first <= slot <= last)
        return next(node for node in self.nodes if node.port == port)

    def heal(self) -> None:
        """Wait until nothing is amiss, and empty all nodes."""
        wait_until(self.is_whole, "the cluster")
        for node in self.nodes:
            if node.is_primary:
                node.client.flushall()

    def replica(self) -> ClusterNodeServer:
        """Give the replica, of which there is one at any time."""
        return next(node for node in self.nodes if not node.is_primary)

    def primary_by(self, replica: ClusterNodeServer) -> ClusterNodeServer:
        """Give the node whose replica one is."""
        port = replica.client.info("replication")["master_port"]
        return next(node for node in self.nodes if node.port == port)

    def fail_over(self) -> ClusterNodeServer:
        """Kill the primary that has a replica, put that in its place, start it again, and give what it has become: the replica."""
        replica = self.replica()
        fallen = self.primary_by(replica)
        fallen.stop()
        try:
            self.take_over(replica)
        finally:
            fallen.start()
        return fallen

    def take_over(self, replica: ClusterNodeServer) -> None:
        """Let a replica take its primary's place at once, whatever it has not got yet."""
        replica.client.execute_command("CLUSTER FAILOVER", "TAKEOVER")
        wait_until(lambda: replica.is_primary, "the take-over")

    def begin_move(self, slot: int, to: ClusterNodeServer) -> ClusterNodeServer:
        """Begin to move a slot, of which no key has gone yet, and give its node of old."""
        source = self.primary_of(slot)
        to.client.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", source.id)
        source.client.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", to.id)
        return source

    def move_keys(self, slot: int, source: ClusterNodeServer, to: ClusterNodeServer, count: int = 1000) -> int:
        """Move some keys of a slot, and give how many."""
        keys = source.client.execute_command("CLUSTER GETKEYSINSLOT", slot, count)
        if keys:
            source.client.execute_command("MIGRATE", HOST, to.port, "", 0, 5000, "KEYS", *keys)
        return len(keys)

    def end_move(self, slot: int, source: ClusterNodeServer, to: ClusterNodeServer) -> None:
        """Move what is left of a slot, and tell the primaries."""
        while self.move_keys(slot, source, to):
            pass
        name = to.id
        for node in (to, source, *(node for node in self.nodes if node is not to and node is not source and node.is_primary)):
            node.client.execute_command("CLUSTER SETSLOT", slot, "NODE", name)

    def move(self, slot: int, to: ClusterNodeServer) -> None:
        """Move a slot with all its keys."""
        self.end_move(slot, self.begin_move(slot, to), to)


def slots_of(client: Any) -> dict[tuple[int, int], int]:
    """Give the port of each range's primary, as a node sees it."""
    return {(entry[0], entry[1]): entry[2][1] for entry in client.execute_command("CLUSTER SLOTS")}


def follows(replica: ClusterNodeServer, primary: str) -> bool:
    """Make a node a replica, if it knows its primary yet."""
    try:
        replica.client.execute_command("CLUSTER REPLICATE", primary)
    except Exception:  # noqa: BLE001 - it is asked again
        return False
    return True


@contextlib.contextmanager
def running_redis_nodes(primaries: int = 3, replicas: int = 0, options: tuple[str, ...] = ()) -> Iterator[ClusterServers]:
    """Run a cluster, in about three seconds; each of the first so many primaries has a replica."""
    with contextlib.ExitStack() as stack:
        nodes = [ClusterNodeServer(stack.enter_context(folder()), *options) for _ in range(primaries + replicas)]
        for node in nodes:
            stack.enter_context(node.running())
        cluster = ClusterServers(nodes, primaries)
        cluster.form()
        yield cluster
