"""Any cache store as a tier of the coherence protocol: markers and leases are kept for it in this process."""

import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

from stockstore.coherence.claims import Claims, Lease
from stockstore.coherence.protocol import Announcer, Answer, Record, Standing, Writes
from stockstore.coherence.recovery import Recovery
from stockstore.errors import CacheUnreachable, CodecError, NotKeyedError, StockstoreError
from stockstore.keys import Key, KeyPlan, Lookup, keys_of
from stockstore.locks import fork_safe_lock
from stockstore.stores.backed import BackendStore
from stockstore.stores.base import Store
from stockstore.stores.cache import CacheStore, subclasses_of
from stockstore.stores.hiding import hidden_from
from stockstore.stores.null import NullStore
from stockstore.stores.snapshots import Snapshot
from stockstore.stores.tenants import current, has_own_verbs
from stockstore.stores.tiers.guarded_places import GuardedPlaces, Place
from stockstore.stores.tiers.telling import tell_end, tell_places

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_log = logging.getLogger(__name__)


class _Flight:
    """A fill on its way into the store; a writer that comes across it leaves a marker in its name."""

    def __init__(self, places: set[Place]) -> None:
        self.places = places
        self.ticket = uuid4().hex.encode()
        self.spoilt: set[Place] = set()


class GuardedTier:
    """A store that cannot compare and set: what this process fills and writes is in order, other processes' fills are not.

    Everything goes through the store's public verbs. No error of theirs reaches a reader, but where the store was told so.
    """

    remote = False
    announcer: Announcer | None = None

    def __init__(self, store: Store) -> None:
        """Serve a store."""
        self._store = store
        self._claims = Claims()
        self._lock = fork_safe_lock()
        self._flights: set[_Flight] = set()
        self._pid = os.getpid()
        self._recovery: Recovery[Record, tuple[object, ...]] = Recovery()
        # What anybody's verbs keep may stand in no namespace.
        self._is_divided = isinstance(store, CacheStore) and has_own_verbs(type(store))

    def __repr__(self) -> str:
        """Name the store."""
        return repr(self._store)

    @property
    def carrier(self) -> None:
        """Nothing tells of what other processes do."""
        return

    def vouch(self, claim: object, carrier: object) -> None:
        """Note nothing."""

    def standing(self) -> Standing:
        """Tell that other processes are not seen."""
        if type(self._store) is NullStore:
            return Standing("strict", "it keeps nothing")
        return Standing(
            "weak",
            "its fills and removals are in order within this process alone, as it offers no compare-and-set; "
            "use RedisStore, MemcacheStore or ProcessMemoryStore as they are, or give its backend the methods of CoherentBackend",
        )

    def holds(self, cls: type) -> bool:
        """Whether the store keeps objects of a class."""
        return self._store.holds(cls)

    def readable(self, cls: type) -> bool:
        """Whether nothing is owed to the store for a class."""
        return not self._recovery.owes() or self._recovery.settled(cls, self._store.partition)

    def passed_by(self, cls: type, count: int) -> None:
        """Note reads that went past it for what is owed."""
        self._store._note("bypass", keys_of(cls).identity, count, "owed")

    # -- reading --------------------------------------------------------------------------------

    def lease(self, cls: type, keys: Sequence[Key], *, session: "Session | None" = None) -> list[Answer[Snapshot]]:
        """Give what is there, and leases on the records that are not, in the positions of the keys."""
        compiled = keys_of(cls)
        lookups = [compiled.lookup(key) for key in keys]
        hidden = hidden_from(session, cls, lookups, self._store.tenant_of if isinstance(self._store, CacheStore) else None)
        self._store._note_hidden(cls, hidden)
        visible = [at for at, hide in enumerate(hidden) if not hide]
        asked = [keys[at] for at in visible]
        answers = iter(self._answers(cls, asked, [lookups[at] for at in visible], session) if visible else ())
        return [Answer(None, marked=True) if hide else next(answers) for hide in hidden]

    def _answers(self, cls: type, keys: Sequence[Key], lookups: Sequence[Lookup], session: "Session | None") -> list[Answer[Snapshot]]:
        try:
            partition = self._store.partition
            found = list(zip(lookups, self._store.batch_fetch(cls, keys, session=session), strict=True))
        except Exception as error:
            if self._store.raises(error):
                raise
            self._report("was not read; the tiers below are", error)
            self._store._note("bypass", keys_of(cls).identity, len(lookups), "unreachable")
            return [Answer(None)] * len(lookups)
        with self._lock:
            answers = [self._answer(cls, partition, lookup, snapshot) for lookup, snapshot in found]
        self._store._note("bypass", keys_of(cls).identity, sum(answer.marked for answer in answers), "marked")
        return answers

    def _answer(self, cls: type, partition: str, lookup: Lookup, snapshot: Snapshot | None) -> Answer[Snapshot]:
        record = (keys_of(cls).identity, lookup.native) if snapshot is None else _record(snapshot)
        space = (partition, keys_of(cls).identity if record is None else record[0])
        if snapshot is not None and record is not None:
            marked = self._claims.marked(space, record[1])
            return Answer(None, marked=True) if marked else Answer(snapshot)
        if snapshot is not None or lookup.plan is not space[1]:
            return Answer(None, marked=self._claims.wide(space))
        return Answer(None, self._claims.lease(space, lookup.native), self._claims.marked(space, lookup.native))

    def give_back(self, leases: Iterable[object]) -> None:
        """Let others have them."""
        with self._lock:
            for lease in leases:
                if isinstance(lease, Lease) and self._claims.stands(lease):
                    self._claims.drop_lease(lease.space, lease.key)

    def fill(self, filled: Sequence[tuple[object, Snapshot]]) -> int:
        """Keep what a lower tier gave, where the lease still stands; give how many were kept."""
        with self._lock:
            granted = [(lease, snapshot) for lease, snapshot in filled if isinstance(lease, Lease) and self._redeem(lease, snapshot)]
            flight = _Flight({(lease.space, lease.key) for lease, _ in granted})
            self._flights.add(flight)
        try:
            if granted:
                self._store.batch_fill([snapshot for _, snapshot in granted])
        except Exception as error:  # noqa: BLE001 - anybody's class
            self._report("was not filled", error)
            self._note_filled(filled, 0, "unreachable")
            return 0
        finally:
            self._land(flight, [snapshot for _, snapshot in granted])
        kept = len(granted) - len(flight.spoilt)
        self._note_filled(filled, kept, "lease")
        return kept

    def _note_filled(self, filled: Sequence[tuple[object, Snapshot]], kept: int, refusal: str) -> None:
        if filled:
            plan = keys_of(filled[0][1].cls).identity
            self._store._note("fill", plan, kept)
            self._store._note("refused fill", plan, len(filled) - kept, refusal)

    def _redeem(self, lease: Lease, snapshot: Snapshot) -> bool:
        stands = snapshot.shared and self._claims.stands(lease) and _record(snapshot) == (lease.space[1], lease.key)
        if stands:
            self._claims.drop_lease(lease.space, lease.key)
        return stands

    def _land(self, flight: _Flight, snapshots: Sequence[Snapshot]) -> None:
        """Remove what a writer came across on its way, before anybody may read it."""
        with self._lock:
            self._flights.discard(flight)
        if flight.spoilt:
            writes = Writes()
            for snapshot in snapshots:
                writes.add(snapshot.cls, snapshot.key())
            places = self.locate(writes)
            try:
                self._delete(places, places.records)
            except CacheUnreachable:
                self.owe(places)
            with self._lock:
                for space, native in flight.spoilt:
                    self._claims.release(space, native, flight.ticket)

    # -- writing --------------------------------------------------------------------------------

    def locate(self, writes: Writes) -> GuardedPlaces:
        """Give where writes stand in the caller's namespace."""
        holds = self.holds if writes.tenant is None or self._is_divided else _nothing
        records = {record: values for record, values in writes.records.items() if holds(writes.roots[record[0]])}
        wide = {keys_of(kind).identity: kind for cls in writes.classes.values() if holds(cls) for kind in self._kinds_of(cls)}
        context = copy_context()
        if writes.tenant is not None:
            context.run(current.set, writes.tenant)
        return GuardedPlaces(context, context.run(lambda: self._store.partition), records, tuple(wide), writes.roots | wide)

    def _kinds_of(self, cls: type) -> Iterator[type]:
        """Give a class, and those below it whose objects its look-ups may find under identities of their own."""
        if isinstance(self._store, CacheStore):
            yield from self._store._kinds_of(cls)
        else:
            yield from (cls, *(() if keys_of(cls).mapped else subclasses_of(cls)))

    def texts(self, places: object) -> list[str]:  # noqa: ARG002 - as other tiers
        """Give none: what the store does with keys is not known."""
        return []

    def told(self, places: object) -> list[str]:  # noqa: ARG002 - as other tiers
        """Give none: what it holds nobody else hears of."""
        return []

    def mark(self, places: object, ticket: bytes) -> None:
        """Put markers, and delete what is marked; raises CacheUnreachable, also for the store's own errors."""
        mine = _mine(places)
        with self._lock:
            for plan in mine.classes:
                self._claims.mark_all((mine.partition, plan), ticket)
            for space, native in mine.places():
                self._claims.mark(space, native, ticket)
            self._spoil(mine)
        self._delete(mine, mine.records)
        tell_places("mark", self._store, mine.records, mine.classes)

    def release(self, places: object, ticket: bytes, *, committed: bool, snapshots: Sequence[Snapshot] = ()) -> None:
        """Take markers away, and keep exactly what was committed; raises CacheUnreachable, and the markers stay then."""
        mine, put = _mine(places), set[Record]()
        if committed:
            put = self._put(mine, ticket, snapshots)
            self._delete(mine, [record for record in mine.records if record not in put])
        self._unmark(mine, ticket)
        tell_end(self._store, committed, mine.records, mine.classes, put)

    def _put(self, places: GuardedPlaces, ticket: bytes, snapshots: Sequence[Snapshot]) -> set[Record]:
        """Put values behind the markers, take those markers away, and give the records that another writer has not met since."""
        known = {record: snapshot for snapshot in snapshots if (record := _record(snapshot)) is not None and record in places.records}
        with self._lock:
            values = {record: snapshot for record, snapshot in known.items() if self._sole(places, record, ticket)}
        if values:
            _raising(partial(places.context.copy().run, self._store.batch_fill, list(values.values())))
        with self._lock:
            put = {record for record in values if self._sole(places, record, ticket)}
            for plan, native in put:
                self._claims.release((places.partition, plan), native, ticket)
        return put

    def _sole(self, places: GuardedPlaces, record: Record, ticket: bytes) -> bool:
        return self._claims.sole((places.partition, record[0]), record[1], ticket)

    def invalidate(self, places: object) -> None:
        """Remove what stands at places; raises CacheUnreachable, also for the store's own errors."""
        mine = _mine(places)
        with self._lock:
            for plan in mine.classes:
                self._claims.invalidate_all((mine.partition, plan))
            for space, native in mine.places():
                self._claims.invalidate(space, native)
            self._spoil(mine)
        self._delete(mine, mine.records)
        tell_places("invalidate", self._store, mine.records, mine.classes)

    def refuse_fills(self, cls: type | None) -> None:
        """Let nothing stay that readers of a class, or of all, are about to keep: the store is being cleared."""
        partition = self._store.partition
        kinds = None if cls is None else {keys_of(kind).identity for kind in self._kinds_of(cls)}
        with self._lock:
            spaces = self._claims.spaces() | {space for flight in self._flights for space, _ in flight.places}
            plans = tuple(plan for name, plan in spaces if name == partition and (kinds is None or plan in kinds))
            for plan in plans:
                self._claims.invalidate_all((partition, plan))
            self._spoil(GuardedPlaces(copy_context(), partition, {}, plans, {}))

    def owe(self, places: object, ticket: bytes | None = None) -> None:
        """Invalidate as soon as the store works again; the markers go, as nothing is read until then."""
        mine = _mine(places)
        tell_places("owe", self._store, mine.records, mine.classes)
        for plan in mine.classes:
            self._owe(mine, plan, None)
        for plan in {plan for plan, _ in mine.records} - set(mine.classes):
            self._owe(mine, plan, {record: values for record, values in mine.records.items() if record[0] is plan})
        if ticket is not None:
            self._unmark(mine, ticket)
            tell_places("release", self._store, mine.records, mine.classes, "owed")

    def _owe(self, places: GuardedPlaces, plan: KeyPlan, records: dict[Record, tuple[object, ...]] | None) -> None:
        def tell(owed: Mapping[Record, tuple[object, ...]] | None) -> None:
            told = partial(self.invalidate, places._replace(records=dict(owed or {}), classes=(plan,) if owed is None else ()))
            # Told by a thread, an asyncio client is used in its loop.
            if isinstance(self._store, BackendStore):
                self._store.backend.at_home(told)
            else:
                told()

        self._recovery.add(places.roots[plan], places.partition, records, tell)

    def _unmark(self, places: GuardedPlaces, ticket: bytes) -> None:
        with self._lock:
            for plan in places.classes:
                self._claims.release_all((places.partition, plan), ticket)
            for space, native in places.places():
                self._claims.release(space, native, ticket)

    def _spoil(self, places: GuardedPlaces) -> None:
        if self._pid != os.getpid():
            # The threads of the parent do not land here.
            self._flights, self._pid = set(), os.getpid()
        touched, spaces = set(places.places()), {(places.partition, plan) for plan in places.classes}
        for flight in self._flights:
            met = {place for place in flight.places if place in touched or place[0] in spaces}
            for space, native in met - flight.spoilt:
                self._claims.mark(space, native, flight.ticket)
            flight.spoilt |= met

    def _delete(self, places: GuardedPlaces, records: Collection[Record]) -> None:
        for plan in places.classes:
            _raising(partial(places.context.copy().run, self._store.clear, places.roots[plan]))
        for cls, keys in places.keys(records):
            _raising(partial(places.context.copy().run, self._store.batch_delete, cls, keys))

    def _report(self, what: str, error: Exception) -> None:
        self._store._counters.add(errors=1)
        _log.warning("%r %s: %s", self._store, what, error, exc_info=not isinstance(error, StockstoreError))


def _nothing(_cls: type) -> bool:
    return False


def _mine(places: object) -> GuardedPlaces:
    assert isinstance(places, GuardedPlaces)
    return places


def _record(snapshot: Snapshot) -> Record | None:
    plan = keys_of(snapshot.cls).identity
    try:
        native = snapshot.native(plan)
    except (NotKeyedError, CodecError):  # a shared object that has lost the key since it was put
        return None
    return None if native is None else (plan, native)


def _raising(step: Callable[[], object]) -> None:
    """Do a step of anybody's class, whose errors are all of one kind for the protocol."""
    try:
        step()
    except CacheUnreachable:
        raise
    except Exception as error:
        raise CacheUnreachable(f"a cache store did not do what was asked: {error!r}") from error
