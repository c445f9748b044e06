"""The read of a chain: from the top down with a lease on what each tier lacks, then filled from the origin outward."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from stockstore.coherence.protocol import Portable, Record, Tier
from stockstore.errors import StockstoreError
from stockstore.instrumentation import unasked
from stockstore.keys import Key, KeyPlan, Native, keys_of

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_log: Final = logging.getLogger(__name__)


class Found(Portable, Protocol):
    """An object that knows its keys."""

    def key(self) -> dict[str, object]:
        """Give its identity."""

    def native(self, plan: KeyPlan) -> Native | None:
        """Give its value of a key."""


T = TypeVar("T")
F = TypeVar("F", bound=Found)
F_co = TypeVar("F_co", bound=Found, covariant=True)


class Fetch(Protocol[F_co]):
    """Asks the origin for keys of a class."""

    def __call__(self, cls: type, keys: Sequence[Key], *, session: "Session | None" = None) -> Sequence[F_co | None]:
        """Give what it has, in the positions of the keys."""


class Reader(Generic[F]):
    """Reads through the tiers above an origin.

    Every lease is taken before the origin is asked, the upper tier's before the lower tier's, and the origin is asked
    once for all that is missing: so a fill that a writer has overtaken is refused. What a writer is at work on is
    filled neither where its marker stands nor above.
    """

    def __init__(self, tiers: Sequence[Tier[F]], origin: Fetch[F], carrier: object = None) -> None:
        """Serve tiers, given from the top down; the origin may be a carrier itself, as a tier is."""
        self._tiers = tuple(tiers)
        self._origin = origin
        self._carrier = carrier

    def read(self, cls: type, keys: Mapping[Record, Key], *, session: "Session | None" = None) -> dict[Record, F]:
        """Give what tiers or origin have of some keys, each of them given by what it stands for."""
        search = self._search(cls, keys, session)
        for kind, identities in search.passed_over().items():
            self._keep(kind, identities, session)
        return search.found

    def _keep(self, cls: type, keys: Mapping[Record, Key], session: "Session | None") -> None:
        # What was found is right already: only the caches gain by this.
        try:
            with unasked():
                self._search(cls, keys, session)
        except Exception as error:  # noqa: BLE001 - an origin may be anybody's class
            _report("the tiers above could not be filled", error)

    def _search(self, cls: type, keys: Mapping[Record, Key], session: "Session | None") -> "_Search[F]":
        search: _Search[F] = _Search(keys)
        for tier in self._tiers:
            if search.missing and tier.holds(cls):
                search.ask(tier, cls, session)
        if search.missing:
            answers = self._origin(cls, list(search.missing.values()), session=session)
            if self._carrier is not None:
                search.vouch(search.missing, self._carrier)
            search.take(answers)
        search.end()
        return search


class _Search(Generic[F]):
    """One read on its way down."""

    def __init__(self, keys: Mapping[Record, Key]) -> None:
        self.missing = dict(keys)
        self.found: dict[Record, F] = {}
        self._leases: list[tuple[Tier[F], dict[Record, object]]] = []
        self._unfilled: dict[Record, None] = {}

    def ask(self, tier: Tier[F], cls: type, session: "Session | None") -> None:
        """Ask a tier for what is missing, and take leases there; not one that owes removals."""
        if not tier.readable(cls):
            tier.passed_by(cls, len(self.missing))
            return
        answers = tier.lease(cls, list(self.missing.values()), session=session)
        granted: dict[Record, object] = {}
        for place, answer in zip(self.missing, answers, strict=True):
            if answer.marked:
                self._leave(place)
            elif answer.lease is not None:
                granted[place] = answer.lease
            elif answer.snapshot is None:
                self._unfilled[place] = None
        if self._leases and tier.carrier is not None:
            asked = (place for place, answer in zip(self.missing, answers, strict=True) if not answer.silent)
            self.vouch(asked, tier.carrier)
        self.take([answer.snapshot for answer in answers])
        self._leases.append((tier, granted))

    def vouch(self, places: Iterable[Record], carrier: object) -> None:
        """Tell the tiers above what a carrier was asked for, as nothing that is written from now on will escape them."""
        for place in places:
            for tier, leases in self._leases:
                if place in leases:
                    tier.vouch(leases[place], carrier)

    def _leave(self, place: Record) -> None:
        for tier, leases in self._leases:
            if place in leases:
                tier.give_back([leases.pop(place)])

    def take(self, answers: Sequence[F | None]) -> None:
        """Note what was found of all that is missing, and fill the tiers above, the lowest first."""
        got = {place: answer for place, answer in zip(self.missing, answers, strict=True) if answer is not None}
        for place in got:
            del self.missing[place]
        self.found.update(got)
        shared = {place: answer for place, answer in got.items() if answer.shared}
        for tier, leases in reversed(self._leases):
            given = {place: leases.pop(place) for place in shared if place in leases}
            if given and not _fill(tier, [(lease, shared[place]) for place, lease in given.items()]):
                self._unfilled.update(dict.fromkeys(given))

    def end(self) -> None:
        """Let others have the leases that were of no use."""
        for tier, leases in self._leases:
            if leases:
                tier.give_back(leases.values())

    def passed_over(self) -> dict[type, dict[Record, Key]]:
        """Give the identities of what was found by other keys, and could not be kept for want of a pointer to them."""
        wanted: dict[type, dict[Record, Key]] = {}
        for place in self._unfilled:
            found = self.found.get(place)
            record = None if found is None or not found.shared else _record(found)
            if found is not None and record is not None and record != place:
                wanted.setdefault(found.cls, {})[record] = found.key()
        return wanted


def _record(found: Found) -> Record | None:
    plan = keys_of(found.cls).identity
    native = found.native(plan)
    return None if native is None else (plan, native)


def _fill(tier: Tier[F], filled: Sequence[tuple[object, F]]) -> bool:
    """Fill a tier, and say whether it kept everything."""
    kept = filling(tier, lambda: tier.fill(filled))
    return kept is None or kept == len(filled)


def filling(tier: object, fill: Callable[[], T]) -> T | None:
    """Give what the fill of a tier gives, ``None`` where it fails, which is logged: what is to be kept was found, and is right without it."""
    try:
        return fill()
    except Exception as error:  # noqa: BLE001 - a tier may be anybody's class
        _report(f"{tier!r} could not be filled", error)
        return None


def _report(what: str, error: Exception) -> None:
    _log.warning("%s: %s", what, error, exc_info=not isinstance(error, StockstoreError))
