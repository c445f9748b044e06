"""Runs a program in one world and notes all that can be seen of it."""

import gc
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, event, inspect
from sqlalchemy.orm import Session, object_session

from tests.programs import observing
from tests.programs.rows import CLASSES
from tests.programs.ways import PLAIN, SESSIONS, WAYS, Outer, Ways, begin_outer, is_refused
from tests.programs.world import World

_HELD: Final = 6
_EVENTS: Final = ("load", "refresh", "expire")
_SESSION_EVENTS: Final = (
    "loaded_as_persistent",
    "pending_to_persistent",
    "persistent_to_deleted",
    "deleted_to_detached",
    "persistent_to_detached",
)


class Step(NamedTuple):
    """One step of a program: what is done, in which session, with which class, and numbers that choose the rest."""

    name: str
    session: int = 0
    cls: int = 0
    a: int = 0
    b: int = 0
    v: int = 0
    cancel: int = 0
    """Where programs run in an event loop: at which wait from here on the session is cancelled, late if it is negative."""
    beside: bool = False
    """There too: whether the next step is done beside this one."""


@dataclass(frozen=True)
class Program:
    """What two worlds run.

    Attributes:
        steps: What is done, one after another.
        classes: The numbers of the classes that it is done with.
        expire: Whether a commit expires.
        autoflush: Whether a query flushes.
        warm: Whether all rows are cached at first.
        listens: Whether events are heard.
        ways: How the transactions of each session are.
    """

    steps: tuple[Step, ...]
    classes: tuple[int, ...] = (1,)
    ways: Ways = PLAIN
    expire: bool = True
    autoflush: bool = True
    warm: bool = True
    listens: bool = False

    @property
    def is_joined(self) -> bool:
        """Whether sessions are a part of somebody else's transaction, whose locks then last longer than their own."""
        return any(WAYS[way].is_joined for way in self.ways)


Do = Callable[["Run", Step], Any]
STEPS: Final[dict[str, tuple[Do, int, bool]]] = {}


def step(weight: int = 2, *, reads: bool = False) -> Callable[[Do], Do]:
    """Make a function a step of programs, drawn by its weight; whether it writes nothing where nothing is to be flushed."""

    def registered(do: Do) -> Do:
        STEPS[getattr(do, "__name__", "").strip("_")] = do, weight, reads
        return do

    return registered


