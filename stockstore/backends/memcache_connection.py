"""One connection to one memcached server, and the pool of them."""

import contextlib
import os
import select
import socket
from hashlib import blake2b
from ssl import SSLSocket

from pymemcache.exceptions import MemcacheServerError, MemcacheUnexpectedCloseError, MemcacheUnknownError

from stockstore.backends.memcache_records import records
from stockstore.backends.memcache_servers import Server

_RECEIVE = 65536
_RECEIVE_MOST = 2**24
_TOO_LARGE = 2**31  # memcached keeps no values of more than a gigabyte
_LINE = b"\r\n"
_NO_UNIQUE = b"0"
WITHOUT_COMPARISON = "it runs without comparison (-C); start it without -C"
STATS = b"stats\r\n"


class Connection:
    """A socket with memcached's text protocol on it, for one thread at a time.

    It is our own, not pymemcache's: that has no requests of several commands, and tries only the first
    address of a name (``localhost`` is two).

    Attributes:
        life: What tells the server's process from those before it, which may have left it their values (``-e``).
    """

    def __init__(self, server: Server) -> None:
        self._socket = _connect(server)
        self._is_secure = isinstance(self._socket, SSLSocket)
        self._arrivals = _poll(self._socket, select.POLLIN)
        self._patience = server.timeout * 1000
        self._buffer = b""
        self._at = 0
        try:
            # A warm restart keeps the moment of the first start, a container the number of its process.
            self.send(STATS)
            self.life = _life(self.facts())
        except BaseException:
            self.close()
            raise

    def send(self, request: bytes) -> None:
        """Send a whole request, also where the server does not read on before its answers are read."""
        if self._is_secure:
            for record in records(request):
                self._send_and_receive(memoryview(record))
            return
        sent = self._socket.send(request)
        if sent < len(request):
            self._send_and_receive(memoryview(request)[sent:])

    def lines(self, count: int) -> list[bytes]:
        """Read as many lines, the answers to as many commands."""
        while len(parts := self._buffer[self._at :].split(_LINE, count)) <= count:
            self._receive()
        self._at = len(self._buffer) - len(parts.pop())
        return parts

    def values(self) -> dict[str, bytes]:
        """Read the answer to one ``get``."""
        return self._items(None)

    def unique_values(self) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """Read the answer to one ``gets``: values, and what a ``cas`` has to name.

        Raises:
            MemcacheServerError: There is nothing to name, so that no ``cas`` will ever hold.
        """
        uniques: dict[str, bytes] = {}
        found = self._items(uniques)
        if _NO_UNIQUE in uniques.values():
            raise MemcacheServerError(WITHOUT_COMPARISON)
        return found, uniques

    def facts(self) -> dict[bytes, bytes]:
        """Read the answer to one ``stats``; empty from a proxy, which does not know it."""
        found: dict[bytes, bytes] = {}
        while (line := self.lines(1)[0]) not in (b"END", b"ERROR"):
            try:
                tag, name, fact = line.split(b" ", 2)
            except ValueError:
                tag = name = fact = b""
            if tag != b"STAT":
                raise MemcacheUnknownError(f"it answered {line[:80]!r} to stats")
            found[name] = fact
        return found

    def fresh(self) -> bool:
        """Whether the connection is open and nothing is left to read on it."""
        return self._at == len(self._buffer) and not self._arrivals.poll(0)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _items(self, uniques: dict[str, bytes] | None) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        self._at, missing = _take_items(self._buffer, self._at, found, uniques)
        while missing:
            self._receive(missing)
            self._at, missing = _take_items(self._buffer, self._at, found, uniques)
        return found

    def _receive(self, at_least: int = 1) -> None:
        parts = [self._buffer[self._at :]]
        while at_least > 0:
            part = self._socket.recv(min(max(_RECEIVE, at_least), _RECEIVE_MOST))
            if not part:
                raise MemcacheUnexpectedCloseError("it closed the connection")
            parts.append(part)
            at_least -= len(part)
        self._buffer = b"".join(parts)
        self._at = 0

    def _send_and_receive(self, rest: memoryview) -> None:
        both = _poll(self._socket, select.POLLIN | select.POLLOUT)
        while rest:
            events = sum(event for _, event in both.poll(self._patience))
            if not events:
                raise TimeoutError("timed out")
            if events & select.POLLOUT:
                rest = rest[self._socket.send(rest) :]
            else:
                # Not where it could send: what has come by TLS may be no data, and then this would wait.
                self._receive()


