"""Process memory, and the memory of one thread or task, as tiers of the coherence protocol."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from stockstore.backends.coherent import writing
from stockstore.backends.local_nodes import Node
from stockstore.coherence.claims import Lease
from stockstore.coherence.protocol import Answer, Record, Standing, Writes
from stockstore.errors import StockstoreError
from stockstore.keys import Key, KeyPlan, Lookup, Native, keys_of
from stockstore.stores.claimed import ClaimedSpaces, Kept, Together, Wanted
from stockstore.stores.hiding import hidden_from
from stockstore.stores.local import LocalStore
from stockstore.stores.snapshots import ObjectSnapshot, Snapshot
from stockstore.stores.tiers.alike_rows import rows_alike
from stockstore.stores.tiers.backed import BackendTier
from stockstore.stores.tiers.hearing import Hearing
from stockstore.stores.tiers.local_lists import LocalLists
from stockstore.stores.tiers.local_places import LocalPlaces
from stockstore.stores.tiers.telling import tell_end, tell_places

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_log = logging.getLogger(__name__)


class LocalLease(NamedTuple):
    """A lease, and the memory in which it stands."""

    spaces: ClaimedSpaces
    lease: Lease


class LocalTier:
    """A store in the memory of this process, in which markers and leases stand beside the records.

    Until it is told that no other process writes the origin, what it is filled with lives for the store's
    ``max_staleness`` at the most, from the moment of the lease; or for as long as it may, where a channel tells of what other
    processes write. That is passed by while it is not heard.
    """

    remote = False
    carrier = None

    def __init__(self, store: LocalStore) -> None:
        """Serve a store."""
        self._store = store
        self._shared: bool | None = None
        self.hearing = Hearing(store)
        self.announcer = self.hearing.announcer
        self.lists = LocalLists(self)

    def __repr__(self) -> str:
        """Name the store."""
        return repr(self._store)

    def bound_to(self, shared: bool) -> None:
        """Tell whether other processes can write the origin below; of several origins one that is shared decides."""
        if shared and self._shared is False:
            # What was filled so far has no limit.
            self._store.clear()
        self._shared = shared or bool(self._shared)

    # -- channels -------------------------------------------------------------------------------

    def hear(self, carrier: BackendTier) -> None:
        """Listen to the channel of a shared cache below, from the first read on, if the store is to."""
        if self._shared is not False:
            self.hearing.hear(carrier)

    def vouch(self, claim: object, carrier: object) -> None:
        """Note which carrier was asked under a lease, or told of a write."""
        if isinstance(claim, LocalLease):
            claim.lease.voucher = carrier
        else:
            _mine(claim).voucher = carrier

    def limit_by(self, carrier: object) -> float | None:
        """For how many seconds after its lease something is believed for which a carrier vouches."""
        return self.hearing.limit_by(carrier, self.limit)

    @property
    def limit(self) -> float | None:
        """For how many seconds after its lease something is believed; ``None`` for as long as it lives."""
        return None if self._shared is False else self._store.max_staleness

    def standing(self) -> Standing:
        """Tell what holds with the origin that it is bound to."""
        if self._shared is False:
            return Standing("strict", "no other process can write its origin")
        if self._store.max_staleness is None:
            return Standing("strict", "max_staleness=None says that no other process writes its origin")
        level = f"bounded {self._store.max_staleness:g} s"
        heard = self.hearing.described()
        if not heard:
            return Standing(level, "what other processes write is not seen here before max_staleness is over")
        return Standing(
            level, f"what other processes write is heard by {heard}; where nothing was for max_staleness, this tier is passed by"
        )

    def holds(self, cls: type) -> bool:
        """Whether the store keeps objects of a class."""
        return self._store.holds(cls)

    def readable(self, cls: type) -> bool:  # noqa: ARG002 - as other tiers
        """Give ``True``: memory is always told."""
        return True

    def passed_by(self, cls: type, count: int) -> None:
        """Note nothing: it is always readable."""

    # -- reading --------------------------------------------------------------------------------

    def lease(self, cls: type, keys: Sequence[Key], *, session: "Session | None" = None) -> list[Answer[Snapshot]]:
        """Give what is there, and leases on the records that are not, in the positions of the keys."""
        compiled = keys_of(cls)
        lookups = [compiled.lookup(key) for key in keys]
        hidden = hidden_from(session, cls, lookups, self._store.tenant_of)
        self._store._note_hidden(cls, hidden)
        visible = [lookup for lookup, hide in zip(lookups, hidden, strict=True) if not hide]
        if visible and not self.hearing.hears():
            self._store._note("bypass", compiled.identity, len(visible), "channel")
            return [Answer(None, marked=True)] * len(keys)
        answers = iter(self._lease(cls, visible))
        return [Answer(None, marked=True) if hide else next(answers) for hide in hidden]

    def _lease(self, cls: type, lookups: Sequence[Lookup]) -> list[Answer[Snapshot]]:
        store = self._store
        found = store._read(cls, lookups)
        missing = [lookup for lookup, snapshot in zip(lookups, found, strict=True) if snapshot is None]
        given = self._lease_missing(cls, missing) if missing else []
        self._note(cls, len(found), given)
        answers = iter(given)
        return [next(answers) if snapshot is None else Answer(snapshot) for snapshot in found]

    def _note(self, cls: type, asked: int, missing: Sequence[Answer[Snapshot]]) -> None:
        marked = sum(answer.marked for answer in missing)
        self._store._note_reads(cls, asked - len(missing), len(missing) - marked)
        if marked:
            plan = keys_of(cls).identity
            wide = self._store._spaces.claims.wide((self._store._namespace(), plan))
            self._store._note("bypass", plan, marked, "generation" if wide else "marked")

    def _lease_missing(self, cls: type, lookups: Sequence[Lookup]) -> list[Answer[Snapshot]]:
        spaces, space = self._store._spaces, (self._store._namespace(), keys_of(cls).identity)
        direct = [lookup for lookup in lookups if lookup.plan is space[1]]
        cells = spaces.found(*space, alias=False)
        claims = iter(spaces.lease(space, [self._wanted(cls, cells.get(lookup.native), lookup) for lookup in direct]))
        # Nothing tells which record another key means: no lease could be the right one.
        other = Answer[Snapshot](None, marked=spaces.claims.wide(space))
        return [_answer(spaces, *next(claims)) if lookup.plan is space[1] else other for lookup in lookups]

    def _wanted(self, cls: type, node: "Node[Native, Any] | None", lookup: Lookup) -> Wanted:
        """Give what is to be leased, with what stands there where nobody could use it."""
        if node is None or (value := node.value) is None or self._usable(cls, lookup, value):
            return Wanted(lookup.native)
        return Wanted(lookup.native, node, value)

    def _usable(self, cls: type, lookup: Lookup, value: object) -> bool:
        if keys_of(cls).mapped:
            # A row of another class of the hierarchy: the origin has nothing else for this key.
            return isinstance(value, bytes) and self._store._reader(cls)(value, None) is not None
        return self._store._fits(cls, lookup, ObjectSnapshot(value))

    def give_back(self, leases: Iterable[object]) -> None:
        """Let others have them."""
        for given in leases:
            assert isinstance(given, LocalLease)
            given.spaces.give_back(given.lease)

    def fill(self, filled: Sequence[tuple[object, Snapshot]]) -> int:
        """Keep what a lower tier gave, where the lease still stands; give how many were kept."""
        kept = 0
        for spaces, items in _by_spaces(filled):
            ready = self._ready_alike(items) or [
                (lease, one, self.limit_by(lease.voucher))
                for lease, snapshot in items
                for one in self._kept(snapshot)
                if _is_of(lease, snapshot)
            ]
            count, evicted = spaces.fill(ready)
            self._store._counters.add(puts=count, evictions=evicted)
            self._note_filled([lease for lease, _, _ in ready], count)
            kept += count
        return kept

    def fill_together(self, spaces: ClaimedSpaces, lease: Lease, rows: Together) -> None:
        """Do the same with rows of one lease."""
        count, evicted = spaces.fill_together(lease, rows, self.limit_by(lease.voucher))
        self._store._counters.add(puts=count, evictions=evicted)
        self._note_fill(lease.space[1], count, len(rows.values))

    def _ready_alike(self, items: Sequence[tuple[Lease, Snapshot]]) -> list[tuple[Lease, Kept, float | None]] | None:
        """Give rows that are alike with their leases, and for how long they are believed; ``None`` where each has to be looked at by itself."""
        kept = rows_alike(self._store, [snapshot for _, snapshot in items])
        places = [(lease.space[1], lease.key) for lease, _ in items]
        if kept is None or places != [(keys_of(kept[0].cls).identity, one.native) for one in kept]:
            return None
        limits = {voucher: self.limit_by(voucher) for voucher in {lease.voucher for lease, _ in items}}
        return [(lease, one, limits[lease.voucher]) for (lease, _), one in zip(items, kept, strict=True)]

    def _note_filled(self, leases: Sequence[Lease], count: int) -> None:
        if leases:
            self._note_fill(leases[0].space[1], count, len(leases))

    def _note_fill(self, plan: KeyPlan, count: int, leased: int) -> None:
        self._store._note("fill", plan, count)
        self._store._note("refused fill", plan, leased - count, "lease")

    def _kept(self, snapshot: Snapshot) -> Iterator[Kept]:
        """Give an object as the store keeps it; nothing, where it may not or cannot be kept."""
        store = self._store
        try:
            (entry,) = store._entries([snapshot])
            value = store._value(snapshot)
        except (StockstoreError, TypeError, ValueError) as error:
            store._counters.add(errors=1)
            _log.warning("%r cannot keep a %s: %s", store, snapshot.cls.__qualname__, error)
            return
        if entry.stored and snapshot.shared:
            plans = store._shape(snapshot.cls)[1]
            yield Kept(snapshot.cls, plans, entry.native, value, entry.seconds, store._alias_keys(plans, entry.aliases))

    # -- writing --------------------------------------------------------------------------------

    def locate(self, writes: Writes) -> LocalPlaces:
        """Give where writes stand in the caller's namespace."""
        classes = (plan for cls in writes.classes.values() if self.holds(cls) for plan in self._store._cleared_with(cls))
        records = tuple(record for record in (*writes.records, *writes.lists) if self.holds(writes.roots[record[0]]))
        places = LocalPlaces(self._store._spaces, self._store._namespace(writes.tenant), records, tuple(dict.fromkeys(classes)))
        places.lists = writes.lists
        return places

    def texts(self, places: object) -> list[str]:  # noqa: ARG002 - as other tiers
        """Give none: no other process can reach this memory, but by a channel."""
        return []

    def told(self, places: object) -> list[str]:
        """Give places as the key texts by which the memory of other processes knows them."""
        return _mine(places).texts()

    def mark(self, places: object, ticket: bytes) -> None:
        """Put markers; what is marked is absent."""
        mine = _mine(places)
        mine.ticket = ticket
        # Else the first flush would take what is kept behind the marker, and the ticket.
        self.hearing.hears()
        self.hearing.own.add(ticket)
        mine.spaces.mark(mine.namespace, mine.records, mine.classes, ticket)
        tell_places("mark", self._store, mine.records, mine.classes)

    def release(self, places: object, ticket: bytes, *, committed: bool, snapshots: Sequence[Snapshot] = ()) -> None:
        """Take markers away, and keep exactly what was committed."""
        mine = _mine(places)
        spaces, namespace, records, classes = mine
        values = {_record(snapshot): kept for snapshot in snapshots for kept in self._kept(snapshot)} if committed else None
        kept = spaces.release(namespace, records, classes, ticket, values, self.limit_by(mine.voucher_for(snapshots)))
        mine.ticket = None
        self._store._counters.add(puts=len(kept))
        tell_end(self._store, committed, records, classes, kept)

    def invalidate(self, places: object) -> None:
        """Remove what stands at places."""
        mine = _mine(places)
        # By now the tiers below have published what is removed here last.
        self.hearing.own.add(writing.get())
        mine.forget()
        tell_places("invalidate", self._store, mine.records, mine.classes)

    def owe(self, places: object, ticket: bytes | None = None) -> None:
        """Invalidate, and release, at once."""
        self.invalidate(places)
        if ticket is not None:
            LocalTier.release(self, places, ticket, committed=True)


