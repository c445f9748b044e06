"""A relay before a server that counts round trips at the socket."""

import contextlib
import selectors
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit


@contextlib.contextmanager
def relayed(url: str) -> Iterator[tuple[str, Callable[[], int]]]:
    """Give the URL by which a Redis is reached through a relay, and what tells how often it was asked and then answered."""
    parts = urlsplit(url)
    target, trips = (parts.hostname or "127.0.0.1", parts.port or 6379), [0]

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(target) as server:
                _relay(self.request, server, trips)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as relay:
        relay.daemon_threads = True
        threading.Thread(target=relay.serve_forever, args=(0.01,), daemon=True).start()
        yield parts._replace(netloc=f"127.0.0.1:{relay.server_address[1]}").geturl(), lambda: trips[0]
        relay.shutdown()


def _relay(client: socket.socket, server: socket.socket, trips: list[int]) -> None:
    """Pass data on both ways; the first bytes from the client after some of the server's begin a round trip."""
    asked = False
    with selectors.DefaultSelector() as ready:
        ready.register(client, selectors.EVENT_READ, server)
        ready.register(server, selectors.EVENT_READ, client)
        while True:
            for key, _ in ready.select():
                data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                if not data:
                    return
                if key.fileobj is client and not asked:
                    trips[0] += 1
                asked = key.fileobj is client
                key.data.sendall(data)
