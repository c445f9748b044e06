"""The writer's way through a COMMIT, on one connection."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, Literal, Protocol, TypeAlias, TypeVar, get_args

from stockstore.coherence.protocol import Evidence, Outcome, Portable, Writes
from stockstore.errors import CacheUnreachable, ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from stockstore.evidence import Outbox

OnUnreachable: TypeAlias = Literal["outbox", "commit", "abort"]


class Located(Protocol):
    """Where writes stand in each tier."""

    @property
    def texts(self) -> Sequence[str]:
        """The places in shared caches, as key texts."""


S = TypeVar("S", bound=Portable)
S_contra = TypeVar("S_contra", bound=Portable, contravariant=True)
L = TypeVar("L", bound=Located)


class Through(Protocol[L, S_contra]):
    """What a commit needs of the caches; ``WriteThrough`` is it."""

    def locate(self, writes: Writes) -> L:
        """Find the places of writes in all tiers; no I/O."""

    def mark(self, located: L, ticket: bytes | None) -> None:
        """Mark all tiers, shared ones only with a ticket; raises CacheUnreachable."""

    def announce(self, located: L, connection: "Connection") -> None:
        """Have the memory of other processes told when the transaction commits."""

    def settle(self, located: L, outcome: Outcome, snapshots: Sequence[S_contra] = ()) -> None:
        """Release or invalidate what was located; never raises."""


class Prepared(Generic[L, S]):
    """One commit between its markers and its end.

    Attributes:
        ticket: What names the transaction; ``None`` where nothing could tell of its end, and no shared cache was marked.
        located: The places in the caches.
        snapshots: Exactly what will stand in the database once it has committed.
        unreachable: The failure of a cache that the commit went on in spite of.
    """

    def __init__(self, ticket: bytes | None, located: L, snapshots: Sequence[S]) -> None:
        """Note what was prepared."""
        self.ticket = ticket
        self.located = located
        self.snapshots = snapshots
        self.unreachable: CacheUnreachable | None = None


class Commit(Generic[L, S]):
    """Takes commits through: a ticket, a row in the outbox, markers; and after the COMMIT their release.

    Thread-safe; what belongs to one commit is in its :class:`Prepared`.

    Args:
        through: The caches.
        evidence: What tells others of a writer's end; ``None``: shared caches are not marked, but invalidated afterwards.
        outbox: The outbox, where its table is there and to be used.
        on_unreachable: What a cache that cannot be marked does to a commit: ``"outbox"`` lets the invalidation commit with
            the data, ``"commit"`` goes on and leaves it to this process, ``"abort"`` raises CacheUnreachable.
        always: Whether every commit writes its row, not only one that could not mark. So it has to be where markers may be
            lost, by eviction, and where the row is the evidence.
    """

    def __init__(
        self,
        through: Through[L, S],
        evidence: Evidence | None,
        outbox: "Outbox | None",
        *,
        on_unreachable: OnUnreachable,
        always: bool = True,
    ) -> None:
        """Keep the settings."""
        if on_unreachable not in get_args(OnUnreachable):
            raise ConfigurationError(f"on_unreachable is 'outbox', 'commit' or 'abort', not {on_unreachable!r}")
        needing = evidence is not None and evidence.needs_row
        if outbox is None and (needing or on_unreachable == "outbox"):
            raise ConfigurationError(
                "evidence by the outbox, and on_unreachable='outbox', need the outbox; make its table, or choose 'commit' or 'abort'"
            )
        self._through = through
        self._evidence = evidence
        self._outbox = outbox
        self._on_unreachable = on_unreachable
        self._always = always or needing

    def prepare(
        self, connection: "Connection", writes: Writes, snapshots: Sequence[S] = (), *, transaction: str | None = None
    ) -> Prepared[L, S] | None:
        """Do what comes before the COMMIT, after the transaction's last statement.

        Args:
            connection: The writer's.
            writes: What it has written.
            snapshots: Exactly what will stand in the database.
            transaction: PostgreSQL's id of the transaction, where it is known, so that it is not asked for.

        Returns:
            What :meth:`finish` needs; ``None`` where nothing was written, and nothing is to be finished.

        Raises:
            CacheUnreachable: A cache could not be marked, and that is to abort the commit.
            Exception: Whatever the database raised; it must not be told to commit. In either case no marker is left.
        """
        if not writes:
            return None
        asked = self._evidence.ask(connection, transaction) if self._evidence else None
        try:
            located = self._through.locate(writes)
        finally:
            # Also where that has failed: no statement may come before the answer.
            ticket = asked() if asked else None
        if asked and ticket is None:
            return None
        prepared = Prepared(ticket, located, snapshots)
        if self._always:
            self._write_row(connection, prepared)
        with self._unmarked_on_error(prepared):
            self._mark(prepared)
            if prepared.unreachable and not self._always and self._on_unreachable == "outbox":
                self._write_row(connection, prepared)
            # A chain whose origin is no database has no connection.
            if connection is not None:
                self._through.announce(prepared.located, connection)
        return prepared

    def prepare_statement(self, connection: "Connection", writes: Writes) -> Prepared[L, S] | None:
        """Do what comes before a statement of an AUTOCOMMIT connection; else as :meth:`prepare`.

        There is no row in the outbox: it would be committed before the statement.
        """
        if not writes:
            return None
        ticket = self._evidence.statement_ticket(connection) if self._evidence else None
        prepared: Prepared[L, S] = Prepared(ticket, self._through.locate(writes), ())
        with self._unmarked_on_error(prepared):
            self._mark(prepared)
        return prepared

    def finish(self, prepared: Prepared[L, S], outcome: Outcome) -> None:
        """Do what follows the end of the transaction; never raises."""
        self._through.settle(prepared.located, outcome, prepared.snapshots if outcome is Outcome.COMMITTED else ())

    def _write_row(self, connection: "Connection", prepared: Prepared[L, S]) -> None:
        if self._outbox is not None and prepared.located.texts:
            self._outbox.write(connection, prepared.ticket, prepared.located.texts)

    def _mark(self, prepared: Prepared[L, S]) -> None:
        try:
            self._through.mark(prepared.located, prepared.ticket)
        except CacheUnreachable as error:
            if self._on_unreachable == "abort":
                raise
            prepared.unreachable = error

    @contextmanager
    def _unmarked_on_error(self, prepared: Prepared[L, S]) -> Iterator[None]:
        try:
            yield
        except BaseException:
            # Nothing will commit under this ticket, so its markers may go before the rollback.
            self._through.settle(prepared.located, Outcome.ROLLED_BACK)
            raise
