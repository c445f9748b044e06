"""What the supervisor does to processes and servers while they race."""

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from redis import RedisError
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from tests.race.caches import CacheServer

NEED_PROCESS: Final = frozenset({"freeze", "evict", "restart", "oom"})
"""Faults that need a server that was started for the race."""
_EVERY: Final = {
    "kill": 1.5,
    "stop": 0.4,
    "freeze": 6.0,
    "evict": 0.05,
    "flush": 1.0,
    "restart": 2.5,
    "oom": 2.0,
    "drop": 0.7,
    "delay": 0.5,
    "cut": 0.4,
    "failover": 0.7,
    "reshard": 0.5,
}
"""Seconds between two faults of a sort, in the mean; what is not in here the processes do to themselves."""
_CUT = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'stockstore-race'"
    " AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1"
)

_CUT_LISTENERS = text(
    "SELECT CAST(pg_terminate_backend(pid) AS integer) FROM pg_stat_activity WHERE datname = current_database()"
    " AND pid <> pg_backend_pid() AND (query LIKE 'LISTEN %' OR query LIKE '%pg_listening_channels%')"
)


class Faults:
    """Injects faults, each sort in a thread of its own, until told to stop.

    Attributes:
        injected: How many of each sort.
        impossible: The sorts that this cache cannot have, or that belong to its owner.
    """

    def __init__(
        self, sorts: Sequence[str], cache: CacheServer, engine: Engine, pids: Callable[[], list[int]], seed: int, haste: float = 1.0
    ) -> None:
        """Be ready; ``haste``: how many times as often as usual they come."""
        self._cache, self._engine, self._pids, self._haste = cache, engine, pids, haste
        self._over = threading.Event()
        self.injected: Counter[str] = Counter()
        self.errors: list[str] = []
        self.impossible = sorted(sort for sort in sorts if cache.process is None and sort in NEED_PROCESS)
        possible = [sort for sort in sorts if sort in _EVERY and sort not in self.impossible]
        # A race that is ended does not wait for them for ever.
        self._threads = [
            threading.Thread(target=self._repeat, args=(sort, random.Random(f"{seed}.{sort}")), daemon=True) for sort in possible
        ]
        # A server is stopped and started by one at a time.
        self._server = threading.Lock()

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self, seconds: float | None = None) -> None:
        """End, with everything running again; wait for faults under way, at most for some seconds."""
        self._over.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(seconds)
        for pid in self._pids():
            _signal(pid, signal.SIGCONT)

    def _repeat(self, sort: str, chance: random.Random) -> None:
        inject = getattr(self, f"_{sort}")
        try:
            while not self._over.wait(chance.expovariate(self._haste / _EVERY[sort])):
                # The server may just be stopped, started or full.
                with contextlib.suppress(OSError, RedisError, DBAPIError):
                    inject(chance)
        except Exception as error:  # noqa: BLE001 - told in the report
            self.errors.append(f"{sort}: {error!r}")

    # -- processes -------------------------------------------------------------------------------

    def _kill(self, chance: random.Random) -> None:
        if pids := self._pids():
            _signal(chance.choice(pids), signal.SIGKILL)
            self.injected["kill"] += 1

    def _stop(self, chance: random.Random) -> None:
        if pids := self._pids():
            pid = chance.choice(pids)
            _signal(pid, signal.SIGSTOP)
            self._over.wait(chance.choice([0.02, 0.2, 1.5]))
            _signal(pid, signal.SIGCONT)
            self.injected["stop"] += 1

    # -- the cache -------------------------------------------------------------------------------

    def _freeze(self, chance: random.Random) -> None:
        self._hold(1.2 + chance.random())
        self.injected["freeze"] += 1

    def _delay(self, chance: random.Random) -> None:
        if self._cache.process is not None:
            self._hold(0.02 + chance.random() * 0.2)
        else:
            with self._engine.begin() as connection:
                connection.execute(text("LOCK TABLE stockstore_race_items IN EXCLUSIVE MODE"))
                time.sleep(0.02 + chance.random() * 0.2)
        self.injected["delay"] += 1

    def _hold(self, seconds: float) -> None:
        assert self._cache.process is not None
        with self._server:
            self._cache.process.freeze()
            try:
                time.sleep(seconds)
            finally:
                self._cache.process.thaw()

    def _evict(self, chance: random.Random) -> None:
        self._cache.crowd(self.injected["evict"])
        self.injected["evict"] += 1

    def _flush(self, chance: random.Random) -> None:
        self._cache.flush()
        self.injected["flush"] += 1

    def _restart(self, chance: random.Random) -> None:
        """What the server comes back with is as old as the last save, most of the time."""
        assert self._cache.process is not None
        with self._server:
            old = chance.random() < 0.8 and self._cache.save()
            time.sleep(chance.random() if old else 0)
            self._cache.process.restart()
        self.injected["restart with old data" if old else "restart"] += 1

    def _oom(self, chance: random.Random) -> None:
        if not self._cache.fill_up(full=True):
            self._over.wait()
            return
        try:
            time.sleep(chance.random() * 0.3)
        finally:
            self._cache.fill_up(full=False)
        self.injected["oom"] += 1

    def _failover(self, chance: random.Random) -> None:
        with self._server:
            self._if_possible("failover", self._cache.fail_over(chance))

    def _reshard(self, chance: random.Random) -> None:
        with self._server:
            self._if_possible("reshard", self._cache.reshard(chance))

    def _if_possible(self, sort: str, done: bool) -> None:
        if done:
            self.injected[sort] += 1
        else:
            self._over.wait()

    # -- connections -----------------------------------------------------------------------------

    def _drop(self, chance: random.Random) -> None:
        if chance.random() < 0.5 and self._cache.drop():
            self.injected["drop (cache)"] += 1
            return
        with self._engine.begin() as connection:
            connection.execute(_CUT)
        self.injected["drop (database)"] += 1

    def _cut(self, chance: random.Random) -> None:
        with self._engine.begin() as connection:
            listening = sum(connection.scalars(_CUT_LISTENERS))
        if cut := self._cache.cut() + listening:
            self.injected["cut"] += 1
            self.injected["channels cut"] += cut


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
