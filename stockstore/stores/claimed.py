"""The shelves of process memory as a tier of the coherence protocol: each step is one under the lock of the cells."""

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple

from stockstore.backends.local_nodes import Node, Shelf
from stockstore.coherence.claims import Claims, Lease, Space
from stockstore.coherence.protocol import Record
from stockstore.keys import KeyPlan, Native, namespace_text
from stockstore.keys.texts import KeyText, namespace_in
from stockstore.lifetimes import shorter
from stockstore.stores.spaces import AliasKeys, LocalSpaces

_now = time.monotonic


class Claim(NamedTuple):
    """What a reader got who asked for a lease, and whether a writer is at work."""

    lease: Lease | None
    marked: bool


class Wanted(NamedTuple):
    """A record to be leased, and what stands there that its reader cannot use."""

    native: Native
    node: "Node[Native, Any] | None" = None
    value: object = None


class Together(NamedTuple):
    """Rows of one class that have no other keys, as they are kept, by their identities; ``seconds`` is what they may live."""

    cls: type
    values: Mapping[Native, object]
    seconds: float | None


class Kept(NamedTuple):
    """An object as it is kept; ``seconds`` is what it may live, ``None`` for no limit."""

    cls: type
    plans: tuple[KeyPlan, ...]
    native: Native
    value: object
    seconds: float | None
    alias_keys: AliasKeys


