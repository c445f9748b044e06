"""What the open transaction of a connection has written, savepoint by savepoint.

A frame stands in the ``info`` of the DBAPI connection, never on the hook: it goes where the transaction goes, also from a session to
the caller whose transaction the session has joined, and it dies with the connection.
"""

from collections.abc import Callable, Hashable, Iterator, MutableMapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, Protocol, TypeAlias
from weakref import ref

from sqlalchemy import Connection
from sqlalchemy.orm import Session
from sqlalchemy.pool import PoolProxiedConnection

from stockstore.coherence.protocol import Outcome, Writes
from stockstore_ext.sqlalchemy.refusals import raise_as_drivers, unheard

Finish: TypeAlias = Callable[[Outcome], None]
Scope: TypeAlias = Hashable
"""Whose rows were written: ``None`` for those that all see, a text for a tenant's, ``FOREIGN`` for those of another database or schema."""

FOREIGN: Final = ("foreign",)
_KEY: Final = "stockstore.frames"


class _Level:
    """The root of a transaction, or one savepoint."""

    __slots__ = ("name", "outermost", "writes")

    def __init__(self, name: str | None, *, outermost: bool = False) -> None:
        self.name = name
        self.outermost = outermost
        """Whether the savepoint was set outside any transaction of the driver, so that its release commits."""
        self.writes: dict[Scope, Writes] = {}


class Committing(Protocol):
    """What a hook does with what was written.

    Attributes:
        has_left: Whether the hook has left its engines.
    """

    has_left: bool

    def prepare(self, connection: Connection, writes: "dict[Scope, Writes]", pending: list[Finish]) -> None:
        """Do what comes before COMMIT; what is to follow it is added to ``pending``, also where it raises."""

    def afterwards(self, writes: "dict[Scope, Writes]") -> list[Finish]:
        """Give what is to follow a COMMIT for which nothing was prepared."""


