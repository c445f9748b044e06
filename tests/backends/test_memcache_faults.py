"""memcached servers that die, freeze, restart, are flushed, evict, refuse; several of them; forked processes."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from pymemcache import Client

from stockstore.backends import MemcacheBackend
from stockstore.errors import CacheUnreachable
from tests.backends.faults import ITEM, KEY, OTHER, TIMEOUT, Faults, in_time
from tests.servers.memcached import MemcachedServer

pytestmark = pytest.mark.sa_agnostic

KEYS = [f"n:C:id:i{number}" for number in range(100)]
ITEMS = [(key, b"V" + key.encode(), 60) for key in KEYS]


class TestMemcacheFaults(Faults):
    @pytest.fixture
    def server(self, start_memcached: Callable[..., MemcachedServer]) -> MemcachedServer:
        """A server to hurt."""
        return start_memcached()

    @pytest.fixture
    def backend(self, server: MemcachedServer) -> Iterator[MemcacheBackend]:
        """A backend on it."""
        with contextlib.closing(MemcacheBackend(server.address, connect_timeout=TIMEOUT, timeout=TIMEOUT)) as backend:
            yield backend

    @pytest.fixture
    def connections(self, server: MemcachedServer) -> Iterator[Callable[[], int]]:
        """How many connections the server ever got."""
        with contextlib.closing(Client(server.address)) as observer:
            yield lambda: int(observer.stats()[b"total_connections"])


class TestSeveral:
    @pytest.fixture
    def servers(self, memcached_cluster: Callable[[int], list[MemcachedServer]]) -> list[MemcachedServer]:
        """Three servers to hurt."""
        return memcached_cluster(3)

    @pytest.fixture
    def backend(self, servers: list[MemcachedServer]) -> Iterator[MemcacheBackend]:
        """A backend on them."""
        addresses = [server.address for server in servers]
        with contextlib.closing(MemcacheBackend(addresses, connect_timeout=TIMEOUT, timeout=TIMEOUT)) as backend:
            yield backend

    def test_a_dead_servers_keys_stay_its_own(self, servers: list[MemcachedServer], backend: MemcacheBackend) -> None:
        """Its keys are unreachable, never moved, however often they are asked for; the others' keys are served."""
        backend.set_many(ITEMS)
        servers[0].stop()
        reached = {key for key in KEYS if _reaches(backend, key)}
        assert 20 < len(reached) < 90
        assert {key for key in KEYS if _reaches(backend, key)} == reached
        servers[0].start()
        assert set(backend.get_many(KEYS)) == reached

    def test_a_batch_that_touches_a_dead_server_raises(self, servers: list[MemcachedServer], backend: MemcacheBackend) -> None:
        """Reads, writes, deletes and clears over a dead and living servers raise, and name the dead one."""
        backend.set_many(ITEMS)
        servers[0].stop()
        for operation in (
            lambda: backend.get_many(KEYS),
            lambda: backend.set_many(ITEMS),
            lambda: backend.delete_many(KEYS),
            lambda: backend.clear("n:"),
        ):
            with pytest.raises(CacheUnreachable, match=servers[0].address):
                operation()

    def test_the_living_servers_do_their_part(self, servers: list[MemcachedServer], backend: MemcacheBackend) -> None:
        """A delete that raised has dropped the keys of all servers that answered."""
        backend.set_many(ITEMS)
        servers[2].freeze()
        with pytest.raises(CacheUnreachable, match=servers[2].address):
            backend.delete_many(KEYS)
        servers[2].thaw()
        others = [key for key in KEYS if backend._nodes.by_node([key], [key]).keys().isdisjoint({backend._nodes.listed[2]})]
        assert len(others) > 20
        assert backend.get_many(others) == {}

    def test_frozen_servers_cost_their_time_outs(self, servers: list[MemcachedServer], backend: MemcacheBackend) -> None:
        """All requests are out before the first answer is waited for."""
        for bound in in_time(2 * TIMEOUT):
            backend.set_many(ITEMS)
            servers[1].freeze()
            with bound, pytest.raises(CacheUnreachable, match=servers[1].address):
                backend.get_many(KEYS)
            servers[1].thaw()
            assert len(backend.get_many(KEYS)) == 100

    def test_a_mark_fails_with_one_server_and_marks_on_the_others(self, servers: list[MemcachedServer], backend: MemcacheBackend) -> None:
        """A writer is told that not all of its keys are marked; those that are can be released."""
        servers[0].stop()
        with pytest.raises(CacheUnreachable, match=servers[0].address):
            backend.mark_many(KEYS, b"db.1", [], ["n:C:"])
        marked = [key for key in KEYS if _reaches(backend, key, b"W-db.1")]
        assert 20 < len(marked) < 90
        assert backend.release_many(marked, b"db.1", committed=False) == len(marked)

    def test_a_marked_generation_leaves_no_lease_on_any_server(self, backend: MemcacheBackend) -> None:
        """Leases that other servers granted meanwhile are given back."""
        backend.mark_many([], b"db.1", ["n:C:"])
        answer = backend.lease_many(dict.fromkeys(KEYS), b"0123456789abcdef", "n:C:")
        assert (answer.cells, answer.granted, answer.generation) == ({}, frozenset(), None)
        assert backend.get_many(KEYS) == {}

    def test_a_mark_gives_the_generation_of_another_server(self, backend: MemcacheBackend) -> None:
        """The generation is that of the class, wherever its keys are."""
        made = backend.lease_many(dict.fromkeys(KEYS), b"0123456789abcdef", "n:C:").generation
        assert backend.mark_many(KEYS, b"db.1", [], ["n:C:"]) == {"n:C:": made}
        assert backend.mark_many(KEYS, b"db.1", ["n:C:"], ["n:C:"]) == {}

    def test_a_mark_makes_the_generation_on_its_server(self, backend: MemcacheBackend) -> None:
        """One that is absent is made where the readers of the class look for it."""
        made = backend.mark_many(KEYS, b"db.1", [], ["n:C:", "n:D:"])
        assert set(made) == {"n:C:", "n:D:"}
        assert backend.lease_many({"n:C:id:i999999": None}, b"0123456789abcdef", "n:C:").generation == made["n:C:"]

    def test_a_flushed_server_loses_its_own_keys_only(self, servers: list[MemcachedServer], backend: MemcacheBackend) -> None:
        """The tokens of one server say nothing about the others."""
        backend.set_many(ITEMS)
        with contextlib.closing(Client(servers[0].address)) as other:
            other.flush_all(noreply=False)
        left = set(backend.get_many(KEYS))
        assert 20 < len(left) < 90
        backend.set_many(ITEMS)
        assert set(backend.get_many(KEYS)) == set(KEYS)


