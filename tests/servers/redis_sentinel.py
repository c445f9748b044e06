"""Redis with a replica, and Sentinels that put it in the primary's place."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from redis import Redis, ResponseError
from redis.sentinel import Sentinel

from tests.servers.redis import RedisServer, running_redis
from tests.servers.server import folder, wait_until

SERVICE = "caches"
DOWN_AFTER_MS = 30_000
"""A machine that stands still for a while is not to have another primary by that: tests ask for one."""


class SentinelServer(RedisServer):
    """A Sentinel that watches one primary, called `caches`."""

    def __init__(self, directory: Path, primary: RedisServer, quorum: int = 1) -> None:
        self.primary, self.quorum = primary, quorum
        super().__init__(directory)

    def command(self, listen: str) -> list[str]:
        """Give `redis-server` with a configuration file, which Sentinel wants to write to."""
        config = self.directory / "sentinel.conf"
        watch = [
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.primary.port} {self.quorum}",
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {SERVICE} 3000",
        ]
        lines = [f"bind {listen}", f"port {self.port}", "protected-mode no", f"dir {self.directory}", *watch]
        config.write_text("\n".join([*lines, ""]))
        config.chmod(0o666)
        return [self.binary, str(config), "--sentinel"]

    @contextlib.contextmanager
    def client(self) -> Iterator[Redis]:
        """Give the client that asks this Sentinel for its server."""
        sentinel = Sentinel([("127.0.0.1", self.port)])  # type: ignore[no-untyped-call]
        with contextlib.closing(sentinel.master_for(SERVICE)) as client:  # type: ignore[no-untyped-call]
            yield client


class SentinelServers:
    """Two servers, of which one is the other's replica, and their Sentinels."""

    def __init__(self, servers: list[RedisServer], sentinels: list[SentinelServer]) -> None:
        self.servers, self.sentinels = servers, sentinels
        self._watchers: list[Any] = [Redis(port=sentinel.port, socket_timeout=30) for sentinel in sentinels]
        self._clients: dict[int, Any] = {server.port: Redis(port=server.port, socket_timeout=30) for server in servers}

    def primary(self) -> RedisServer:
        """Give the server that the Sentinels name."""
        _, port = self._watchers[0].execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return next(server for server in self.servers if server.port == int(port))

    def client_of(self, server: RedisServer) -> Any:
        """Give a client of a server itself."""
        return self._clients[server.port]

    def is_whole(self) -> bool:
        """Whether the replica is in step, and all Sentinels know of it and of each other."""
        try:
            primary = self.primary()
            facts = [self.client_of(server).info("replication") for server in self.servers if server is not primary]
            known = [watcher.execute_command("SENTINEL", "MASTER", SERVICE) for watcher in self._watchers]
        except Exception:  # noqa: BLE001 - one does not answer yet
            return False
        linked = all(one.get("master_link_status") == "up" and one["master_port"] == primary.port for one in facts)
        return linked and all((int(one[b"num-slaves"]), int(one[b"num-other-sentinels"])) == (1, len(known) - 1) for one in known)

    def fail_over(self) -> None:
        """Kill the primary, and start it again once the replica has its place."""
        fallen = self.primary()
        fallen.stop()
        try:
            wait_until(lambda: self._is_replaced(fallen), "the fail-over")
        finally:
            fallen.start()
        # Sentinel would do so, too, after some ten seconds.
        self.client_of(fallen).replicaof("127.0.0.1", self.primary().port)

    def _is_replaced(self, fallen: RedisServer) -> bool:
        """Whether another server has its place; has a Sentinel begin with that, where it has not yet, or has given it up."""
        if self.primary() is not fallen:
            return True
        with contextlib.suppress(ResponseError):  # it is at work, or its link to the replica is not there yet
            self._watchers[0].execute_command("SENTINEL", "FAILOVER", SERVICE)
        return False


@contextlib.contextmanager
def running_sentinels(count: int = 3) -> Iterator[SentinelServers]:
    """Run a primary, a replica and so many Sentinels, in about two seconds."""
    with contextlib.ExitStack() as stack:
        prompt = ("--repl-diskless-sync-delay", "0")
        primary = stack.enter_context(running_redis(*prompt))
        replica = stack.enter_context(running_redis(*prompt, "--replicaof", "127.0.0.1", str(primary.port)))
        folders = [stack.enter_context(folder()) for _ in range(count)]
        sentinels = [stack.enter_context(SentinelServer(one, primary, count // 2 + 1).running()) for one in folders]
        servers = SentinelServers([primary, replica], sentinels)
        wait_until(servers.is_whole, "the Sentinels")
        yield servers
