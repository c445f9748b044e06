"""memcached servers of a test's own."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.servers.server import Server, answer, folder


class MemcachedServer(Server):
    """A memcached on a port, or on a unix socket only: it cannot do both."""

    name = "memcached"
    binary = "memcached"

    def __init__(self, directory: Path, *options: str, unix: bool = False) -> None:
        self.options = options
        self.unix_path = directory / "memcached.sock" if unix else None
        super().__init__(directory)

    def command(self, listen: str) -> list[str]:
        """Give `memcached` with its options; it heeds `-u` when it is started by root only."""
        network = ["-s", str(self.unix_path), "-a", "777"] if self.unix_path else ["-l", listen, "-p", str(self.port), "-U", "0"]
        return [self.binary, "-u", "root", *network, *self.options]

    def ready(self) -> bool:
        """Tell whether it tells its version."""
        return answer(b"version\r\n", port=self.port, path=self.unix_path).startswith(b"VERSION")


@contextlib.contextmanager
def running_memcached(*options: str, unix: bool = False) -> Iterator[MemcachedServer]:
    """Run a memcached with more options of its command line, for instance `"-m", "1"`."""
    with folder() as directory, MemcachedServer(directory, *options, unix=unix).running() as server:
        yield server
