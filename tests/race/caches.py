"""The cache servers of a race, as those see them who disturb them."""

import random
import socket
from abc import ABC, abstractmethod
from typing import Any
from urllib.parse import urlsplit

from redis import Redis

from tests.servers.server import Server

_FILLER = 2000


class CacheServer(ABC):
    """A cache server.

    Attributes:
        url: What its users are told.
        process: The server's process, where it was started for the race; of somebody else's server there is none.
    """

    def __init__(self, url: str, process: Server | None = None) -> None:
        """Keep where it is."""
        self.url = url
        self.process = process

    @abstractmethod
    def flush(self) -> None:
        """Drop everything."""

    @abstractmethod
    def evictions(self) -> int:
        """Count what it has dropped for want of memory since it began."""

    @abstractmethod
    def crowd(self, number: int) -> None:
        """Put much into it that nobody wants, so that it drops other things."""

    def drop(self) -> bool:
        """Cut all connections, and say whether it can."""
        return False

    def cut(self) -> int:
        """Cut the connections that only listen, and give how many there were."""
        return 0

    def fill_up(self, *, full: bool) -> bool:
        """Let it refuse writes for want of memory from now on, or no more, and say whether it can."""
        return False

    def save(self) -> bool:
        """Keep on disk what it holds now, and say whether it can."""
        return False

    def fail_over(self, chance: random.Random) -> bool:
        """Put a replica in a primary's place, be it behind, and say whether there is one."""
        return False

    def reshard(self, chance: random.Random) -> bool:
        """Move a slot to another node, bit by bit, and say whether there are several."""
        return False


class RedisServerOf(CacheServer):
    """A Redis."""

    def __init__(self, url: str, process: Server | None = None) -> None:
        """Connect at the first use."""
        super().__init__(url, process)
        self._client: Any = Redis.from_url(url, socket_timeout=5)
        self._allowed = "0"

    def flush(self) -> None:
        """FLUSHDB: of somebody else's server, the other databases are not ours."""
        self._client.flushdb()

    def evictions(self) -> int:
        """Ask INFO."""
        return int(self._client.info("stats")["evicted_keys"])

    def crowd(self, number: int) -> None:
        """SET long values with a lifetime."""
        with self._client.pipeline(transaction=False) as pipeline:
            for at in range(200):
                pipeline.set(f"filler:{(number * 200 + at) % 20_000}", b"x" * _FILLER, ex=600)
            pipeline.execute(raise_on_error=False)

    def drop(self) -> bool:
        """CLIENT KILL."""
        self._client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        return True

    def cut(self) -> int:
        """CLIENT KILL, of the subscribers alone."""
        return int(self._client.execute_command("CLIENT", "KILL", "TYPE", "pubsub"))

    def fill_up(self, *, full: bool) -> bool:
        """Allow it a single byte of memory."""
        if self.process is None:
            return False
        if full:
            self._allowed = self._client.config_get("maxmemory")["maxmemory"]
        self._client.config_set("maxmemory", 1 if full else self._allowed)
        return True

    def save(self) -> bool:
        """SAVE."""
        return bool(self._client.save())


class MemcachedServerOf(CacheServer):
    """A memcached, or several."""

    def flush(self) -> None:
        """Say flush_all."""
        self._say(b"flush_all\r\n")

    def evictions(self) -> int:
        """Ask for the stats."""
        lines = self._say(b"stats\r\n").split(b"\r\n")
        return sum(int(line.split()[2]) for line in lines if line.startswith(b"STAT evictions "))

    def crowd(self, number: int) -> None:
        """Set long values."""
        value = b"x" * _FILLER
        self._say(b"".join(b"set filler%d 0 600 %d\r\n%b\r\n" % (number * 200 + at, len(value), value) for at in range(200)), answers=200)

    def _say(self, text: bytes, answers: int = 1) -> bytes:
        said = b""
        for server in urlsplit(self.url).netloc.split(","):
            host, _, port = server.partition(":")
            with socket.create_connection((host, int(port or 11211)), timeout=5) as connection:
                connection.sendall(text)
                answered = b""
                while answered.count(b"\r\n") < answers or (text.startswith(b"stats") and not answered.endswith(b"END\r\n")):
                    part = connection.recv(65536)
                    if not part:
                        break
                    answered += part
                said += answered
        return said
