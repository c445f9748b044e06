"""Redis servers of a test's own."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.servers.server import Server, answer, folder


class RedisServer(Server):
    """Redis on a port and on a unix socket. It keeps nothing on disk unless `options` say so."""

    name = "redis"
    binary = "redis-server"

    def __init__(self, directory: Path, *options: str) -> None:
        self.options = options
        self.unix_path = directory / "redis.sock"
        super().__init__(directory)

    @property
    def url(self) -> str:
        """The URL of its database 0."""
        return f"redis://{self.address}/0"

    @property
    def unix_url(self) -> str:
        """The URL of its database 0 by its unix socket."""
        return f"unix://{self.unix_path}?db=0"

    def command(self, listen: str) -> list[str]:
        """Give `redis-server` with everything on the command line."""
        network = ["--bind", listen, "--port", str(self.port), "--protected-mode", "no"]
        unix = ["--unixsocket", str(self.unix_path), "--unixsocketperm", "777"]
        return [self.binary, *network, *unix, "--save", "", "--dir", str(self.directory), *self.options]

    def ready(self) -> bool:
        """Tell whether it answers PING, be it by asking for a password."""
        return answer(b"PING\r\n", port=self.port).startswith((b"+PONG", b"-NOAUTH"))


@contextlib.contextmanager
def running_redis(*options: str) -> Iterator[RedisServer]:
    """Run a Redis with more options of its command line, for instance `"--requirepass", "secret"`."""
    with folder() as directory, RedisServer(directory, *options).running() as server:
        yield server
