"""The processes that serve a web-shaped load, of each contender as many, and what they note."""

import itertools
import operator
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Final

from sqlalchemy import event

from bench.load.rows import ITEMS, places, user_place
from bench.web_shop import SHOPS, Shop

_WRITES: Final = 0.05
_PROCESSES: Final = get_context("forkserver")
_PROCESSES.set_forkserver_preload([__name__])  # each would take seconds to import it by itself


@dataclass(frozen=True)
class Size:
    """How much there is of everything; ``requests`` are those that each process draws beforehand, and begins anew where they do not do."""

    customers: int
    requests: int
    processes: int
    rounds: int
    seconds: float


@dataclass(frozen=True)
class Views:
    """Pages read one after the other by one process: the seconds of each, the processor's for all, and the statements sent to the database."""

    pages: list[float]
    processor: float
    statements: int


@dataclass(frozen=True)
class Result:
    """What one process did in one round, in seconds."""

    pages: list[float]
    changes: list[float]
    stale: int
    processor: float

    @property
    def requests(self) -> int:
        return len(self.pages) + len(self.changes)


def drawn(size: Size, number: int) -> list[int]:
    """Give the customers that a process is asked for, by Zipf's law."""
    weights = list(itertools.accumulate(1 / rank for rank in range(1, size.customers + 1)))
    return random.Random(number).choices(range(1, size.customers + 1), cum_weights=weights, k=size.requests)


class Fleet:
    """The processes of a contender, which do all at once what they are told by their pipes."""

    def __init__(self, pipes: Sequence[Connection]) -> None:
        self._pipes = pipes

    def read(self, customers: Iterable[Sequence[int]]) -> list[Views]:
        """Have each process read some pages."""
        return self._all(customers)

    def run(self, seconds: float) -> list[Result]:
        """Have each process serve what it is asked."""
        return self._all(itertools.repeat(seconds))

    def _all(self, orders: Iterable[object]) -> list[Any]:
        for pipe, order in zip(self._pipes, orders, strict=False):
            pipe.send(order)
        answers = [pipe.recv() for pipe in self._pipes]
        if failed := next((answer for answer in answers if isinstance(answer, Exception)), None):
            raise failed
        return answers


@contextmanager
def running(name: str, urls: tuple[str, str], size: Size) -> Iterator[Fleet]:
    """Start the processes of a contender."""
    acknowledged = _PROCESSES.Array("q", places(size.customers))
    with ExitStack() as stack:
        pipes: list[Connection] = []
        for number in range(size.processes):
            ours, theirs = _PROCESSES.Pipe()
            worker = _PROCESSES.Process(target=_work, args=(name, urls, acknowledged, size, number, theirs), daemon=True)
            worker.start()
            theirs.close()
            stack.callback(worker.join)
            pipes.append(stack.enter_context(closing(ours)))
        yield Fleet(pipes)


def _work(name: str, urls: tuple[str, str], acknowledged: Any, size: Size, number: int, pipe: Connection) -> None:
    with ExitStack() as stack:
        load = _Load(SHOPS[name](*urls, stack), acknowledged, size, number)
        while True:
            try:
                order = pipe.recv()
            except EOFError:
                return
            try:
                pipe.send(load.run(order) if isinstance(order, float) else load.read(order))
            except Exception as error:  # noqa: BLE001 - told to who asked
                pipe.send(RuntimeError(f"{name}: {error!r}"))


class _Load:
    """One process's share of the requests."""

    def __init__(self, shop: Shop, acknowledged: Any, size: Size, number: int) -> None:
        self._shop, self._acknowledged = shop, acknowledged
        self._chance = random.Random(size.processes + number)
        self._asked = itertools.cycle(drawn(size, number))

    def read(self, customers: Sequence[int]) -> Views:
        """Read pages."""
        with _counted(self._shop) as statements:
            begun = time.process_time()
            pages = [self._timed(lambda number=number: self._shop.page(number))[1] for number in customers]
            return Views(pages, time.process_time() - begun, len(statements))

    def run(self, seconds: float) -> Result:
        """Serve requests for a time."""
        pages: list[float] = []
        changes: list[float] = []
        stale, begun, deadline = 0, time.process_time(), time.perf_counter() + seconds
        for number in self._asked:
            if self._chance.random() < _WRITES:
                changes.append(self._change(number))
            else:
                is_stale, took = self._page(number)
                stale += is_stale
                pages.append(took)
            if time.perf_counter() >= deadline:
                break
        return Result(pages, changes, stale, time.process_time() - begun)

    def _page(self, number: int) -> tuple[bool, float]:
        """Tell whether any row of a page is older than was acknowledged before it was asked for, and how long it took."""
        place = user_place(number)
        known = self._acknowledged.get_obj()[place : place + ITEMS + 1]
        versions, took = self._timed(lambda: self._shop.page(number))
        return any(map(operator.lt, versions, known)), took

    def _change(self, number: int) -> float:
        """Change a name or a price."""
        at = 0 if self._chance.random() < 0.5 else 1 + self._chance.randrange(ITEMS)
        version, took = self._timed(lambda: self._shop.change(number, at))
        place = user_place(number) + at
        with self._acknowledged.get_lock():
            self._acknowledged[place] = max(self._acknowledged[place], version)
        return took

    @staticmethod
    def _timed(does: Any) -> tuple[Any, float]:
        start = time.perf_counter()
        given = does()
        return given, time.perf_counter() - start


@contextmanager
def _counted(shop: Shop) -> Iterator[list[str]]:
    """Give the statements that are sent to the database."""
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(shop.engine, "before_cursor_execute", note)
    yield statements
    event.remove(shop.engine, "before_cursor_execute", note)
