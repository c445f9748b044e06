"""The processes of a race: begun anew when they die, and ended with it."""

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Final

from tests.race.job import Job
from tests.race.unseen import clean, write_unseen
from tests.race.worker import run

_GRACE_SECONDS: Final = 20.0
_KILL_SECONDS: Final = 1.0
_START_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.02


class Crew:
    """The processes, each in a slot.

    Attributes:
        hung: How many did not end of themselves.
    """

    def __init__(self, job: Job, processes: int) -> None:
        """Begin none yet."""
        self._job = job
        roles = [run] * processes + ([clean, write_unseen] if job.outbox else [])
        self._roles: dict[int, Callable[[Job, int, int], None]] = dict(enumerate(roles))
        self._slots: dict[int, ForkServerProcess] = {}
        self._lives = dict.fromkeys(self._roles, 0)
        self._context = get_context("forkserver")
        self._context.set_forkserver_preload([run.__module__, "stockstore.stores.redis", "stockstore.stores.sqlalchemy"])
        self._lock = threading.Lock()
        self.hung = 0

    @property
    def begun(self) -> int:
        """How many processes there have been."""
        return sum(self._lives.values())

    def begin(self) -> None:
        """Begin all, and wait until they are at work."""
        for slot in self._roles:
            self._begin(slot)
        deadline = time.monotonic() + _START_SECONDS
        while not all(map(self._job.is_ready, self._roles)):
            if time.monotonic() > deadline:
                return  # what they have met is told in the report
            self._begin_dead()
            time.sleep(_LOOK_SECONDS)

    def keep_running(self, is_over: Callable[[], bool]) -> None:
        """Begin those anew that die, for a while."""
        while not is_over():
            self._begin_dead()
            time.sleep(_LOOK_SECONDS)

    def _begin_dead(self) -> None:
        for slot in self._roles:
            if not self._slots[slot].is_alive():
                self._begin(slot)

    def _begin(self, slot: int) -> None:
        process = self._context.Process(target=self._roles[slot], args=(self._job, slot, self._lives[slot]), daemon=True)
        process.start()
        self._lives[slot] += 1
        with self._lock:
            self._slots[slot] = process

    def pids(self) -> list[int]:
        """Give those that run."""
        with self._lock:
            return [process.pid for process in self._slots.values() if process.pid is not None and process.is_alive()]

    def run_aside(self, target: Callable[..., None], *arguments: object) -> None:
        """Run one more process, and wait for its end."""
        process = self._context.Process(target=target, args=arguments, daemon=True)
        process.start()
        process.join()
        if process.exitcode:
            raise RuntimeError(f"{target.__name__} ended with {process.exitcode}; what it said stands above")

    # -- the end ---------------------------------------------------------------------------------

    def settle(self) -> None:
        """Wait for the processes; those that have a memory stay until they were asked for it."""
        if self._job.memory is None:
            self._wait()
            return
        deadline = time.monotonic() + _GRACE_SECONDS
        while time.monotonic() < deadline and not all(map(self._is_settled, self._slots)):
            time.sleep(_LOOK_SECONDS)

    def _is_settled(self, slot: int) -> bool:
        return self._job.is_resting(slot) or not self._slots[slot].is_alive()

    def ask_memories(self) -> list[Path]:
        """Let the processes tell what they hold, and give the files where they do."""
        self._job.look()
        self._wait()
        return sorted(self._job.folder.glob("*.memory"))

    def _wait(self) -> None:
        deadline = time.monotonic() + _GRACE_SECONDS
        for process in self._slots.values():
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive() and process.pid is not None:
                self.hung += 1
                os.kill(process.pid, signal.SIGKILL)
                process.join()

    def kill(self) -> None:
        """End all that run, at once."""
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self._slots.values():
            process.join(_KILL_SECONDS)
