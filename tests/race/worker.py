"""One process of the race: threads that read, and one that writes, until the time is over."""

import logging
import random
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from stockstore import CacheUnreachable, OriginError, ProcessMemoryStore
from tests.race.access import open_access
from tests.race.drain import tell_memory
from tests.race.ending import leave_signals_to_supervisor
from tests.race.failpoints import Failpoints, nap
from tests.race.job import Job
from tests.race.log import ABSENT, READ, STRICT, Log
from tests.race.models import SHELVES, Seen, slug_of
from tests.race.mutations import take_away
from tests.race.puts import Putter
from tests.race.workload import WAYS, Work

_FLUSH_SECONDS: Final = 0.25
_BATCH: Final = 16
_LISTS: Final = 0.25
_PUTS: Final = 0.15
_THINK_SECONDS: Final = 0.004
_STRICT: Final = 0.5
_STEPS: Final = 4
_SWITCH_SECONDS: Final = 0.0002


class Access(Protocol):
    """A cache over a database, by one protocol."""

    item: Any
    sessions: Callable[[], Session]
    memory: ProcessMemoryStore | None

    def read(self, by: str, values: Sequence[Any], *, strict: bool = False) -> list[Seen | None]:
        """Give what the application reads under ids or slugs; ``strict``: nothing that may be behind."""

    def run(self, step: Callable[[], None]) -> None:
        """Do a step of a reader or writer."""

    def committed(self, rows: Sequence[Seen], gone: Sequence[tuple[int, str]]) -> None:
        """Hear of a commit, before the writer goes on."""

    def put(self, row: Any) -> None:
        """Put an object through the chain."""

    def delete(self, number: int) -> None:
        """Delete an object through the chain, by its id."""

    def cached(self, by: str, values: Sequence[Any]) -> list[Seen | None]:
        """Give what the cache alone holds."""

    def markers(self, numbers: Sequence[int]) -> int:
        """Count the markers in the cells of the rows' ids."""

    def guarantee(self) -> str:
        """Tell what the protocol promises here."""

    def close(self) -> None:
        """Let go of the servers."""


def run(job: Job, slot: int, life: int) -> None:
    """Be a process of the race, in its slot, which is begun anew after each death."""
    leave_signals_to_supervisor()
    # By default a thread that waits for a server waits twice: the second time for the threads that reckon.
    sys.setswitchinterval(_SWITCH_SECONDS)
    logging.basicConfig(filename=job.folder / f"{slot}.said", level=logging.WARNING, force=True)
    log = Log(job.folder / f"{slot}.{life}.log")
    chance = random.Random(f"{job.seed}.{slot}.{life}")
    points = Failpoints(log, job.odds.of(slot), chance)
    try:
        take_away(job.mutation)
        access = open_access(job, slot, points, log)
        own: dict[int, int] = {}
        writer = Writer(job, access, log, random.Random(chance.random()), own)
        readers = [Reader(job, access, log, random.Random(chance.random()), own) for _ in range(job.readers)]
        counts = MemoryCounts(access.memory, log)
        threads = [threading.Thread(target=_loop, args=(job, slot, access, one)) for one in (*readers, writer)]
        for thread in threads:
            thread.start()
        job.ready(slot)
        while any(thread.is_alive() for thread in threads):
            threads[0].join(_FLUSH_SECONDS)
            time.sleep(0 if threads[0].is_alive() else _FLUSH_SECONDS / 10)
            counts.note()
            log.flush()
        if access.memory is not None:
            tell_memory(job, slot, access.memory, access.item)
        access.close()
    except Exception:  # noqa: BLE001 - told to the supervisor
        _report(job, slot)
    log.flush()


def _loop(job: Job, slot: int, access: Access, role: "Reader | Writer") -> None:
    try:
        while not role.is_over:
            for _ in range(_STEPS):
                access.run(role.step)
    except Exception:  # noqa: BLE001 - told to the supervisor
        _report(job, slot)


def _report(job: Job, slot: int) -> None:
    with (job.folder / f"{slot}.error").open("a") as file:
        traceback.print_exc(file=file)


class MemoryCounts:
    """Notes what the memory of this process has counted."""

    def __init__(self, memory: ProcessMemoryStore | None, log: Log) -> None:
        """Begin at zero."""
        self._memory, self._log = memory, log
        self._noted = Counter[str]()

    def note(self) -> None:
        """Note what has come since the last time."""
        if self._memory is None:
            return
        stats = self._memory.stats()
        now = Counter({"memory hits": stats.hits, "memory misses": stats.misses, "memory bypasses": sum(stats.bypasses.values())})
        for name, number in (now - self._noted).items():
            self._log.count(name, number)
        self._noted = now