class ThreadLocalTier(LocalTier):
    """The memory of one thread or task: what its own transaction has written ends all that it has read."""

    def release(self, places: object, ticket: bytes, *, committed: bool, snapshots: Sequence[Snapshot] = ()) -> None:
        """Take markers away, and drop everything."""
        del snapshots
        super().release(places, ticket, committed=committed)
        spaces, namespace, _, _ = _mine(places)
        spaces.clear(namespace)

    @property
    def limit(self) -> float | None:
        """As for process memory; other threads write the origin, if no other process does."""
        return self._store.max_staleness

    def standing(self) -> Standing:
        """Tell what holds until a scope ends."""
        limit = self._store.max_staleness
        level = "weak" if limit is None else f"bounded {limit:g} s"
        return Standing(level, "what other threads write is not seen here before max_staleness or the scope is over")


def _mine(places: object) -> LocalPlaces:
    assert isinstance(places, LocalPlaces)
    return places


def _answer(spaces: ClaimedSpaces, lease: Lease | None, marked: bool) -> Answer[Snapshot]:
    return Answer(None, None if lease is None else LocalLease(spaces, lease), marked)


def _record(snapshot: Snapshot) -> Record:
    plan = keys_of(snapshot.cls).identity
    native = snapshot.native(plan)
    assert native is not None
    return plan, native


def _is_of(lease: Lease, snapshot: Snapshot) -> bool:
    return (lease.space[1], lease.key) == _record(snapshot)


def _by_spaces(filled: Sequence[tuple[object, Snapshot]]) -> "Iterator[tuple[ClaimedSpaces, list[tuple[Lease, Snapshot]]]]":
    groups: dict[int, tuple[ClaimedSpaces, list[tuple[Lease, Snapshot]]]] = {}
    for given, snapshot in filled:
        assert isinstance(given, LocalLease)
        groups.setdefault(id(given.spaces), (given.spaces, []))[1].append((given.lease, snapshot))
    yield from groups.values()
