"""What process memory lacks, leased and filled in few passes by who reads it from the shared cache below."""

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from stockstore.cells import expiries
from stockstore.coherence.claims import Lease, Space
from stockstore.coherence.protocol import Answer
from stockstore.coherence.reader import filling
from stockstore.instrumentation import listening
from stockstore.keys import ClassKeys, Key, KeyPlan, ListLookup, Native, keys_of
from stockstore.keys.declared import identity_class
from stockstore.lifetimes import LifetimeRule, remaining, shorter
from stockstore.stores.claimed import Claim, ClaimedSpaces, Kept, Together, Wanted
from stockstore.stores.members import Members, seconds_for_lists
from stockstore.stores.snapshots import RowSnapshot, Snapshot
from stockstore.stores.spaces import AliasKeys
from stockstore.stores.tiers.alike_rows import rows_together
from stockstore.stores.tiers.backed import BackendTier
from stockstore.stores.tiers.local import LocalLease, LocalTier
from stockstore.stores.tiers.local_lists import ListLease

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from stockstore.backends.local_nodes import Node
    from stockstore.stores.local import LocalStore

_now: Final = time.monotonic


class LocalMisses:
    """Places of one class that a reader has leased in memory before he asks the shared cache below for them.

    To who goes on reading by the longer way it is the tier itself, where these leases were taken.
    """

    def __init__(self, tier: LocalTier, spaces: ClaimedSpaces, space: Space, claims: dict[Native, Claim]) -> None:
        """Keep what was leased."""
        self._tier = tier
        self._spaces = spaces
        self._space = space
        self._claims = claims
        self._together: tuple[Lease, Together] | None = None
        self.lists = _Lists(self)

    def __getattr__(self, name: str) -> Any:
        """Be the tier itself."""
        return getattr(self._tier, name)

    def lease(self, cls: type, keys: Sequence[Key], *, session: "Session | None" = None) -> list[Answer[Snapshot]]:
        """Give the leases; what was not leased in time is not to be filled."""
        del session
        claims = [self._claims.get(keys_of(cls).lookup(key).native, _UNCLAIMED) for key in keys]
        return [Answer(None, claim.lease and LocalLease(self._spaces, claim.lease), claim.marked) for claim in claims]

    def lease_lists(self, keys: Sequence[ListLookup]) -> list[Answer[Members]]:
        """Do the same with lists."""
        claims = [self._claims.get(key.place, _UNCLAIMED) for key in keys]
        return [Answer(None, claim.lease and ListLease(self._spaces, claim.lease), claim.marked) for claim in claims]

    def give_back_all(self) -> None:
        """Let others have the leases."""
        for claim in self._claims.values():
            if claim.lease is not None:
                self._spaces.give_back(claim.lease)
        if self._together is not None:
            self._spaces.give_back_together(self._together[0], self._together[1].values)

    def lease_rows(self, rows: Sequence[RowSnapshot]) -> bool:
        """Lease rows too of which a list has told only now, before the tier below says whether it has them; ``False``: they are not to be filled."""
        store = self._tier._store
        if not store.is_fresh():
            return False
        together = rows_together(store, rows) if rows else None
        lease = None if together is None else self._spaces.lease_together(self._space, list(together.values))
        if together is not None and lease is not None:
            self._together = lease, together
            return True
        natives = [native for row in rows if (native := row.native(self._space[1])) is not None]
        claims = self._spaces.lease(self._space, [Wanted(native) for native in natives])
        self._claims |= zip(natives, claims, strict=True)
        return True

    def fill_rows(self, below: BackendTier, rows: Sequence[RowSnapshot]) -> None:
        """Keep rows that the database gave, after the tier below was asked for them, where the leases still stand."""
        if self._together is not None:
            lease, together = self._together
            filling(self._tier, lambda: self._tier.fill_together(self._spaces, self._vouched(lease, below), together))
            return
        natives = [row.native(self._space[1]) for row in rows]
        leased = [(self._claims[native].lease, row) for native, row in zip(natives, rows, strict=True) if native is not None]
        given = [(LocalLease(self._spaces, self._vouched(lease, below)), row) for lease, row in leased if lease is not None]
        if given:
            filling(self._tier, lambda: self._tier.fill(given))

    def fill_list(self, below: BackendTier, members: Members) -> None:
        """Do the same with a list."""
        lease = self._claims[members.lookup.place].lease
        if lease is not None:
            given = [(ListLease(self._spaces, self._vouched(lease, below)), members)]
            filling(self._tier, lambda: self._tier.lists.fill(given))

    @staticmethod
    def _vouched(lease: Lease, below: BackendTier) -> Lease:
        if below.carrier is not None:
            lease.voucher = below.carrier
        return lease

    def alias_plans(self, cls: type) -> tuple[KeyPlan, ...]:
        """Give the other keys by which memory finds rows of a class."""
        return self._tier._store._shape(cls)[1]

    def fill_from(
        self,
        cls: type,
        below: BackendTier,
        natives: Sequence[Native],
        cells: Sequence[bytes],
        payloads: Sequence[bytes],
        aliases: Sequence[AliasKeys],
        listed: Members | None = None,
    ) -> None:
        """Keep rows that the tier below gave, and their list, where the leases still stand.

        Args:
            cls: The exact class of the rows.
            below: Which tier that is.
            natives: The primary keys of the rows.
            cells: The cells of the rows, which tell how long they live.
            payloads: What these hold.
            aliases: What the rows have of each of :meth:`alias_plans`.
            listed: The list.
        """
        store = self._tier._store
        lasting = _lifetimes(store._rule, expiries(cells))
        plans, given = self.alias_plans(cls), zip(natives, payloads, lasting, aliases, strict=True)
        rows = [Kept(cls, plans, *row) for row in given if (seconds := row[2]) is None or seconds > 0]
        if listed is not None and (lasts := seconds_for_lists(store._rule)) != 0:
            root = identity_class(cls)
            rows.append(Kept(root, store._shape(root)[1], listed.lookup.place, listed.keys, lasts, ()))
        limit = self._tier.limit_by(below.carrier)
        ready = [(lease, row, limit) for row in rows if (lease := self._claims[row.native].lease) is not None]
        count, evicted = self._spaces.fill(ready)
        store._counters.add(puts=count, evictions=evicted)
        self._tier._note_filled([lease for lease, _, _ in ready], count)


