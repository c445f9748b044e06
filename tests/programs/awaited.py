"""The two databases by async drivers, and sessions that are below AsyncSessions."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from sqlalchemy import Engine, event, make_url
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker

from stockstore import ChainedStore, Store
from stockstore.aio.bridge import await_only, greenlet_spawn
from tests.aio.databases import async_engine
from tests.aio.driven import Driven
from tests.programs.running import Program
from tests.programs.tasks import AWAITED, TaskRun
from tests.programs.twins import Twins, compare
from tests.programs.world import Database, MakeTiers, impatient

T = TypeVar("T")


class _Sessions(sessionmaker[Session]):
    """Makes AsyncSessions, and gives the sessions below them, which a greenlet may use."""

    def __init__(self, engine: Any, options: dict[str, Any]) -> None:
        super().__init__(class_=type("Watched", (Session,), {}))
        self.awaited: async_sessionmaker[AsyncSession] = async_sessionmaker(engine, sync_session_class=self.class_, **options)

    def __call__(self, **_options: Any) -> Session:
        made = self.awaited()
        made.sync_session.info[AWAITED] = made
        return made.sync_session


class _Waiting(Driven):
    """The verbs of a store by its AsyncStore, in a greenlet."""

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return await_only(work)


class AwaitedDatabase(Database):
    """A database that is used by an async driver, all in one greenlet.

    Args:
        url: Its URL, by a blocking driver.
        driver: The async driver.
        outbox: Whether it has the outbox table.
    """

    def __init__(self, url: str, driver: str, *, outbox: bool) -> None:
        """Make the tables and the first rows."""
        options: dict[str, Any] = {"connect_args": {"timeout": 0}} if driver == "aiosqlite" else {}
        self.awaited = async_engine(make_url(url), driver, **options)
        super().__init__(url, outbox=outbox)

    def _engine(self, url: str) -> Engine:
        del url
        event.listen(self.awaited.sync_engine, "connect", impatient)
        return self.awaited.sync_engine

    def _maker(self, options: dict[str, Any]) -> "sessionmaker[Session]":
        return _Sessions(self.awaited, options)

    def _target(self, maker: Any) -> Any:
        return maker.awaited

    def _used(self, chain: ChainedStore) -> Store:
        return _Waiting(chain, asyncio.get_running_loop())


class AwaitedTwins(Twins):
    """Twins whose programs run in an event loop.

    Args:
        driver: The async driver of both databases.
        plain: The URL of the one, by a blocking driver.
        hooked: The URL of the other.
        tiers: Makes its caches.
        mode: The hook's options, by their name.
    """

    kind = TaskRun

    def __init__(self, driver: str, plain: str, hooked: str, tiers: MakeTiers, mode: str = "exact") -> None:
        """Make the tables, and the loop."""
        self._driver, self._loop = driver, asyncio.new_event_loop()
        super().__init__(plain, hooked, tiers, mode)

    def _database(self, url: str, *, outbox: bool) -> Database:
        return AwaitedDatabase(url, self._driver, outbox=outbox)

    def _run(self, work: Callable[..., object], *given: object) -> None:
        self._loop.run_until_complete(greenlet_spawn(work, *given))

    def compare(self, program: Program) -> None:
        """Run a program in both worlds.

        Raises:
            Different: They differ.
        """
        self._run(compare, self, program)

    def close(self) -> None:
        """Close the connections, and the loop."""
        self._run(super().close)
        self._loop.close()
