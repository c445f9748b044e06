"""The write of a chain: markers before the origin commits, released after it, from the origin outward."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar
from uuid import uuid4

from stockstore.aio.bridge import uncancelled
from stockstore.backends.coherent import written_as
from stockstore.coherence.protocol import Announcer, Outcome, Portable, Tier, Writes
from stockstore.errors import CacheUnreachable, StockstoreError

if TYPE_CHECKING:
    from sqlalchemy import Connection

_log: Final = logging.getLogger(__name__)
S = TypeVar("S", bound=Portable)
S_contra = TypeVar("S_contra", bound=Portable, contravariant=True)


class Place(Generic[S]):
    """What a transaction has written, as it stands in one tier, and what was done about it so far."""

    __slots__ = ("at", "cold", "failed", "ticket", "tier")

    def __init__(self, tier: Tier[S], at: object) -> None:
        """Note nothing but where."""
        self.tier = tier
        self.at = at
        self.ticket: bytes | None = None
        """Under which markers may stand; ``None``: there are none."""
        self.failed = False
        """Whether the markers could not all be set."""
        self.cold = False
        """Whether values could not be kept, though nobody else wrote them."""


class Located(Generic[S]):
    """A transaction's writes in every tier, the lowest first."""

    def __init__(self, places: Sequence[Place[S]]) -> None:
        """Hold the places."""
        self.places = tuple(places)
        self.announced: set[Announcer] = set()
        """Those that have told of the writes, or will when the transaction commits."""

    @property
    def texts(self) -> list[str]:
        """The keys that another process can invalidate."""
        return [text for place in self.places for text in place.tier.texts(place.at)]

    def announcements(self) -> list[tuple[Announcer, list[str], bytes]]:
        """Give what is yet to be told: by whom, the key texts, and the ticket under which these places are marked."""
        found: dict[Announcer, tuple[list[str], bytes]] = {}
        for place in self.places:
            announcer = place.tier.announcer
            if announcer is not None and announcer not in self.announced:
                found.setdefault(announcer, ([], place.ticket or b""))[0].extend(place.tier.told(place.at))
        return [(announcer, texts, ticket) for announcer, (texts, ticket) in found.items() if texts]

    @property
    def is_marked(self) -> bool:
        """Whether what a reader finds in shared caches from now on is no older than the writes."""
        return all(place.ticket is not None for place in self.places if place.tier.remote)

    @property
    def ticket(self) -> bytes:
        """Under which local tiers were marked; empty where none was."""
        return next((place.ticket for place in self.places if place.ticket is not None), b"")

    @property
    def cold(self) -> list[Tier[S]]:
        """The tiers that were without markers, or without what a value needs: they have lost what was written, and kept no value of it."""
        return [place.tier for place in self.places if place.ticket is None or place.failed or place.cold]


class WriteThrough(Generic[S]):
    """Takes writes through the cache tiers above an origin.

    Once the origin has committed nothing is raised, but what interrupts the thread, and that last: a tier that
    cannot be told owes the removal, and is not read until it was told.
    """

    def __init__(self, tiers: Sequence[Tier[S]], carrier: object = None) -> None:
        """Serve tiers, given from the top down; the origin may be a carrier itself, as a tier is."""
        self._tiers = tuple(tiers)
        self._carrier = carrier

    def locate(self, writes: Writes) -> Located[S]:
        """Find where writes stand in each tier, in the caller's namespaces; no I/O."""
        places, carrier = [], self._carrier
        for tier in reversed(self._tiers):
            places.append(Place(tier, tier.locate(writes)))
            if carrier is not None:
                tier.vouch(places[-1].at, carrier)
            carrier = tier.carrier or carrier
        return Located(places)

    def mark(self, located: Located[S], ticket: bytes | None) -> None:
        """Put markers into every tier, the lowest first; at the last point before the commit.

        Args:
            located: What was written; how far this came is noted in it, for :meth:`settle`.
            ticket: Names the transaction to whoever may resolve its markers; without it a remote tier gets none.

        Raises:
            CacheUnreachable: A tier could not be marked; the others were.
        """
        own = ticket or uuid4().hex.encode()
        errors = [error for place in located.places if ticket or not place.tier.remote for error in _mark(place, own)]
        for error in errors:
            if isinstance(error, CacheUnreachable):
                raise error
            raise CacheUnreachable(f"a cache tier could not be marked: {error!r}") from error

    def announce(self, located: Located[S], connection: "Connection") -> None:
        """Have the memory of other processes told when a connection's transaction commits; raises what the database raises.

        Where shared caches could not be marked, it is told only when these are invalidated: who heard of it sooner would fill his
        memory from them.
        """
        if located.is_marked:
            for announcer, texts, ticket in located.announcements():
                if announcer.within(connection, texts, ticket):
                    located.announced.add(announcer)

    def settle(self, located: Located[S], outcome: Outcome, snapshots: Sequence[S] = ()) -> None:
        """Release what was marked and invalidate what was not, the lowest tier first; then tell whoever was not told.

        Args:
            located: As :meth:`mark` left it.
            outcome: How the transaction ended. Of an unknown end the markers of remote tiers stay, for the resolver.
            snapshots: Exactly what was committed, of some of the records.
        """
        settle = _SETTLING[outcome]
        with uncancelled(), written_as(located.ticket or uuid4().hex.encode()):
            untold = [] if outcome is Outcome.ROLLED_BACK else located.announcements()
            steps: list[Callable[[], None]] = [partial(settle, place, snapshots) for place in located.places]
            _all(steps + [partial(announcer.afterwards, texts, ticket) for announcer, texts, ticket in untold])

    def invalidate(self, writes: Writes) -> None:
        """Remove what may be old now from every tier, the lowest first."""
        self.settle(self.locate(writes), Outcome.COMMITTED)


