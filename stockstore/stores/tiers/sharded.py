"""One shard of a sharded cache as a tier of the coherence protocol: it knows nothing but its own keys."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from stockstore.coherence.protocol import Announcer, Answer, Standing, Tier, Writes
from stockstore.errors import NotKeyedError
from stockstore.keys import Key, keys_of
from stockstore.stores.sharding import Sharding
from stockstore.stores.snapshots import Snapshot
from stockstore.stores.tiers.sharded_lists import ShardLists

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_NOT_MINE: Final[Answer[Snapshot]] = Answer(None, silent=True)
_ELSEWHERE: Final = object()
"""A lease on nothing: what a shard has no pointer to another one may have yet."""


class ShardTier:
    """The tier of a shard, among those of the others.

    Attributes:
        inner: The tier of the shard by itself.
        lists: The lists that it keeps, one shard each; ``None`` where the tier keeps none.
    """

    def __init__(self, inner: Tier[Snapshot], sharding: Sharding, at: int, *, is_last: bool) -> None:
        """Serve one shard."""
        self.inner = inner
        self._sharding = sharding
        self._at = at
        self._is_last = is_last
        lists = getattr(inner, "lists", None)
        self.lists = None if lists is None else ShardLists(self, lists, sharding, at)

    def __repr__(self) -> str:
        """Name the store."""
        return repr(self.inner)

    @property
    def remote(self) -> bool:
        """Whether its markers outlive the process."""
        return self.inner.remote

    @property
    def announcer(self) -> Announcer | None:
        """What tells the memory of other processes."""
        return self.inner.announcer

    @property
    def carrier(self) -> object | None:
        """The tier of the shard by itself, where a channel tells of it."""
        return self.inner.carrier

    def vouch(self, claim: object, carrier: object) -> None:
        """Note which carrier was asked under a lease, or told of a write."""
        if claim is not _ELSEWHERE:
            self.inner.vouch(claim, carrier)

    @property
    def resolvers(self) -> Any:
        """Told of the markers that reads come across."""
        return getattr(self.inner, "resolvers")  # noqa: B009 - of remote tiers alone

    def standing(self) -> Standing:
        """Tell what the shard promises."""
        return self.inner.standing()

    def holds(self, cls: type) -> bool:
        """Whether the shard keeps objects of a class."""
        return self.inner.holds(cls)

    def readable(self, cls: type) -> bool:
        """Whether nothing is owed to the shard for a class."""
        return self.inner.readable(cls)

    def passed_by(self, cls: type, count: int) -> None:
        """Note reads that went past it for what is owed."""
        self.inner.passed_by(cls, count)

    # -- reading --------------------------------------------------------------------------------

    def lease(self, cls: type, keys: Sequence[Key], *, session: "Session | None" = None) -> list[Answer[Snapshot]]:
        """Give what is there, and leases on what is not; nothing, and no lease, for keys of other shards."""
        compiled = keys_of(cls)
        homes = [self._sharding.of_lookup(cls, compiled.lookup(key)) for key in keys]
        mine = [at for at, home in enumerate(homes) if home is None or home == self._at]
        answers = dict(zip(mine, self.inner.lease(cls, [keys[at] for at in mine], session=session) if mine else (), strict=True))
        return [self._answer(answers.get(at, _NOT_MINE), anywhere=homes[at] is None) for at in range(len(keys))]

    def _answer(self, answer: Answer[Snapshot], *, anywhere: bool) -> Answer[Snapshot]:
        """Judge what was found by a key that does not tell the shard."""
        if not anywhere or answer.marked:
            return answer
        if answer.snapshot is None and not self._is_last:
            self._sharding.repeat(1)
        if answer.snapshot is not None:
            return answer if self._is_mine(answer.snapshot) else Answer(None)
        return Answer(None, _ELSEWHERE) if answer.lease is None and not self._is_last else answer

    def _is_mine(self, snapshot: Snapshot) -> bool:
        try:
            return self._sharding.of_object(snapshot) == self._at
        except NotKeyedError:
            return False

    def give_back(self, leases: Iterable[object]) -> None:
        """Let others have them."""
        self.inner.give_back([lease for lease in leases if lease is not _ELSEWHERE])

    def fill(self, filled: Sequence[tuple[object, Snapshot]]) -> int:
        """Keep what a lower tier gave and belongs here, where the lease still stands."""
        mine = [(lease, snapshot) for lease, snapshot in filled if lease is not _ELSEWHERE and self._is_mine(snapshot)]
        others = len(filled) - len(mine)
        return others + (self.inner.fill(mine) if mine else 0)

    # -- writing --------------------------------------------------------------------------------

    def locate(self, writes: Writes) -> object:
        """Give where writes stand on this shard, in the caller's namespace."""
        mine = Writes(writes.tenant)
        for (plan, native), values in writes.records.items():
            if self._sharding.of_record(writes.roots[plan], plan, values) in (None, self._at):
                mine.records[plan, native] = values
        mine.lists.update((record, lookup) for record, lookup in writes.lists.items() if self._sharding.of_cached_list(lookup) == self._at)
        mine.classes.update(writes.classes)
        mine.roots.update(writes.roots)
        return self.inner.locate(mine)

    def texts(self, places: object) -> list[str]:
        """Give the keys that another process can invalidate."""
        return self.inner.texts(places)

    def told(self, places: object) -> list[str]:
        """Give places as the key texts by which an announcer names them."""
        return self.inner.told(places)

    def mark(self, places: object, ticket: bytes) -> None:
        """Put markers; raises CacheUnreachable."""
        self.inner.mark(places, ticket)

    def release(self, places: object, ticket: bytes, *, committed: bool, snapshots: Sequence[Snapshot] = ()) -> int | None:
        """Take markers away, and keep exactly what was committed and belongs here; raises CacheUnreachable."""
        mine = [snapshot for snapshot in snapshots if self._is_mine(snapshot)]
        kept = self.inner.release(places, ticket, committed=committed, snapshots=mine)
        return None if kept is None else kept + len(snapshots) - len(mine)

    def invalidate(self, places: object) -> None:
        """Remove what stands at places; raises CacheUnreachable."""
        self.inner.invalidate(places)

    def owe(self, places: object, ticket: bytes | None = None) -> None:
        """Invalidate as soon as the shard answers again."""
        self.inner.owe(places, ticket)
