"""A way to a server that a test can cut, and mend."""

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit


class Way:
    """Passes bytes on both ways while it is whole."""

    def __init__(self) -> None:
        self.url = ""
        self._whole = True
        self._ends: list[socket.socket] = []
        self._lock = threading.Lock()

    def cut(self) -> None:
        """Break all connections, and take no more."""
        with self._lock:
            self._whole = False
            for end in self._ends:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            self._ends.clear()

    def refuse(self) -> None:
        """Take no more connections; those that there are stay whole."""
        self._whole = False

    def mend(self) -> None:
        """Take connections again."""
        self._whole = True

    def join(self, client: socket.socket, target: tuple[str, int]) -> None:
        """Serve one connection to its end."""
        with socket.create_connection(target) as server:
            with self._lock:
                if not self._whole:
                    return
                self._ends += [client, server]
            back = threading.Thread(target=_pass_on, args=(server, client), daemon=True)
            back.start()
            _pass_on(client, server)
            back.join()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def way_to(url: str) -> Iterator[Way]:
    """Give a way to the server of a URL, with a URL of its own."""
    parts, way = urlsplit(url), Way()
    target = (parts.hostname or "127.0.0.1", parts.port or 0)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            way.join(self.request, target)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        way.url = parts._replace(netloc=f"127.0.0.1:{server.server_address[1]}").geturl()
        yield way
        way.cut()
        server.shutdown()