class Reader:
    """Reads hot keys, one or several at a time, by either key, and in sessions by the shelf."""

    def __init__(self, job: Job, access: Access, log: Log, chance: random.Random, own: Mapping[int, int]) -> None:
        """Begin; ``own``: the versions that this process was told to have written."""
        self._job, self._access, self._log, self._chance, self._own = job, access, log, chance, own

    @property
    def is_over(self) -> bool:
        """Whether to stop."""
        return self._job.is_over

    def step(self) -> None:
        """Read once."""
        by = "id" if self._chance.random() < 0.7 else "slug"
        number = 1 if self._chance.random() < 0.5 else _BATCH
        asked = self._chance.sample(range(self._job.keys), min(number, self._job.keys))
        if self._job.reads == "sessions" and self._chance.random() < _LISTS:
            by, asked = "shelf", list(range(asked[0] % SHELVES, self._job.keys, SHELVES))
        strict = self._job.strict_reads and self._chance.random() < _STRICT
        own = dict(self._own)
        start = time.monotonic_ns()
        try:
            found = self._access.read(by, [slug_of(number) for number in asked] if by == "slug" else asked, strict=strict)
        except (DBAPIError, OriginError):
            self._log.count("reads refused by the database")
        except CacheUnreachable:
            self._log.count("reads refused by the cache")
        else:
            end = time.monotonic_ns()
            self._note(by, asked, found, start, end, STRICT if strict else READ)
            self._note_missed(own, found, start, end)
        if self._access.memory is not None:
            # It answers so fast that the log would be all that the machine writes.
            nap(self._chance.random() * _THINK_SECONDS)

    def _note_missed(self, own: Mapping[int, int], found: Sequence[Seen | None], start: int, end: int) -> None:
        for row in found:
            if row is not None and 0 <= row.version < own.get(row.id, 0):
                self._log.missed(row.id, row.version, start, end)

    def _note(self, by: str, asked: Sequence[int], found: Sequence[Seen | None], start: int, end: int, kind: int) -> None:
        noted, aside = [], []
        for number, row in zip(asked, found, strict=True):
            register = self._job.keys + number if by == "slug" else number
            if row is None:
                noted.append((register, ABSENT))
            elif row.version < 0 or (
                row.is_whole and (row.slug if by == "slug" else row.id) == (slug_of(number) if by == "slug" else number)
            ):
                noted.append((row.id, row.version))
                if by == "slug":
                    aside.append((register, row.slug_version))
            else:
                self._log.wrong(register, start, end)
        self._log.reads(noted, start, end, kind=kind)
        self._log.reads(aside, start, end, aside=True)


class Writer:
    """Writes hot keys in every way."""

    def __init__(self, job: Job, access: Access, log: Log, chance: random.Random, own: dict[int, int]) -> None:
        """Begin; the versions that are acknowledged go to ``own``."""
        self._job, self._access, self._log, self._chance, self._own = job, access, log, chance, own
        weights = WAYS if job.ways is None else {way: job.ways[way.__name__] for way in WAYS if way.__name__ in job.ways}
        self._ways, self._weights = list(weights), list(weights.values())
        self._putter = Putter(job, access, log, chance) if job.session_keys < job.keys else None

    @property
    def is_over(self) -> bool:
        """Whether to stop."""
        return self._job.is_written

    def step(self) -> None:
        """Write once, and think."""
        way = self._chance.choices(self._ways, self._weights)[0]
        try:
            if self._putter and self._chance.random() < _PUTS:
                self._putter.step()
                return
            with self._access.sessions() as session:
                work = Work(session, self._access.item, self._job.session_keys, self._job.keys, self._chance)
                way(work)
                self._finish(session, work)
        except (DBAPIError, OriginError):
            self._log.count("writes refused by the database")
        except CacheUnreachable:
            self._log.count("writes refused by the cache")
        nap(self._chance.random() * self._job.think)

    def _finish(self, session: Session, work: Work) -> None:
        if not work.commits or not work.changes:
            session.rollback()
            self._log.count("writes rolled back")
            return
        self._log.count("writes attempted")
        start = time.monotonic_ns()
        self._log.attempt(work.changes, start)
        session.commit()
        self._access.committed(work.rows, work.gone)
        self._log.acknowledged(work.changes, start, time.monotonic_ns())
        for change in work.changes:
            self._own[change.register] = max(change.version, self._own.get(change.register, 0))