class Frame:
    """What one hook knows of the open transaction of one connection.

    Attributes:
        committing: The hook's part.
        users: The attached sessions that use the connection now.
        joined: Whether a session has used the connection in this transaction, which others may go on with.
        names: The tenants of such sessions, ``None`` among them where one has none.
        scopes: What these names mean on this connection.
        shard: The token of the shard that the connection is to, if it is one of those that are named.
        foreign: Whether the rest of the transaction reads and writes elsewhere, such as after ``SET LOCAL search_path``.
        pinned: Whether it reads from a snapshot that may be older than what caches hold; ``None``: not known yet.
        quiet: Whether the statements on the connection are no writes of the application now.
        statement: What follows a statement that commits by itself.
        autocommitted: Whether there was such a statement.
        doubtful: Whether there was one that may have committed.
        touched: Whether there is anything to forget when the transaction ends; most only read.
        heard: The connection that has written last, and whether its transactions have two phases.
    """

    __slots__ = (
        "__weakref__",
        "_left",
        "_levels",
        "_pending",
        "autocommitted",
        "committing",
        "doubtful",
        "foreign",
        "heard",
        "joined",
        "names",
        "pinned",
        "quiet",
        "scopes",
        "shard",
        "statement",
        "touched",
        "users",
    )

    def __init__(self, committing: Committing) -> None:
        """Start with nothing written."""
        self.committing = committing
        # As a WeakSet, which takes longer: whoever ties a session unties it when it goes.
        self.users: dict[ref[Session], None] = {}
        self.joined = False
        self.touched = False
        self.names: set[str | None] = {None}
        self.scopes: set[Scope] = set()
        self.shard: Hashable | None = None
        self.foreign = False
        self.pinned: bool | None = None
        self.quiet = False
        self.statement: list[Finish] = []
        self.autocommitted = False
        self.doubtful = False
        self.heard: tuple[ref[Connection], bool] | None = None
        self._left: list[Finish] = []
        self._pending: list[Finish] | None = None
        self._levels = [_Level(None)]

    @property
    def sessions(self) -> list[Session]:
        """The attached sessions that use the connection now."""
        return [session for user in tuple(self.users) if (session := user()) is not None]

    @property
    def written(self) -> bool:
        """Whether anything is noted."""
        return self.touched and any(writes for level in self._levels for writes in level.writes.values())

    @property
    def noted(self) -> bool:
        """Whether anything is noted, be it new rows alone."""
        return any(writes or writes.inserted for level in self._levels for writes in level.writes.values())

    def writes(self, scope: Scope = None) -> Writes:
        """Give where the current savepoint's writes are noted."""
        self.touched = True
        return _writes_of(scope, self._levels[-1].writes)

    def all_writes(self) -> dict[Scope, Writes]:
        """Give all that the transaction has written so far."""
        found: dict[Scope, Writes] = {}
        for level in self._levels:
            _merge(found, level.writes)
        return {scope: writes for scope, writes in found.items() if writes}

    def keep_tentative(self) -> set[type]:
        """Take what was noted tentatively as certain, and give the root classes of which any row may have been written."""
        noted = [writes for level in self._levels for writes in level.writes.values()]
        for writes in noted:
            writes.keep_tentative()
        return set[type]().union(*(writes.wide_roots(tentative=False) for writes in noted))

    def push(self, name: str, *, outermost: bool = False) -> None:
        """Begin a savepoint."""
        self.touched = True
        self._levels.append(_Level(name, outermost=outermost))

    def may_commit(self, name: str) -> bool:
        """Whether the release of a savepoint may be a commit, on a driver for which the outermost one is."""
        level = self._find(name)
        return level is None or self._levels[level].outermost

    def release(self, name: str) -> None:
        """Merge a savepoint, and those in it, into what is around it; one that is older than the frame is around all of it."""
        at = self._find(name)
        while at is not None and len(self._levels) > at:
            level = self._levels.pop()
            _merge(self._levels[-1].writes, level.writes)

    def roll_back(self, name: str) -> None:
        """Drop what was written since a savepoint was set."""
        at = self._find(name)
        del self._levels[at or 0 :]
        if not self._levels:
            self._levels.append(_Level(None))

    def pin(self, pinned: bool) -> None:
        """Note whether the transaction reads from a snapshot that may be older than what caches hold."""
        self.touched, self.pinned = True, pinned

    def prepare(self, connection: Connection) -> None:
        """Do what comes before COMMIT, once."""
        if self._pending is None and self.written:
            self._pending = []
            with self.silence(), unheard(connection):
                self._prepare(connection, self.all_writes(), self._pending)

    def prepare_on(self, driven: PoolProxiedConnection) -> None:
        """Do what comes before COMMIT, on the connection that has written, if it is this one's transaction that is going to commit."""
        connection = self.heard[0]() if self.touched and self.heard is not None else None
        if connection is None or connection.invalidated or not connection.in_transaction() or connection.connection is not driven:
            return
        raise_as_drivers(connection, self.prepare)

    def _prepare(self, connection: Connection, writes: dict[Scope, Writes], pending: list[Finish]) -> None:
        try:
            self.committing.prepare(connection, writes, pending)
        except BaseException:
            # SQLAlchemy takes the transaction for ended now, and may give the connection to others as it is.
            try:
                connection.dialect.do_rollback(connection.connection)
            except Exception as broken:  # noqa: BLE001 - whatever the driver raises: the caller is told why the commit failed
                connection.invalidate(broken)
            raise

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Note no statement meanwhile."""
        self.quiet = True
        try:
            yield
        finally:
            self.quiet = False

    def resume(self) -> None:
        """Note statements again where the COMMIT that was prepared has never been tried."""
        if self._pending is not None:
            self._left, self._pending = [*self._left, *self._pending], None

    def prepared(self) -> list[Finish]:
        """Take what was prepared."""
        pending, self._pending = self._pending or [], None
        return pending

    @property
    def is_prepared(self) -> bool:
        """Whether what comes now belongs to the COMMIT."""
        return self._pending is not None

    def commit(self) -> list[Finish]:
        """Forget the transaction, and give what follows its COMMIT."""
        # Of some commits no event tells, such as the pool's own.
        late = self.committing.afterwards(self.all_writes()) if self._pending is None and self.written else []
        return [*self.end(), *late]

    def end(self) -> list[Finish]:
        """Forget the transaction, and give what is to be done about it, however it has ended."""
        failed: list[Finish] = [partial(_committed, finish) for finish in self.statement]
        pending = [*self._left, *self.prepared(), *failed]
        self.touched = False
        self._left, self.statement, self.autocommitted, self.doubtful = [], [], False, False
        self._pending, self.foreign, self.pinned, self._levels = None, False, None, [_Level(None)]
        return pending

    def _find(self, name: str) -> int | None:
        named = (at for at in range(len(self._levels) - 1, 0, -1) if self._levels[at].name == name)
        return next(named, None)


def _committed(finish: Finish, _outcome: Outcome) -> None:
    """Finish a statement that has failed, and may have committed all the same; had it not, that would do no harm."""
    finish(Outcome.COMMITTED)


def _merge(into: dict[Scope, Writes], writes: dict[Scope, Writes]) -> None:
    for scope, more in writes.items():
        _writes_of(scope, into).update(more)


def _writes_of(scope: Scope, writes: dict[Scope, Writes]) -> Writes:
    found = writes.get(scope)
    if found is None:
        found = writes[scope] = Writes(scope if isinstance(scope, str) else None)
    return found


def frames_on(info: MutableMapping[Any, Any]) -> list[Frame]:
    """Give the frames of all hooks on a connection."""
    frames: dict[object, Frame] | None = info.get(_KEY)
    return [] if frames is None else list(frames.values())


def frames_ending(info: MutableMapping[Any, Any]) -> list[Frame]:
    """Give those frames on a connection that have anything to forget of the transaction that ends; nobody's goes on in any of them."""
    frames: dict[object, Frame] | None = info.get(_KEY)
    found = []
    for frame in () if frames is None else frames.values():
        frame.joined = False
        if frame.touched:
            found.append(frame)
    return found


def end_untouched(info: MutableMapping[Any, Any]) -> bool:
    """Whether no frame on a connection has anything to do with the transaction that ends; then nobody's goes on in any of them."""
    frames: dict[object, Frame] | None = info.get(_KEY)
    if frames is not None:
        for frame in frames.values():
            if frame.touched:
                return False
        for frame in frames.values():
            frame.joined = False
    return True


def frame_on(info: MutableMapping[Any, Any], committing: Committing) -> Frame | None:
    """Give a hook's frame on a connection, if one of its sessions has ever used it."""
    frames: dict[object, Frame] | None = info.get(_KEY)
    return None if frames is None else frames.get(committing)


def open_frame(info: MutableMapping[Any, Any], committing: Committing) -> Frame:
    """Give a hook's frame on a connection, made where there is none; then those of hooks that have left go."""
    frames: dict[object, Frame] = info.setdefault(_KEY, {})
    frame = frames.get(committing)
    if frame is None:
        for other in [other for other in frames.values() if other.committing.has_left and not (other.users or other.touched)]:
            del frames[other.committing]
        frame = frames[committing] = Frame(committing)
    return frame
