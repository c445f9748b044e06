"""The subscribed side of a connection to Redis: every message wakes every process, so it has to be read at little cost."""

import ssl
from contextlib import suppress
from typing import Any, Final

_PING: Final = b"*1\r\n$4\r\nPING\r\n"
_AT_ONCE: Final = 1 << 16
_WOULD_WAIT: Final = (BlockingIOError, ssl.SSLWantReadError)


class Hearing:
    """A connection of redis-py's that does nothing any more but hear, and answer pings.

    redis-py takes several times as long to read a message as all that follows.
    """

    def __init__(self, connection: Any) -> None:
        """Take over a connection, which may not be connected yet."""
        self._connection = connection
        self._socket: Any = None
        self._rest = b""

    def subscribe(self, name: bytes) -> None:
        """Subscribe, and wait until that is confirmed; raises any error of the driver."""
        self._connection.send_command("SUBSCRIBE", name, check_health=False)
        # Kept from now on: a connection that was made anew would hear nothing.
        self._socket = self._connection._sock  # noqa: SLF001 - redis-py gives it nowhere else
        while b":1\r\n" not in self._rest:
            self._take()
        (kind, *_), end = _array(self._rest, 0) or ((b"",), 0)
        if kind != b"subscribe":
            raise ConnectionError(f"it answered {self._rest[:80]!r} to a subscription")
        self._rest = self._rest[end:]
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """Give the socket."""
        return int(self._socket.fileno())

    def ping(self) -> None:
        """Ask for an answer that comes after what was published by now."""
        self._socket.sendall(_PING)

    def receive(self) -> list[list[bytes]]:
        """Give what has come: messages and answers, as lists of their parts.

        Raises:
            ConnectionError: The server has hung up, or refuses something.
            ValueError: It is nothing that Redis sends.
        """
        with suppress(*_WOULD_WAIT):
            # What TLS has taken from the socket already, nothing would wake for.
            while self._take() == _AT_ONCE or isinstance(self._socket, ssl.SSLSocket):
                pass
        found, at = [], 0
        while (item := _array(self._rest, at)) is not None:
            fields, at = item
            found.append(fields)
        self._rest = self._rest[at:]
        return found

    def _take(self) -> int:
        data = self._socket.recv(_AT_ONCE)
        if not data:
            raise ConnectionError("the server has hung up")
        self._rest += data
        if self._rest.startswith(b"-"):
            raise ConnectionError(self._rest[1:].partition(b"\r\n")[0].decode("utf-8", "replace"))
        return len(data)

    def close(self) -> None:
        """Hang up."""
        self._connection.disconnect()


def _array(data: bytes, at: int) -> tuple[list[bytes], int] | None:
    r"""Give the parts of an array, and where it ends; ``None`` where it has not come as a whole.

    >>> _array(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n*1\r\n", 0), _array(b"*1\r\n$4\r\npo", 0)
    (([b'pong', b''], 20), None)
    """
    end = data.find(b"\r\n", at)
    if end < 0:
        return None
    if data[at : at + 1] != b"*":
        raise ValueError(f"it sent {data[at : at + 80]!r}, which is no message")
    fields = []
    for _ in range(int(data[at + 1 : end])):
        at, end = end + 2, data.find(b"\r\n", end + 2)
        if end < 0:
            return None
        if data[at : at + 1] == b"$":
            at, end = end + 2, end + 2 + int(data[at + 1 : end])
            if len(data) < end + 2:
                return None
        fields.append(data[at:end])
    return fields, end + 2
