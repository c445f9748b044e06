"""Where the memcached servers are."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ssl import SSLContext

from pymemcache.client.base import Client, PooledClient, normalize_server_spec
from pymemcache.client.hash import HashClient

from stockstore.errors import ConfigurationError
from stockstore.redacting import redacted

_FORMS = '"host:port", "host", "unix:/path", "/path", or a list of them'


@dataclass(frozen=True)
class Server:
    """How to reach one server; time-outs in seconds."""

    address: tuple[str, int] | str
    connect_timeout: float
    timeout: float
    tls: SSLContext | None = None

    @property
    def name(self) -> str:
        """Host and port, or the path of a socket.

        >>> Server(("cache", 11211), 1.0, 1.0).name
        'cache:11211'
        """
        return self.address if isinstance(self.address, str) else f"{self.address[0]}:{self.address[1]}"


def servers_of(specs: str | Sequence[str], connect_timeout: float, timeout: float) -> list[Server]:
    """Read the user's list of servers.

    Raises:
        ConfigurationError: It is empty, names a server twice, or has an address that does not fit.
    """
    if not isinstance(specs, Iterable):
        raise ConfigurationError(f"{specs!r} is no memcached server; write {_FORMS}")
    listed = [specs] if isinstance(specs, str) else list(specs)
    return _distinct(Server(_address(spec), connect_timeout, timeout) for spec in listed)


def servers_of_client(client: object, connect_timeout: float, timeout: float) -> list[Server]:
    """Read the servers of a ready pymemcache client.

    Raises:
        ConfigurationError: It is no pymemcache client, or puts a prefix before its keys.
    """
    return _distinct(_server_of(each, connect_timeout, timeout) for each in _plain_clients(client))


def _plain_clients(client: object) -> list[object]:
    if isinstance(client, HashClient):
        return list(client.clients.values())
    if isinstance(client, (Client, PooledClient)):
        return [client]
    kind = type(client).__name__
    raise ConfigurationError(f"a client of type {kind} is none that can be used; give pymemcache's Client, PooledClient or HashClient")


def _server_of(client: "Client | PooledClient", connect_timeout: float, timeout: float) -> Server:
    if client.key_prefix:
        raise ConfigurationError(
            f"this memcached client puts {client.key_prefix!r} before its keys, which leaves them too little room; "
            "make it without key_prefix and give the store a namespace"
        )
    return Server(client.server, client.connect_timeout or connect_timeout, client.timeout or timeout, client.tls_context)


def _address(spec: object) -> tuple[str, int] | str:
    try:
        address: tuple[str, int] | str = normalize_server_spec(spec)
    except ValueError:
        address = ""
    if not isinstance(spec, str) or not _usable(address):
        shown = redacted(spec) if isinstance(spec, str) else spec
        raise ConfigurationError(f"{shown!r} is no memcached server; write {_FORMS}")
    return address


def _usable(address: tuple[str, int] | str) -> bool:
    if isinstance(address, str):
        return bool(address) and address.isprintable() and not address.startswith("//")  # of a URL
    host, port = address
    return bool(host) and host.isprintable() and 0 < port < 2**16 and not set(host) & set(" /,@")


def _distinct(servers: Iterable[Server]) -> list[Server]:
    found = list(servers)
    if not found:
        raise ConfigurationError(f"no memcached server was given; write {_FORMS}")
    if twice := next(_repeated(server.name for server in found), None):
        raise ConfigurationError(f"the memcached server {twice} is listed twice; list it once")
    return found


def _repeated(names: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            yield name
        seen.add(name)
