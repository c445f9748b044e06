"""Marks and leases whose connection is lost: they are not sent again unseen, as the first one may come late."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
import redis.asyncio
from redis import Redis
from redis.asyncio.retry import Retry as AwaitedRetry
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection
from redis.retry import Retry
from sqlalchemy import Engine

from stockstore import ChainedStore, RedisStore, SqlAlchemyStore
from stockstore.backends import RedisBackend
from stockstore.backends.coherent import CoherentBackend
from stockstore.backends.redis_lists import FOLLOW_LIST
from stockstore.backends.redis_scripts import FILL, INVALIDATE, LEASE, MARK, RELEASE, Script
from stockstore.coherence.protocol import Writes
from stockstore.errors import CacheUnreachable
from stockstore.keys import keys_of
from stockstore.stores.tiers import tier_of
from stockstore.testing.coherent_basics import bodies, body, fresh_token, item
from tests.aio.driven_backend import DrivenBackend, running
from tests.servers.redis_cluster import ClusterServers, running_redis_nodes
from tests.stores.shop import Customer, create_tables, empty

pytestmark = pytest.mark.sa_agnostic
ONE = b"db.1"
KEYS = [f"n:C:id:i{number}" for number in range(20)]
PATIENT: dict[str, Any] = {"retry": Retry(NoBackoff(), 3)}


@pytest.fixture(scope="module")
def nodes() -> Iterator[ClusterServers]:
    """Two primaries."""
    with running_redis_nodes(2) as nodes:
        yield nodes


class Proxy:
    """What is between a client and servers: it resets connections at the first command of each of some scripts to a server, and has it arrive later."""

    def __init__(self, *scripts: Script) -> None:
        self._digests = [script.digest.encode() for script in scripts]
        self._met: set[tuple[bytes, int]] = set()
        self.held: list[tuple[tuple[str, int], bytes]] = []

    def takes(self, connection: Any, command: list[bytes]) -> bool:
        """Whether a command is held back."""
        data = b"".join(command)
        found = {(digest, connection.port) for digest in self._digests if digest in data} - self._met
        if not found:
            return False
        self._met |= found
        self.held.append(((connection.host, connection.port), data))
        return True

    def deliver(self) -> None:
        """Send what was held back, each on a connection of its own, and wait until it is done."""
        for address, data in self.held:
            with socket.create_connection(address, timeout=30) as server:
                server.sendall(data + b"*1\r\n$4\r\nPING\r\n")
                answer = b""
                while b"+PONG" not in answer:
                    answer += server.recv(65536)


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Proxy]:
    """A function that puts a proxy in between, for some scripts."""

    def put(*scripts: Script) -> Proxy:
        proxy = Proxy(*scripts)
        send: Any = AbstractConnection.send_packed_command
        send_awaited: Any = redis.asyncio.connection.AbstractConnection.send_packed_command

        def sending(self: Any, command: Any, *arguments: Any, **options: Any) -> None:
            if proxy.takes(self, command):
                self.disconnect()
                raise redis.ConnectionError("reset")
            send(self, command, *arguments, **options)

        async def sending_awaited(self: Any, command: Any, *arguments: Any, **options: Any) -> None:
            if proxy.takes(self, command):
                await self.disconnect(nowait=True)
                raise redis.ConnectionError("reset")
            await send_awaited(self, command, *arguments, **options)

        monkeypatch.setattr(AbstractConnection, "send_packed_command", sending)
        monkeypatch.setattr(redis.asyncio.connection.AbstractConnection, "send_packed_command", sending_awaited)
        return proxy

    return put


@contextlib.contextmanager
def driven(make: Callable[[], Any]) -> Iterator[CoherentBackend]:
    """Give a backend on an asyncio client."""

    async def made() -> Any:
        return make()

    with running(asyncio.new_event_loop) as loop:
        client = asyncio.run_coroutine_threadsafe(made(), loop).result()
        try:
            yield DrivenBackend(RedisBackend(client=client), loop)
        finally:
            asyncio.run_coroutine_threadsafe(client.aclose(), loop).result()


@pytest.fixture(params=["url", "client", "awaited", "cluster", "awaited cluster"])
def backend(request: pytest.FixtureRequest, redis_url: str) -> Iterator[CoherentBackend]:
    """A backend on a server or a cluster; the clients that were given try again themselves, whatever is lost."""
    with contextlib.ExitStack() as stack:
        if "cluster" in request.param:
            nodes: ClusterServers = request.getfixturevalue("nodes")
            nodes.heal()
            if request.param == "cluster":
                yield RedisBackend(client=stack.enter_context(nodes.client()))
            else:
                yield stack.enter_context(driven(lambda: redis.asyncio.RedisCluster.from_url(nodes.url)))
        elif request.param == "awaited":
            patient: dict[str, Any] = {"retry": AwaitedRetry(NoBackoff(), 3)}
            yield stack.enter_context(driven(lambda: redis.asyncio.Redis.from_url(redis_url, **patient)))
        elif request.param == "client":
            yield RedisBackend(client=stack.enter_context(Redis.from_url(redis_url, **PATIENT)))
        else:
            yield stack.enter_context(contextlib.closing(RedisBackend(redis_url)))


def test_a_mark_is_sent_once(backend: CoherentBackend, between: Callable[..., Proxy]) -> None:
    """Its writer is told; the release may be sent again, and is."""
    keys = [f"{uuid4().hex}:{key}" for key in KEYS]
    proxy = between(MARK, RELEASE)
    with pytest.raises(CacheUnreachable):
        backend.mark_many(keys, ONE)
    marks = len(proxy.held)
    backend.mark_many(keys, ONE)
    assert len(proxy.held) == marks > 0
    assert backend.release_many(keys, ONE, committed=True) == len(keys)
    assert len(proxy.held) == 2 * marks


def test_a_lease_is_sent_once(backend: CoherentBackend, between: Callable[..., Proxy]) -> None:
    """Its reader has none, and fills nothing; what fills a lease that stands may be sent again, and what invalidates."""
    key, token = f"{uuid4().hex}:C:id:i1", fresh_token()
    proxy = between(LEASE, FOLLOW_LIST, FILL, INVALIDATE)
    with pytest.raises(CacheUnreachable):
        backend.lease_many({key: None}, token, "")
    if backend.follows_lists:
        with pytest.raises(CacheUnreachable):
            backend.follow_list(key, key[: -len("id:i1")], b"", "", token)
    held = len(proxy.held)
    assert backend.lease_many({key: None}, token, "").granted == {key}
    assert backend.fill_many([item(key, b"1")], token) == 1
    assert bodies(backend, key) == {key: body(b"1")}
    assert backend.invalidate_many([key]) == 1
    assert len(proxy.held) == held + 2


def test_a_generation_does_not_follow_on_a_mark_that_may_come_late(nodes: ClusterServers, between: Callable[..., Proxy]) -> None:
    """A writer of the whole class leaves none where his marks were sent twice."""
    nodes.heal()
    with nodes.client() as client, RedisStore(client=client) as store:
        tier, ends = tier_of(store), []
        for repeated in (False, True):
            writes = Writes()
            writes.add_class(Customer)
            places = tier.locate(writes)
            if repeated:
                assert between(MARK).held == []
            tier.mark(places, ONE)
            tier.release(places, ONE, committed=True)
            ends.append(sum(len(node.client.keys(f"*:{keys_of(Customer).identity.label}:")) for node in nodes.nodes))
    assert ends == [16, 0]


@pytest.fixture(scope="module")
def shop(postgres_engine: Engine) -> Engine:
    """A database with the shop's tables."""
    create_tables(postgres_engine)
    return postgres_engine