class TestClear:
    @pytest.fixture
    def pair(self, start_memcached: Callable[..., MemcachedServer]) -> Iterator[tuple[MemcacheBackend, MemcacheBackend, Client]]:
        """Two backends, as in two processes, and an observer."""
        address = start_memcached().address
        with contextlib.ExitStack() as stack:
            one, two = (stack.enter_context(contextlib.closing(MemcacheBackend(address))) for _ in range(2))
            yield one, two, stack.enter_context(contextlib.closing(Client(address, default_noreply=False)))

    @pytest.mark.parametrize("prefix", ["n:", "n:C:"])
    def test_another_process_sees_the_clear(self, pair: tuple[MemcacheBackend, MemcacheBackend, Client], prefix: str) -> None:
        """Values are gone for all, and a process that knew the old token writes with the new one."""
        one, two, _ = pair
        one.set_many([ITEM, (OTHER, b"other", 60)])
        two.set_many([ITEM])
        two.clear(prefix)
        assert one.get_many([KEY, OTHER]) == {}
        one.set_many([ITEM])
        assert one.get_many([KEY, OTHER]) == two.get_many([KEY, OTHER]) == {KEY: b"value"}

    def test_a_lost_token_does_not_bring_cleared_values_back(self, pair: tuple[MemcacheBackend, MemcacheBackend, Client]) -> None:
        """When a cleared prefix's cell is evicted, a process that knew the token from before the clear makes a fresh one."""
        one, two, observer = pair
        one.set_many([ITEM, (OTHER, b"old", 60)])
        two.clear("n:")
        assert observer.delete("n:")
        one.set_many([ITEM])
        assert one.get_many([KEY, OTHER]) == two.get_many([KEY, OTHER]) == {KEY: b"value"}

    def test_an_evicted_cell_makes_its_values_absent(self, pair: tuple[MemcacheBackend, MemcacheBackend, Client]) -> None:
        """Without its cell a value cannot be told from a cleared one."""
        one, _, observer = pair
        one.set_many([ITEM])
        assert observer.delete("n:C")
        assert one.get_many([KEY]) == {}

    def test_a_known_token_costs_no_round_trip(self, pair: tuple[MemcacheBackend, MemcacheBackend, Client]) -> None:
        """A batch of writes reads two cells and adds none, and a batch of reads is one command more than its keys."""
        one, _, observer = pair
        one.set_many(ITEMS)
        before = observer.stats()
        one.set_many(ITEMS)
        one.get_many(KEYS)
        after = observer.stats()
        assert after[b"cmd_set"] - before[b"cmd_set"] == 100
        assert after[b"cmd_get"] - before[b"cmd_get"] == 2 + 102

    def test_writers_and_clears_leave_no_value_from_before(self, pair: tuple[MemcacheBackend, MemcacheBackend, Client]) -> None:
        """What was written before a clear began is never read after it ended, whoever else writes meanwhile."""
        one, two, _ = pair
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                two.set_many([(OTHER, b"noise", 60)])

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(200):
                one.set_many([ITEM])
                one.clear("n:C:")
                assert one.get_many([KEY]) == {}
        finally:
            stop.set()
            writer.join()


