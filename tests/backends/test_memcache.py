"""The contract of backends on memcached: one server, several, a unix socket, ready clients; and what is refused."""

import contextlib
from collections.abc import Callable, Iterator

import pytest
from pymemcache import Client, HashClient, PooledClient
from pymemcache.client.retrying import RetryingClient

from stockstore.backends import MemcacheBackend
from stockstore.errors import CacheUnreachable, ConfigurationError
from stockstore.testing.coherent_basics import bodies, item
from stockstore.testing.coherent_contract import CoherentBackendContract
from tests.servers.memcached import MemcachedServer, running_memcached

pytestmark = pytest.mark.sa_agnostic

KEYS = [f"n:C:id:i{number}" for number in range(100)]
ITEMS = [(key, b"V" * 100, 60) for key in KEYS]


class TestMemcache(CoherentBackendContract):
    @pytest.fixture
    def backend(self, memcached_address: str) -> Iterator[MemcacheBackend]:
        """On one server."""
        with contextlib.closing(MemcacheBackend(memcached_address)) as backend:
            yield backend

    @pytest.fixture
    def other(self, memcached_address: str) -> Iterator[MemcacheBackend]:
        """As another process has it."""
        with contextlib.closing(MemcacheBackend(memcached_address)) as backend:
            yield backend


class TestMemcacheByUnixSocket(CoherentBackendContract):
    @pytest.fixture
    def backend(self, memcached_unix_path: str) -> Iterator[MemcacheBackend]:
        """On a server behind a unix socket."""
        with contextlib.closing(MemcacheBackend(f"unix:{memcached_unix_path}")) as backend:
            yield backend


@pytest.fixture(scope="module")
def three_addresses() -> Iterator[list[str]]:
    """Three servers for this file."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(running_memcached()).address for _ in range(3)]


class TestThreeMemcacheds(CoherentBackendContract):
    @pytest.fixture
    def backend(self, three_addresses: list[str]) -> Iterator[MemcacheBackend]:
        """On three servers."""
        with contextlib.closing(MemcacheBackend(three_addresses)) as backend:
            yield backend

    @pytest.fixture
    def other(self, three_addresses: list[str]) -> Iterator[MemcacheBackend]:
        """As another process has it, which lists the servers in another order."""
        with contextlib.closing(MemcacheBackend(three_addresses[::-1])) as backend:
            yield backend


@pytest.mark.parametrize("kind", ["client", "pool", "hash"])
def test_the_servers_of_a_client_are_used(memcached_address: str, memcached_unix_path: str, namespace: str, kind: str) -> None:
    """A client of each kind tells where the cells stand."""
    clients: dict[str, Client | PooledClient | HashClient] = {
        "client": Client(memcached_address),
        "pool": PooledClient(memcached_address),
        "hash": HashClient([memcached_address, memcached_unix_path]),
    }
    servers = [memcached_address, memcached_unix_path] if kind == "hash" else [memcached_address]
    items = [item(f"{namespace}:C:id:i{number}", b"%d" % number) for number in range(100)]
    with contextlib.closing(MemcacheBackend(client=clients[kind])) as given, contextlib.closing(MemcacheBackend(servers)) as own:
        given.put_many(items)
        assert bodies(own, *[key for key, _, _ in items]) == {key: body for key, body, _ in items}


@pytest.mark.parametrize(
    "servers",
    [
        "",
        "host:port",
        "host:0",
        "host:70000",
        "two words:11211",
        "a:1,b:2",
        ":11211",
        "unix:",
        "//ann:s3cret@host",
        "\ud800",
        [""],
        [("host", 1)],
    ],
)
def test_a_bad_server_is_refused_at_construction(servers: object) -> None:
    """An address that cannot work is refused, and the message shows it and the forms that work."""
    with pytest.raises(ConfigurationError, match=r'is no memcached server; write "host:port"'):
        MemcacheBackend(servers)  # type: ignore[arg-type]


def test_no_server_at_all_is_refused() -> None:
    """An empty list is refused."""
    with pytest.raises(ConfigurationError, match="no memcached server was given"):
        MemcacheBackend([])


def test_a_server_listed_twice_is_refused() -> None:
    """A server counts once, however it is written."""
    with pytest.raises(ConfigurationError, match="cache:11211 is listed twice"):
        MemcacheBackend(["cache", "other", "cache:11211"])


def test_exactly_one_of_servers_and_client_is_wanted() -> None:
    """Neither and both are refused."""
    with pytest.raises(ConfigurationError, match="either servers or a client"):
        MemcacheBackend()
    with pytest.raises(ConfigurationError, match="either servers or a client"):
        MemcacheBackend("localhost", client=Client("localhost"))


def test_a_client_with_a_prefix_is_refused() -> None:
    """A client that lengthens keys is refused with the fix."""
    with pytest.raises(ConfigurationError, match="make it without key_prefix and give the store a namespace"):
        MemcacheBackend(client=PooledClient("localhost", key_prefix=b"app:"))


def test_a_foreign_client_is_refused() -> None:
    """Only pymemcache's own clients tell where their servers are."""
    with pytest.raises(ConfigurationError, match="a client of type RetryingClient is none that can be used"):
        MemcacheBackend(client=RetryingClient(Client("localhost")))


