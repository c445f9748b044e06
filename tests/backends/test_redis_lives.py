"""Redis servers that come back with old data, take over from one another, forget, or are full: nothing old is believed."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Connection, Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from stockstore.backends import RedisBackend
from stockstore.backends.redis_identity import Life, life_of
from stockstore.cells import generation_of, pack_alias, tickets_of
from stockstore.errors import CacheUnreachable
from stockstore.testing.coherent_basics import alias, bodies, body, fresh_token, item, lease
from tests.servers.redis import RedisServer
from tests.servers.redis_sentinel import SentinelServer
from tests.servers.server import folder, wait_until

pytestmark = pytest.mark.sa_agnostic

VALUE, LEASED, MARKED, JOINED, ALIAS, GENERATION = [f"n:C:id:i{number}" for number in range(5)] + ["n:C:"]
START = Callable[..., RedisServer]
ONE, TWO = b"db.1", b"db.2"
PROMPT = ("--repl-diskless-sync-delay", "0")


@pytest.fixture(params=["by url", "by client"])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[[str], RedisBackend]]:
    """A function of a URL that gives a backend, with a client of its own or one that it was given."""
    with contextlib.ExitStack() as stack:

        def make(url: str) -> RedisBackend:
            if request.param == "by url":
                return stack.enter_context(contextlib.closing(RedisBackend(url)))
            return RedisBackend(client=stack.enter_context(Redis.from_url(url)))

        yield make


def furnish(backend: RedisBackend) -> bytes:
    """Put one cell of each kind, and give the token of the lease."""
    token = fresh_token()
    backend.put_many([item(VALUE, b"old")], [alias(ALIAS, VALUE)])
    backend.mark_many([MARKED], ONE, [JOINED])
    backend.mark_many([], TWO, [JOINED])
    assert backend.lease_many({LEASED: None}, token, GENERATION).granted == {LEASED}
    return token


def believed(backend: RedisBackend) -> dict[str, bytes]:
    """Give the cells that may be believed whatever the server has been through."""
    return {MARKED: b"W-" + ONE, JOINED: backend.get_many([JOINED])[JOINED], ALIAS: pack_alias(VALUE)}


ALL = [VALUE, LEASED, MARKED, JOINED, ALIAS, GENERATION]


@pytest.mark.parametrize("kept_by", ["snapshot", "log"])
def test_a_server_that_comes_back_with_old_data(start_redis: START, connect: Callable[[str], RedisBackend], kept_by: str) -> None:
    """Of an earlier life's cells markers and aliases are there; values, leases and generations are absent, and are replaced."""
    server = start_redis(*(["--appendonly", "yes", "--appendfsync", "always"] if kept_by == "log" else []))
    with Redis.from_url(server.url) as observer:
        backend, late = connect(server.url), connect(server.url)
        token = furnish(backend)
        old = observer.mget(ALL)
        late.get_many(ALL)
        if kept_by == "snapshot":
            observer.save()
        server.restart()
        assert observer.mget(ALL) == old
        for each in (late, backend, connect(server.url)):
            assert each.get_many(ALL) == each.follow_many(ALL) == believed(each)
            assert each.look(ALL) == each.look(ALL, follow=True) == [*map(believed(each).get, ALL)]
            assert each.look([VALUE, VALUE]) == [None, None]
            assert each.fill_many([item(LEASED, b"old")], token) == 0
        assert observer.mget(ALL) == old
        assert backend.invalidate_many([VALUE]) == 0
        assert observer.get(VALUE) is None
        observer.set(VALUE, old[0])
        answer = backend.lease_many({VALUE: None, LEASED: None, MARKED: None}, fresh_token(), GENERATION)
        assert (set(answer.granted), answer.cells) == ({VALUE, LEASED}, {MARKED: b"W-" + ONE})
        assert answer.generation not in (None, generation_of(old[5]))
        assert backend.release_many([MARKED, JOINED], ONE, committed=True, values=[item(MARKED, b"new")]) == 2
        assert bodies(late, MARKED, JOINED) == {MARKED: body(b"new"), JOINED: b"W+" + TWO}


def test_a_restart_in_the_middle_of_a_thread_of_steps(start_redis: START, connect: Callable[[str], RedisBackend]) -> None:
    """A lease of an earlier life is not filled by a connection that was made anew, though its bytes are there again."""
    server = start_redis("--appendonly", "yes", "--appendfsync", "always")
    backend = connect(server.url)
    token = lease(backend, LEASED)
    server.restart()
    assert backend.fill_many([item(LEASED, b"old")], token) == 0
    assert backend.get_many([LEASED]) == {}
    token = lease(backend, LEASED)
    assert backend.fill_many([item(LEASED, b"new")], token) == 1
    assert bodies(backend, LEASED) == {LEASED: body(b"new")}