@pytest.fixture
def db(shop: Engine) -> Engine:
    """The same, empty."""
    empty(shop)
    return shop


@pytest.fixture(params=["server", "cluster"])
def client(request: pytest.FixtureRequest, redis_url: str) -> Iterator[Any]:
    """A client with retries of its own, or of a cluster."""
    if request.param == "server":
        with Redis.from_url(redis_url, **PATIENT) as client:
            yield client
    else:
        nodes: ClusterServers = request.getfixturevalue("nodes")
        nodes.heal()
        with nodes.client() as client:
            yield client


def test_what_comes_late_puts_nothing_old(client: Any, db: Engine, namespace: str, between: Callable[..., Proxy]) -> None:
    """A mark and its release that were sent again, and whose first copies come after the next write."""
    with ChainedStore([RedisStore(client=client, namespace=namespace), SqlAlchemyStore(engine=db)]) as chain:
        proxy = between(MARK, RELEASE)
        for name in ("first", "second"):
            chain.put(Customer(id=1, email="one", name=name))
        assert len(proxy.held) >= 2
        assert name_of(chain) == "second"
        proxy.deliver()
        assert name_of(chain) == "second"


def name_of(chain: ChainedStore) -> str:
    """Read the customer."""
    found = chain.get(Customer, 1)
    assert found is not None
    return found.name
