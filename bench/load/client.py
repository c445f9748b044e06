"""A process that asks: pages of a user and his items, items, and 5 % of changes; users by Zipf's law."""

import itertools
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from typing import Any, Final

from bench.load.http import Connection
from bench.load.rows import ITEMS, email_of, first_item, item_place, user_place

_WRITES: Final = 0.05
_PAGES: Final = 0.6
_KEPT: Final = 200
_CONFLICT: Final = 409


@dataclass
class Result:
    """What was asked and answered.

    Attributes:
        seconds: How long each answer took, by the kind of request.
        rows: Rows that were shown.
        stale: The place, the version and the start of each row that was older than one acknowledged before that start.
        writes: The place, the version and the moment of each acknowledged change; moments are nanoseconds of the machine's monotonic clock.
        refused: Changes that were refused since somebody else's had come first.
        errors: Whatever else was no answer.
        cpu: The seconds of processors that the shop's server and its workers took meanwhile.
    """

    seconds: dict[str, list[float]] = field(default_factory=lambda: {"page": [], "item": [], "write": []})
    rows: int = 0
    stale: list[tuple[int, int, int]] = field(default_factory=list)
    writes: list[tuple[int, int, int]] = field(default_factory=list)
    refused: int = 0
    errors: list[str] = field(default_factory=list)
    cpu: float = 0.0

    def add(self, other: "Result") -> None:
        for kind, seconds in other.seconds.items():
            self.seconds[kind] += seconds
        self.rows += other.rows
        self.stale += other.stale
        self.writes += other.writes
        self.refused += other.refused
        self.errors += other.errors
        self.cpu += other.cpu

    @property
    def requests(self) -> int:
        return sum(map(len, self.seconds.values()))


@dataclass(frozen=True)
class Share:
    """One process's share: which of how many processes, and its connections."""

    number: int
    processes: int
    connections: int
    port: int
    users: int


def work(share: Share, acknowledged: Any, pipe: Pipe) -> None:
    """Do what the pipe says: ``None`` reads this process's share of all pages once, a number asks for so many seconds."""
    callers = [Caller(share, number, acknowledged) for number in range(share.connections)]
    with ThreadPoolExecutor(len(callers)) as pool:
        while True:
            try:
                order = pipe.recv()
            except EOFError:
                return
            total = Result()
            for result in pool.map(lambda caller, order=order: caller.warm() if order is None else caller.run(order), callers):
                total.add(result)
            pipe.send(total)


class Caller:
    """One connection, which asks, waits, and asks again."""

    def __init__(self, share: Share, number: int, acknowledged: Any) -> None:
        self._share, self._number, self._acknowledged = share, number, acknowledged
        self._chance = random.Random(share.number * 1000 + number)
        self._connection = Connection(share.port)
        self._result = Result()
        self._users = range(1, share.users + 1)
        self._weights = list(itertools.accumulate(1 / rank for rank in self._users))

    def warm(self) -> Result:
        share = self._share
        for user in range(1 + share.number + share.processes * self._number, share.users + 1, share.processes * share.connections):
            # The first read keeps the list, the second one its rows.
            for _ in range(2):
                self._timed("page", f"/users/{user}/items")
        return self._end()

    def run(self, seconds: float) -> Result:
        deadline = time.perf_counter() + seconds
        for asked, user in enumerate(self._asked_for()):
            # New connections find other workers.
            if asked % _KEPT == 0:
                self._connection.close()
            self._one(user)
            if time.perf_counter() >= deadline:
                break
        return self._end()

    def _end(self) -> Result:
        self._connection.close()
        result, self._result = self._result, Result()
        return result

    def _asked_for(self) -> Iterator[int]:
        while True:
            yield from self._chance.choices(self._users, cum_weights=self._weights, k=500)

    def _one(self, user: int) -> None:
        chance = self._chance.random()
        if chance < _WRITES:
            self._change(user)
        elif chance < _WRITES + _PAGES:
            self._page(user)
        else:
            self._item(first_item(user) + self._chance.randrange(ITEMS))

    # -- requests --------------------------------------------------------------------------------

    def _page(self, user: int) -> None:
        place = user_place(user)
        known, start = self._acknowledged.get_obj()[place : place + ITEMS + 1], time.monotonic_ns()
        page = self._timed("page", f"/users/{user}/items")
        if page is not None:
            shown = [(0, page["user"]["version"]), *((item_place(item["id"]) - place, item["version"]) for item in page["items"])]
            if len(shown) != ITEMS + 1:
                self._result.errors.append(f"/users/{user}/items shows {len(page['items'])} items")
            self._judge(place, known, shown, start)

    def _item(self, item: int) -> None:
        place = item_place(item)
        known, start = self._acknowledged.get_obj()[place : place + 1], time.monotonic_ns()
        found = self._timed("item", f"/items/{item}")
        if found is not None:
            self._judge(place, known, [(0, found["version"])], start)

    def _judge(self, place: int, known: list[int], shown: list[tuple[int, int]], start: int) -> None:
        self._result.rows += len(shown)
        self._result.stale += [(place + at, version, start) for at, version in shown if version < known[at]]

    def _change(self, user: int) -> None:
        if self._chance.random() < 0.5:
            place, path = user_place(user), "/users/me"
            patch: dict[str, Any] = {"name": f"User {self._chance.randrange(10**6)}"}
        else:
            item = first_item(user) + self._chance.randrange(ITEMS)
            place, path, patch = item_place(item), f"/items/{item}", {"cents": self._chance.randrange(1, 10**6)}
        changed = self._timed("write", path, user=email_of(user), patch=patch)
        if changed is not None:
            self._acknowledge(place, changed["version"], time.monotonic_ns())

    def _acknowledge(self, place: int, version: int, moment: int) -> None:
        self._result.writes.append((place, version, moment))
        with self._acknowledged.get_lock():
            self._acknowledged[place] = max(self._acknowledged[place], version)

    def _timed(self, kind: str, path: str, *, user: str = "", patch: dict[str, Any] | None = None) -> Any:
        start = time.perf_counter()
        try:
            status, answer = self._connection.ask(path, user=user, patch=patch)
        except (OSError, ValueError) as error:
            self._result.errors.append(f"{path}: {type(error).__name__}: {error}")
            return None
        self._result.seconds[kind].append(time.perf_counter() - start)
        if status == 200:
            return answer
        if status == _CONFLICT:
            self._result.refused += 1
        else:
            self._result.errors.append(f"{path}: status {status}: {answer}")
        return None
