"""Batches to several nodes at once, on plain blocking sockets."""

from collections.abc import Callable, Generator, Sequence
from typing import Generic, TypeAlias, TypeVar

from pymemcache.exceptions import MemcacheError

from stockstore.backends.memcache_connection import Connection, Pool

_Result = TypeVar("_Result")
Steps: TypeAlias = Generator[bytes, None, _Result]
"""What yields a request each time, and is resumed to read its answer."""


class Job(Generic[_Result]):
    """The steps of one node on one connection, which goes back to its pool only when all went well."""

    def __init__(self, pool: Pool, steps: Callable[[Connection], Steps[_Result]], preferred: Connection | None = None) -> None:
        self.pool = pool
        self.result: _Result | None = None
        self.error: Exception | None = None
        self.running = True
        self._make_steps = steps
        self._preferred = preferred
        self._connection: Connection | None = None

    def start(self) -> None:
        """Get a connection, and send the first request."""
        self._connection = self.pool.take(self._preferred)
        self._steps = self._make_steps(self._connection)
        self._request = next(self._steps)
        self.send()  # so that this node works while the next one's request is written

    def send(self) -> None:
        """Send the request that is due."""
        if self._connection:
            self._connection.send(self._request)

    def receive(self) -> None:
        """Read the answer, and get the next request or the result."""
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


def run(jobs: Sequence[Job[_Result]]) -> None:
    """Run all jobs to their end: each round sends every request before it reads the first answer.

    A job that fails keeps its error and holds up no other.
    """
    try:
        _advance(jobs, Job.start)
        while any(job.running for job in jobs):
            _advance(jobs, Job.receive)
            _advance(jobs, Job.send)
    except BaseException:  # an interrupt in mid-answer, too, leaves the connections useless
        for job in jobs:
            job.abandon()
        raise


def _advance(jobs: Sequence[Job[_Result]], step: Callable[[Job[_Result]], None]) -> None:
    for job in jobs:
        if job.running:
            try:
                step(job)
            except (MemcacheError, OSError, UnicodeError) as exc:  # the last of a host name that cannot be one
                job.error = exc
                job.abandon()