def test_a_given_client_stays_open_and_its_serializer_is_not_asked(memcached_address: str, namespace: str) -> None:
    """Closing the backend leaves the client alone, and bytes are bytes whatever the client does with values."""

    class Loud:
        def serialize(self, key: str, value: object) -> tuple[bytes, int]:
            return str(value).upper().encode(), 7

        def deserialize(self, key: str, value: bytes, flags: int) -> str:
            return value.decode()

    key = f"{namespace}:C:id:i1"
    client = Client(memcached_address, serde=Loud(), default_noreply=False)
    client.set(namespace, "mine")
    connection = client.sock
    backend = MemcacheBackend(client=client)
    backend.set_many([(key, b"small\r\n", 60)])
    assert backend.get_many([key]) == {key: b"small\r\n"}
    backend.close()
    assert client.get(namespace) == "MINE"
    assert client.sock is connection
    client.close()


def test_a_given_client_lends_its_timeouts(memcached_address: str) -> None:
    """Time-outs that the client has are used; where it would wait for ever, ours are."""
    clients = [Client(memcached_address, connect_timeout=0.25, timeout=0.5), Client(memcached_address)]
    servers = [MemcacheBackend(client=client, connect_timeout=3, timeout=4)._nodes.listed[0].pool.server for client in clients]
    assert [(server.connect_timeout, server.timeout) for server in servers] == [(0.25, 0.5), (3, 4)]


def test_construction_opens_no_connection(start_memcached: Callable[..., MemcachedServer]) -> None:
    """Only the first operation connects."""
    server = start_memcached()
    observer = Client(server.address)
    before = observer.stats()[b"total_connections"]
    with contextlib.closing(MemcacheBackend(server.address)) as backend:
        backend.get_many([])
        assert repr(backend) == f"MemcacheBackend([{server.address!r}])"
        assert observer.stats()[b"total_connections"] == before
        backend.get_many(KEYS[:1])
        assert observer.stats()[b"total_connections"] == before + 1
    observer.close()


def test_localhost_is_found_whichever_address_it_has(start_memcached: Callable[..., MemcachedServer]) -> None:
    """A name with several addresses works when the server listens on one of them only."""
    server = start_memcached()
    with contextlib.closing(MemcacheBackend(f"localhost:{server.port}")) as backend:
        backend.set_many(ITEMS)
        assert len(backend.get_many(KEYS)) == 100


def test_a_value_that_is_too_large_is_refused_and_the_old_one_is_gone(memcached_address: str, namespace: str) -> None:
    """Refusal is an error that names the key; the old value cannot be read any more; others of the batch were written."""
    large, other = f"{namespace}:C:id:i1", f"{namespace}:C:id:i2"
    with contextlib.closing(MemcacheBackend(memcached_address)) as backend:
        backend.set_many([(large, b"old", 60)])
        with pytest.raises(CacheUnreachable, match=rf"refused '{large}'.*too large"):
            backend.set_many([(large, b"x" * 3_000_000, 60), (other, b"small", 60)])
        assert backend.get_many([large, other]) == {other: b"small"}


def test_keys_are_spread_and_stay_where_they_are(memcached_cluster: Callable[[int], list[MemcachedServer]]) -> None:
    """Each server gets its share, and the order in which the servers are listed does not matter."""
    addresses = [server.address for server in memcached_cluster(3)]
    with contextlib.closing(MemcacheBackend(addresses)) as backend:
        backend.set_many(ITEMS)
    with contextlib.closing(MemcacheBackend(addresses[::-1])) as backend:
        assert len(backend.get_many(KEYS)) == 100
    counts = []
    for address in addresses:
        observer = Client(address)
        counts.append(int(observer.stats()[b"curr_items"]))
        observer.close()
    assert min(counts) > 10
