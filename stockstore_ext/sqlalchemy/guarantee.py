"""What a set-up guarantees, and why."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Engine

from stockstore.mapped.shown import shown
from stockstore_ext.sqlalchemy.drivers import autocommits

if TYPE_CHECKING:
    from stockstore_ext.sqlalchemy.recording import Means, Recording

STRICT: Final = "strict"
REACHABLE: Final = "strict while reachable"
_RANKS: Final = {STRICT: 0, REACHABLE: 1, "bounded": 2, "fast": 3, "weak": 4}

_LATER: Final = (
    "a cache that is out of reach at a commit is told later, by this process alone (on_unreachable='commit'), "
    "so that shared caches keep nothing for longer than an hour"
)
_FIX: Final = "make the outbox table, sync.create_outbox(engine), and let on_unreachable be 'outbox', its default then; or choose 'abort'"


@dataclass(frozen=True)
class TierGuarantee:
    """What holds for one tier.

    Attributes:
        tier: Its name, without passwords.
        level: ``"strict"``: no stale read after a commit was acknowledged, and none that goes back, whatever dies when.
            ``"strict while reachable"``: so as long as the cache can be told at each commit; one that could not, and comes back as it
            was, may give others old rows until this process has told it. ``"bounded 1 s"``: in other processes old for so long at most. ``"fast"``: others may read the old row until just after the
            commit, and longer where this process dies in between. ``"weak"``: no more than the tier's own verbs promise.
        reasons: Why it is so.
    """

    tier: str
    level: str
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        """Give one line."""
        return f"{self.tier}: {self.level} - {'; '.join(self.reasons)}"


@dataclass(frozen=True)
class Guarantee:
    """What holds in a set-up.

    Attributes:
        tiers: Per tier, from the top down.
        engines: The databases that are known by now, without passwords.
        remarks: What to do for more, as it is said once at attach.
    """

    tiers: tuple[TierGuarantee, ...]
    engines: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def is_strict(self) -> bool:
        """Whether every tier is strict."""
        return all(tier.level == STRICT for tier in self.tiers)

    def __str__(self) -> str:
        """Give a line per tier, and the remarks."""
        return "\n".join(dict.fromkeys([*map(str, self.tiers), *self.remarks]))


def guarantee_of(recording: "Recording", engines: Sequence[Engine]) -> Guarantee:
    """Find out what holds; asks caches and databases."""
    means = [(engine, recording.means_of(engine)) for engine in engines]
    tiers = tuple(_tier(tier, recording, means) for tier in recording.tiers)
    return Guarantee(tiers, tuple(map(_name, engines)), tuple(_remarks(recording, tiers, means)))


def _tier(tier: Any, recording: "Recording", means: "Iterable[tuple[Engine, Means | None]]") -> TierGuarantee:
    standing = tier.standing()
    levels = [(standing.level, standing.reason), *_of_settings(recording)]
    if tier.remote:
        levels += [found for engine, known in means for found in _of_engine(engine, known, recording.silent)]
    rank = max(_rank(level) for level, _ in levels)
    weakest = [(level, reason) for level, reason in levels if _rank(level) == rank]
    return TierGuarantee(repr(getattr(tier, "store", tier)), weakest[0][0], tuple(dict.fromkeys(reason for _, reason in weakest if reason)))


def _rank(level: str) -> int:
    return _RANKS.get(level, _RANKS.get(level.split(maxsplit=1)[0], max(_RANKS.values())))


def _of_settings(recording: "Recording") -> Iterator[tuple[str, str]]:
    if recording.settings.consistency == "fast":
        yield "fast", "consistency='fast' was chosen"


def _of_engine(engine: Engine, means: "Means | None", silent: Mapping[Engine, str]) -> Iterator[tuple[str, str]]:
    if means is None:
        yield "fast", f"{_name(engine)} could not be asked: {silent[engine]}"
        return
    if means.evidence is None:
        yield "fast", f"{_name(engine)} gives no evidence of how a dead writer's transaction ended"
    elif autocommits(engine) and means.evidence.needs_row:
        yield "fast", f"{_name(engine)} commits each statement by itself, so no row in the outbox can be its evidence"
    elif autocommits(engine) and means.on_unreachable != "abort":
        yield (
            REACHABLE,
            f"{_name(engine)} commits each statement by itself, so the outbox cannot be told with it; choose on_unreachable='abort'",
        )
    if means.on_unreachable == "commit":
        yield REACHABLE, f"{_name(engine)}: {_LATER}; {_FIX}"


def _remarks(recording: "Recording", tiers: Iterable[TierGuarantee], means: "Sequence[tuple[Engine, Means | None]]") -> Iterator[str]:
    for tier in tiers:
        if _rank(tier.level) >= _RANKS["fast"] and recording.settings.consistency == STRICT:
            yield f"{tier}"
    for engine, known in means:
        if known is None:
            continue
        if recording.settings.consistency == STRICT and known.evidence is None and any(tier.remote for tier in recording.tiers):
            yield f"{_name(engine)}: for the strict guarantee make the outbox table, sync.create_outbox(engine)"
        if recording.settings.outbox and known.outbox is None and any(tier.remote for tier in recording.tiers):
            yield f"{_name(engine)}: outbox=True does nothing as there is no outbox table; make it, sync.create_outbox(engine)"
        if recording.settings.on_unreachable == "abort" and _told_after(recording, known):
            yield f"{_name(engine)}: on_unreachable='abort' aborts nothing, as shared caches are told after the COMMIT here"
        if recording.settings.on_unreachable is None and any(tier.remote for tier in recording.tiers):
            yield _unreachable(engine, known)


def _told_after(recording: "Recording", known: "Means") -> bool:
    late = recording.settings.consistency != STRICT or known.evidence is None
    return late and any(tier.remote for tier in recording.tiers)


def _unreachable(engine: Engine, means: "Means") -> str:
    if means.on_unreachable == "outbox":
        return f"{_name(engine)}: where a cache is out of reach at a commit, the invalidation is left in the outbox"
    return f"{_name(engine)}: {_LATER}; {_FIX}"


def _name(engine: Engine) -> str:
    return shown(engine.url)
