"""What the stores in process memory share: objects on shelves, without bytes or servers."""

import copy
import math
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from stockstore.backends.local_nodes import Node
from stockstore.channels.base import Channel, Freshness, Freshnesses
from stockstore.errors import CodecError, ConfigurationError, NotKeyedError
from stockstore.keys import Key, KeyPlan, Lookup, Native, class_name, keys_of
from stockstore.lifetimes import Lifetime
from stockstore.stores.arguments import keys_in, refuse_no_flag
from stockstore.stores.base import Store
from stockstore.stores.cache import Alias, CacheStore, Entry, Namespace
from stockstore.stores.claimed import ClaimedSpaces
from stockstore.stores.null import NullStore
from stockstore.stores.snapshots import ObjectSnapshot, RowSnapshot, Snapshot
from stockstore.stores.spaces import AliasKeys, Cells

_Restore: TypeAlias = Callable[[Any, float | None], Snapshot | None]

_now = time.monotonic


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
        max_staleness: float | None = 1.0,
    ) -> None:
        """Keep the settings."""
        super().__init__(lifetime=lifetime, polymorphic=polymorphic, namespace=namespace, jitter=jitter)
        if max_staleness is not None and (type(max_staleness) not in (int, float) or not 0 < max_staleness < math.inf):
            raise ConfigurationError(f"max_staleness is a number of seconds above 0, or None, not {max_staleness!r}")
        refuse_no_flag("copy", copy)
        self._copy = copy
        self.max_staleness = max_staleness
        """Seconds that a copy of an origin which others write is believed in a chain; ``None`` where nobody else writes it."""
        self.contact: Freshness | None = None
        """What tells until when the store may be believed at all; ``None``: always."""

    channel: Channel | None = None
    """The channel that the store was given."""
    finds_channel = False
    """Whether it takes that of a tier below it."""

    def strictly(self, cls: type) -> Store:
        """Give a store that has nothing, where others write what this one keeps."""
        del cls
        return self if self.contact is None else NullStore()

    def listen(self, contact: Freshness) -> None:
        """Be believed from now on only while a channel is heard."""
        self.contact = contact if self.contact is None else Freshnesses(self.contact, contact)

    def is_fresh(self) -> bool:
        """Whether all that others have written ``max_staleness`` ago was heard, or nothing need be; begins to listen, and waits for nothing."""
        contact = self.contact
        if contact is None or contact.fresh_until > _now():
            return True
        contact.begin()
        return False

    @property
    @abstractmethod
    def _spaces(self) -> ClaimedSpaces:
        """Give the shelves that this caller sees."""

    # -- reading --------------------------------------------------------------------------------

    def _read(self, cls: type, lookups: Sequence[Lookup]) -> list[Snapshot | None]:
        return self._look(cls, lookups, 1) if self.is_fresh() else [None] * len(lookups)

    def _peek(self, cls: type, lookups: Sequence[Lookup]) -> list[Snapshot | None]:
        return self._look(cls, lookups, 0)

    def _look(self, cls: type, lookups: Sequence[Lookup], uses: int) -> list[Snapshot | None]:
        spaces, namespace, now = self._spaces, self._namespace(), _now()
        restore = self._reader(cls)
        kinds = {lookup.plan: lookup for lookup in lookups}
        places = {plan: tuple(self._places(cls, lookup, spaces, namespace)) for plan, lookup in kinds.items()}
        natives = [lookup.native for lookup in lookups] if len(kinds) == 1 else None
        if natives and all(cells.keys().isdisjoint(natives) for each in places.values() for cells in each):
            return [None] * len(lookups)
        return [self._find(cls, lookup, places[lookup.plan], restore, now, uses) for lookup in lookups]

    def _find(self, cls: type, lookup: Lookup, places: Iterable[Cells], restore: _Restore, now: float, uses: int) -> Snapshot | None:
        for cells in places:
            node = cells.get(lookup.native)
            snapshot = None if node is None else self._snapshot(node, restore, now)
            if node is not None and snapshot is not None and self._fits(cls, lookup, snapshot):
                node.hits += uses
                return snapshot
        return None

    def _places(self, cls: type, lookup: Lookup, spaces: ClaimedSpaces, namespace: str) -> Iterator[Cells]:
        keys = keys_of(cls)
        if lookup.plan is keys.identity:
            yield spaces.found(namespace, lookup.plan, alias=False)
        yield spaces.found(namespace, lookup.plan, alias=True)

    def _snapshot(self, node: "Node[Native, Any]", restore: _Restore, now: float) -> Snapshot | None:
        # In this order: see LocalCells.
        expires, value = node.expires, node.value
        if expires <= now:
            self._expire(node)
            return None
        return None if value is None else restore(value, None if expires == math.inf else expires - now)

    def _reader(self, cls: type) -> _Restore:
        """Give what makes snapshots of what is kept for a class, with what is left of their lifetimes."""
        if not keys_of(cls).mapped:
            return self._object
        from stockstore.mapped import OtherShapeError, plan_of

        unpack = plan_of(cls).unpack

        def row(payload: Any, lifetime: float | None) -> RowSnapshot | None:
            try:
                return RowSnapshot(*unpack(payload), lifetime)
            except OtherShapeError:
                return None

        return row

    def _object(self, value: object, lifetime: float | None) -> ObjectSnapshot:
        return ObjectSnapshot(_copied(value) if self._copy else value, lifetime)

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

    def check(self, snapshots: Sequence[Snapshot]) -> None:
        """Raise what packing these rows, or the lifetimes of all, would raise."""
        super().check(snapshots)
        for snapshot in snapshots:
            if isinstance(snapshot, RowSnapshot):
                snapshot.payload()

    def _write(self, entries: Sequence[Entry]) -> None:
        spaces, namespace = self._spaces, self._namespace()
        # All values first: where one is refused, nothing was written.
        values = [self._value(entry.snapshot) if entry.stored else None for entry in entries]
        for entry, value in zip(entries, values, strict=True):
            self._write_one(spaces, namespace, entry, value)

    def _write_one(self, spaces: ClaimedSpaces, namespace: str, entry: Entry, value: object) -> None:
        if not entry.stored:
            spaces.remove(namespace, [(entry.plan, entry.native)])
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
        return self._spaces.remove(self._namespace(), records)

    def clear(self, cls: type | None = None) -> None:
        """Drop everything of this namespace, or all of one class; of a mapped class, of its whole hierarchy."""
        self._spaces.clear(self._namespace(), None if cls is None else list(self._cleared_with(cls)))

    def close(self) -> None:
        """Forget everything."""
        if self.contact is not None:
            self.contact.leave()
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
