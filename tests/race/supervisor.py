"""Runs a race: servers, processes that are begun anew when they die, faults, and the judgement at the end."""

import contextlib
import os
import random
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import NullPool

from tests.race import report
from tests.race.caches import CacheServer
from tests.race.checker import Verdict, histories, judge
from tests.race.drain import look
from tests.race.failpoints import Odds
from tests.race.faults import Faults
from tests.race.job import UNREACHABLE, Job
from tests.race.log import records_in
from tests.race.models import drop_rows, make_rows
from tests.race.puts import PUTS, make_puts
from tests.race.running import running_cache
from tests.race.unseen import clean, make_outbox, write_unseen
from tests.race.worker import run
from tests.servers.postgres import running_postgres

_GRACE_SECONDS: Final = 20.0
_START_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.02
_SHOWN: Final = 2000
LOST_MARKERS: Final = (
    "markers are lost by a flush or a fail-over, and memcached evicts them too: a read between such a writer's COMMIT and its acknowledgement "
    "may be older than another one before it (non-linearizable), but none after the acknowledgement"
)
_KILL, _PAUSE, _LOSE = 0.01, 0.004, 0.02


@dataclass(frozen=True)
class Options:
    """What the user asked for."""

    seconds: float = 60.0
    processes: int = 8
    cache: str = "redis"
    database: str = "postgresql"
    protocol: str = "strict"
    faults: tuple[str, ...] = ()
    keys: int = 16
    reads: str = "store"
    memory: str | None = None
    max_staleness: float = 1.0
    strict_reads: bool = False
    on_unreachable: str | None = None
    outbox: bool = True
    releases: int = 1
    seed: int = 0
    mutation: str | None = None
    odds: Odds | None = None
    ways: Mapping[str, int] | None = None
    pauses: Mapping[str, float] = field(default_factory=dict)
    keep: Path | None = None
    """An empty folder for the logs, where they are wanted afterwards."""

    @property
    def has_outbox(self) -> bool:
        """Whether rows go to the outbox, and a janitor and a writer without a hook take part."""
        return self.outbox and not self.protocol.startswith("naive")

    @property
    def session_keys(self) -> int:
        """How many rows sessions write; a chain's put goes on where a cache cannot be marked, so it takes no part in races with such faults."""
        can_put = not self.protocol.startswith("naive") and not UNREACHABLE & set(self.faults) and self.ways is None
        return self.keys - (self.keys // 8 if can_put else 0)

    def chances(self) -> Odds:
        """Give the odds at the failpoints."""
        if self.odds is not None:
            return self.odds
        held_up = {"stop", "delay"} & set(self.faults)
        lose = _LOSE if "lose" in self.faults else 0.0
        return Odds(_KILL if "kill" in self.faults else 0.0, _PAUSE if held_up else 0.0, raised=self.pauses, lose=lose)


@contextlib.contextmanager
def running_servers(options: Options) -> Iterator[tuple[CacheServer, str]]:
    """Give a cache and a database's URL, and run those of them that the user has not named."""
    with contextlib.ExitStack() as stack:
        cache = stack.enter_context(running_cache(options.cache, small="evict" in options.faults))
        database = stack.enter_context(running_postgres()).url if options.database == "postgresql" else options.database
        yield cache, database


def race(options: Options, cache: CacheServer, database: str) -> dict[str, Any]:
    """Run a race and give its report."""
    engine = create_engine(database, poolclass=NullPool)
    with tempfile.TemporaryDirectory(prefix="stockstore-race-") as folder, contextlib.ExitStack() as stack:
        stack.callback(drop_rows, engine)
        stack.callback(PUTS.drop, engine, checkfirst=True)
        make_rows(engine, options.keys)
        make_puts(engine, range(options.session_keys, options.keys))
        contest = _Race(options, cache, engine, options.keep or Path(folder))
        if options.has_outbox:
            stack.callback(make_outbox(engine, contest.job.namespace))
        return contest.run()


class _Race:
    def __init__(self, options: Options, cache: CacheServer, engine: Engine, folder: Path) -> None:
        self._options, self._cache, self._engine = options, cache, engine
        database = engine.url.render_as_string(hide_password=False)
        self.job = Job(
            folder,
            cache.url,
            database,
            f"race{uuid.uuid4().hex[:8]}",
            options.protocol,
            options.keys,
            options.session_keys,
            options.chances(),
            options.seed,
        )._replace(
            outbox=options.has_outbox,
            on_unreachable=options.on_unreachable,
            reads=options.reads,
            memory=options.memory,
            max_staleness=options.max_staleness,
            strict_reads=options.strict_reads,
            releases=options.releases,
            mutation=options.mutation,
            ways=options.ways,
        )
        self._slots: dict[int, ForkServerProcess] = {}
        roles = [run] * options.processes + ([clean, write_unseen] if options.has_outbox else [])
        self._roles: dict[int, Callable[[Job, int, int], None]] = dict(enumerate(roles))
        self._lives = dict.fromkeys(self._roles, 0)
        self._context = get_context("forkserver")
        self._context.set_forkserver_preload([run.__module__, "stockstore.stores.redis", "stockstore.stores.sqlalchemy"])
        self._hung = 0
        self._lock = threading.Lock()

    def run(self) -> dict[str, Any]:
        """Race; the time is taken from when all processes have begun."""
        faults = Faults(self._options.faults, self._cache, self._engine, self._pids, self._options.seed)
        try:
            self._begin_all()
            began, evicted = time.monotonic(), self._cache.evictions()
            faults.start()
            self.job.end_at(time.monotonic_ns() + int(self._options.seconds * 1e9))
            self._keep_running(lambda: self.job.is_written)
            faults.stop()
            self._keep_running(lambda: self.job.is_over)
            seconds = time.monotonic() - began
        finally:
            self.job.end_at(0)
            faults.stop()
            self._settle()
        return self._judged(faults, seconds, self._cache.evictions() - evicted)

    def _settle(self) -> None:
        """Wait for the processes; those that have a memory stay until they were asked for it."""
        if self._options.memory is None:
            self._wait()
            return
        deadline = time.monotonic() + _GRACE_SECONDS
        while time.monotonic() < deadline and not all(map(self._is_settled, self._slots)):
            time.sleep(_LOOK_SECONDS)

    def _is_settled(self, slot: int) -> bool:
        return self.job.is_resting(slot) or not self._slots[slot].is_alive()

    def _ask_memories(self) -> list[Path]:
        """Let the processes tell what they hold, and give the files where they do."""
        self.job.look()
        self._wait()
        return sorted(self.job.folder.glob("*.memory"))

    # -- processes -------------------------------------------------------------------------------

    def _begin_all(self) -> None:
        for slot in self._roles:
            self._begin(slot)
        deadline = time.monotonic() + _START_SECONDS
        while not all(map(self.job.is_ready, self._roles)):
            if time.monotonic() > deadline:
                return  # what they have met is told in the report
            self._begin_dead()
            time.sleep(_LOOK_SECONDS)

    def _keep_running(self, is_over: Callable[[], bool]) -> None:
        while not is_over():
            self._begin_dead()
            time.sleep(_LOOK_SECONDS)

    def _begin_dead(self) -> None:
        for slot in self._roles:
            if not self._slots[slot].is_alive():
                self._begin(slot)

    def _begin(self, slot: int) -> None:
        process = self._context.Process(target=self._roles[slot], args=(self.job, slot, self._lives[slot]), daemon=True)
        process.start()
        self._lives[slot] += 1
        with self._lock:
            self._slots[slot] = process

    def _pids(self) -> list[int]:
        with self._lock:
            return [process.pid for process in self._slots.values() if process.pid is not None and process.is_alive()]

    def _wait(self) -> None:
        deadline = time.monotonic() + _GRACE_SECONDS
        for process in self._slots.values():
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive() and process.pid is not None:
                self._hung += 1
                os.kill(process.pid, signal.SIGKILL)
                process.join()

    def _in_child(self, target: Callable[..., None], *arguments: object) -> None:
        process = self._context.Process(target=target, args=arguments, daemon=True)
        process.start()
        process.join()
        if process.exitcode:
            raise RuntimeError(f"{target.__name__} ended with {process.exitcode}; what it said stands above")

    # -- judgement -------------------------------------------------------------------------------

    def _judged(self, faults: Faults, seconds: float, evicted: int) -> dict[str, Any]:
        records = (record for path in sorted(self.job.folder.glob("*.log")) for record in records_in(path))
        found, counts, wrong = histories(records, 2 * self._options.keys)
        verdict = Verdict(int(self._options.max_staleness * 1e9) if self._options.memory else 0)
        for history in found:
            judge(history, verdict)
        for violation in wrong:
            verdict.add(violation)
        rest = look(self._in_child, self.job, self._engine, found, self._ask_memories)
        injected = {**faults.injected, "evictions": evicted, "processes begun": sum(self._lives.values())}
        figures = report.numbers(verdict, rest, counts, injected, seconds)
        errors = [path.read_text().strip() for path in self.job.folder.glob("*.error")] + faults.errors
        figures |= {"errors": len(errors), "hung processes": self._hung}
        gated, note = report.gates(self._options.protocol, self._options.faults, self._options.on_unreachable, bounded=bool(verdict.bound))
        lossy = (
            LOST_MARKERS
            if {"flush", "failover"} & set(self._options.faults)
            or (figures["faults injected"]["evictions"] and "memcached" in self.job.cache)
            else ""
        )
        left_out = (
            f"{', '.join(faults.impossible)} left out, which need a server that the race has started itself" if faults.impossible else ""
        )
        examples = [*map(str, verdict.examples[:6]), *rest.stale[:5], *rest.lost[:5], *(_shortened(error) for error in errors[:3])]
        return {
            "title": self._title(),
            "figures": figures,
            "gated": gated,
            "notes": [x for x in (f"the guarantee is {rest.guarantee}", note, lossy, left_out) if x],
            "examples": examples,
        }

    def _title(self) -> str:
        options = self._options
        faults = ",".join(options.faults) or "none"
        memory = f" with memory ({options.memory})" if options.memory else ""
        return f"{options.protocol}: {options.processes} processes{memory}, reads by {options.reads}, {options.keys} keys, {self._cache.url}, faults {faults}, seed {options.seed}"


def seeded(seed: int | None) -> int:
    """Give a seed, a new one where none was given."""
    return random.SystemRandom().randrange(10**6) if seed is None else seed


def _shortened(error: str) -> str:
    """Give the beginning and the end of a traceback."""
    return error if len(error) < 2 * _SHOWN else f"{error[:_SHOWN]}\n...\n{error[-_SHOWN:]}"
