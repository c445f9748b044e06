"""The channel of a Redis Cluster: each node's own, all of which are heard."""

import selectors
from collections.abc import Hashable, Iterator
from contextlib import suppress
from typing import Any, Final, NamedTuple

from stockstore.backends.redis_clients import AnyCluster, address_of, channel_name, nodes_of
from stockstore.backends.redis_shards import without_tag
from stockstore.channels.base import Channel, Garbled, Heard, Proof
from stockstore.channels.redis import kind_of, message_of, options_of
from stockstore.channels.redis_hearing import Hearing
from stockstore.channels.redis_streams import Streams, is_name

_GONE: Final = frozenset({"fail", "noaddr", "handshake"})


class Node(NamedTuple):
    """A node of a cluster, primary or replica."""

    id: str
    host: str
    port: int


class ClusterChannel(Channel):
    """The messages of all nodes of a cluster, by connections of its own.

    A writer has one node publish, whose subscribers have heard it before he is answered. The cluster passes it on to the others
    as well, at some time: so each message comes from every node, and is told of when it comes first.
    """

    def __init__(self, client: AnyCluster) -> None:
        """Keep how the client connects; opens no connection."""
        self._client: Any = client
        self._name = channel_name(client)
        self._shown = address_of(client)

    def __repr__(self) -> str:
        """Name the nodes, without passwords."""
        return f"ClusterChannel({self._shown!r})"

    @property
    def address(self) -> Hashable:
        """The cluster, and who asks."""
        options = self._client.nodes_manager.connection_kwargs
        return ClusterChannel, self._shown, options.get("username"), options.get("password")

    def open(self) -> "ClusterLine":
        """Connect to every node, and subscribe there."""
        line = ClusterLine(self._client, self._name)
        try:
            line.subscribe()
        except BaseException:
            line.close()
            raise
        return line


class ClusterLine:
    """A connection to each node, which hears, and one to any of them, which asks for the nodes of the moment."""

    def __init__(self, client: Any, name: bytes) -> None:
        """Have no connection yet."""
        self._client, self._name = client, name
        self._asking: Any = None
        self._hearing: list[Hearing] = []
        self._answers: list[int] = []
        self._proven = 0
        self._streams = Streams()
        self._nodes: frozenset[Node] = frozenset()
        self._readable = selectors.DefaultSelector()

    def subscribe(self) -> None:
        """Subscribe at each node, and wait until that is confirmed; raises any error of the driver."""
        self._asking = self._any_node()
        self._nodes = self._look()
        for node in sorted(self._nodes):
            hearing = Hearing(self._connection(node.host, node.port))
            self._hearing.append(hearing)
            hearing.subscribe(self._name)
            self._readable.register(hearing, selectors.EVENT_READ, len(self._hearing) - 1)
        self._answers = [0] * len(self._hearing)
        self._check()

    def fileno(self) -> int:
        """Give what is readable when one of the sockets is."""
        return int(self._readable.fileno())

    def beat(self) -> None:
        """Ask each node for an answer that comes after what it has published."""
        self._check()
        self._streams.ask()
        for hearing in self._hearing:
            hearing.ping()

    def receive(self) -> "Iterator[Heard | Garbled | Proof]":
        """Give what has come; a proof once all nodes have answered."""
        for key, _ in self._readable.select(0):
            yield from self._received(key.data)
        while self._proven < min(self._answers):
            self._proven += 1
            yield Proof(missed=not self._streams.answered())

    def _received(self, at: int) -> "Iterator[Heard | Garbled]":
        for kind, *rest in self._hearing[at].receive():
            if kind == b"pong":
                self._answers[at] += 1
            elif kind == b"message":
                yield from self._said(rest[1])

    def _said(self, data: bytes) -> "Iterator[Heard | Garbled]":
        """Give what a message tells, unless it is a copy."""
        name, _, said = data.partition(b"\n")
        # What a script publishes itself has no number.
        message = message_of(b"0\n" + said) if name == b"0" or is_name(name) else Garbled(data)
        if isinstance(message, Garbled):
            yield Garbled(data)
        elif name == b"0" or self._streams.is_new(name):
            yield message._replace(texts=list(map(without_tag, message.texts)))

    def close(self) -> None:
        """Hang up."""
        if self._asking is not None:
            with suppress(Exception):
                self._asking.disconnect()
        for hearing in self._hearing:
            with suppress(Exception):
                hearing.close()
        self._readable.close()

    def _check(self) -> None:
        if self._look() != self._nodes:
            raise ConnectionError("the cluster has other nodes now")

    def _any_node(self) -> Any:
        """Connect to one of the nodes that the client knows."""
        errors: list[Exception] = []
        for node in nodes_of(self._client):
            connection = self._connection(node.host, node.port)
            try:
                connection.connect()
            except Exception as error:  # noqa: BLE001 - a driver's; another node may answer
                errors.append(error)
            else:
                return connection
        raise ConnectionError(f"no node of the cluster answers: {errors}")

    def _connection(self, host: str, port: int) -> Any:
        options = {**options_of(self._client.nodes_manager.connection_kwargs), "host": host, "port": port}
        return kind_of(options)(**options)

    def _look(self) -> frozenset[Node]:
        """Give the nodes that are in the cluster and are not known to have failed."""
        lines = self._ask(self._asking, "CLUSTER", "NODES").decode().splitlines()
        fields = [line.split() for line in lines]
        return frozenset(self._node(name, address) for name, address, flags, *_ in fields if _GONE.isdisjoint(flags.split(",")))

    def _node(self, name: str, address: str) -> Node:
        host, _, port = address.partition("@")[0].rpartition(":")
        return Node(name, *self._client.nodes_manager.remap_host_port(host or self._asking.host, int(port)))

    @staticmethod
    def _ask(connection: Any, *command: "str | bytes") -> Any:
        connection.send_command(*command, check_health=False)
        return connection.read_response()