def test_a_small_server_evicts_and_never_fails(start_memcached: Callable[..., MemcachedServer]) -> None:
    """More data than memory: writes go on, and what is read is what was written."""
    with contextlib.closing(MemcacheBackend(start_memcached("-m", "4").address)) as backend:
        values = {f"n:C:id:i{number}": b"%d." % number * 2000 for number in range(2000)}
        backend.set_many([(key, value, 60) for key, value in values.items()])
        found = backend.get_many(list(values))
        assert 0 < len(found) < 2000
        assert all(values[key] == value for key, value in found.items())


def test_a_full_server_is_unreachable(start_memcached: Callable[..., MemcachedServer]) -> None:
    """A server that may not evict refuses, and says so."""
    items = [(f"n:C:id:i{number}", b"x" * 500_000, 60) for number in range(20)]
    server = start_memcached("-M", "-m", "2")
    with contextlib.closing(MemcacheBackend(server.address)) as backend, pytest.raises(CacheUnreachable, match="out of memory"):
        backend.set_many(items)


def test_a_server_without_comparison_is_refused_at_once(start_memcached: Callable[..., MemcachedServer]) -> None:
    """No ``cas`` ever holds there: the error says so, where it would look for two seconds for others who are faster."""
    server = start_memcached("-C")
    with contextlib.closing(MemcacheBackend(server.address)) as backend, contextlib.closing(Client(server.address)) as other:
        with pytest.raises(CacheUnreachable, match="start it without -C"):
            backend.put_many([ITEM])
        other.set(KEY, b"A", noreply=False)
        with pytest.raises(CacheUnreachable, match="start it without -C"):
            backend.invalidate_many([KEY])
        backend.mark_many([OTHER], b"t")
        with pytest.raises(CacheUnreachable, match="start it without -C"):
            backend.release_many([OTHER], b"t", committed=True)


@pytest.mark.parametrize("before", [(), (b"END\r\n",)], ids=["at first", "later"])
@pytest.mark.parametrize("answer", [b"nonsense\r\n", b"VALUE a b c\r\n", b"VALUE n:C:id:i1 0 5\r\n12345678\r\nEND\r\n", b"ERROR\r\n", b""])
def test_nonsense_for_an_answer_is_unreachable(answer: bytes, before: tuple[bytes, ...]) -> None:
    """A server that does not speak memcached's protocol is an error of the cache."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_answer, args=(listener, *before, answer))
        thread.start()
        backend = MemcacheBackend(f"127.0.0.1:{listener.getsockname()[1]}", timeout=TIMEOUT)
        with contextlib.closing(backend), pytest.raises(CacheUnreachable):
            backend.get_many([KEY])
        thread.join()


def test_a_connection_that_timed_out_is_not_used_again() -> None:
    """Its answer may still come, and must not be taken for that of the next request."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        backend = MemcacheBackend(f"127.0.0.1:{listener.getsockname()[1]}", timeout=TIMEOUT)
        with pytest.raises(CacheUnreachable):
            backend.get_many([KEY])
        with listener.accept()[0], contextlib.closing(backend):
            thread = threading.Thread(target=_answer, args=(listener, b"END\r\n", b"END\r\n"))
            thread.start()
            assert backend.get_many([KEY]) == {}
            thread.join()


def test_a_batch_larger_than_all_buffers_goes_through(memcached_unix_path: str, namespace: str) -> None:
    """Requests and answers that fill every buffer both ways do not block each other."""
    keys = [f"{namespace}:C:id:i{number}" + "x" * 150 for number in range(20_000)]
    with contextlib.closing(MemcacheBackend(memcached_unix_path)) as backend:
        backend.set_many([(key, b"value" * 40, 60) for key in keys])
        assert len(backend.get_many(keys)) == 20_000
        assert backend.delete_many(keys) == 20_000


def _reaches(backend: MemcacheBackend, key: str, cell: bytes | None = None) -> bool:
    try:
        return backend.get_many([key]) == {key: cell or b"V" + key.encode()}
    except CacheUnreachable:
        return False


def _answer(listener: socket.socket, *answers: bytes) -> None:
    connection, _ = listener.accept()
    with connection:
        for answer in answers:
            connection.recv(1000)
            connection.sendall(answer)