def _mark(place: Place[S], ticket: bytes) -> list[Exception]:
    # First the note: of a mark that is cut off, any part may have been done.
    place.ticket, place.failed = ticket, True
    try:
        place.tier.mark(place.at, ticket)
    except Exception as error:  # noqa: BLE001 - a tier may be anybody's class
        _report(place, error)
        return [error]
    place.failed = False
    return []


def _committed(place: Place[S], snapshots: Sequence[S]) -> None:
    if place.failed:
        place.tier.owe(place.at, place.ticket)
    elif place.ticket is None:
        _try(place, None, lambda: place.tier.invalidate(place.at))
    else:
        classes = {snapshot.cls for snapshot in snapshots}
        held = {cls for cls in classes if place.tier.holds(cls)}
        kept = snapshots if held == classes else [snapshot for snapshot in snapshots if snapshot.cls in held]
        _release(place, place.ticket, True, kept)


def _rolled_back(place: Place[S], snapshots: Sequence[S]) -> None:
    del snapshots
    if place.failed:
        place.tier.owe(place.at, place.ticket)
    elif place.ticket is not None:
        _release(place, place.ticket, False, ())


def _unknown(place: Place[S], snapshots: Sequence[S]) -> None:
    del snapshots
    if place.ticket is not None and not place.tier.remote:
        # The markers were this process's own, which has no more to come.
        _release(place, place.ticket, True, ())
    elif place.ticket is None or place.failed:
        _try(place, None, lambda: place.tier.invalidate(place.at))


_SETTLING: Final[Mapping[Outcome, Callable[[Place[Any], Sequence[Any]], None]]] = {
    Outcome.COMMITTED: _committed,
    Outcome.ROLLED_BACK: _rolled_back,
    Outcome.UNKNOWN: _unknown,
}


def _release(place: Place[S], ticket: bytes, committed: bool, snapshots: Sequence[S]) -> None:
    def release() -> None:
        kept = place.tier.release(place.at, ticket, committed=committed, snapshots=snapshots)
        place.cold = kept is not None and kept < len(snapshots)

    _try(place, ticket, release)


def _try(place: Place[S], ticket: bytes | None, step: Callable[[], None]) -> None:
    try:
        step()
    except BaseException as error:
        place.tier.owe(place.at, ticket)
        if not isinstance(error, Exception):
            raise
        _report(place, error)


def _report(place: Place[S], error: Exception) -> None:
    expected = isinstance(error, StockstoreError)
    _log.warning(
        "%r could not be told of a write; once it is done, the tier is not read before it was: %s", place.tier, error, exc_info=not expected
    )


def _all(steps: Sequence[Callable[[], None]]) -> None:
    """Do every step; what interrupts one of them is raised after the last."""
    if len(steps) == 1:
        steps[0]()
        return
    with ExitStack() as stack:
        for step in reversed(steps):
            stack.callback(step)
