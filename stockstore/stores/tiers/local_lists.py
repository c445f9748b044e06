"""Lists in the memory of this process: records like others, beside those of their hierarchy."""

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from stockstore.coherence.claims import Lease
from stockstore.coherence.protocol import Answer
from stockstore.keys import ListLookup, keys_of
from stockstore.keys.declared import identity_class
from stockstore.stores.claimed import ClaimedSpaces, Kept, Wanted
from stockstore.stores.members import Members, seconds_for_lists
from stockstore.stores.tiers.tier_lists import TierLists

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from stockstore.stores.tiers.local import LocalTier

_now: Final = time.monotonic


class ListLease(NamedTuple):
    """A lease on a list, and the memory in which it stands."""

    spaces: ClaimedSpaces
    lease: Lease


class LocalLists(TierLists):
    """The lists of a tier. Its markers and invalidations cover them, as they stand among its records."""

    _tier: "LocalTier"

    @property
    def carrier(self) -> None:
        """As the tier."""
        return

    def vouch(self, claim: object, carrier: object) -> None:
        """Note which carrier was asked under a lease."""
        assert isinstance(claim, ListLease)
        claim.lease.voucher = carrier

    def lease(self, cls: type, keys: Sequence[ListLookup], *, session: "Session | None" = None) -> list[Answer[Members]]:  # noqa: ARG002 - as for records
        """Give the lists that are there, and leases on those that are not, in the positions of the keys."""
        store = self._tier._store
        if not self._tier.hearing.hears():
            store._note("bypass", keys_of(cls).identity, len(keys), "channel")
            return [Answer(None, marked=True)] * len(keys)
        spaces, space = store._spaces, (store._namespace(), keys_of(cls).identity)
        found = [self._find(spaces, space[0], lookup) for lookup in keys]
        missing = [lookup for lookup, members in zip(keys, found, strict=True) if members is None]
        claims = iter(spaces.lease(space, [Wanted(lookup.place) for lookup in missing]) if missing else ())
        answers = [Answer(members) if members is not None else _answer(spaces, *next(claims)) for members in found]
        marked = sum(answer.marked for answer in answers)
        store._note_reads(cls, len(keys) - len(missing), len(missing) - marked)
        store._note("bypass", space[1], marked, "generation" if spaces.claims.wide(space) else "marked")
        return answers

    def _find(self, spaces: ClaimedSpaces, namespace: str, lookup: ListLookup) -> Members | None:
        node = spaces.found(namespace, keys_of(lookup.plan.owner).identity, alias=False).get(lookup.place)
        if node is None:
            return None
        # In this order: see LocalCells.
        expires, value = node.expires, node.value
        if expires <= _now():
            self._tier._store._expire(node)
            return None
        if value is None:
            return None
        node.hits += 1
        return Members(lookup, value)

    def give_back(self, leases: Iterable[object]) -> None:
        """Let others have them."""
        for given in leases:
            assert isinstance(given, ListLease)
            given.spaces.give_back(given.lease)

    def fill(self, filled: Sequence[tuple[object, Members]]) -> int:
        """Keep lists where the lease still stands; give how many were kept."""
        kept, store = 0, self._tier._store
        for given, members in filled:
            seconds = seconds_for_lists(store._rule)
            assert isinstance(given, ListLease)
            if seconds is None or seconds > 0:
                root = identity_class(members.cls)
                record = Kept(root, store._shape(root)[1], members.lookup.place, members.keys, seconds, ())
                count, evicted = given.spaces.fill([(given.lease, record, self._tier.limit_by(given.lease.voucher))])
                store._counters.add(puts=count, evictions=evicted)
                self._tier._note_filled([given.lease], count)
                kept += count
        return kept


def _answer(spaces: ClaimedSpaces, lease: Lease | None, marked: bool) -> Answer[Members]:
    return Answer(None, None if lease is None else ListLease(spaces, lease), marked)
