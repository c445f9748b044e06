"""Which of several stores keeps an object."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

from stockstore.backends.rendezvous import router
from stockstore.errors import NotKeyedError
from stockstore.instrumentation.stats import is_unasked
from stockstore.keys import KeyPlan, ListLookup, Lookup, keys_of, may_be_pointed_at
from stockstore.keys.declared import identity_class
from stockstore.keys.encoding import canonical, text_of
from stockstore.stores.snapshots import ObjectSnapshot, Snapshot

ShardBy: TypeAlias = Callable[[type, Mapping[str, object]], object]
"""Gives, for a class (of a mapped hierarchy its root) and some values by their names, the value by which objects are kept together; ``None`` where these do not tell."""


class Sharding:
    """Routes keys and objects to shards, by rendezvous hashing of a text: a shard that joins or leaves moves the keys alone that it gains or had.

    Args:
        names: What the shards are called, which with the key alone decides where an object is.
        shard_by: The user's own choice of what is kept together; without it, or where it gives nothing, the canonical key decides.

    Attributes:
        repeated: How many misses were counted by shards for keys that others were asked for too.
    """

    def __init__(self, names: Sequence[str], shard_by: ShardBy | None) -> None:
        """Give each slot of keys its shard."""
        self._route = router(names)
        self._shard_by = shard_by
        self.repeated = 0

    def repeat(self, misses: int) -> None:
        """Note misses for keys that other shards are asked for too."""
        if not is_unasked():
            self.repeated += misses

    def of_lookup(self, cls: type, lookup: Lookup) -> int | None:
        """Give the shard on which an object with a key can be; ``None``: on any."""
        if self._shard_by is not None:
            return self._chosen(cls, dict(zip(lookup.plan.names, lookup.values, strict=True)))
        keys = keys_of(cls)
        if lookup.plan is not keys.identity or may_be_pointed_at(cls):
            return None
        return self._of_text(lookup.plan.record_text("", lookup.native))

    def of_list(self, cls: type, lookup: ListLookup) -> int | None:
        """Give the shard on which all rows with values of an index are; ``None``: on any."""
        return None if self._shard_by is None else self._chosen(cls, dict(zip(lookup.plan.names, lookup.values, strict=True)))

    def of_object(self, snapshot: Snapshot) -> int:
        """Give the shard of an object.

        Raises:
            NotKeyedError: It has no value for its key yet, and nothing else tells.
        """
        chosen = None if self._shard_by is None else self._chosen(snapshot.cls, dict(_values_of(snapshot)))
        return self._of_text(_identity_text(snapshot)) if chosen is None else chosen

    def of_former(self, snapshot: Snapshot) -> int | None:
        """Give the shard of the key that an object had when it was read; ``None``: it has the same one still, or nothing tells."""
        if snapshot.former is None:
            return None
        lookup = keys_of(snapshot.cls).lookup(snapshot.former)
        return self.of_record(snapshot.cls, lookup.plan, lookup.values)

    def of_cached_list(self, lookup: ListLookup) -> int:
        """Give the shard of a cache that keeps a list, wherever its rows are kept."""
        return self._of_text(lookup.plan.record_text("", lookup.native))

    def of_record(self, cls: type, plan: KeyPlan, values: tuple[object, ...]) -> int | None:
        """Give the shard of the record with an identity; ``None``: any."""
        if self._shard_by is not None:
            return self._chosen(cls, dict(zip(plan.names, values, strict=True)))
        return self._of_text(plan.record_text("", plan.native(values)))

    def _chosen(self, cls: type, values: Mapping[str, object]) -> int | None:
        assert self._shard_by is not None
        value = self._shard_by(identity_class(cls), values)
        return None if value is None else self._of_text(text_of(canonical(value)))

    def _of_text(self, text: str) -> int:
        return self._route([text])[0]


def _identity_text(snapshot: Snapshot) -> str:
    keys = keys_of(snapshot.cls)
    native = snapshot.native(keys.identity)
    if native is None or (keys.mapped and keys.identity.has_none(native)):
        raise NotKeyedError(
            f"a {keys.name} has no value for its primary key {keys.identity.describe()} yet, so that its shard is not known; give it one "
            "beforehand, such as a UUID, or give the ShardedStore a shard_by= that tells by other values"
        )
    return keys.identity.record_text("", native)


def _values_of(snapshot: Snapshot) -> Iterator[tuple[str, object]]:
    """Give the values of all keys and indexes of an object, those left out that it does not have."""
    keys = keys_of(snapshot.cls)
    for name in dict.fromkeys(name for plan in (keys.identity, *keys.plans, *keys.indexes) for name in plan.names):
        if isinstance(snapshot, ObjectSnapshot):
            if hasattr(snapshot.value, name):
                yield name, getattr(snapshot.value, name)
        elif (values := snapshot.values((name,))) is not None:
            yield name, values[0]