class _Lists:
    """The lists of memory, where these leases were taken."""

    def __init__(self, misses: LocalMisses) -> None:
        self._misses = misses

    def __getattr__(self, name: str) -> Any:
        return getattr(self._misses._tier.lists, name)

    def lease(self, cls: type, keys: Sequence[ListLookup], *, session: "Session | None" = None) -> list[Answer[Members]]:
        del cls, session
        return self._misses.lease_lists(keys)


_UNCLAIMED: Final = Claim(None, marked=False)


def claim(tier: LocalTier, keys: ClassKeys, cls: type, natives: Iterable[Native]) -> LocalMisses | None:
    """Lease places in memory; ``None`` where something stands at each of them, or whatever else takes the longer way."""
    store = tier._store
    if listening or store.tenant_rules or store._rule.needs_object or not store.is_fresh():
        return None
    spaces, space = store._spaces, (store._namespace(), keys.identity)
    wanted = [*natives]
    missing = len(wanted) - _present(store, list(map(spaces.found(*space, alias=False).get, wanted)))
    if not missing:
        return None
    claims = spaces.lease(space, [Wanted(native) for native in wanted])
    marked = sum([one.marked for one in claims])
    store._note_reads(cls, 0, missing - marked)
    store._note("bypass", keys.identity, marked, "generation" if marked and spaces.claims.wide(space) else "marked")
    return LocalMisses(tier, spaces, space, dict(zip(wanted, claims, strict=True)))


def numbers_of(tier: LocalTier, keys: ClassKeys, place: Native) -> list[Any]:
    """Give the primary keys of one value that a list in memory has, old or not; none where there is no list."""
    node = tier._store._spaces.found(tier._store._namespace(), keys.identity, alias=False).get(place)
    held = None if node is None else node.value
    return [] if held is None else [number for (number,) in held]


def _lifetimes(rule: LifetimeRule, ends: Sequence[float]) -> list[float | None]:
    """Give how long rows may live that end at moments (Unix time) below."""
    if not rule.varies and len(set(ends)) == 1:
        return [shorter(rule.seconds(None), remaining(ends[0]))] * len(ends)
    return [shorter(rule.seconds(None), remaining(end)) for end in ends]


def _present(store: "LocalStore", nodes: Sequence["Node[Native, Any] | None"]) -> int:
    """Drop what has expired, and give how many are left."""
    left = 0
    for node in filter(None, nodes):
        if node.expires > _now():
            left += 1
        else:
            store._expire(node)
    return left
