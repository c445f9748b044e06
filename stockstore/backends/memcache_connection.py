"""One connection to one memcached server, and the pool of them."""

import os
import select
import socket

from pymemcache.exceptions import MemcacheUnexpectedCloseError, MemcacheUnknownError

from stockstore.backends.memcache_servers import Server

_RECEIVE = 65536
_UNREAD = 32768  # so much fits into any socket's buffers, read by the other side or not
_LINE = b"\r\n"
_ITEM_WORDS = 4


class Connection:
    """A socket with memcached's text protocol on it, for one thread at a time.

    It is our own, not pymemcache's: that has no requests of several commands, and tries only the first
    address of a name (``localhost`` is two).
    """

    def __init__(self, server: Server) -> None:
        self._socket = _connect(server)
        self._buffer = b""
        self._at = 0

    def send(self, request: bytes) -> None:
        """Send a whole request, also where the server does not read on before its answers are read."""
        if len(request) <= _UNREAD:
            self._socket.sendall(request)
        else:
            self._send_and_receive(memoryview(request))

    def line(self) -> bytes:
        """Read one line of an answer."""
        end = self._buffer.find(_LINE, self._at)
        while end < 0:
            self._receive()
            end = self._buffer.find(_LINE, self._at)
        line = self._buffer[self._at : end]
        self._at = end + len(_LINE)
        return line

    def values(self) -> dict[str, bytes]:
        """Read the answer to one ``get``."""
        found: dict[str, bytes] = {}
        while (line := self.line()) != b"END":
            words = line.split(b" ")
            if words[0] != b"VALUE" or len(words) != _ITEM_WORDS or not words[3].isdigit():
                raise MemcacheUnknownError(f"it answered {line[:80]!r} to a get")
            found[words[1].decode()] = self._block(int(words[3]))
        return found

    def fresh(self) -> bool:
        """Whether the connection is open and nothing is left to read on it."""
        return not self._unread() and not _ready(self._socket, 0.0, writing=False)[0]

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _unread(self) -> int:
        return len(self._buffer) - self._at

    def _block(self, size: int) -> bytes:
        while self._unread() < size + len(_LINE):
            self._receive(size + len(_LINE) - self._unread())
        start, end = self._at, self._at + size
        self._at = end + len(_LINE)
        if self._buffer[end : self._at] != _LINE:
            raise MemcacheUnknownError(f"it sent a value that is not {size} bytes long, as it had said")
        return self._buffer[start:end]

    def _receive(self, at_least: int = 1) -> None:
        parts = [self._buffer[self._at :]]
        while at_least > 0:
            part = self._socket.recv(max(_RECEIVE, at_least))
            if not part:
                raise MemcacheUnexpectedCloseError("it closed the connection")
            parts.append(part)
            at_least -= len(part)
        self._buffer = b"".join(parts)
        self._at = 0

    def _send_and_receive(self, rest: memoryview) -> None:
        while rest:
            readable, writable = _ready(self._socket, self._socket.gettimeout(), writing=True)
            if not readable and not writable:
                raise TimeoutError("timed out")
            if readable:
                self._receive()
            if writable:
                rest = rest[self._socket.send(rest[:_UNREAD]) :]


class Pool:
    """The idle connections to one server, for any number of threads and for forked processes."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._idle: list[Connection] = []
        self._process = os.getpid()

    def take(self) -> Connection:
        """Give a connection to one thread: an idle one that the server has not closed since, or a new one."""
        self._leave_the_parent_its_own()
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


def _ready(connection: socket.socket, timeout: float | None, *, writing: bool) -> tuple[bool, bool]:
    """Tell whether a socket can be read and written, after waiting for either."""
    poll = select.poll()  # select.select knows no descriptors above 1023
    poll.register(connection, select.POLLIN | (select.POLLOUT if writing else 0))
    events = sum(event for _, event in poll.poll(None if timeout is None else timeout * 1000))
    return bool(events & ~select.POLLOUT), bool(events & select.POLLOUT)
