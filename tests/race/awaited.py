"""The library's way under asyncio: an event loop of each process, in which its readers and its writer are tasks."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session

from stockstore import AsyncStore, BackendStore, ChainedStore, MemcacheStore, ProcessMemoryStore, RedisStore, SqlAlchemyStore
from stockstore.aio.bridge import await_only, greenlet_spawn
from stockstore_ext.sqlalchemy import SessionSync
from tests.race.job import Job
from tests.race.models import Seen
from tests.race.naive import seen_of
from tests.race.scattered import awaited_cluster_of


class AwaitedAccess:
    """A chain that is awaited, and AsyncSessions that the hook follows and that read through it.

    Its methods are for :meth:`run`, which lets blocking-style code wait for the loop.
    """

    def __init__(
        self, job: Job, engine: AsyncEngine, item: Any, kind: type[Session], options: dict[str, Any], memory: ProcessMemoryStore | None
    ) -> None:
        """Start the loop, and attach the hook."""
        self.item, self.memory = item, memory
        self._by_session = 0
        self._engine = engine
        self._sessions = async_sessionmaker(engine, sync_session_class=kind)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        tiers = [*([memory] if memory else []), awaited_cache_of(job), SqlAlchemyStore(engine=engine)]
        self._store = AsyncStore(ChainedStore(tiers))
        self._sync = SessionSync(self._store.store, read_through=True, **options)
        self.run(lambda: self._sync.attach(self._sessions))

    def run(self, step: Callable[[], object]) -> None:
        """Do a step of a reader or writer as a task of the loop."""
        asyncio.run_coroutine_threadsafe(greenlet_spawn(step), self._loop).result()

    @contextmanager
    def sessions(self) -> Iterator[Session]:
        """Give what an AsyncSession drives."""
        session = self._sessions()
        try:
            yield session.sync_session
        finally:
            await_only(session.close())

    def read(self, by: str, values: Sequence[Any], *, strict: bool = False) -> list[Seen | None]:
        """Give rows by the store and by a session in turn."""
        self._by_session = 1 - self._by_session
        if self._by_session and not strict:
            return await_only(self._read_by_session(by, values))
        return await_only(self._read_by_store(by, values, strict))

    async def _read_by_store(self, by: str, values: Sequence[Any], strict: bool) -> list[Seen | None]:
        if len(values) == 1:
            return [_seen(await self._store.get(self.item, {by: values[0]}, strict=strict))]
        return [_seen(row) for row in await self._store.batch_get(self.item, [{by: value} for value in values], strict=strict)]

    async def _read_by_session(self, by: str, values: Sequence[Any]) -> list[Seen | None]:
        async with self._sessions() as session:
            if by == "id" and len(values) == 1:
                return [_seen(await session.get(self.item, values[0]))]
            return await self._selected(session, by, values)

    async def _selected(self, session: AsyncSession, by: str, values: Sequence[Any]) -> list[Seen | None]:
        rows = await session.scalars(select(self.item).where(getattr(self.item, by).in_(values)))
        found = {getattr(row, by): seen_of(row) for row in rows}
        return [found.get(value) for value in values]

    def committed(self, rows: Sequence[Seen], gone: Sequence[tuple[int, str]]) -> None:
        """Do nothing: the hook has heard of it."""

    def put(self, row: Any) -> None:
        """Put an object through the chain."""
        await_only(self._store.put(row))

    def delete(self, number: int) -> None:
        """Delete an object through the chain, by its id."""
        await_only(self._store.delete(self.item, number))

    def close(self) -> None:
        """Let go of the servers."""
        self._sync.detach()
        self.run(lambda: await_only(self._closed()))

    async def _closed(self) -> None:
        await self._store.close()
        await self._engine.dispose()


def awaited_cache_of(job: Job) -> BackendStore:
    """Make the library's store for the cache."""
    parts = urlsplit(job.cache)
    if parts.scheme == "memcached":
        return MemcacheStore(parts.netloc.split(","), namespace=job.namespace)
    if job.cache.startswith("cluster"):
        return RedisStore(client=awaited_cluster_of(job.cache), namespace=job.namespace)
    return RedisStore(job.cache.replace("redis://", "redis+asyncio://", 1), namespace=job.namespace)


def _seen(row: Any) -> Seen | None:
    return None if row is None else seen_of(row)
