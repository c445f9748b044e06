import contextlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import port_for
import psutil
import pytest
from pymemcache.client.base import Client
from redis import Redis, RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from tests.servers.mariadb import MariadbServer
from tests.servers.memcached import MemcachedServer
from tests.servers.postgres import PostgresServer, running_postgres
from tests.servers.redis import RedisServer
from tests.servers.server import own_port
from tests.servers.source import docker_answers

pytestmark = pytest.mark.sa_agnostic


@pytest.mark.parametrize("turn", [1, 2])
def test_redis_is_empty_at_the_start_of_a_test(redis_url: str, redis_unix_url: str, turn: int) -> None:
    """What one test leaves in Redis no other finds, by the port and by the unix socket."""
    for url in (redis_url, redis_unix_url):
        with Redis.from_url(url) as client:
            assert client.set("left", turn, nx=True) is True
            client.delete("left")


def test_redis_keeps_what_a_test_left_until_the_next_flush(redis_url: str) -> None:
    """The flush comes once, before the test."""
    with Redis.from_url(redis_url) as client:
        client.set("kept", "value")
        assert client.get("kept") == b"value"


@pytest.mark.parametrize("turn", [1, 2])
def test_redis_cluster_serves_every_slot(redis_cluster_url: str, turn: int) -> None:
    """A cluster client reads and writes any key, and starts from an empty cluster."""
    with RedisCluster.from_url(redis_cluster_url) as client:
        assert client.dbsize() == 0
        for number in range(20):
            client.set(f"key {number}", number)
        assert client.get("key 19") == b"19"


def test_redis_stops_and_restarts_on_its_port(start_redis: Callable[..., RedisServer]) -> None:
    """A stopped Redis refuses, and a restarted one is empty at the same address."""
    server = start_redis()
    with Redis.from_url(server.url, socket_timeout=1) as client:
        client.set("key", "value")
        server.stop()
        with pytest.raises(RedisConnectionError):
            client.get("key")
        server.start()
        assert client.get("key") is None


def test_redis_freezes_and_thaws(start_redis: Callable[..., RedisServer]) -> None:
    """A frozen Redis lets a read time out, and answers again once thawed; it may be restarted when frozen."""
    server = start_redis("--requirepass", "secret")
    with Redis.from_url(server.url, password="secret", socket_timeout=0.1, retry=None) as client:
        client.set("key", "value")
        server.freeze()
        with pytest.raises(RedisTimeoutError):
            client.get("key")
        server.thaw()
        assert client.get("key") == b"value"
        server.freeze()
        server.restart()
        assert client.get("key") is None


def test_memcached_serves_port_and_unix_socket(memcached_address: str, memcached_unix_path: str, namespace: str) -> None:
    """Both kinds of address store and give."""
    for address in (memcached_address, memcached_unix_path):
        client = Client(address)
        client.set(namespace, b"value", noreply=False)
        assert client.get(namespace) == b"value"
        client.close()


def test_memcacheds_are_several_and_stop_one_by_one(memcached_cluster: Callable[[int], list[MemcachedServer]]) -> None:
    """Each has a port of its own, and the others outlive one that stops."""
    servers = memcached_cluster(3)
    assert len({server.address for server in servers}) == 3
    servers[0].stop()
    with pytest.raises(ConnectionRefusedError):
        Client(servers[0].address).get("key")
    servers[0].restart()
    for server in servers:
        client = Client(server.address)
        assert client.get("key") is None
        client.close()


def test_memcached_freezes(start_memcached: Callable[..., MemcachedServer]) -> None:
    """A frozen memcached lets a read time out."""
    server = start_memcached("-m", "8")
    server.freeze()
    with contextlib.closing(Client(server.address, timeout=0.1)) as client, pytest.raises(TimeoutError):
        client.get("key")
    server.thaw()
    with contextlib.closing(Client(server.address)) as client:
        assert client.get("key") is None


def test_engine_works_in_an_empty_database(engine: Engine) -> None:
    """Tables made without a schema's name land in the module's own schema or file."""
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE thing (id INTEGER PRIMARY KEY)"))
        connection.execute(text("INSERT INTO thing VALUES (1)"))
        assert connection.execute(text("SELECT count(*) FROM thing")).scalar() == 1
        connection.execute(text("DROP TABLE thing"))


def test_engines_of_one_database_alone(sqlite_engine: Engine, postgres_engine: Engine) -> None:
    """A test may ask for either database by name."""
    assert sqlite_engine.dialect.name == "sqlite"
    assert postgres_engine.dialect.name == "postgresql"