def test_a_flush_between_lease_and_fill(start_redis: START, connect: Callable[[str], RedisBackend]) -> None:
    """What was flushed is not filled, nor released with its value."""
    server = start_redis()
    backend = connect(server.url)
    token = furnish(backend)
    with Redis.from_url(server.url) as other:
        other.flushall()
    assert backend.fill_many([item(LEASED, b"old")], token) == 0
    assert backend.release_many([MARKED], ONE, committed=True, values=[item(MARKED, b"new")]) == 0
    assert backend.get_many(ALL) == {}


@pytest.mark.parametrize(("policy", "survive"), [("volatile-lru", True), ("volatile-ttl", True), ("volatile-random", True)])
def test_markers_survive_the_eviction_of_values(start_redis: START, policy: str, survive: bool) -> None:
    """Under `volatile-*` values are evicted, and not one marker."""
    server = start_redis("--maxmemory", "6mb", "--maxmemory-policy", policy)
    markers = [f"n:M:id:i{number}" for number in range(1000)]
    with contextlib.closing(RedisBackend(server.url)) as backend, Redis.from_url(server.url) as observer:
        backend.mark_many(markers, ONE)
        for batch in range(100):
            backend.put_many([item(f"n:V:id:i{batch}.{number}", bytes(1000)) for number in range(100)])
        assert observer.info("stats")["evicted_keys"] > 1000
        assert backend.get_many(markers) == dict.fromkeys(markers, b"W-" + ONE)
        assert backend.maxmemory_policy() == policy


def test_an_evicted_marker_leaves_no_value(start_redis: START) -> None:
    """Under `allkeys-*` a marker may go; its release then removes what came after it, and puts nothing."""
    server = start_redis("--maxmemory", "6mb", "--maxmemory-policy", "allkeys-lru")
    keys = [f"n:M:id:i{number}" for number in range(1000)]
    with contextlib.closing(RedisBackend(server.url)) as backend:
        backend.mark_many(keys, ONE)
        for batch in range(100):
            backend.put_many([item(f"n:V:id:i{batch}.{number}", bytes(1000)) for number in range(100)])
        evicted = [key for key in keys if key not in backend.get_many(keys)]
        assert evicted
        backend.put_many([item(key, b"old") for key in evicted])
        values = [item(key, b"new") for key in keys]
        assert backend.release_many(keys, ONE, committed=True, values=values) <= len(keys) - len(evicted)
        assert backend.get_many(evicted) == {}
        assert backend.maxmemory_policy() == "allkeys-lru"


def fill_up(observer: Redis) -> None:
    """Let a server have no room for anything."""
    observer.config_set("maxmemory-policy", "noeviction")
    observer.config_set("maxmemory", "1")


def test_a_mark_on_a_full_server_deletes(start_redis: START, connect: Callable[[str], RedisBackend]) -> None:
    """The keys are absent and the error says why; the markers of other writers stay, joined by this one."""
    server = start_redis()
    backend = connect(server.url)
    token = furnish(backend)
    with Redis.from_url(server.url) as observer:
        fill_up(observer)
        with pytest.raises(CacheUnreachable, match="used memory > 'maxmemory'"):
            backend.mark_many([VALUE, LEASED, MARKED], TWO, [JOINED])
        assert observer.mget([VALUE, LEASED]) == [None, None]
        left = {key: set(tickets_of(cell)) for key, cell in backend.get_many([MARKED, JOINED]).items()}
        assert left == {MARKED: {ONE, TWO}, JOINED: {ONE, TWO}}
        observer.config_set("maxmemory", "0")
    assert backend.fill_many([item(LEASED, b"old")], token) == 0
    assert backend.release_many([MARKED], ONE, committed=True, values=[item(MARKED, b"old")]) == 1
    assert backend.get_many([MARKED]) == {MARKED: b"W+" + TWO}


def test_a_server_that_cannot_save_refuses_marks(start_redis: START) -> None:
    """A server whose snapshots fail takes no writes: neither the mark nor the deletes, and that is an error."""
    server = start_redis("--save", "3600", "1000000", "--enable-protected-configs", "yes")
    with contextlib.closing(RedisBackend(server.url)) as backend, Redis.from_url(server.url) as observer, folder() as gone:
        backend.put_many([item(VALUE, b"old")])
        (gone / "deep").mkdir()
        (gone / "deep").chmod(0o777)
        observer.config_set("dir", str(gone / "deep"))
        (gone / "deep").rmdir()
        with contextlib.suppress(Exception):
            observer.bgsave()
        wait_until(lambda: observer.info("persistence")["rdb_last_bgsave_status"] == "err", "a failed snapshot")
        with pytest.raises(CacheUnreachable, match=r"MISCONF|snapshot"):
            backend.mark_many([VALUE], ONE)


