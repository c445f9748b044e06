"""A web-shaped load: pages of a customer and his 20 items, of which one row is changed now and then, by several processes at once.

Customers are asked for by Zipf's law, and what is asked is drawn beforehand: every process has read all pages that it will be asked for
when the clock starts, so that no page is asked for the first time, as in a shop that has been open for long. What such first views cost is
shown apart. A stale page shows a row older than one whose change was acknowledged before the page was asked for. Processor time is that of
the processes that serve the requests, in which they wait for nobody. Two contenders show what no cache can beat: pages that cost nothing,
and pages that await two bare MGETs and nothing else.
"""

import itertools
import statistics
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Final, TypeAlias, TypeVar

from sqlalchemy import create_engine

from bench.context import Context, expect
from bench.measure import ratio_of
from bench.report import Row, Target, at_least, at_most, sized
from bench.web_fleet import Fleet, Result, Size, Views, drawn, running
from bench.web_shop import ABOVE, BARE, COSTLESS, PLAIN, REDIS, SHOPS, fill_shop

SUBJECT: Final = "web-shaped load on PostgreSQL, 5 % writes"
_TARGETS: Final = {REDIS: at_least(5), ABOVE: at_least(8)}
_BOUNDS: Final = (COSTLESS, BARE)  # they show always the same page
_CACHED: Final = [name for name in SHOPS if name != PLAIN]
_PEERS: Final = [name for name in _CACHED if name not in _BOUNDS]
_FULL: Final = Size(customers=100_000, requests=1500, processes=3, rounds=4, seconds=2.0)
_QUICK: Final = Size(customers=1000, requests=100, processes=2, rounds=2, seconds=0.5)
Viewed: TypeAlias = dict[str, list[Views]]
Part = TypeVar("Part", Views, Result)
Served: TypeAlias = dict[str, list[Result]]


def rows(context: Context) -> Iterator[Row]:
    size = _QUICK if context.quick else _FULL
    url = context.servers.empty_database()
    engine = create_engine(url)
    fill_shop(engine, size.customers)
    engine.dispose()
    urls = (url.render_as_string(hide_password=False), context.servers.redis)
    with ExitStack() as stack:
        fleets = {name: stack.enter_context(running(name, urls, size)) for name in SHOPS}
        asked = [sorted(set(drawn(size, number))) for number in range(size.processes)]
        views = _first_views(fleets, sorted(set().union(*asked)), size)
        fleets[ABOVE].read(asked)  # what a process finds in Redis it keeps in its memory from the second read on
        for name in _CACHED:
            expect(f"statements for pages of {name}", sum(part.statements for part in fleets[name].read(asked)), 0)
        served = [{name: fleets[name].run(size.seconds) for name in order} for order in _orders(SHOPS, size)]
    yield from _rows(served, size)
    yield from _views(views)


def _first_views(fleets: dict[str, Fleet], customers: list[int], size: Size) -> list[Viewed]:
    """Have each page read once by any process, part after part, in which the contenders take turns."""
    parts = [customers[part :: size.rounds] for part in range(size.rounds)]
    orders = zip(parts, _orders([PLAIN, *_PEERS], size), strict=True)
    return [
        {name: fleets[name].read([part[n :: size.processes] for n in range(size.processes)]) for name in order} for part, order in orders
    ]


def _orders(names: Iterable[str], size: Size) -> Iterator[list[str]]:
    """Give the turns of each round."""
    return itertools.islice(itertools.cycle(([*names][::-1], [*names])), size.rounds)


# -- rows -----------------------------------------------------------------------------------------


def _rows(rounds: list[Served], size: Size) -> Iterator[Row]:
    what = f"requests per second, {size.processes} processes, {size.customers:,} customers"
    rates = _each(rounds, SHOPS, lambda parts: sum(part.requests for part in parts) / size.seconds)
    for name in _CACHED:
        yield _beside_plain(f"{what}: {name}", rates, name, "per s", target=_TARGETS.get(name))
    costs = _each(rounds, SHOPS, lambda parts: sum(part.processor for part in parts) / sum(part.requests for part in parts))
    for name in _CACHED:
        yield _beside_plain(f"processor time of a request: {name}", costs, name, "s", faster=True)
    pages = _latencies(rounds, lambda part: part.pages)
    for at in (50, 99):
        yield from _percentiles("a page", pages, at)
    yield from _percentiles("a change", _latencies(rounds, lambda part: part.changes), 50)
    for name in (PLAIN, *_PEERS):
        stale = sum(part.stale for each in rounds for part in each[name])
        yield sized(SUBJECT, f"stale pages: {name}", stale, (len(pages[name]), "pages"), "pages", at_most(0) if name == REDIS else None)


def _views(rounds: list[Viewed]) -> Iterator[Row]:
    """Tell what pages cost that no cache has."""
    times = _each(rounds, [PLAIN, *_PEERS], lambda parts: statistics.mean(itertools.chain.from_iterable(part.pages for part in parts)))
    costs = _each(rounds, [PLAIN, *_PEERS], lambda parts: sum(part.processor for part in parts) / sum(len(part.pages) for part in parts))
    for what, values in (("a first view", times), ("processor time of a first view", costs)):
        for name in _PEERS:
            yield _beside_plain(f"{what}: {name}", values, name, "s")


def _each(rounds: list[dict[str, list[Part]]], names: Iterable[str], value: Callable[[list[Part]], float]) -> dict[str, list[float]]:
    """Give a value of each contender and round."""
    return {name: [value(each[name]) for each in rounds] for name in names}


def _latencies(rounds: list[Served], times: Callable[[Result], list[float]]) -> dict[str, list[float]]:
    return {name: sorted(itertools.chain.from_iterable(times(part) for each in rounds for part in each[name])) for name in SHOPS}


def _percentiles(what: str, values: dict[str, list[float]], percent: int) -> Iterator[Row]:
    for name in _CACHED:
        yield sized(SUBJECT, f"{what}, p{percent}: {name}", _at(values[name], percent), (_at(values[PLAIN], percent), PLAIN), "s")


def _at(values: list[float], percent: int) -> float:
    return values[min(len(values) * percent // 100, len(values) - 1)]


def _beside_plain(
    what: str, values: dict[str, list[float]], name: str, unit: str, *, faster: bool = False, target: Target | None = None
) -> Row:
    pairs = zip(values[name], values[PLAIN], strict=True)
    ratio = ratio_of([plain / ours if faster else ours / plain for ours, plain in pairs])
    return Row(SUBJECT, what, statistics.median(values[name]), statistics.median(values[PLAIN]), PLAIN, unit, ratio, faster, target)
