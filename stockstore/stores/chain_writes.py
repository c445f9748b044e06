"""A chain's writes: the origin first, with markers above it before its commit and their release after."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import Token
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from stockstore.aio.bridge import uncancelled
from stockstore.backends.coherent import writing
from stockstore.coherence.commit import Prepared
from stockstore.coherence.protocol import Outcome as Ended
from stockstore.coherence.protocol import Record, Tier, Writes
from stockstore.coherence.writer import Located
from stockstore.errors import OriginError, StockstoreError
from stockstore.instrumentation import unasked
from stockstore.keys import Key, keys_of
from stockstore.stores.origin import Origin
from stockstore.stores.outcome import BeforeCommit, Outcome, UnconfirmedError
from stockstore.stores.snapshots import Snapshot, snapshot_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

Check: TypeAlias = Callable[[Sequence[Snapshot]], None]
_log: Final = logging.getLogger(__name__)


class ChainWrite:
    """One write at one origin.

    Args:
        origin: Where it goes.
        check: Raises where a cache tier could not keep a row.
        outer: The hook of a chain around this one.
    """

    def __init__(self, origin: Origin, check: Check, outer: BeforeCommit | None) -> None:
        """Ask for the evidence first: the question must not wait for the write's own transaction."""
        self._origin = origin
        self._check = check
        self._outer = outer
        self._commit = origin.commit()
        self._asked, self._marked = Writes(), Writes()
        self._tried = Writes()
        self._prepared: Prepared[Located[Snapshot], Snapshot] | None = None
        self._exact = False
        self._cold: list[Tier[Snapshot]] = []
        self._writing: Token[bytes] | None = None

    def expect(self, cls: type, keys: Iterable[Key]) -> None:
        """Note identities that the write may change, whether the origin tells of them or not."""
        _note(self._asked, cls, keys)

    def attempt(self, objects: Iterable[object]) -> None:
        """Note what is to be stored, where a write that fails may be done in part."""
        if self._origin.writes_in_parts():
            for snapshot in map(snapshot_of, objects):
                _note(self._tried, snapshot.cls, snapshot.former_keys())
                if keys_of(snapshot.cls).indexes:
                    self._tried.add_class(snapshot.cls)

    def before_commit(self, connection: "Connection | None", outcome: Outcome) -> None:
        """Mark what the origin is about to commit."""
        # A subclass may write a batch in several parts: the part before has committed.
        self._finish(Ended.COMMITTED)
        if self._outer is not None:
            self._outer(connection, outcome)
        self._check([*outcome.snapshots, *_kept(outcome.others)])
        writes = _writes_of(outcome)
        self._exact = connection is not None
        if not self._exact:
            # A database has told all that it changes. What else was asked for it holds no lock on, so that two writers could mark
            # it at once; it is removed afterwards.
            writes.update(self._asked)
        self._prepared = self._commit.prepare(cast("Connection", connection), writes, list(outcome.exact))
        if self._prepared is not None:
            self._marked.update(writes)
            if not self._exact:
                self._writing = writing.set(self._prepared.located.ticket)

    @contextmanager
    def around(self) -> Iterator[None]:
        """Release the markers where the write fails that happens in here."""
        try:
            yield
        except BaseException as error:
            self._finish(Ended.ROLLED_BACK if self._exact and _was_refused(error) else Ended.UNKNOWN)
            self._forget_parts()
            raise

    def _forget_parts(self) -> None:
        """Remove what the origin may have stored before it refused the rest."""
        if self._origin.writes_in_parts():
            self._tried.update(self._asked)
            self._origin.through.invalidate(self._tried)

    def done(self, outcome: Outcome) -> None:
        """Release what was marked, with what is stored now, and see to it that the next read of it is a hit."""
        if self._prepared is not None and not self._exact:
            self._prepared.snapshots = list(_kept(outcome.snapshots))
        rows = [*_kept(outcome.snapshots), *_kept(outcome.others)]
        with uncancelled():
            self._finish(Ended.COMMITTED)
            unmarked = self._unmarked(outcome)
            if unmarked:
                self._origin.through.invalidate(unmarked)
        if unmarked or (self._exact and len(outcome.exact) < len({id(row) for row in rows})):
            self._cold = list(self._origin.tiers)
        if self._cold:
            self._warm(rows)

    def _unmarked(self, outcome: Outcome) -> Writes:
        """Give what the origin has told of only now, such as keys that it generated."""
        writes = _writes_of(outcome)
        writes.update(self._asked)
        for known in self._marked.records:
            writes.records.pop(known, None)
        for at in self._marked.lists:
            writes.lists.pop(at, None)
        for plan in self._marked.classes:
            writes.classes.pop(plan, None)
        return writes

    def _finish(self, ended: Ended) -> None:
        prepared, self._prepared = self._prepared, None
        if self._writing is not None:
            writing.reset(self._writing)
            self._writing = None
        if prepared is not None:
            self._commit.finish(prepared, ended)
            self._cold += prepared.located.cold

    def _warm(self, rows: Iterable[Snapshot]) -> None:
        """Read what was written through the tiers that were not given it: only a lease may fill them."""
        wanted: dict[type, dict[Record, Key]] = {}
        for row in rows:
            key = row.key()
            wanted.setdefault(row.cls, {})[keys_of(row.cls).lookup(key)[:2]] = key
        for cls, keys in wanted.items():
            self._warm_class(cls, keys)

    def _warm_class(self, cls: type, keys: dict[Record, Key]) -> None:
        try:
            cold = (tier for tier in self._origin.tiers if tier in self._cold and tier.holds(cls) and tier.readable(cls))
            if tier := next(cold, None):
                with unasked():
                    self._origin.below(tier).read(cls, keys)
        except Exception as error:  # noqa: BLE001 - the origin has committed
            _log.warning("what was written could not be read back: %s", error, exc_info=not isinstance(error, StockstoreError))


def _note(writes: Writes, cls: type, keys: Iterable[Key]) -> None:
    compiled = keys_of(cls)
    for lookup in map(compiled.lookup, keys):
        # A row without a primary key is not there yet.
        if not (compiled.mapped and lookup.plan.has_none(lookup.native)):
            writes.add(cls, lookup)


def _writes_of(outcome: Outcome) -> Writes:
    writes = Writes()
    for row in (*outcome.snapshots, *outcome.others):
        _note(writes, row.cls, row.former_keys())
    for lookup in outcome.lists:
        writes.add_list(lookup)
    for cls in outcome.swept:
        with suppress(StockstoreError):  # no cache has anything of a class whose keys make no sense
            writes.add_class(cls)
    return writes


def _kept(rows: Iterable[Snapshot]) -> Iterator[Snapshot]:
    """Give the rows that are there, and may be kept."""
    return (row for row in rows if row.lifetime is None or row.lifetime > 0)


def _was_refused(error: BaseException) -> bool:
    """Whether the database has said that it has not committed."""
    told = isinstance(error, OriginError) and not isinstance(error, UnconfirmedError)
    return told and getattr(error.__cause__, "connection_invalidated", None) is False
