"""Runs a race: servers, processes, faults, and the judgement at the end."""

import contextlib
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import NullPool

from tests.race import report
from tests.race.caches import CacheServer
from tests.race.checker import History, Verdict
from tests.race.crew import Crew
from tests.race.drain import Rest, look
from tests.race.ending import Stopped
from tests.race.faults import Faults
from tests.race.job import Job
from tests.race.models import drop_rows, make_rows
from tests.race.options import Options
from tests.race.puts import PUTS, make_puts
from tests.race.running import running_cache
from tests.race.unseen import make_outbox
from tests.race.watch import Watch, all_records, judged
from tests.servers.postgres import running_postgres

_FAULT_SECONDS: Final = 2.0
_SHOWN: Final = 2000
LOST_MARKERS: Final = (
    "markers are lost by a flush or a fail-over, and memcached evicts them too: a read between such a writer's COMMIT and its acknowledgement "
    "may be older than another one before it (non-linearizable), but none after the acknowledgement"
)


@contextlib.contextmanager
def running_servers(options: Options) -> Iterator[tuple[CacheServer, str]]:
    """Give a cache and a database's URL, and run those of them that the user has not named."""
    with contextlib.ExitStack() as stack:
        cache = stack.enter_context(running_cache(options.cache, small="evict" in options.faults))
        database = stack.enter_context(running_postgres()).url if options.database == "postgresql" else options.database
        yield cache, database


def race(options: Options, cache: CacheServer, database: str, end_servers: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Run a race and give its report; where a signal has stopped it, all that was started ends before that is reckoned."""
    engine = create_engine(database, poolclass=NullPool)
    with tempfile.TemporaryDirectory(prefix="stockstore-race-") as folder:
        with contextlib.ExitStack() as stack:
            stack.callback(drop_rows, engine)
            stack.callback(PUTS.drop, engine, checkfirst=True)
            make_rows(engine, options.keys)
            make_puts(engine, range(options.session_keys, options.keys))
            contest = _Race(options, cache, engine, options.keep or Path(folder))
            if options.has_outbox:
                stack.callback(make_outbox(engine, contest.job.namespace))
            contest.run()
        if contest.stopped:
            end_servers()
        return contest.report()


def _job(options: Options, folder: Path, cache: CacheServer, engine: Engine) -> Job:
    return Job(
        folder,
        cache.url,
        engine.url.render_as_string(hide_password=False),
        f"race{uuid.uuid4().hex[:8]}",
        options.protocol,
        options.keys,
        options.session_keys,
        options.chances(),
        options.seed,
        outbox=options.has_outbox,
        on_unreachable=options.on_unreachable,
        reads=options.reads,
        memory=options.memory,
        max_staleness=options.max_staleness,
        strict_reads=options.strict_reads,
        releases=options.releases,
        mutation=options.mutation,
        ways=options.ways,
        think=options.think,
        drain_every=options.drain_every,
    )


class _Race:
    """One race.

    Attributes:
        job: What its processes are told.
        stopped: By what it was ended before its time, if it was.
    """

    def __init__(self, options: Options, cache: CacheServer, engine: Engine, folder: Path) -> None:
        self._options, self._cache, self._engine = options, cache, engine
        self.job = _job(options, folder, cache, engine)
        self.stopped: Stopped | None = None
        self._bound = options.max_staleness if options.memory else 0.0
        self._crew = Crew(self.job, options.processes)
        self._faults = Faults(options.faults, cache, engine, self._crew.pids, options.seed, options.haste)
        self._has_seen = False
        self._seconds = 0.0
        self._evicted = 0
        self._rest: Rest | None = None

    def run(self) -> None:
        """Race, and look at what is left, but where it was ended before its time."""
        try:
            self._run()
            if not self._has_seen:
                self._end()
                self._rest = self._look()
        except Stopped as stopped:
            self.stopped = stopped
        finally:
            self._end_at_once()

    def _run(self) -> None:
        """The time is taken from when all processes have begun."""
        watch = Watch(self.job.folder, 2 * self._options.keys, self._bound, self._options.stop_at)
        self._crew.begin()
        began, evicted = time.monotonic(), self._cache.evictions()
        self._faults.start()
        try:
            self.job.end_at(time.monotonic_ns() + int(self._options.seconds * 1e9))
            self._crew.keep_running(lambda: self._sees(watch) or self.job.is_written)
            self._faults.stop()
            self._crew.keep_running(lambda: self._has_seen or self.job.is_over)
        finally:
            self._seconds = time.monotonic() - began
        self._evicted = self._cache.evictions() - evicted

    def _sees(self, watch: Watch) -> bool:
        self._has_seen = watch.sees()
        return self._has_seen

    def _end(self) -> None:
        self.job.end_at(0)
        self._crew.settle()

    def _end_at_once(self) -> None:
        self.job.end_at(0)
        self._faults.stop(_FAULT_SECONDS)
        self._crew.kill()

    def _look(self) -> Rest:
        _, found, _ = self._judged
        return look(self._crew.run_aside, self.job, self._engine, found, self._crew.ask_memories)

    # -- judgement -------------------------------------------------------------------------------

    @cached_property
    def _judged(self) -> tuple[Verdict, list[History], dict[str, int]]:
        return judged(all_records(self.job.folder), 2 * self._options.keys, self._bound)

    def report(self) -> dict[str, Any]:
        """Judge what was noted, and give it with what was found at rest."""
        verdict, _, counts = self._judged
        injected = {**self._faults.injected, "evictions": self._evicted, "processes begun": self._crew.begun}
        figures = report.numbers(verdict, self._rest, counts, injected, self._seconds)
        errors = [path.read_text().strip() for path in self.job.folder.glob("*.error")] + self._faults.errors
        figures |= {"errors": len(errors), "hung processes": self._crew.hung}
        gated, note = report.gates(self._options.protocol, self._options.faults, self._options.on_unreachable, bounded=bool(verdict.bound))
        at_rest = [*self._rest.stale[:5], *self._rest.lost[:5]] if self._rest else []
        return {
            "title": self._title(),
            "stopped": self.stopped and str(self.stopped),
            "figures": figures,
            "gated": gated,
            "notes": [x for x in (self._guarantee(), note, *self._gaps()) if x],
            "examples": [*map(str, verdict.examples[:6]), *at_rest, *(_shortened(error) for error in errors[:3])],
        }

    def _guarantee(self) -> str:
        if self._rest:
            return f"the guarantee is {self._rest.guarantee}"
        return f"ended by {self.stopped or 'what was seen'} before its time: nothing was looked at at rest"

    def _gaps(self) -> Iterator[str]:
        if {"flush", "failover"} & set(self._options.faults) or (self._evicted and "memcached" in self.job.cache):
            yield LOST_MARKERS
        if self._faults.impossible:
            yield f"{', '.join(self._faults.impossible)} left out, which need a server that the race has started itself"

    def _title(self) -> str:
        options = self._options
        faults = ",".join(options.faults) or "none"
        memory = f" with memory ({options.memory})" if options.memory else ""
        return f"{options.protocol}: {options.processes} processes{memory}, reads by {options.reads}, {options.keys} keys, {self._cache.url}, faults {faults}, seed {options.seed}"


def _shortened(error: str) -> str:
    """Give the beginning and the end of a traceback."""
    return error if len(error) < 2 * _SHOWN else f"{error[:_SHOWN]}\n...\n{error[-_SHOWN:]}"