@dataclass
class Run:
    """A program in one world.

    Attributes:
        world: The world.
        program: The program.
        sessions: Its sessions.
        held: The objects that each session's user holds.
        heard: The events that were heard in this step.
        nested: The sessions in whose transaction there was a savepoint.
        listeners: What hears them.
        outer: The connections that sessions are joined to.
    """

    world: World
    program: Program
    sessions: list[Session] = field(default_factory=list)
    held: list[list[Any]] = field(default_factory=list)
    heard: "Counter[Any]" = field(default_factory=Counter)
    nested: set[int] = field(default_factory=set)
    listeners: list[tuple[Any, str, Callable[..., None]]] = field(default_factory=list)
    outer: Outer = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Open the sessions."""
        self.sessions = [self._opened(at) for at in range(SESSIONS)]
        self.held = [[] for _ in range(SESSIONS)]
        if self.program.listens:
            self._listen()

    def steps(self) -> list[Any]:
        """Run it; give what was seen after each step."""
        return [self.one(each) for each in self.program.steps]

    def one(self, each: Step) -> Any:
        """Do one step; give what was seen."""
        return self.seen(self.result(self.free(each)))

    def result(self, each: Step) -> Any:
        """Do one step; give what it gave, or its error."""
        at = each.session
        result = self.do(each)
        if observing.is_error(result) and (each.v or self.world.engine.dialect.name == "postgresql"):  # which refuses all that comes then
            self._roll_back(at)
        if observing.is_of_refusal(result):  # the hook asks for locks, and is refused, before all is read that a flush reads
            self.sessions[at].expunge_all()
            self.heard.clear()
        return result

    def seen(self, result: Any) -> Any:
        """Give a result, and what was seen after it."""
        begin_outer(self.outer)
        heard = sorted(self.heard.items(), key=repr)
        self.heard.clear()
        return {
            "result": result,
            "heard": heard,
            "sessions": [observing.session_state(*pair) for pair in zip(self.sessions, self.held, strict=True)],
        }

    def do(self, each: Step) -> Any:
        """Do what a step says; give what it gave, or its error."""
        try:
            return observing.shown(STEPS[each.name][0](self, each), self.held[each.session])
        except Exception as raised:  # noqa: BLE001 - compared
            return observing.error(raised)

    def _opened(self, at: int) -> Session:
        return WAYS[self.program.ways[at]].opened(self.world, self.outer, at)

    def _roll_back(self, at: int) -> None:
        try:
            self.sessions[at].rollback()
        except Exception:  # noqa: BLE001 - SQLAlchemy's own, as after make_transient of what the transaction has deleted
            with suppress(Exception):
                self.sessions[at].close()
            self.sessions[at] = self._opened(at)
        outer = self.outer_of(at)
        if outer is not None and is_refused(outer):
            outer.rollback()

    def free(self, each: Step) -> Step:
        """Give a step to the session that keeps others from writing, where there is one and the step may write."""
        session = self.sessions[each.session]
        if STEPS[each.name][2] and not (session.new or session.dirty or session.deleted):
            return each
        return next((each._replace(session=at) for at, other in enumerate(self.sessions) if self._has_lock(at, other)), each)

    def is_locked(self) -> bool:
        """Whether one of the sessions keeps others from writing."""
        return any(self._has_lock(at, session) for at, session in enumerate(self.sessions))

    def _has_lock(self, at: int, session: Session) -> bool:
        """Whether a session has begun to write into SQLite, which has one lock for all, or may have by a savepoint."""
        transaction: Any = session.get_transaction()
        if transaction is None:
            self.nested.discard(at)
        outer = self.outer_of(at)
        connections = {entry[0] for entry in transaction._connections.values()} if transaction is not None else set()
        connections |= {outer} if outer is not None else set()
        found = [
            connection.connection.driver_connection for connection in connections if not connection.closed and not connection.invalidated
        ]
        return self.world.engine.dialect.name == "sqlite" and (at in self.nested or any(one.in_transaction for one in found))

    def close(self) -> None:
        """Close the sessions and what they are joined to, end what is prepared, and listen no more."""
        closing: list[Session | Connection] = [*self.sessions, *self.outer.values()]
        for each in closing:
            with suppress(Exception):
                each.close()
        if any(done.name == "lose" for done in self.program.steps):
            gc.collect()  # SQLAlchemy leaves it to that to give back a connection whose prepared transaction is gone
        self.world.end_prepared("ROLLBACK")
        while self.listeners:
            event.remove(*self.listeners.pop())

    # -- what steps use -------------------------------------------------------------------------

    def on(self, each: Step) -> Any:
        """Give the session of a step."""
        return self.sessions[each.session]

    def outer_of(self, at: int) -> Connection | None:
        """Give the connection whose transaction a session joins, if it does."""
        way = WAYS[self.program.ways[at]]
        return self.outer.get(way.place(at)) if way.is_joined else None

    def cls(self, each: Step) -> Any:
        """Give the class of a step."""
        return CLASSES[self.program.classes[each.cls % len(self.program.classes)]]

    def hold(self, each: Step, *objects: Any) -> Any:
        """Hold objects for the session of a step; gives the last."""
        held = self.held[each.session]
        for obj in objects:
            if obj is not None and all(obj is not one for one in held):
                held.append(obj)
        del held[:-_HELD]
        return objects[-1] if objects else None

    def pick(self, each: Step, number: int, cls: type | None = None) -> Any:
        """Give one of the objects that are held, of a class if one is given; ``None`` if there is none. Where nothing is held, get something."""
        if not self.held[each.session]:
            STEPS["get"][0](self, each)
        fit = [obj for obj in self.held[each.session] if cls is None or isinstance(obj, cls)]
        return fit[-1 - number % len(fit)] if fit else None

    def found(self, each: Step, objects: Sequence[Any], *, ordered: bool) -> Any:
        """Hold the first of what a query gave; give all, in an order that can be compared."""
        objects = list(objects)
        if not ordered:
            objects.sort(key=lambda obj: repr(inspect(obj).identity))
        self.hold(each, *objects[:2])
        return objects

    def _listen(self) -> None:
        for name in _SESSION_EVENTS:
            self._listen_to(self.world.maker, name, lambda session, obj, name=name: self._hear(name, obj, session))
        for number in self.program.classes:
            for name in _EVENTS:
                self._listen_to(
                    CLASSES[number], name, lambda obj, *rest, name=name: self._hear(name, obj, obj is not None and object_session(obj))
                )

    def _listen_to(self, target: Any, name: str, listener: Callable[..., None]) -> None:
        event.listen(target, name, listener)
        self.listeners.append((target, name, listener))

    def _hear(self, name: str, obj: Any, session: Any) -> None:
        if any(session is own for own in self.sessions):
            self.heard[name, type(obj).__name__, repr(inspect(obj).key)] += 1


def run_in(
    world: World,
    program: Program,
    prepare: Callable[[Run], None],
    check: Callable[[Run], Any],
    kind: Callable[[World, Program], Run] = Run,
) -> list[Any]:
    """Run a program; give what was seen after each step, and at its end."""
    gc.freeze()
    gc.disable()  # when objects die is then the program's own doing
    run = kind(world, program)
    try:
        prepare(run)
        seen = run.steps()
        run.close()
        check(run)
        return seen
    finally:
        run.close()
        gc.enable()
