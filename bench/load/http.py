"""As much of HTTP/1.1 as it takes to ask a JSON API, cheaply: the clients share the cores with what they measure."""

import json
import re
import socket
from typing import Any, Final

HOST: Final = "127.0.0.1"
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CLOSES: Final = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_PATIENCE: Final = 30.0


class Connection:
    """One connection that is kept, and made anew where the server has closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    def ask(self, path: str, *, user: str = "", patch: dict[str, Any] | None = None) -> tuple[int, Any]:
        """Give the status and the answer.

        Raises:
            OSError: The server did not answer, or closed the connection.
            ValueError: What it said is no JSON answer with a length.
        """
        try:
            self.send(path, user=user, patch=patch)
            return self.answer()
        except BaseException:
            self.close()
            raise

    def send(self, path: str, *, user: str = "", patch: dict[str, Any] | None = None) -> None:
        """Send a request without waiting for its answer."""
        if self._socket is None:
            self._socket = socket.create_connection((HOST, self._port), _PATIENCE)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        body = b"" if patch is None else json.dumps(patch).encode()
        lines = [f"{'GET' if patch is None else 'PATCH'} {path} HTTP/1.1", "Host: shop", f"Content-Length: {len(body)}"]
        lines += [f"X-User: {user}"] * bool(user) + ["Content-Type: application/json"] * bool(body)
        self._socket.sendall("\r\n".join([*lines, "\r\n"]).encode() + body)

    def answer(self) -> tuple[int, Any]:
        """Wait for the answer to what was sent."""
        received = self._more()
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._more()
        head, body = received[:end], received[end + 4 :]
        length = _LENGTH.search(head)
        if length is None:
            raise ValueError(f"an answer without a length: {head[:200]!r}")
        while len(body) < int(length[1]):
            body += self._more()
        if _CLOSES.search(head):
            self.close()
        return int(head[9:12]), json.loads(body)

    def close(self) -> None:
        """Close it; the next request makes a new one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _more(self) -> bytes:
        assert self._socket is not None
        some = self._socket.recv(65536)
        if not some:
            raise ConnectionResetError("the server closed the connection")
        return some