class ClaimedSpaces(LocalSpaces):
    """Shelves whose records readers lease and writers mark.

    What is marked is not on its shelf, so that a hit has nothing more to check.
    """

    def __init__(self, maxsize: int) -> None:
        """Start empty."""
        super().__init__(maxsize)
        self.claims = Claims()

    def claim(self) -> None:
        """Have puts look at claims from now on."""
        if self.cells.refuses is None:
            # Not a method: the cells would refer to themselves, and wait for the garbage collector.
            self.cells.refuses = partial(_refuses, self.claims)

    # -- readers --------------------------------------------------------------------------------

    def lease(self, space: Space, wanted: Sequence[Wanted]) -> list[Claim]:
        """Lease records that are absent, or hold what their reader cannot use."""
        self.claim()
        claims: list[Claim] = []
        self.cells.alone(self._lease, space, wanted, claims)
        return claims or [Claim(None, marked=False)] * len(wanted)

    def _lease(self, dropped: list[object], space: Space, wanted: Sequence[Wanted], claims: list[Claim]) -> int:
        # Under the lock, as a sweep forgets what nobody has to do with.
        self.know(*space)
        cells = self.found(*space, alias=False)
        for native, unusable, value in wanted:
            if unusable is not None and cells.get(native) is unusable and unusable.value is value:
                self.cells.take(dropped, cells, native)
        absent = list(dict.fromkeys([native for native, _, _ in wanted if native not in cells]))
        leases = dict(zip(absent, self.claims.lease_many(space, absent), strict=True))
        for native, _, _ in wanted:
            lease = leases.pop(native, None)
            claims.append(Claim(lease, lease is None and self.claims.marked(space, native)))
        return 0

    def lease_together(self, space: Space, natives: Sequence[Native]) -> Lease | None:
        """Lease records by one lease, if all of them are absent and free."""
        self.claim()
        leases: list[Lease | None] = []
        self.cells.alone(self._lease_together, space, natives, leases)
        return leases[0] if leases else None

    def _lease_together(self, dropped: list[object], space: Space, natives: Sequence[Native], leases: list[Lease | None]) -> int:
        del dropped
        self.know(*space)
        if self.found(*space, alias=False).keys().isdisjoint(natives):
            leases.append(self.claims.lease_together(space, natives))
        return 0

    def fill(self, filled: Sequence[tuple[Lease, Kept, float | None]]) -> tuple[int, int]:
        """Keep what lower tiers gave where its lease stands, and give how many were kept, and how many evicted for them.

        Args:
            filled: The leases, what is to be kept, and the seconds after the lease at which it is no longer believed.
        """
        kept: list[None] = []
        evicted = self.cells.alone(self._fill, filled, kept)
        return len(kept), evicted

    def _fill(self, dropped: list[object], filled: Sequence[tuple[Lease, Kept, float | None]], done: list[None]) -> int:
        evicted, now = 0, _now()
        standing = self.claims.standing([lease for lease, _, _ in filled])
        for lease, kept, limit in filled:
            if lease in standing:
                done.append(None)
                evicted += self._keep(dropped, lease.space[0], kept, lease.since, limit, now)
        return evicted

    def _keep(self, dropped: list[object], namespace: str, kept: Kept, since: float, limit: float | None, now: float) -> int:
        """Keep a value that was true at a moment."""
        expires = self._end(kept.seconds, since, limit, now)
        if expires is not None and expires <= now:
            return 0
        shelf = self.shelf(namespace, kept.cls, kept.plans)
        return self.cells.keep(dropped, shelf, kept.native, kept.value, expires, kept.alias_keys)

    def _end(self, seconds: float | None, since: float, limit: float | None, now: float) -> float | None:
        """Give when what was true at a moment is no longer to be believed."""
        expires = None if seconds is None else now + seconds
        if limit is not None:
            expires = shorter(expires, since + limit)
        if expires is not None and expires > now and not self.cells.expiring:
            self.cells.start_expiring()
        return expires

    def fill_together(self, lease: Lease, rows: Together, limit: float | None) -> tuple[int, int]:
        """Do as :meth:`fill` with rows of one lease."""
        kept: list[None] = []
        evicted = self.cells.alone(self._fill_together, lease, rows, limit, kept)
        return len(kept), evicted

    def _fill_together(self, dropped: list[object], lease: Lease, rows: Together, limit: float | None, done: list[None]) -> int:
        natives, now = self.claims.spend(lease, rows.values), _now()
        done.extend(repeat(None, len(natives)))
        expires = self._end(rows.seconds, lease.since, limit, now)
        if not natives or (expires is not None and expires <= now):
            return 0
        values = rows.values if len(natives) == len(rows.values) else {native: rows.values[native] for native in natives}
        return self.cells.keep_together(dropped, self.shelf(lease.space[0], rows.cls, ()), values, expires)

    def give_back(self, lease: Lease) -> None:
        """Let others have a lease."""
        self.cells.alone(self._give_back, lease)

    def _give_back(self, dropped: list[object], lease: Lease) -> int:
        del dropped
        if self.claims.stands(lease):
            self.claims.drop_lease(lease.space, lease.key)
        return 0

    def give_back_together(self, lease: Lease, natives: Iterable[Native]) -> None:
        """Let others have a lease on several records."""
        self.cells.alone(self._give_back_together, lease, natives)

    def _give_back_together(self, dropped: list[object], lease: Lease, natives: Iterable[Native]) -> int:
        del dropped
        self.claims.spend(lease, natives)
        return 0

    # -- writers --------------------------------------------------------------------------------

    def mark(self, namespace: str, records: Sequence[Record], classes: Sequence[KeyPlan], ticket: bytes) -> None:
        """Put a writer's marker on records and whole classes, which are absent then."""
        self.claim()
        with self.cells.lock:
            if self.cells.cut_into:
                self._hide(namespace, records, classes)
            self.cells.alone(self._mark, namespace, records, classes, ticket)

    def _hide(self, namespace: str, records: Sequence[Record], classes: Sequence[KeyPlan]) -> None:
        """Have nothing found where markers will stand: a finalizer or a signal's handler may commit before the step goes on."""
        nodes = [self.found(namespace, plan, alias=False).get(native) for plan, native in records]
        for plan in classes:
            nodes += self.found(namespace, plan, alias=False).values()
        for node in nodes:
            if node is not None:
                node.value = None

    def _mark(self, dropped: list[object], namespace: str, records: Sequence[Record], classes: Sequence[KeyPlan], ticket: bytes) -> int:
        for plan in {*classes, *(plan for plan, _ in records)}:
            self.know(namespace, plan)
        for plan in classes:
            self.claims.mark_all((namespace, plan), ticket)
            self.cells.empty(dropped, self.found(namespace, plan, alias=False))
        for plan, native in records:
            self.claims.mark((namespace, plan), native, ticket)
            self.cells.take(dropped, self.found(namespace, plan, alias=False), native)
        return 0

    def release(
        self,
        namespace: str,
        records: Sequence[Record],
        classes: Sequence[KeyPlan],
        ticket: bytes,
        values: "Mapping[Record, Kept] | None",
        limit: float | None,
    ) -> list[Record]:
        """Take a writer's marker away, keep values where it was the only one, and give which; ``None`` for them: nothing was committed."""
        done: list[Record] = []
        self.cells.alone(self._release, namespace, records, classes, ticket, values, limit, done)
        return done

    def _release(
        self,
        dropped: list[object],
        namespace: str,
        records: Sequence[Record],
        classes: Sequence[KeyPlan],
        ticket: bytes,
        values: "Mapping[Record, Kept] | None",
        limit: float | None,
        done: list[Record],
    ) -> int:
        committed = values is not None
        for plan in classes:
            if not self.claims.release_all((namespace, plan), ticket) and committed:
                self._invalidate_class(dropped, namespace, plan)
        for plan, native in records:
            released = self.claims.release((namespace, plan), native, ticket)
            if not released.held and committed:
                self._lost(dropped, namespace, plan, native)
            kept = values.get((plan, native)) if values else None
            if released.since is not None and kept is not None:
                self._keep(dropped, namespace, kept, released.since, limit, _now())
                done.append((plan, native))
        return 0

    def _lost(self, dropped: list[object], namespace: str, plan: KeyPlan, native: Native) -> None:
        """Remove what came after a marker was lost."""
        self.claims.drop_lease((namespace, plan), native)
        self.cells.take(dropped, self.found(namespace, plan, alias=False), native)

    # -- invalidation ---------------------------------------------------------------------------

    def remove(self, namespace: str, records: Sequence[Record]) -> int:
        """Drop records with their leases, let no value follow a marker, and give how many there were."""
        return self.cells.alone(self._remove, namespace, records)

    def _remove(self, dropped: list[object], namespace: str, records: Sequence[Record]) -> int:
        removed = 0
        for plan, native in records:
            removed += self._forget(dropped, namespace, plan, native)
        return removed

    def clear(self, namespace: str, plans: Sequence[KeyPlan] | None = None) -> None:
        """Drop the records of a namespace, or those under some identities of it, with their leases; no value follows a marker."""
        self.cells.alone(self._clear, namespace, plans)

    def _clear(self, dropped: list[object], namespace: str, plans: Sequence[KeyPlan] | None) -> int:
        for plan in self._identities(namespace) if plans is None else plans:
            self._invalidate_class(dropped, namespace, plan)
        return 0

    def hear(self, keys: Sequence[KeyText], *, exact: bool) -> tuple[list[Record], list[KeyPlan]]:
        """Do :meth:`remove` and :meth:`clear` with what key texts name, as far as anything of it may be here, and give what that is.

        Args:
            keys: What is named.
            exact: Whether it stands in the namespace of its text, or may stand in any.
        """
        records: list[Record] = []
        classes: list[KeyPlan] = []
        self.cells.alone(self._hear, keys, exact, records, classes)
        return records, classes

    def _hear(self, dropped: list[object], keys: Sequence[KeyText], exact: bool, records: list[Record], classes: list[KeyPlan]) -> int:
        places: dict[tuple[str, str], list[tuple[str, KeyPlan]]] = {}
        named: dict[tuple[str, KeyPlan], list[Native]] = {}
        for key in keys:
            at = (key.namespace, key.label)
            if at not in places:
                places[at] = [
                    (namespace, plan) for namespace in self._named(key.namespace, exact) for plan in self._meant(namespace, key.label)
                ]
            for namespace, plan in places[at]:
                native = key.native(plan)
                if native is None:
                    self._invalidate_class(dropped, namespace, plan)
                    classes.append(plan)
                else:
                    named.setdefault((namespace, plan), []).append(native)
                    records.append((plan, native))
        for (namespace, plan), natives in named.items():
            self.claims.invalidate_many((namespace, plan), natives)
            cells = self.found(namespace, plan, alias=False)
            for native in filter(cells.__contains__, natives):
                self.cells.take(dropped, cells, native)
        return 0

    def _meant(self, namespace: str, label: str) -> Iterable[KeyPlan]:
        return self.labelled(label) if label else self._identities(namespace)

    def _named(self, text: str, exact: bool) -> list[str]:
        known = namespace_in(text) if exact else None
        if known is not None:
            return [known] if known in self._names else []
        return [name for name in list(self._names) if not exact or namespace_text(name) == text]

    def _forget(self, dropped: list[object], namespace: str, plan: KeyPlan, native: Native) -> int:
        self.claims.invalidate((namespace, plan), native)
        return self.cells.take(dropped, self.found(namespace, plan, alias=False), native)

    def _idle(self, kept: set[str]) -> set[str]:
        return super()._idle(kept | {name for name, _ in self.claims.spaces()})

    def flush(self) -> None:
        """Do :meth:`clear` with every namespace."""
        self.cells.alone(self._flush)

    def _flush(self, dropped: list[object]) -> int:
        for namespace in list(self._names):
            self._clear(dropped, namespace, None)
        return 0

    def _identities(self, namespace: str) -> set[KeyPlan]:
        standing = {plan for name, plan, alias in self.places() if name == namespace and not alias}
        return standing | {plan for name, plan in self.claims.spaces() if name == namespace}

    def _invalidate_class(self, dropped: list[object], namespace: str, plan: KeyPlan) -> None:
        self.claims.invalidate_all((namespace, plan))
        self.cells.empty(dropped, self.found(namespace, plan, alias=False))


def _refuses(claims: Claims, shelf: Shelf[Native, Any], key: Native) -> bool:
    """Whether a put may not be seen; it takes the lease of a reader in any case."""
    space = shelf.space
    claims.drop_lease(space, key)
    return claims.marked(space, key)
