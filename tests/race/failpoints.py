"""Where a process of the race dies or is held up: by wrapping what it uses, never by code in the library."""

import asyncio
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Engine, event
from sqlalchemy.orm import Session

from stockstore.aio.bridge import await_only, in_greenlet
from stockstore.channels import Heard
from tests.race.log import Log

_LEASE, _VALUE, _MARKER = b"L", b"V", b"W"
_GENERATION_SIZE: Final = 17
_COMMIT_SECONDS: Final = 0.002
_READING: Final = frozenset({"before lease", "after lease", "after read", "before fill", "before message"})
_READERS: Final = 10


def nap(seconds: float) -> None:
    """Wait, as a task where this is one."""
    if in_greenlet():
        await_only(asyncio.sleep(seconds))
    else:
        time.sleep(seconds)


class Odds(NamedTuple):
    """How likely it is, at each passage of a point, to die there or to be held up there, and for how many seconds at most."""

    kill: float = 0.0
    pause: float = 0.0
    longest: float = 0.05
    raised: Mapping[str, float] = {}
    """Points at which pauses are likelier."""
    lose: float = 0.0
    """How likely it is that a message of the channel is not heard."""
    one_in: int = 1
    """The pauses of writers are likelier in one in so many processes only, so that the others overtake it."""

    def of(self, slot: int) -> "Odds":
        """Give those of a process."""
        raised = {point: chance for point, chance in self.raised.items() if point in _READING or slot % self.one_in == 0}
        return self._replace(raised=raised)


class Failpoints:
    """The points of one process."""

    def __init__(self, log: Log, odds: Odds, chance: random.Random) -> None:
        """Be ready; :meth:`in_database` and :meth:`in_backend` set the points."""
        self._log = log
        self._odds = odds
        self._chance = chance

    def reach(self, point: str) -> None:
        """Pass a point, if it is let."""
        draw = self._chance.random()
        # Readers pass theirs far more often.
        kill = self._odds.kill / _READERS if point in _READING else self._odds.kill
        if draw < kill:
            self.die(point)
        elif draw - kill < self._odds.raised.get(point, self._odds.pause):
            self._log.count(f"pause {point}")
            nap(self._chance.random() * self._odds.longest)

    def die(self, point: str) -> None:
        """Note where, and be gone without a word."""
        self._log.count(f"kill {point}")
        self._log.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    def _dies(self) -> bool:
        return self._chance.random() < self._odds.kill

    # -- the database ----------------------------------------------------------------------------

    def in_database(self, engine: Engine, sessions: type[Session]) -> None:
        """Set the points of an engine, whose commits are not yet wrapped by others, and of its sessions."""
        event.listen(sessions, "after_flush_postexec", lambda *_: self.reach("after flush"))
        event.listen(engine, "after_cursor_execute", self._executed)
        dialect: Any = engine.dialect
        dialect.do_commit = self._committing(dialect.do_commit)

    def _executed(self, _connection: Connection, _cursor: object, sql: str, *_rest: object) -> None:
        if sql.startswith("INSERT") and "stockstore_outbox" in sql:
            self.reach("after outbox")
        elif sql.startswith("SELECT") and "stockstore_race_items" in sql:
            self.reach("after read")

    def _committing(self, commit: Callable[..., None]) -> Callable[..., None]:
        def committing(connection: Any) -> None:
            if self._dies():
                threading.Timer(self._chance.random() * _COMMIT_SECONDS, self.die, ["inside commit"]).start()
            commit(connection)
            self.reach("after commit")

        return committing

    # -- the cache -------------------------------------------------------------------------------

    def in_backend(self, backend: type[Any]) -> None:
        """Set the points of a kind of backend, and count what it does."""
        for name in ("get_many", "follow_many"):
            self._wrap(backend, name, self._reading)
        self._wrap(backend, "lease_many", self._leasing)
        self._wrap(backend, "fill_many", self._filling)
        self._wrap(backend, "mark_many", self._marking)
        self._wrap(backend, "release_many", self._releasing)

    def in_channel(self, line: type[Any]) -> None:
        """Hold up and lose what a kind of channel has sent, and count it."""
        receive = line.receive

        @wraps(receive)
        def receiving(self_: Any) -> Any:
            return [item for item in receive(self_) if not isinstance(item, Heard) or self._hears()]

        line.receive = receiving

    def _hears(self) -> bool:
        self.reach("before message")
        lost = self._chance.random() < self._odds.lose
        self._log.count("messages lost" if lost else "messages heard")
        return not lost

    def _wrap(self, backend: type[Any], name: str, wrapper: Callable[..., Any]) -> None:
        step = getattr(backend, name)

        @wraps(step)
        def wrapped(self_: Any, keys: Any, *arguments: Any, **options: Any) -> Any:
            return wrapper(lambda keys, **changed: step(self_, keys, *arguments, **{**options, **changed}), keys, options)

        setattr(backend, name, wrapped)

    def _reading(self, step: Callable[..., dict[str, bytes]], keys: Sequence[str], _: object) -> dict[str, bytes]:
        cells = step(keys)
        tags = [cell[:1] for cell in cells.values() if len(cell) != _GENERATION_SIZE]
        self._log.count("hits", tags.count(_VALUE))
        self._log.count("bypasses", tags.count(_MARKER))
        return cells

    def _leasing(self, step: Callable[..., Any], keys: Mapping[str, bytes | None], _: object) -> Any:
        self.reach("before lease")
        leased = step(keys)
        self._log.count("misses", len(keys))
        self._log.count("leases refused", len(keys) - len(leased.granted))
        self.reach("after lease")
        return leased

    def _filling(self, step: Callable[..., int], items: Sequence[Any], _: object) -> int:
        self.reach("before fill")
        filled = step(items)
        self._log.count("fills", filled)
        self._log.count("fills refused", len(items) - filled)
        return filled

    def _marking(self, step: Callable[..., Any], keys: Sequence[str], _: object) -> Any:
        if self._dies():
            step(keys[: len(keys) // 2])
            self.die("mid-mark")
        marked = step(keys)
        self._log.count("marks", len(keys))
        self.reach("after mark")
        return marked

    def _releasing(self, step: Callable[..., int], keys: Sequence[str], options: Mapping[str, Any]) -> int:
        if self._dies():
            some = keys[: len(keys) // 2]
            step(some, values=[item for item in options.get("values", ()) if item[0] in some])
            self.die("mid-release")
        held = step(keys)
        self._log.count("releases", held)
        self.reach("after release")
        return held
