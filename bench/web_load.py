"""A web-shaped load: pages of a customer and his 20 items, a few of them changed, by several processes at once.

Customers are asked for by Zipf's law; more than eight of ten requests are for those whose pages one of the processes has read before
the clock starts. A stale page shows a version older than one whose change was acknowledged before the page was asked for. Processor time
is that of the processes that serve the requests, in which they wait for nobody. Two contenders show what no cache can beat: pages that
cost nothing, and pages that await two bare MGETs and nothing else.
"""

import itertools
import random
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Final

from sqlalchemy import create_engine

from bench.context import Context
from bench.measure import Ratio, ratio_of
from bench.report import Row, Target, at_least, at_most, sized
from bench.web_shop import ABOVE, BARE, COSTLESS, ITEMS, PLAIN, REDIS, SHOPS, fill_shop

SUBJECT: Final = "web-shaped load on PostgreSQL, 5 % writes"
_WRITES: Final = 0.05
_TARGETS: Final = {REDIS: at_least(5), ABOVE: at_least(8)}
_CACHED: Final = [name for name in SHOPS if name != PLAIN]
_BOUNDS: Final = (COSTLESS, BARE)  # they show always the same page
_SPAWN: Final = get_context("spawn")


@dataclass(frozen=True)
class _Size:
    customers: int
    warm: int
    processes: int
    rounds: int
    seconds: float


_FULL: Final = _Size(customers=100_000, warm=15_000, processes=3, rounds=4, seconds=2.0)
_QUICK: Final = _Size(customers=1000, warm=20, processes=2, rounds=2, seconds=0.5)


@dataclass(frozen=True)
class _Result:
    """What one process did in one round; latencies are those of pages, in seconds."""

    requests: int
    pages: list[float]
    stale: int
    processor: float


def rows(context: Context) -> Iterator[Row]:
    size = _QUICK if context.quick else _FULL
    url = context.servers.empty_database()
    engine = create_engine(url)
    fill_shop(engine, size.customers)
    engine.dispose()
    with ExitStack() as stack:
        acknowledged = {name: _SPAWN.Array("q", size.customers + 1) for name in SHOPS}
        urls = (url.render_as_string(hide_password=False), context.servers.redis)
        fleets = {name: stack.enter_context(_fleet(name, urls, acknowledged[name], size)) for name in SHOPS}
        for name, fleet in fleets.items():
            # What has no cache has nothing to warm but its connections.
            _all(fleet, size.processes if name in (PLAIN, *_BOUNDS) else size.warm)
        order, rounds = list(fleets), []
        for _ in range(size.rounds):
            order.reverse()
            rounds.append({name: _all(fleets[name], size.seconds) for name in order})
    yield from _rows(rounds, size)


def _rows(rounds: list[dict[str, list[_Result]]], size: _Size) -> Iterator[Row]:
    rates = {name: [sum(part.requests for part in each[name]) / size.seconds for each in rounds] for name in SHOPS}
    what = f"requests per second, {size.processes} processes, {size.customers:,} customers"
    for name in _CACHED:
        ratio = ratio_of([ours / plain for ours, plain in zip(rates[name], rates[PLAIN], strict=True)])
        yield _beside_plain(f"{what}: {name}", rates, name, "per s", ratio, target=_TARGETS.get(name))
    costs = {name: [_processor(each[name]) for each in rounds] for name in SHOPS}
    for name in _CACHED:
        ratio = ratio_of([plain / ours for ours, plain in zip(costs[name], costs[PLAIN], strict=True)])
        yield _beside_plain(f"processor time of a request: {name}", costs, name, "s", ratio, faster=True)
    yield from _pages({name: [part for each in rounds for part in each[name]] for name in SHOPS})


def _beside_plain(
    what: str, values: dict[str, list[float]], name: str, unit: str, ratio: Ratio, *, faster: bool = False, target: Target | None = None
) -> Row:
    return Row(SUBJECT, what, statistics.median(values[name]), statistics.median(values[PLAIN]), PLAIN, unit, ratio, faster, target)