def test_a_replica_refuses_marks(start_redis: START) -> None:
    """A mark on a read-only server is an error."""
    primary = start_redis()
    replica = start_redis("--replicaof", "127.0.0.1", str(primary.port))
    with contextlib.closing(RedisBackend(replica.url)) as backend, pytest.raises(CacheUnreachable, match=r"read.only|READONLY"):
        backend.mark_many([VALUE], ONE)


def replicate(primary: Redis, replica: Redis) -> None:
    """Wait until a replica has all that its primary has."""
    # One that is sent a snapshot counts as a replica while it is yet to read it.
    wait_until(lambda: replica.info("replication")["master_link_status"] == "up", "the replica")
    primary.set("n:last", 1)
    assert primary.wait(1, 20_000) == 1


def test_a_primary_that_lost_its_office_and_got_it_back(start_redis: START, connect: Callable[[str], RedisBackend]) -> None:
    """What it held before another took its place is not believed afterwards, though it never stopped; markers are."""
    first, second = start_redis(*PROMPT), start_redis(*PROMPT)
    with Redis.from_url(first.url) as one, Redis.from_url(second.url) as two:
        two.replicaof("127.0.0.1", first.port)
        furnish(connect(first.url))
        replicate(one, two)
        two.replicaof("NO", "ONE")
        one.replicaof("127.0.0.1", second.port)
        wait_until(lambda: one.info("replication")["master_link_status"] == "up", "the former primary")
        assert believed(connect(second.url)) == connect(second.url).get_many(ALL)
        one.replicaof("NO", "ONE")
        backend = connect(first.url)
        assert one.exists(VALUE, LEASED, GENERATION) == 3
        assert backend.get_many(ALL) == believed(backend)


def test_a_refused_write_has_the_server_asked_again(start_redis: START, connect: Callable[[str], RedisBackend]) -> None:
    """A connection that outlived a demotion is not used on as if nothing had happened."""
    server, above = start_redis(*PROMPT), start_redis(*PROMPT)
    backend = connect(server.url)
    with Redis.from_url(server.url) as observer, Redis.from_url(above.url) as upper:
        furnish(backend)
        upper.replicaof("127.0.0.1", server.port)
        replicate(observer, upper)
        upper.replicaof("NO", "ONE")
        observer.replicaof("127.0.0.1", above.port)
        wait_until(lambda: observer.info("replication")["master_link_status"] == "up", "the former primary")
        with pytest.raises(CacheUnreachable):
            backend.mark_many([VALUE], ONE)
        observer.replicaof("NO", "ONE")
        assert backend.get_many(ALL) == believed(backend)


