"""What the short way has read of a shared cache, for who has to go on the longer way."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from stockstore.backends.coherent import Followed
from stockstore.cells import generation_of
from stockstore.coherence.protocol import Answer
from stockstore.stores.tiers.backed import BackendTier
from stockstore.stores.tiers.local_misses import LocalMisses
from stockstore.stores.tiers.looks import BackendLease
from stockstore_ext.sqlalchemy.read_through.absent import Absent
from stockstore_ext.sqlalchemy.read_through.found import Found

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

NO_LEASES: Final[Mapping[str, BackendLease]] = {}
Tiers: TypeAlias = tuple[Any, ...]


class Seen(NamedTuple):
    """What was read.

    Attributes:
        rows: The rows, where all were plain hits.
        tiers: The first tiers for who has to go on the longer way, which judge what was read, and read nothing again.
        absent: The one row that was asked for, where the caches are known to lack it, and only the database is left to be asked.
    """

    rows: Found | None
    tiers: Tiers = ()
    absent: Absent | None = None


UNSEEN: Final = Seen(None)
"""Nothing was read."""


class SeenList(NamedTuple):
    """What was read of a list.

    Attributes:
        rows: Its rows, where all were plain hits.
        lists: The lists of the first tiers for who has to go on the longer way.
        tiers: The tiers themselves, with the rows.
        absent: The list, where the caches are known to lack it.
    """

    rows: Found | None
    lists: Tiers = ()
    tiers: Tiers = ()
    absent: Absent | None = None


def give_back(seen: Seen | SeenList | None) -> None:
    """Let others have what memory leased for a read that nobody goes on with; what was of use meanwhile stays as it is."""
    if seen is None:
        return
    misses = next(iter(seen.tiers), None) if seen.absent is None else seen.absent.misses
    if isinstance(misses, LocalMisses):
        misses.give_back_all()


class SeenTier:
    """A tier, or its lists, of which the cells were read already."""

    def __init__(self, tier: Any, cells: dict[str, bytes] | None, leases: Mapping[str, BackendLease] = NO_LEASES) -> None:
        """Keep the cells, ``None`` where there was no answer, and what was leased."""
        self._tier = tier
        self._cells = cells
        self._leases = leases

    def __getattr__(self, name: str) -> Any:
        """Be the tier itself."""
        return getattr(self._tier, name)

    def lease(self, cls: type, keys: Sequence[Any], *, session: "Session | None" = None) -> list[Answer[Any]]:
        """Judge what was read, and take the leases that are wanted and were not taken along."""
        del session  # the session was found to be one that sees what the cache holds
        answers: list[Answer[Any]] = self._tier.judge(cls, keys, self._cells, self._leases)
        return answers


def present(texts: Sequence[str], cells: Sequence[bytes | None]) -> dict[str, bytes]:
    """Give the cells that are there, by their keys."""
    return {text: cell for text, cell in zip(texts, cells, strict=True) if cell is not None}


def below(misses: LocalMisses | None, seen: SeenTier) -> Tiers:
    """Give a tier that was read, below the memory that lacked what was asked for."""
    return (seen,) if misses is None else (misses, seen)


def seen_list(
    tier: BackendTier, misses: LocalMisses | None, cells: dict[str, bytes] | None, leases: Mapping[str, BackendLease] = NO_LEASES
) -> SeenList:
    """Give what was read of a list and of its rows, ``None`` where there was no answer."""
    lists = () if misses is None else (misses.lists,)
    return SeenList(None, (*lists, SeenTier(tier.lists, cells, leases)), below(misses, SeenTier(tier, cells, leases)))


def told(tier: BackendTier, texts: list[str], generation: str, answer: Followed, token: bytes, misses: LocalMisses | None) -> SeenList:
    """Give what a read of a list told that has to go on the longer way."""
    given = zip(texts, answer.members)  # noqa: B905 - of records that no list names nothing was read
    cells = {text: cell for text, cell in [*given, (generation, answer.generation)] if cell is not None}
    current = generation_of(answer.generation)
    granted = [texts[at] for at in answer.granted if current is not None and at < len(texts)]
    leases = {text: BackendLease(text, token, current, answer.watch) for text in granted}  # type: ignore[arg-type]
    if texts[0] in leases:
        return SeenList(None, absent=Absent(tier, leases[texts[0]], misses))
    return seen_list(tier, misses, cells, leases)