def _pages(parts: dict[str, list[_Result]]) -> Iterator[Row]:
    pages = {name: sorted(itertools.chain.from_iterable(part.pages for part in parts[name])) for name in SHOPS}
    for at in (50, 99):
        for name in _CACHED:
            yield sized(SUBJECT, f"a page, p{at}: {name}", _at(pages[name], at), (_at(pages[PLAIN], at), PLAIN), "s")
    for name in (name for name in SHOPS if name not in _BOUNDS):
        stale = sum(part.stale for part in parts[name])
        yield sized(SUBJECT, f"stale pages: {name}", stale, (len(pages[name]), "pages"), "pages", _none_stale(name))


def _processor(parts: list[_Result]) -> float:
    """Give the processor seconds of one request."""
    return sum(part.processor for part in parts) / sum(part.requests for part in parts)


def _none_stale(name: str) -> Target | None:
    return at_most(0) if name == REDIS else None


def _at(values: list[float], percent: int) -> float:
    return values[min(len(values) * percent // 100, len(values) - 1)]


@contextmanager
def _fleet(name: str, urls: tuple[str, str], acknowledged: Any, size: _Size) -> Iterator[list[Connection]]:
    """Start the processes of a contender, which do what they are told by their pipes."""
    with ExitStack() as stack:
        pipes: list[Connection] = []
        for number in range(size.processes):
            ours, theirs = _SPAWN.Pipe()
            worker = _SPAWN.Process(target=_work, args=(name, urls, acknowledged, size, number, theirs), daemon=True)
            worker.start()
            theirs.close()
            stack.callback(worker.join)
            pipes.append(stack.enter_context(closing(ours)))
        yield pipes


def _all(fleet: list[Connection], order: object) -> list[Any]:
    """Have all processes do something at once."""
    for pipe in fleet:
        pipe.send(order)
    answers = [pipe.recv() for pipe in fleet]
    if failed := next((answer for answer in answers if isinstance(answer, Exception)), None):
        raise failed
    return answers


def _work(name: str, urls: tuple[str, str], acknowledged: Any, size: _Size, number: int, pipe: Connection) -> None:
    with ExitStack() as stack:
        load = _Load(name, urls, acknowledged, size, number, stack)
        while True:
            try:
                order = pipe.recv()
            except EOFError:
                return
            try:
                pipe.send(load.run(order) if isinstance(order, float) else load.warm(order))
            except Exception as error:  # noqa: BLE001 - told to who asked
                pipe.send(RuntimeError(f"{name}: {error!r}"))


class _Load:
    """One process's share of the requests."""

    def __init__(self, name: str, urls: tuple[str, str], acknowledged: Any, size: _Size, number: int, stack: ExitStack) -> None:
        self._shop = SHOPS[name](*urls, stack)
        self._acknowledged, self._size, self._number = acknowledged, size, number
        self._chance = random.Random(number)
        self._weights = list(itertools.accumulate(1 / rank for rank in range(1, size.customers + 1)))
        self._customers = range(1, size.customers + 1)

    def warm(self, count: int) -> int:
        """Read this process's share of so many pages that are asked for most, and give the newest version there."""
        return max(map(self._shop.page, range(1 + self._number, count + 1, self._size.processes)))

    def run(self, seconds: float) -> _Result:
        """Serve requests for a time."""
        pages: list[float] = []
        requests = stale = 0
        begun, deadline = time.process_time(), time.perf_counter() + seconds
        for number in self._asked():
            if self._chance.random() < _WRITES:
                self._change(number)
            else:
                known, start = self._acknowledged.get_obj()[number], time.perf_counter()
                stale += self._shop.page(number) < known
                pages.append(time.perf_counter() - start)
            requests += 1
            if time.perf_counter() >= deadline:
                break
        return _Result(requests, pages, stale, time.process_time() - begun)

    def _asked(self) -> Iterator[int]:
        while True:
            yield from self._chance.choices(self._customers, cum_weights=self._weights, k=500)

    def _change(self, number: int) -> None:
        version = self._shop.change(number, self._chance.randrange(ITEMS))
        with self._acknowledged.get_lock():
            self._acknowledged[number] = max(self._acknowledged[number], version)
