"""Batches on one memcached and on three, beside what pymemcache needs for the same bytes."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Final
from uuid import uuid4
from zlib import crc32

from pymemcache.client.base import Client
from pymemcache.client.hash import HashClient

from bench.context import Context, calls, expect, expect_all
from bench.raw import decoder_for, record_keys
from bench.report import Row, at_most, timed
from bench.samples import Product, fields
from stockstore import MemcacheStore

SUBJECT: Final = "memcached, batches of 100"
_NUMBERS: Final = list(range(100))
_PRODUCTS: Final = [Product(**fields(number)) for number in _NUMBERS]
_SECONDS: Final = 600
_TARGET: Final = at_most(1.0)

Peer = Callable[[], Any]


def rows(context: Context) -> Iterator[Row]:
    servers = context.servers.memcached
    yield from _compare(context, servers[:1], "1 server", _one_server)
    if len(servers) >= 3:
        yield from _compare(context, servers[:3], "3 servers", _three_servers)


class Peers:
    """The same bytes by pymemcache: what the store keeps, under keys of the peer's own."""

    def __init__(
        self, name: str, get_many: Callable[[list[str]], dict[str, bytes]], set_many: Callable[[dict[str, bytes]], object]
    ) -> None:
        self.name, self.get_many, self.set_many = name, get_many, set_many


def _compare(context: Context, servers: list[str], where: str, peers_of: Callable[[list[str], ExitStack], list[Peers]]) -> Iterator[Row]:
    namespace = uuid4().hex
    with ExitStack() as stack:
        store = stack.enter_context(MemcacheStore(servers, namespace=namespace, lifetime=_SECONDS))
        store.batch_put(_PRODUCTS)
        peers = peers_of(servers, stack)
        yield from _reads(context, store, where, peers, namespace)
        yield from _writes(context, store, where, peers, namespace)
        store.clear()


def _cells(store: MemcacheStore, namespace: str) -> dict[str, bytes]:
    texts = record_keys(namespace, Product, _NUMBERS)
    found = store._backend.get_many(texts)  # noqa: SLF001 - no other way shows the bytes
    return {f"peer:{text}": found[text] for text in texts}


def _reads(context: Context, store: MemcacheStore, where: str, peers: list[Peers], namespace: str) -> Iterator[Row]:
    cells = _cells(store, namespace)
    texts = list(cells)
    ours = f"batch_get, {where}"
    ways: dict[str, Peer] = {ours: lambda: store.batch_get(Product, _NUMBERS)}
    for peer in peers:
        peer.set_many(cells)
        expect(peer.name, peer.get_many(texts), cells)
        ways[f"{peer.name}.get_many + msgspec"] = _decoding(peer, texts)
    expect_all(_PRODUCTS, ways)
    bare = f"{peers[0].name}.get_many alone"
    times = context.race(calls({**ways, bare: lambda: peers[0].get_many(texts)}))
    for name in ways:
        if name != ours:
            yield timed(SUBJECT, ours, times, name, _TARGET, ours=ours)
    yield timed(SUBJECT, ours, times, bare, ours=ours)


def _decoding(peer: Peers, texts: list[str]) -> Peer:
    make = decoder_for(Product)

    def read() -> list[Any]:
        found = peer.get_many(texts)
        return [make(found[text]) for text in texts]

    return read


def _writes(context: Context, store: MemcacheStore, where: str, peers: list[Peers], namespace: str) -> Iterator[Row]:
    cells = _cells(store, namespace)
    ours = f"batch_put, {where}"
    ways: dict[str, Peer] = {ours: lambda: store.batch_put(_PRODUCTS)}
    for peer in peers:
        ways[f"{peer.name}.set_many, ready bytes"] = lambda peer=peer: peer.set_many(cells)  # type: ignore[misc]
    times = context.race(calls(ways))
    for name in ways:
        if name != ours:
            yield timed(SUBJECT, ours, times, name, _TARGET, ours=ours)


def _client(address: str, stack: ExitStack) -> Client:
    client = Client(address, default_noreply=False, no_delay=True, connect_timeout=1, timeout=1)
    stack.callback(client.close)
    return client


def _one_server(servers: list[str], stack: ExitStack) -> list[Peers]:
    client = _client(servers[0], stack)
    return [Peers("Client", client.get_many, lambda cells: client.set_many(cells, expire=_SECONDS))]


def _three_servers(servers: list[str], stack: ExitStack) -> list[Peers]:
    hashed = HashClient(servers, default_noreply=False, no_delay=True, connect_timeout=1, timeout=1)
    stack.callback(hashed.close)
    clients = [_client(address, stack) for address in servers]

    def get_many(texts: list[str]) -> dict[str, bytes]:
        groups: list[list[str]] = [[] for _ in clients]
        for text in texts:
            groups[crc32(text.encode()) % len(clients)].append(text)
        found: dict[str, bytes] = {}
        for client, group in zip(clients, groups, strict=True):
            found.update(client.get_many(group))
        return found

    def set_many(cells: dict[str, bytes]) -> None:
        groups: list[dict[str, bytes]] = [{} for _ in clients]
        for text, cell in cells.items():
            groups[crc32(text.encode()) % len(clients)][text] = cell
        for client, group in zip(clients, groups, strict=True):
            client.set_many(group, expire=_SECONDS)

    return [
        Peers("three Clients", get_many, set_many),
        Peers("HashClient", hashed.get_many, lambda cells: hashed.set_many(cells, expire=_SECONDS)),
    ]