class Pool:
    """The idle connections to one server, for any number of threads and for forked processes."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._idle: list[Connection] = []
        self._process = os.getpid()

    def take(self, preferred: Connection | None = None) -> Connection:
        """Give a connection to one thread: an idle one that the server has not closed since, or a new one.

        Args:
            preferred: The one to give, where it is idle.
        """
        self._leave_the_parent_its_own()
        if preferred in self._idle:
            with contextlib.suppress(ValueError):  # another thread was faster
                self._idle.remove(preferred)
                self._idle.append(preferred)
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if connection.fresh():
                return connection
            connection.close()
        return Connection(self.server)

    def give_back(self, connection: Connection) -> None:
        """Take a connection back whose answers have all been read."""
        self._idle.append(connection)

    def close(self) -> None:
        """Close all idle connections."""
        self._leave_the_parent_its_own()
        while self._idle:
            self._idle.pop().close()

    def _leave_the_parent_its_own(self) -> None:
        if self._process != os.getpid():
            self._idle = []
            self._process = os.getpid()


def _life(facts: dict[bytes, bytes]) -> bytes:
    try:
        start = int(facts.get(b"time", 0)) - int(facts.get(b"uptime", 0))
    except ValueError as exc:
        raise MemcacheUnknownError("its stats tell no time") from exc
    return blake2b(b"%b %d" % (facts.get(b"pid", b""), start), digest_size=8).digest()


def _connect(server: Server) -> socket.socket:
    connection = _dial(server)
    try:
        if server.tls and not isinstance(server.address, str):
            connection = server.tls.wrap_socket(connection, server_hostname=server.address[0])
        connection.settimeout(server.timeout)
    except BaseException:
        connection.close()
        raise
    return connection


def _dial(server: Server) -> socket.socket:
    if not isinstance(server.address, str):
        connection = socket.create_connection(server.address, server.connect_timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(server.connect_timeout)
    try:
        connection.connect(server.address)
    except BaseException:
        connection.close()
        raise
    return connection


def _poll(connection: socket.socket, events: int) -> "select.poll":
    poll = select.poll()  # select.select knows no descriptors above 1023
    poll.register(connection, events)
    return poll


def _take_items(buffer: bytes, at: int, found: dict[str, bytes], uniques: dict[str, bytes] | None) -> tuple[int, int]:
    """Move whole items from a buffer; gives the place reached, and the least number of bytes that are still to come."""
    while (end := buffer.find(_LINE, at)) >= 0:
        line, start = buffer[at:end], end + len(_LINE)
        if line == b"END":
            return start, 0
        try:
            if uniques is None:
                tag, key, _, size = line.split(b" ", 3)
            else:
                tag, key, _, size, unique = line.split(b" ")
            stop = start + int(size)
        except ValueError:
            tag, stop = b"", start
        if tag != b"VALUE" or not start <= stop < start + _TOO_LARGE:
            raise MemcacheUnknownError(f"it answered {line[:80]!r} to a get")
        if stop + len(_LINE) > len(buffer):
            return at, stop + len(_LINE) - len(buffer)
        name = key.decode("latin-1")
        found[name] = buffer[start:stop]
        if uniques is not None:
            uniques[name] = unique
        at = stop + len(_LINE)
    return at, 1
