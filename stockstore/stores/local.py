"""What the stores in process memory share: objects on shelves, without bytes or servers."""

import copy
import time
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from stockstore.backends.local import LocalCells, Node, Shelf
from stockstore.errors import CodecError, NotKeyedError
from stockstore.keys import Key, KeyPlan, Lookup, Native, class_name, keys_of
from stockstore.lifetimes import Lifetime
from stockstore.stores.arguments import keys_in
from stockstore.stores.cache import Alias, CacheStore, Entry, Namespace
from stockstore.stores.snapshots import ObjectSnapshot, RowSnapshot, Snapshot

Cells: TypeAlias = dict[Native, Node[Native, Any]]
AliasKeys: TypeAlias = tuple[Native | None, ...]

_now = time.monotonic


_NOTHING: Cells = {}
_SWEEP_AT = 1000
"""Dictionaries made before those of tenants without records are looked for."""


class LocalSpaces:
    """The shelves of one store, or of one context of it."""

    def __init__(self, maxsize: int) -> None:
        """Start empty."""
        self.cells: LocalCells[Native, Any] = LocalCells(maxsize)
        self._dicts: dict[tuple[str, KeyPlan, bool], Cells] = {}
        self._shelves: dict[tuple[str, type], Shelf[Native, Any]] = {}
        self._making = False
        self._sweep_at = _SWEEP_AT
        self._sweeps = 0

    def found(self, namespace: str, plan: KeyPlan, *, alias: bool) -> Cells:
        """Give the records under an identity, or those that a key points to, for reading: nothing is made for a namespace that is only asked for."""
        return self._dicts.get((namespace, plan, alias), _NOTHING)

    def records(self, namespace: str, plan: KeyPlan) -> Cells:
        """Give the records under an identity."""
        cells = self._dicts.get((namespace, plan, False))
        return self._dicts.setdefault((namespace, plan, False), {}) if cells is None else cells

    def aliases(self, namespace: str, plan: KeyPlan) -> Cells:
        """Give the records that a key points to."""
        cells = self._dicts.get((namespace, plan, True))
        return self._dicts.setdefault((namespace, plan, True), {}) if cells is None else cells

    def shelf(self, namespace: str, cls: type, plans: tuple[KeyPlan, ...]) -> Shelf[Native, Any]:
        """Give the shelf for objects of exactly this class."""
        shelf = self._shelves.get((namespace, cls))
        return self._new_shelf(namespace, cls, plans) if shelf is None else shelf

    def _new_shelf(self, namespace: str, cls: type, plans: tuple[KeyPlan, ...]) -> Shelf[Native, Any]:
        with self.cells.lock:
            # Not while one is being made, whose dictionaries are empty: a finalizer may use the store in the middle of it.
            if len(self._dicts) > self._sweep_at and not self._making:
                self._sweep(namespace)
            self._making = True
            try:
                aliases = tuple(self.aliases(namespace, plan) for plan in plans)
                return self._shelves.setdefault((namespace, cls), Shelf(self.records(namespace, keys_of(cls).identity), aliases))
            finally:
                self._making = False

    def _sweep(self, namespace: str) -> None:
        """Forget the tenants, but one, that have no records left."""
        self._sweeps += 1
        kept = {name for (name, _, _), cells in list(self._dicts.items()) if cells} | {namespace}
        for place in [place for place in list(self._dicts) if place[0] not in kept]:
            self._dicts.pop(place, None)
        for owner in [owner for owner in list(self._shelves) if owner[0] not in kept]:
            self._shelves.pop(owner, None)
        self._sweep_at = max(_SWEEP_AT, 2 * len(self._dicts))

    def put(
        self, namespace: str, cls: type, plans: tuple[KeyPlan, ...], native: Native, value: object, expires: float | None, keys: AliasKeys
    ) -> int:
        """Keep a record under its key and its aliases, and give how many were evicted for it."""
        evicted = 0
        while True:
            sweeps = self._sweeps
            evicted += self.cells.put(self.shelf(namespace, cls, plans), native, value, expires, keys)
            # A sweep in between may have forgotten the shelf.
            if sweeps == self._sweeps:
                return evicted

    def clear(self, namespace: str, plans: Sequence[KeyPlan] | None = None) -> None:
        """Drop the records of a namespace, or those under some identities of it."""
        dicts = [
            cells
            for (name, plan, alias), cells in list(self._dicts.items())
            if name == namespace and not alias and (plans is None or plan in plans)
        ]
        self.cells.clear(dicts)