def test_postgres_freezes_and_restarts_with_its_data(start_postgres: Callable[[], PostgresServer]) -> None:
    """PostgreSQL keeps committed rows over a crash; a frozen one lets nobody in, and no process of it is in the way of the next start."""
    server = start_postgres()
    engine = create_engine(server.url, connect_args={"connect_timeout": 2}, pool_pre_ping=True)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE thing (id INTEGER PRIMARY KEY)"))
    server.restart()
    with engine.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM thing")).scalar() == 0
    engine.dispose()
    server.freeze()
    with pytest.raises(OperationalError):
        engine.connect()
    server.thaw()
    engine.connect().close()
    engine.dispose()
    server.freeze()
    server.restart()
    engine.connect().close()
    engine.dispose()


@pytest.mark.parametrize("frozen", [False, True])
def test_a_removed_postgres_leaves_no_shared_memory(frozen: bool) -> None:
    """The machine has a few thousand segments for all."""
    with running_postgres() as server:
        engine = create_engine(server.url)
        with engine.connect() as connection:
            key, number = connection.execute(text("SELECT pg_read_file('postmaster.pid')")).scalar_one().splitlines()[6].split()
        engine.dispose()
        if frozen:
            server.freeze()
    segments = [line.split()[:2] for line in Path("/proc/sysvipc/shm").read_text().splitlines()]
    assert [key, number] not in segments


_WAITING = """
import signal

def test_waits(redis_url):
    print(f"\\n{redis_url}", flush=True)
    signal.pause()
"""


def test_a_run_that_is_ended_removes_its_servers(tmp_path: Path) -> None:
    """By SIGTERM as by Ctrl-C."""
    (tmp_path / "test_waits.py").write_text(_WAITING)
    command = [sys.executable, "-m", "pytest", "-sqc/dev/null", "-ptests.servers.plugin", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as run:
        assert run.stdout is not None
        url = next(line for line in run.stdout if line.startswith("redis://"))
        run.terminate()
        run.communicate()
    assert run.returncode == pytest.ExitCode.INTERRUPTED
    with Redis.from_url(url.strip()) as client, pytest.raises(RedisConnectionError):
        client.ping()


_ENDING = """
import os, subprocess, sys
import tests.servers.process
other = subprocess.Popen(["sleep", "60"], env={**os.environ, "mirakuru_uuid": f"1{os.getpid()}:0"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(other.pid)
"""


def test_the_end_of_a_process_leaves_the_servers_of_others_alone() -> None:
    """Also of one whose number has its own in it."""
    done = subprocess.run([sys.executable, "-c", _ENDING], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    other = psutil.Process(int(done.stdout))
    assert other.status() != psutil.STATUS_ZOMBIE
    other.kill()


def test_a_server_that_does_not_start_is_told_at_once(start_redis: Callable[..., RedisServer]) -> None:
    """By what it wrote itself."""
    with pytest.raises(RuntimeError, match=r"(?s)redis on .* has ended: .*no-such-option"):
        start_redis("--no-such-option", "1")


def test_mariadb_works_in_an_empty_database(mariadb_engine: Engine) -> None:
    """Tables made without a schema's name land in the module's own database."""
    with mariadb_engine.begin() as connection:
        connection.execute(text("CREATE TABLE thing (id INTEGER PRIMARY KEY)"))
        connection.execute(text("INSERT INTO thing VALUES (1)"))
        assert connection.execute(text("SELECT count(*) FROM thing")).scalar() == 1


def test_mariadb_shares_no_folder_for_temporary_tables(start_mariadb: Callable[[], MariadbServer]) -> None:
    """One that starts removes what it finds there, such as tables by which another one is just being installed."""
    server = start_mariadb()
    with create_engine(server.url, poolclass=NullPool).connect() as connection:
        own = "/tmp" if docker_answers() else str(server.directory)  # a container has its own
        assert connection.execute(text("SELECT @@tmpdir")).scalar_one() == own


def test_mariadb_restarts_with_its_data(start_mariadb: Callable[[], MariadbServer]) -> None:
    """MariaDB keeps committed rows over a crash."""
    server = start_mariadb()
    engine = create_engine(server.url, pool_pre_ping=True)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE thing (id INTEGER PRIMARY KEY)"))
    server.restart()
    with engine.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM thing")).scalar() == 0
    engine.dispose()


def test_a_port_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else is given it before its owner is gone, though nobody listens on it yet."""
    first, second = (int(port_for.select_random()) for _ in range(2))
    monkeypatch.setattr("port_for.select_random", iter([first, first, second, first]).__next__)
    owner, other = set[int](), set[int]()
    assert [own_port(owner), own_port(other)] == [first, second]
    del owner
    assert own_port(other) == first
