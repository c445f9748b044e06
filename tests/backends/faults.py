"""What any networked backend must do when its server fails; a subclass gives the server and the backend."""

import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import pytest

from stockstore.backends import Backend
from stockstore.errors import CacheUnreachable
from tests.patience import SHORT

TIMEOUT = SHORT
KEY = "n:C:id:i1"
OTHER = "n:C:id:i2"
ITEM = (KEY, b"value", 60)

Operation = Callable[[Backend], object]

OPERATIONS: dict[str, Operation] = {
    "get": lambda backend: backend.get_many([KEY]),
    "set": lambda backend: backend.set_many([ITEM]),
    "delete": lambda backend: backend.delete_many([KEY]),
    "follow": lambda backend: backend.follow_many([KEY]),
    "clear": lambda backend: backend.clear("n:"),
}


class Bound:
    """Notes how long something takes."""

    seconds = math.inf

    def __enter__(self) -> None:
        """Begin."""
        self._began = time.monotonic()

    def __exit__(self, *_error: object) -> None:
        """End."""
        self.seconds = time.monotonic() - self._began


def in_time(seconds: float) -> Iterator[Bound]:
    """Give what is to end in so many seconds: by itself it does so always, on a busy machine at least once in ten times."""
    for _ in range(10):
        yield (bound := Bound())
        if bound.seconds < seconds:
            return
    pytest.fail(f"it took {bound.seconds} s")


class Stoppable(Protocol):
    """A server of the test's own."""

    @property
    def address(self) -> str: ...  # noqa: D102
    def stop(self) -> None: ...  # noqa: D102
    def start(self) -> None: ...  # noqa: D102
    def restart(self) -> None: ...  # noqa: D102
    def freeze(self) -> None: ...  # noqa: D102
    def thaw(self) -> None: ...  # noqa: D102


class Faults:
    """The tests."""

    @pytest.fixture(params=list(OPERATIONS.values()), ids=list(OPERATIONS))
    def operation(self, request: pytest.FixtureRequest) -> Operation:
        """Each operation in turn."""
        operation: Operation = request.param
        return operation

    def test_a_dead_server_is_unreachable_until_it_is_back(self, server: Stoppable, backend: Backend, operation: Operation) -> None:
        """The error names the server and stems from the driver's; once the server runs again, so does the operation."""
        operation(backend)
        server.stop()
        for _ in range(2):
            with pytest.raises(CacheUnreachable, match=server.address) as caught:
                operation(backend)
            assert caught.value.__cause__ is not None
        server.start()
        operation(backend)

    def test_a_frozen_server_costs_no_more_than_the_time_out(self, server: Stoppable, backend: Backend, operation: Operation) -> None:
        """A server that accepts and never answers is unreachable, and its late answers are taken for nobody's."""
        for bound in in_time(3 * TIMEOUT):
            backend.set_many([ITEM, (OTHER, b"other", 60)])
            server.freeze()
            with bound, pytest.raises(CacheUnreachable, match=server.address):
                operation(backend)
            server.thaw()
            backend.set_many([(OTHER, b"new", 60)])
            assert backend.get_many([OTHER]) == {OTHER: b"new"}

    def test_a_server_not_connected_to_yet_may_be_frozen(self, server: Stoppable, backend: Backend, operation: Operation) -> None:
        """The first operation of all ends in time as well."""
        for bound in in_time(4 * TIMEOUT):
            server.freeze()
            with bound, pytest.raises(CacheUnreachable):
                operation(backend)
            server.thaw()

    def test_connections_that_a_restart_broke_are_no_error(self, server: Stoppable, backend: Backend, operation: Operation) -> None:
        """However many idle connections a restart broke, the next operations work at once."""
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda _: backend.get_many([KEY]), range(200)))
        server.restart()
        for _ in range(10):
            operation(backend)

    def test_what_a_restart_lost_is_absent(self, server: Stoppable, backend: Backend) -> None:
        """After a restart old values are gone, and new ones are kept and found."""
        backend.set_many([ITEM, (OTHER, b"other", 60)])
        server.restart()
        assert backend.get_many([KEY, OTHER]) == {}
        backend.set_many([(OTHER, b"new", 60)])
        assert backend.get_many([KEY, OTHER]) == {OTHER: b"new"}

    def test_empty_batches_need_no_server(self, server: Stoppable, backend: Backend) -> None:
        """Nothing to do is done without the server."""
        server.stop()
        backend.set_many([])
        assert backend.get_many([]) == {}
        assert backend.follow_many([]) == {}
        assert backend.delete_many([]) == 0

    def test_a_backend_works_after_close(self, backend: Backend) -> None:
        """Close lets go of connections; a thread that was late opens new ones."""
        backend.set_many([ITEM])
        backend.close()
        assert backend.get_many([KEY]) == {KEY: b"value"}

    def test_a_forked_child_has_connections_of_its_own(self, backend: Backend, connections: Callable[[], int]) -> None:
        """The child opens a connection for its first operation, where the parent would use the one that is idle."""
        backend.set_many([ITEM])
        before = connections()
        backend.get_many([KEY])
        assert connections() == before
        child = os.fork()
        if child == 0:
            os._exit(0 if _reads_are_right(backend, [KEY], b"value") else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert connections() == before + 1

    def test_parent_and_child_work_at_the_same_time(self, backend: Backend) -> None:
        """Each reads its own values and never the other's answers."""
        names = {who: [f"n:{who}:id:i{number}" for number in range(50)] for who in ("parent", "child")}
        for who, keys in names.items():
            backend.set_many([(key, who.encode(), 60) for key in keys])
        child = os.fork()
        if child == 0:
            os._exit(0 if _reads_are_right(backend, names["child"], b"child") else 1)
        right = _reads_are_right(backend, names["parent"], b"parent")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert right

    def test_the_parent_reads_on_after_its_child_ended(self, backend: Backend) -> None:
        """The child's end, and its own close, leave the parent's connections alone."""
        backend.set_many([ITEM])
        child = os.fork()
        if child == 0:
            backend.close()
            os._exit(0)
        os.waitpid(child, 0)
        assert backend.get_many([KEY]) == {KEY: b"value"}


def _reads_are_right(backend: Backend, keys: list[str], value: bytes) -> bool:
    try:
        return all(backend.get_many(keys) == dict.fromkeys(keys, value) for _ in range(300))
    except Exception:  # noqa: BLE001 - the child must not run pytest's own error handling
        return False