def test_clients_that_disagree_ask_again(
    start_redis: START, connect: Callable[[str], RedisBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that takes another replication id is asked again by a client that meets the other's values, after some seconds."""
    server = start_redis()
    early = connect(server.url)
    early.put_many([item(VALUE, b"early")])
    with Redis.from_url(server.url) as observer:
        observer.replicaof("127.0.0.1", 1)
        observer.replicaof("NO", "ONE")
    late = connect(server.url)
    late.put_many([item(VALUE, b"late")])
    assert early.get_many([VALUE]) == {}
    assert early.get_many([VALUE]) == {}
    now = time.monotonic()
    monkeypatch.setattr("stockstore.backends.redis_identity.time.monotonic", lambda: now + 60)
    assert early.get_many([VALUE]) == {}
    assert bodies(early, VALUE) == {VALUE: body(b"late")}


def test_a_sentinels_failover(start_redis: START) -> None:
    """After a failover nothing of the former primary's life is believed but its markers, and all steps go on at the new one."""
    primary = start_redis(*PROMPT)
    replica = start_redis(*PROMPT, "--replicaof", "127.0.0.1", str(primary.port))
    with folder() as directory, SentinelServer(directory, primary).running() as sentinel, sentinel.client() as client:
        backend = RedisBackend(client=client)
        token = furnish(backend)
        with Redis.from_url(primary.url) as one, Redis.from_url(replica.url) as two:
            replicate(one, two)
        with Redis(port=sentinel.port) as chief:
            wait_until(lambda: len(_replicas(chief)) == 1, "the replica to be known")
            # One that takes too long is given up by the Sentinel, which does not begin another by itself.
            wait_until(lambda: _address(chief) == replica.port or _begin_failover(chief), "the failover")
        wait_until(lambda: _ok(lambda: backend.get_many(ALL) == believed(backend)), "the new primary")
        assert client.info("server")["tcp_port"] == replica.port
        assert backend.fill_many([item(LEASED, b"old")], token) == 0
        wait_until(lambda: _ok(lambda: backend.put_many([item(VALUE, b"new")])), "the new primary to take writes")
        assert bodies(backend, VALUE) == {VALUE: body(b"new")}


def test_a_connection_lost_in_the_middle_is_asked_again_for_its_life(start_redis: START, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fill that is sent once more, by a connection to a later life, carries that one's id and fills nothing."""
    server = start_redis("--appendonly", "yes", "--appendfsync", "always")
    with contextlib.closing(RedisBackend(server.url)) as backend:
        token = lease(backend, LEASED)
        original: Any = Connection.read_response
        lives: list[bytes] = []

        def read_response(connection: Any, *rest: Any, **options: Any) -> object:
            life = life_of(connection, Life).id
            lives.extend([life] if life is not None else [])
            if len(lives) == 1 and life is not None:
                server.restart()
            return original(connection, *rest, **options)

        monkeypatch.setattr(Connection, "read_response", read_response)
        assert backend.fill_many([item(LEASED, b"once")], token) == 0
        assert len(set(lives)) == 2
        assert backend.get_many([LEASED]) == {}


@pytest.mark.parametrize("read", [RedisBackend.get_many, RedisBackend.follow_many])
def test_a_ping_that_makes_the_connection_anew_is_seen(
    start_redis: START, monkeypatch: pytest.MonkeyPatch, read: Callable[[RedisBackend, list[str]], dict[str, bytes]]
) -> None:
    """redis-py's own check of a connection may reach another life just before a command: its answer is not mixed with the old id."""
    server = start_redis("--appendonly", "yes", "--appendfsync", "always")
    with Redis.from_url(server.url, health_check_interval=1, retry=Retry(NoBackoff(), 1)) as client:
        backend = RedisBackend(client=client)
        backend.put_many([item(VALUE, b"old")])
        assert set(read(backend, [VALUE])) == {VALUE}
        (connection,) = client.connection_pool._available_connections
        monkeypatch.setattr(connection, "can_read", lambda *_: False)
        connection.next_health_check = 0.0
        server.restart()
        assert read(backend, [VALUE]) == {}
        assert client.exists(VALUE)


def test_an_interrupted_connection_is_closed_before_another_thread_may_have_it(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ends an exchange, its connection goes back to the pool without an answer that is still to come."""
    with Redis.from_url(redis_url) as client:
        backend = RedisBackend(client=client)
        backend.get_many([VALUE])
        original, released = client.connection_pool.release, []

        def release(connection: Any) -> None:
            released.append(connection._sock)
            original(connection)

        monkeypatch.setattr(client.connection_pool, "release", release)
        monkeypatch.setattr(Connection, "read_response", interrupt)
        with pytest.raises(KeyboardInterrupt):
            backend.get_many([VALUE])
        assert released == [None]


def interrupt(*_: object) -> None:
    """Do as a signal's handler may."""
    raise KeyboardInterrupt


def test_no_policy_is_told_by_a_server_that_is_gone(start_redis: START) -> None:
    """To ask for the policy never raises."""
    server = start_redis("--maxmemory-policy", "volatile-lfu")
    with contextlib.closing(RedisBackend(server.url)) as backend:
        assert backend.maxmemory_policy() == "volatile-lfu"
        server.stop()
        assert backend.maxmemory_policy() is None


def _replicas(sentinel: Redis) -> list[object]:
    return list(sentinel.execute_command("SENTINEL", "REPLICAS", "caches"))  # type: ignore[no-untyped-call]


def _begin_failover(sentinel: Redis) -> bool:
    """Tell that the end is still to come, of this one or of the one that goes on."""
    _ok(lambda: sentinel.execute_command("SENTINEL", "FAILOVER", "caches"))  # type: ignore[no-untyped-call]
    return False


def _address(sentinel: Redis) -> int:
    return int(sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "caches")[1])  # type: ignore[no-untyped-call]


def _ok(attempt: Callable[[], object]) -> bool:
    try:
        return attempt() is not False
    except Exception:  # noqa: BLE001 - whatever it is, it is tried again
        return False
