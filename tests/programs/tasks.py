"""Runs a program in an event loop: sessions are cancelled, and two steps done at once."""

import asyncio
import gc
from contextlib import suppress
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession

from stockstore.aio.bridge import _background, await_only, greenlet_spawn
from tests.aio.cancelling import Counted, in_task
from tests.programs import observing
from tests.programs.checking import check
from tests.programs.running import STEPS, Program, Run, Step
from tests.programs.turns import Turns
from tests.programs.world import World

AWAITED: Final = "awaited"
"""The AsyncSession, in what a session below it keeps."""
_ENDED_WITHIN: Final = 20.0
"""Seconds in which what a cancelled task had begun comes to its end beside it."""


class Cancelled(Exception):
    """A step was cancelled, and its session closed."""


class TaskRun(Run):
    """A program in one world of AsyncSessions; what is cancelled, and what is done at once, is so in the world with the hook."""

    def __init__(self, world: World, program: Program) -> None:
        """Open the sessions."""
        super().__init__(world, program)
        self._due: dict[int, int] = {}
        """At which wait from now on a session is cancelled."""
        self._is_apart = False

    def steps(self) -> list[Any]:
        """Run it; give what was seen after each step, or after two that are done at once."""
        seen, steps = [], list(self.program.steps)
        while steps:
            each = steps.pop(0)
            seen += [{}, self._both(each, steps.pop(0))] if each.beside and steps else [self.one(each)]
        return seen

    def do(self, each: Step) -> Any:
        """Do what a step says in the AsyncSession; where that is cancelled in it, there is another one."""
        if each.cancel and self.world.sync is not None:
            self._due.setdefault(each.session, each.cancel)
        if each.session not in self._due:
            return await_only(self._using(each))
        return self._counted(each)

    def result(self, each: Step) -> Any:
        """Do one step; give what it gave, or its error."""
        result = super().result(each)
        if observing.is_error(result):
            gc.collect()  # the frames of SQLAlchemy around an async driver hold the errors that hold them
        return result

    def seen(self, result: Any) -> Any:
        """Give what was seen, and whether it is the database alone that can tell what came of it."""
        apart, self._is_apart = self._is_apart, False
        return super().seen(result) | {"apart": apart}

    def close(self) -> None:
        """Close the sessions, and wait for what cancelled tasks have left."""
        super().close()
        await_only(_ended())

    # -- cancelled ------------------------------------------------------------------------------

    async def _using(self, each: Step) -> Any:
        session: AsyncSession = self.on(each).info[AWAITED]
        try:
            return await session.run_sync(lambda _: super(TaskRun, self).do(each))
        except asyncio.CancelledError as error:
            # As ``async with`` does, of a session and of a transaction in it.
            if each.v % 2:
                await session.rollback()
            await session.__aexit__(type(error), error, None)
            raise

    def _counted(self, each: Step) -> Any:
        due = self._due.pop(each.session)
        counted = Counted(self._using(each), abs(due), late=due < 0)
        with suppress(asyncio.CancelledError):
            result = await_only(in_task(counted))
            assert counted.count < abs(due), "a cancellation was lost"
            self._due[each.session] = due - counted.count if due > 0 else due + counted.count
            return result
        self._begin_again(each)
        return observing.error(Cancelled())

    def _begin_again(self, each: Step) -> None:
        self._is_apart = True
        self.sessions[each.session] = self.world.maker()
        self.held[each.session] = []
        self.nested.discard(each.session)
        # What SQLAlchemy leaves of a connection in the middle of a statement keeps SQLite's lock until it is collected; until the next wait
        # its frames have the error.
        await_only(asyncio.sleep(0))
        gc.unfreeze()
        gc.collect()
        if each.b % 2:
            await_only(_ended())
            check(self)

    # -- at once --------------------------------------------------------------------------------

    def _both(self, each: Step, following: Step) -> Any:
        each, following = self.free(each), self.free(following)
        if each.session == following.session or "merge" in (each.name, following.name):  # which takes another session's objects
            return self.seen([self.result(each), self.result(self.free(following))])
        apart = not (self._reads(each) and self._reads(following))
        if self.world.sync is None and apart:
            results = [self.result(each), self.result(following)]
        else:
            works = (greenlet_spawn(self.result, one) for one in (each, following))
            results = await_only(Turns(each.a + 10 * each.b + 100 * each.v).take(*works))
        self._is_apart |= apart or any(observing.is_of_lock(result) for result in results)
        return self.seen(results)

    def _reads(self, each: Step) -> bool:
        session = self.on(each)
        return STEPS[each.name][2] and not (session.new or session.dirty or session.deleted)


async def _ended() -> None:
    with suppress(asyncio.CancelledError):
        await asyncio.wait_for(asyncio.gather(*_background, return_exceptions=True), _ENDED_WITHIN)
