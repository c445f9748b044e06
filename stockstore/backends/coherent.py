"""What a backend does whose cells take part in the coherence protocol."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, NamedTuple, TypeAlias

from stockstore.backends.base import Backend

Item: TypeAlias = tuple[str, bytes, int]
"""A key, what is to stand there, and the server lifetime in whole seconds, more than 0."""

LEASE_SECONDS = 10


writing: Final[ContextVar[bytes]] = ContextVar("stockstore.writing", default=b"")
"""The ticket of the write that is under way: a channel names it with what is put or invalidated, so that the writer need not hear of it."""


@contextmanager
def written_as(ticket: bytes) -> Iterator[None]:
    """Have what is put and invalidated in here told as a write of a ticket."""
    token = writing.set(ticket)
    try:
        yield
    finally:
        writing.reset(token)


class Leased(NamedTuple):
    """What a call for leases found.

    Attributes:
        cells: What stands under those keys that were not granted.
        granted: The keys that hold the caller's lease now.
        generation: The token of the class's generation, which a fill has to carry; ``None`` where a writer's marker stands
            on it, and then nothing was granted.
    """

    cells: dict[str, bytes]
    granted: frozenset[str]
    generation: bytes | None


class Followed(NamedTuple):
    """What a read of a list found.

    Attributes:
        generation: The cell of the generation.
        members: The cells of the list, and, if that is a list of numbers of this generation, of its records; ``None`` for what is
            absent, as :meth:`CoherentBackend.get_many` says.
        granted: At which places of these, all of them absent, the caller's lease stands now.
        watch: Where the list itself was leased, what :meth:`CoherentBackend.fill_list` tells by which records may have been written since.
    """

    generation: bytes | None
    members: list[bytes | None]
    granted: frozenset[int]
    watch: bytes = b""


class CoherentBackend(Backend):
    """A shared cache that can compare and set: every step below is atomic per key.

    Cells are as ``stockstore.cells`` describes them. Values are given as *bodies*, to which the backend adds tag and server
    id; they are read as whole cells. Each step is a batch, in one round trip per node unless it says otherwise, and an
    empty batch does no I/O. Any failure is :class:`~stockstore.errors.CacheUnreachable`; of a batch that raised, any part
    may have been done.
    """

    @abstractmethod
    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Give the cells of those keys that are present.

        A value or lease from an earlier life of the server counts as absent; a marker never does.
        """

    @abstractmethod
    def follow_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """As :meth:`get_many`, but give in place of an alias the *value* that it points to.

        Where no value stands at the target (absent, lease, marker), the alias cell itself is given.
        """

    @property
    def follows_lists(self) -> bool:
        """Whether :meth:`follow_list` can be asked."""
        return False

    def follow_list(self, key: str, generation: str, stamp: bytes, prefix: str, token: bytes) -> Followed:
        """Read a list of numbers along with the records that they name, and lease what is absent of them, in one round trip.

        Args:
            key: The key of the list.
            generation: The key of the generation of the list and its records, made as :meth:`lease_many` does where something is leased.
            stamp: The eight bytes that the list begins with, a MessagePack array of numbers follows; empty: nothing is followed, whatever
                the cell may be of.
            prefix: What stands before a number in the key of its record; empty where no watch is wanted.
            token: As for :meth:`lease_many`.
        """
        raise NotImplementedError(f"{self!r} cannot follow the list {key!r} of {generation!r}: {stamp!r}, {prefix!r}, {token!r}")

    def fill_list(self, items: Sequence[Item], token: bytes, watch: bytes, aliases: Sequence[Item] = ()) -> tuple[int, int]:
        """Fill a list, the first item, as :meth:`fill_many` does, and its records, none of which is leased.

        A record is put where it is absent, and nothing was done since the watch was given that would have taken a lease on it away.

        Returns:
            How many lists were put, one or none, and how many items in all.
        """
        raise NotImplementedError(f"{self!r} cannot fill lists: {items!r}, {token!r}, {watch!r}, {aliases!r}")

    @abstractmethod
    def lease_many(self, seen: Mapping[str, bytes | None], token: bytes, generation: str) -> Leased:
        """Put a lease on those keys that are still absent, or still hold the very bytes that the caller saw and cannot use.

        Args:
            seen: The keys, each with the cell to be replaced; ``None`` for absent. A marker is never replaced.
            token: 16 bytes that were never used before.
            generation: The key of the class's generation cell, which is made, with a random token, where it is absent; or
                ``""`` for none, and ``NO_GENERATION`` is answered.
        """

    @abstractmethod
    def fill_many(self, items: Sequence[Item], token: bytes, aliases: Sequence[Item] = ()) -> int:
        """Put values (bodies) where the caller's lease still stands, and give how many; aliases (whole cells) in any case."""

    @abstractmethod
    def put_many(self, items: Sequence[Item], aliases: Sequence[Item] = ()) -> None:
        """Put values (bodies) where no marker stands, and aliases (whole cells) in any case; every write acknowledged.

        For a store that is its objects' origin: the last writer wins.
        """

    @abstractmethod
    def mark_many(
        self, keys: Sequence[str], ticket: bytes, shared: Sequence[str] = (), generations: Sequence[str] = ()
    ) -> dict[str, bytes]:
        """Put a writer's marker on keys, without a lifetime.

        Args:
            keys: Cells of rows that the writer holds locked, so that no two writers mark one at the same time.
            ticket: Names the writer's transaction; printable ASCII without ``|``.
            shared: Cells that writers of different rows mark at the same time, such as generations.
            generations: The generation cells of the classes that the keys belong to; those that are absent are made, with a random token.

        Returns:
            The tokens of those generations that stood there, unmarked, *after* the keys were marked (over several nodes: at any
            moment of this call, in all of which the writer holds its rows locked). A value that is released has to carry this one:
            the generation of the release's own moment may be younger than the value is.

        Raises:
            CacheUnreachable: Also where the server refused for want of memory; the keys were deleted then, where it could.
        """

    @abstractmethod
    def release_many(
        self,
        keys: Sequence[str],
        ticket: bytes,
        *,
        committed: bool,
        values: Sequence[Item] = (),
        aliases: Sequence[Item] = (),
        renews: bool = True,
    ) -> int:
        """Take a writer's marker from keys; a value (body) stands there afterwards only where it was the sole marker.

        Args:
            keys: What was marked.
            ticket: As given to :meth:`mark_many`.
            committed: Whether the transaction committed: then what stands where the marker was lost is removed; otherwise it stays.
            values: Exactly what was committed, of some of the keys; the other keys are absent afterwards.
            aliases: Whole cells to be put along with the values.
            renews: Whether a new generation may follow on a marker; not where the marks were sent twice, and the first may come late.

        Returns:
            How many of the keys held the marker.
        """

    @abstractmethod
    def invalidate_many(self, keys: Sequence[str]) -> int:
        """Remove values, leases and aliases, and see to it that no value follows on a marker; give how many values there were."""

    def marker_loss(self) -> str | None:
        """Say why the server may lose markers, and what to do about it; ``None`` where it keeps them. May ask the server."""
        return None

    def telling_loss(self) -> str | None:
        """Say why memory in other processes is not told of what is written here, where it should be; ``None`` elsewhere. May ask the server."""
        return None

    def set_many(self, items: Sequence[Item]) -> None:
        """Put whole cells in any case, as :meth:`put_many` does with aliases."""
        self.put_many((), items)

    def delete_many(self, keys: Sequence[str]) -> int:
        """Do what :meth:`invalidate_many` does."""
        return self.invalidate_many(keys)

    @abstractmethod
    def clear(self, prefix: str) -> None:
        """Do :meth:`invalidate_many` on every key that starts with ``"namespace:"`` or ``"namespace:class label:"``."""