class LocalStore(CacheStore):
    """Plain objects by reference (or copied), mapped ones as their packed column state."""

    def __init__(
        self,
        *,
        lifetime: Lifetime = None,
        polymorphic: bool = False,
        namespace: Namespace = "stockstore",
        jitter: float = 0.0,
        copy: bool = False,
    ) -> None:
        """Keep the settings."""
        super().__init__(lifetime=lifetime, polymorphic=polymorphic, namespace=namespace, jitter=jitter)
        self._copy = copy

    @property
    @abstractmethod
    def _spaces(self) -> LocalSpaces:
        """Give the shelves that this caller sees."""

    # -- reading --------------------------------------------------------------------------------

    def _read(self, cls: type, lookups: Sequence[Lookup]) -> list[Snapshot | None]:
        return self._look(cls, lookups, 1)

    def _peek(self, cls: type, lookups: Sequence[Lookup]) -> list[Snapshot | None]:
        return self._look(cls, lookups, 0)

    def _look(self, cls: type, lookups: Sequence[Lookup], uses: int) -> list[Snapshot | None]:
        spaces, namespace, now = self._spaces, self._namespace(), _now()
        return [self._find(cls, lookup, self._places(cls, lookup, spaces, namespace), now, uses) for lookup in lookups]

    def _find(self, cls: type, lookup: Lookup, places: Iterable[Cells], now: float, uses: int) -> Snapshot | None:
        for cells in places:
            node = cells.get(lookup.native)
            snapshot = None if node is None else self._snapshot(cls, node, now)
            if node is not None and snapshot is not None and self._fits(cls, lookup, snapshot):
                node.hits += uses
                return snapshot
        return None

    def _places(self, cls: type, lookup: Lookup, spaces: LocalSpaces, namespace: str) -> Iterator[Cells]:
        keys = keys_of(cls)
        if lookup.plan is keys.identity:
            yield spaces.found(namespace, lookup.plan, alias=False)
        yield spaces.found(namespace, lookup.plan, alias=True)

    def _snapshot(self, cls: type, node: "Node[Native, Any]", now: float) -> Snapshot | None:
        # In this order: see LocalCells.
        expires, value = node.expires, node.value
        if expires is not None and expires <= now:
            self._expire(node)
            return None
        if value is None:
            return None
        lifetime = None if expires is None else expires - now
        if not keys_of(cls).mapped:
            return ObjectSnapshot(_copied(value) if self._copy else value, lifetime)
        return self._row(cls, value, lifetime)

    def _row(self, cls: type, payload: bytes, lifetime: float | None) -> RowSnapshot | None:
        from stockstore.mapped import OtherShapeError, plan_of

        try:
            return RowSnapshot(*plan_of(cls).unpack(payload), lifetime=lifetime)
        except OtherShapeError:
            return None

    def _expire(self, node: "Node[Native, Any]") -> None:
        if self._spaces.cells.expire(node, _now()):
            self._counters.add(expirations=1)

    # -- deleting: a shared plain object may stand under a key that it no longer carries --------

    def _records_of(self, objects: Sequence[object]) -> list[Alias]:
        records = super()._records_of(objects)
        own = [(plan, _carried(plan, obj), obj) for obj in objects if not keys_of(type(obj)).mapped for plan in self._shape(type(obj))[1]]
        return records + [place for plan, native, obj in own if native is not None for place in self._standing(plan, native, obj)]

    def _records_by_key(self, cls: type, keys: Iterable[Key] | None) -> list[Alias]:
        asked, compiled = keys_in(keys), keys_of(cls)
        lookups = [] if compiled.mapped else [compiled.lookup(key) for key in asked]
        return super()._records_by_key(cls, asked) + [place for x in lookups for place in self._standing(x.plan, x.native, None)]

    def _standing(self, plan: KeyPlan, native: Native, only: object) -> Iterator[Alias]:
        """Give the place of the record that a key points to, where its object still carries the key, and is the only one meant."""
        node = self._spaces.found(self._namespace(), plan, alias=True).get(native)
        obj = None if node is None else node.value
        if node is not None and obj is not None and (only is None or only is obj) and _carried(plan, obj) == native:
            yield keys_of(type(obj)).identity, node.key

    # -- writing --------------------------------------------------------------------------------

    def _write(self, entries: Sequence[Entry]) -> None:
        spaces, namespace = self._spaces, self._namespace()
        # All values first: where one is refused, nothing was written.
        values = [self._value(entry.snapshot) if entry.stored else None for entry in entries]
        for entry, value in zip(entries, values, strict=True):
            self._write_one(spaces, namespace, entry, value)

    def _write_one(self, spaces: LocalSpaces, namespace: str, entry: Entry, value: object) -> None:
        if not entry.stored:
            spaces.cells.remove(spaces.found(namespace, entry.plan, alias=False), entry.native)
            return
        cls = entry.snapshot.cls
        plans = self._shape(cls)[1]
        expires = None if entry.seconds is None else _now() + entry.seconds
        evicted = spaces.put(namespace, cls, plans, entry.native, value, expires, self._alias_keys(plans, entry.aliases))
        if evicted:
            self._counters.add(evictions=evicted)

    def _value(self, snapshot: Snapshot) -> object:
        if isinstance(snapshot, RowSnapshot):
            return snapshot.payload()
        return _copied(snapshot.value) if self._copy else snapshot.value

    @staticmethod
    def _alias_keys(plans: tuple[KeyPlan, ...], aliases: Sequence[Alias]) -> AliasKeys:
        if not plans:
            return ()
        natives = dict(aliases)
        return tuple(natives.get(plan) for plan in plans)

    def _remove(self, records: Sequence[Alias]) -> int:
        spaces, namespace = self._spaces, self._namespace()
        return sum(spaces.cells.remove(spaces.found(namespace, plan, alias=False), native) for plan, native in records)

    def clear(self, cls: type | None = None) -> None:
        """Drop everything of this namespace, or all of one class; of a mapped class, of its whole hierarchy."""
        self._spaces.clear(self._namespace(), None if cls is None else list(self._cleared_with(cls)))

    def close(self) -> None:
        """Forget everything."""
        self._spaces.cells.clear()


def _copied(value: object) -> object:
    try:
        return copy.deepcopy(value)
    except Exception as error:
        raise CodecError(f"a {class_name(type(value))} cannot be copied, as copy=True asks: {error}") from error


def _carried(plan: KeyPlan, obj: object) -> Native | None:
    """Give an object's value of a key, ``None`` where it has lost it since it was put."""
    try:
        return plan.native_of(obj)
    except (NotKeyedError, CodecError):
        return None
