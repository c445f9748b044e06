"""Lists in a sharded cache: each is a cell on one shard, wherever its rows are."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from stockstore.coherence.protocol import Answer, Tier
from stockstore.keys import ListLookup
from stockstore.stores.members import Members
from stockstore.stores.sharding import Sharding
from stockstore.stores.snapshots import Snapshot
from stockstore.stores.tiers.tier_lists import TierLists

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_NOT_MINE: Final[Answer[Members]] = Answer(None, silent=True)


class ShardLists(TierLists):
    """The lists of one shard. What it marks, releases and invalidates for a write are the lists of its own that the write concerns."""

    def __init__(self, tier: Tier[Snapshot], inner: Any, sharding: Sharding, at: int) -> None:
        """Keep lists as the shard by itself does."""
        super().__init__(tier)
        self._inner = inner
        self._sharding = sharding
        self._at = at

    @property
    def carrier(self) -> object | None:
        """As the tier."""
        return self._tier.carrier

    def vouch(self, claim: object, carrier: object) -> None:
        """Note which carrier was asked under a lease."""
        self._inner.vouch(claim, carrier)

    def lease(self, cls: type, keys: Sequence[ListLookup], *, session: "Session | None" = None) -> list[Answer[Members]]:
        """Give the lists that are there, and leases on those that are not; nothing, and no lease, for lists of other shards."""
        mine = [at for at, lookup in enumerate(keys) if self._sharding.of_cached_list(lookup) == self._at]
        answers = dict(zip(mine, self._inner.lease(cls, [keys[at] for at in mine], session=session) if mine else (), strict=True))
        return [answers.get(at, _NOT_MINE) for at in range(len(keys))]

    def give_back(self, leases: Iterable[object]) -> None:
        """Let others have them."""
        self._inner.give_back(leases)

    def fill(self, filled: Sequence[tuple[object, Members]]) -> int:
        """Keep lists where the lease still stands, without their rows, which may belong to other shards; give how many were kept."""
        bare = [(lease, Members(members.lookup, members.keys, shared=members.shared)) for lease, members in filled]
        kept: int = self._inner.fill(bare)
        return kept
