"""A relay before a memcached: counts its round trips, and has something happen in between them."""

import contextlib
import selectors
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator


class Relay:
    """What passes through.

    Attributes:
        address: Where it listens.
        trips: How often the server was asked, and then answered.
        before: What is to happen before the request of a number goes on; what raises OSError cuts the connection.
    """

    def __init__(self, target: str) -> None:
        """Relay to a server."""
        host, _, port = target.partition(":")
        self.address = ""
        self.trips = 0
        self.before: dict[int, Callable[[], object]] = {}
        self._target = host, int(port)

    def count(self, operation: Callable[[], object]) -> int:
        """Tell how many round trips an operation takes."""
        before = self.trips
        operation()
        return self.trips - before

    def interrupt(self, ahead: int, action: Callable[[], object]) -> None:
        """Have something happen before one of the requests to come; the next one has the number 1."""
        self.before[self.trips + ahead] = action

    def serve(self, client: socket.socket) -> None:
        """Pass data on both ways; the first bytes from the client after some of the server's begin a round trip."""
        asked = False
        with socket.create_connection(self._target) as server, selectors.DefaultSelector() as ready:
            ready.register(client, selectors.EVENT_READ, server)
            ready.register(server, selectors.EVENT_READ, client)
            while True:
                for key, _ in ready.select():
                    data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                    if not data:
                        return
                    if key.fileobj is client and not asked:
                        self.trips += 1
                        self.before.pop(self.trips, lambda: None)()
                    asked = key.fileobj is client
                    key.data.sendall(data)


def cut() -> None:
    """Cut the connection."""
    raise ConnectionAbortedError


@contextlib.contextmanager
def relay_to(target: str) -> Iterator[Relay]:
    """Run a relay to a server."""
    relay = Relay(target)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                relay.serve(self.request)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        relay.address = f"127.0.0.1:{server.server_address[1]}"
        yield relay
        server.shutdown()
