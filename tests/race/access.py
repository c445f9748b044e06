"""The protocols that can race: the library's, read by its store or by sessions, and those that it is measured against."""

from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy import Engine, create_engine, select
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from stockstore import BackendStore, ChainedStore, MemcacheStore, ProcessMemoryStore, RedisStore, SqlAlchemyStore
from stockstore.cells import is_marker
from stockstore.channels.postgresql_line import PostgresLine
from stockstore.channels.redis import RedisLine
from stockstore.keys import keys_of, namespace_text
from stockstore_ext.sqlalchemy import SessionSync
from tests.race.awaited import AwaitedAccess
from tests.race.failpoints import Failpoints
from tests.race.job import Job
from tests.race.log import Log
from tests.race.models import SHELVES, Seen, item_class
from tests.race.naive import Driver, MemcachedDriver, NaiveAccess, RedisDriver, seen_of
from tests.race.scattered import client_of

_BULK_LIMIT: Final = 4


def open_access(job: Job, slot: int, points: Failpoints, log: Log) -> Any:
    """Open what a process reads and writes by, with its failpoints set."""
    pool = {"pool_size": job.readers + 2, "max_overflow": 4, "connect_args": {"application_name": "stockstore-race"}}
    if job.memory in {"channel", "postgresql"}:
        points.in_channel(RedisLine if job.memory == "channel" else PostgresLine)
    item = item_class(1 + slot % job.releases, listed=job.reads == "sessions")
    kind: type[Session] = type("RaceSession", (Session,), {})
    if job.reads == "awaited":
        awaited = create_async_engine(job.database, **pool)
        points.in_database(awaited.sync_engine, kind)
        points.in_backend(type(cache_of(job)._backend))
        return AwaitedAccess(job, awaited, item, kind, _options(job), memory_of(job, slot))
    engine = create_engine(job.database, **pool)
    points.in_database(engine, kind)
    sessions = sessionmaker(engine, class_=kind)
    if job.is_naive:
        return open_naive(job, engine, item, sessions, points, log)
    # A store may keep a backend's methods, so these are wrapped first.
    points.in_backend(type(cache_of(job)._backend))
    own = SessionAccess if job.reads == "sessions" else OwnAccess
    return own(job, engine, item, sessions, cache_of(job), memory_of(job, slot))


def _options(job: Job) -> dict[str, Any]:
    return {
        "consistency": "fast" if job.protocol == "fast" else "strict",
        "on_unreachable": job.on_unreachable,
        "outbox": job.outbox,
        "bulk_limit": _BULK_LIMIT,
    }


class OwnAccess:
    """The library's way: a chain that reads, and sessions that the hook follows."""

    def __init__(self, job: Job, engine: Engine, item: Any, sessions: Any, cache: BackendStore, memory: ProcessMemoryStore | None) -> None:
        """Attach the hook."""
        self.item, self.sessions, self.memory = item, sessions, memory
        self._engine, self._cache = engine, cache
        self._store = ChainedStore([*([memory] if memory else []), cache, SqlAlchemyStore(engine=engine)])
        self._sync = SessionSync(self._store, read_through=job.reads == "sessions", **_options(job)).attach(sessions)

    def read(self, by: str, values: Sequence[Any], *, strict: bool = False) -> list[Seen | None]:
        """Give rows through the chain."""
        if len(values) == 1:
            return [_seen(self._store.get(self.item, {by: values[0]}, strict=strict))]
        return [_seen(row) for row in self._store.batch_get(self.item, [{by: value} for value in values], strict=strict)]

    def run(self, step: Callable[[], None]) -> None:
        """Do a step of a reader or writer."""
        step()

    def committed(self, rows: Sequence[Seen], gone: Sequence[tuple[int, str]]) -> None:
        """Do nothing: the hook has heard of it."""

    def put(self, row: Any) -> None:
        """Put an object through the chain."""
        self._store.put(row)

    def delete(self, number: int) -> None:
        """Delete an object through the chain, by its id."""
        self._store.delete(self.item, number)

    def cached(self, by: str, values: Sequence[Any]) -> list[Seen | None]:
        """Give what the cache alone holds."""
        return [_seen(row) for row in self._cache.batch_get(self.item, [{by: value} for value in values])]

    def markers(self, numbers: Sequence[int]) -> int:
        """Count the markers in the cells of ids, and in the class's."""
        plan, namespace = keys_of(self.item).identity, self._cache._namespace()
        texts = [plan.record_text(namespace, plan.native([number])) for number in numbers]
        cells = self._cache._backend.get_many([*texts, f"{namespace_text(namespace)}:{plan.label}:"])
        return sum(map(is_marker, cells.values()))

    def guarantee(self) -> str:
        """Tell what the hook promises."""
        return str(self._sync.guarantee)

    def close(self) -> None:
        """Let go of the servers."""
        self._sync.detach()
        self._store.close()
        self._engine.dispose()


class SessionAccess(OwnAccess):
    """The library's way where sessions are all that the application knows."""

    def read(self, by: str, values: Sequence[Any], *, strict: bool = False) -> list[Seen | None]:
        """Give rows by a session of their own; it has no strict way to."""
        assert not strict
        if by == "shelf":
            return self._listed(values)
        with self.sessions() as session:
            if by == "id" and len(values) == 1:
                return [_seen(session.get(self.item, values[0]))]
            column = getattr(self.item, by)
            wanted = column == values[0] if len(values) == 1 else column.in_(values)
            found = session.scalars(select(self.item).where(wanted))
            rows = {getattr(row, by): _seen(row) for row in found}
        return [rows.get(value) for value in values]

    def _listed(self, values: Sequence[Any]) -> list[Seen | None]:
        """Give the rows of ids that all stand on one shelf."""
        wanted = select(self.item).where(self.item.shelf == values[0] % SHELVES).order_by(self.item.id)
        with self.sessions() as session:
            rows = {row.id: _seen(row) for row in session.scalars(wanted)}
        return [rows.get(value) for value in values]


def cache_of(job: Job) -> BackendStore:
    """Make the library's store for the cache."""
    if urlsplit(job.cache).scheme == "memcached":
        return MemcacheStore(urlsplit(job.cache).netloc.split(","), namespace=job.namespace)
    client = client_of(job.cache)
    return RedisStore(job.cache if client is None else None, client=client, namespace=job.namespace)


def memory_of(job: Job, slot: int) -> ProcessMemoryStore | None:
    """Make the library's store for the memory of a process, in a namespace that is the cache's in every other process only."""
    if job.memory is None:
        return None
    channel = {"channel": "auto", "postgresql": job.database}.get(job.memory)
    return ProcessMemoryStore(max_staleness=job.max_staleness, channel=channel, namespace=job.namespace if slot % 2 else "mine")


def _seen(row: Any) -> Seen | None:
    return None if row is None else seen_of(row)


def open_naive(job: Job, engine: Engine, item: Any, sessions: Callable[[], Session], points: Failpoints, log: Log) -> NaiveAccess:
    """Open a protocol that is in use elsewhere."""
    driver: Driver = MemcachedDriver(job.cache) if urlsplit(job.cache).scheme == "memcached" else RedisDriver(job.cache)
    return NaiveAccess(driver, engine, item, sessions, job.namespace, points, log, puts=job.protocol != "naive-delete")
