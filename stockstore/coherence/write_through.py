"""Fills and writes of a chain's cache tiers, from the origin outward."""

import logging
from collections.abc import Mapping, Sequence
from typing import Final, Generic, Protocol, TypeVar

from stockstore.coherence.owed import Deletes, Owed
from stockstore.errors import StockstoreError

_log: Final = logging.getLogger(__name__)
_UNFILLED: Final = "fill; reads go on to the tiers below"
_OWED: Final = "write; it is not read for this class until its old values are gone"


class Portable(Protocol):
    """One object on its way between tiers."""

    @property
    def cls(self) -> type:
        """Its exact class."""

    @property
    def shared(self) -> bool:
        """Whether others may see it."""

    def former_keys(self) -> list[dict[str, object]]:
        """Its canonical key, and the one it had before where that differs."""


S = TypeVar("S", bound=Portable)
S_contra = TypeVar("S_contra", bound=Portable, contravariant=True)


class Tier(Deletes, Protocol[S_contra]):
    """What a tier must offer to be written through."""

    def holds(self, cls: type) -> bool:
        """Whether it keeps objects of a class."""

    def batch_fill(self, snapshots: Sequence[S_contra]) -> None:
        """Keep what another tier gave."""


class WriteThrough(Generic[S]):
    """Writes the tiers above an origin, lowest first, so that no tier refills from an older one below it.

    A tier that cannot be written never fails the caller: the origin has committed. Its old values are
    deleted as soon as it answers again, and until then it is not read for their class.
    """

    def __init__(self, tiers: Sequence[Tier[S]]) -> None:
        """Serve the tiers of one chain, given from the top down."""
        self._tiers = tiers
        self._owed = [Owed(tier) for tier in tiers]

    def readable(self, level: int, cls: type) -> bool:
        """Whether a tier may be asked for objects of a class."""
        return self._tiers[level].holds(cls) and self._owed[level].settled(cls)

    def fill(self, level: int, snapshots: Sequence[S]) -> None:
        """Keep what one level answered in the levels above it; best effort, as nothing has changed."""
        shared = [snapshot for snapshot in snapshots if snapshot.shared]
        for above in range(level - 1, -1, -1):
            wanted = [s for s in shared if self.readable(above, s.cls)]
            if wanted:
                self._try(above, wanted, _UNFILLED)

    def spread(self, level: int, snapshots: Sequence[S]) -> None:
        """Put what was written at one level into the levels above it."""
        for above in range(level - 1, -1, -1):
            written = [s for s in snapshots if self._tiers[above].holds(s.cls)]
            if written and not (all(self._owed[above].settled(s.cls) for s in written) and self._try(above, written, _OWED)):
                for cls, keys in _keys_by_class(written).items():
                    self._owed[above].add(cls, keys)

    def forget(self, level: int, cls: type, keys: Sequence[Mapping[str, object]]) -> None:
        """Delete from the levels above what was deleted at one level."""
        for above in range(level - 1, -1, -1):
            if keys and self._tiers[above].holds(cls) and not self._try_delete(above, cls, keys):
                self._owed[above].add(cls, keys)

    def distrust(self, level: int, snapshots: Sequence[S]) -> None:
        """Delete from the levels above what one level may have written: it did not tell."""
        for cls, keys in _keys_by_class(snapshots).items():
            self.forget(level, cls, keys)

    def sweep(self, level: int, cls: type) -> None:
        """Clear a class from the levels above, where it is not known which of its rows have changed."""
        for above in range(level - 1, -1, -1):
            if self._tiers[above].holds(cls):
                self._owed[above].add(cls, [])

    def _try(self, level: int, snapshots: Sequence[S], consequence: str) -> bool:
        try:
            self._tiers[level].batch_fill(snapshots)
        except Exception as error:  # noqa: BLE001 - a tier may be anybody's class, and the origin has committed
            self._report(level, consequence, error)
            return False
        return True

    def _try_delete(self, level: int, cls: type, keys: Sequence[Mapping[str, object]]) -> bool:
        try:
            self._tiers[level].batch_delete(cls, keys)
        except Exception as error:  # noqa: BLE001 - as above
            self._report(level, _OWED, error)
            return False
        return True

    def _report(self, level: int, consequence: str, error: Exception) -> None:
        expected = isinstance(error, StockstoreError)
        _log.warning("%r could not be written (%s): %s", self._tiers[level], consequence, error, exc_info=not expected)


def _keys_by_class(snapshots: Sequence[Portable]) -> dict[type, list[dict[str, object]]]:
    keys: dict[type, list[dict[str, object]]] = {}
    for snapshot in snapshots:
        keys.setdefault(snapshot.cls, []).extend(snapshot.former_keys())
    return keys
