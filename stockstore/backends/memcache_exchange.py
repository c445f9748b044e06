"""Batches to several nodes at once, on plain blocking sockets."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

from pymemcache.exceptions import MemcacheError

from stockstore.backends.memcache_connection import Connection, Pool
from stockstore.backends.memcache_requests import Steps

_Result = TypeVar("_Result")


class Job(Generic[_Result]):
    """The steps of one node on one connection, which goes back to its pool only when all went well."""

    def __init__(self, pool: Pool, steps: Callable[[Connection], Steps[_Result]]) -> None:
        self.pool = pool
        self.result: _Result | None = None
        self.error: Exception | None = None
        self.running = True
        self._make_steps = steps
        self._connection: Connection | None = None

    def start(self) -> None:
        """Get a connection and the first request."""
        with self._errors():
            self._connection = self.pool.take()
            self._steps = self._make_steps(self._connection)
            self.resume()

    def send(self) -> None:
        """Send the request that is due."""
        with self._errors():
            if self._connection:
                self._connection.send(self._request)

    def resume(self) -> None:
        """Read the answer, and get the next request or the result."""
        with self._errors():
            try:
                self._request = next(self._steps)
            except StopIteration as end:
                self._finish(end.value)

    def abandon(self) -> None:
        """Close the connection, on which answers may still come."""
        self.running = False
        if self._connection:
            self._connection.close()
            self._connection = None

    def _finish(self, result: _Result) -> None:
        self.running = False
        self.result = result
        if self._connection:
            self.pool.give_back(self._connection)
            self._connection = None

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (MemcacheError, OSError) as exc:
            self.error = exc
            self.abandon()


def run(jobs: Sequence[Job[_Result]]) -> None:
    """Run all jobs to their end: each round sends every request before it reads the first answer.

    A job that fails keeps its error and holds up no other.
    """
    try:
        for job in jobs:
            job.start()
        while running := [job for job in jobs if job.running]:
            for job in running:
                job.send()
            for job in running:
                if job.running:
                    job.resume()
    except BaseException:  # an interrupt in mid-answer, too, leaves the connections useless
        for job in jobs:
            job.abandon()
        raise
