"""Several stores as one: read from the top down, written from the bottom up."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar, cast

from stockstore.aio.bridge import in_greenlet
from stockstore.backends.base import IO
from stockstore.errors import ConfigurationError
from stockstore.instrumentation import Stats, listening, watch_hooks
from stockstore.keys import Key, KeyPlan, ListLookup, Lookup, keys_of, may_be_pointed_at
from stockstore.stores.arguments import MISSING, keys_in, objects_of, one_key
from stockstore.stores.base import Store
from stockstore.stores.chain_tiers import believed, io_of, is_bounded
from stockstore.stores.chain_writes import ChainWrite
from stockstore.stores.local import LocalStore
from stockstore.stores.memory import ProcessMemoryStore
from stockstore.stores.origin import Origin
from stockstore.stores.outcome import BeforeCommit, Outcome, joined
from stockstore.stores.restoring import restore_all
from stockstore.stores.snapshots import Snapshot, snapshot_of
from stockstore.stores.tenants import reading_for
from stockstore.stores.tiers import clear_tier, tier_of
from stockstore.stores.tiers.local import LocalTier

if TYPE_CHECKING:
    from sqlalchemy.orm import Session
    from typing_extensions import Self

    from stockstore.stores.sharded import ShardedStore

T = TypeVar("T")


class ChainedStore(Store):
    """A write-through chain of tiers.

    ``get`` asks tier by tier and fills the tiers above the one that answered. ``put`` and ``delete``
    go to the *origin* first, which per class is the bottom-most tier that holds it, and then to the
    tiers above; a tier that cannot be written then is not read for that class until its old values
    are gone. Chains in the list count as their tiers.

    Coherence: right for any number of readers and writers of a key, for what is written through chains, or by sessions that a
    ``SessionSync`` hears of; what others write stays unseen until it is invalidated, or its lifetime ends.

    Args:
        stores: The tiers, the fastest first, the database last.

    Raises:
        ConfigurationError: There are none, or one is no store or is listed twice, or some are for asyncio and others would block it.

    >>> from stockstore import NullStore, ProcessMemoryStore
    >>> len(ChainedStore([ProcessMemoryStore(), NullStore()]).tiers)
    2
    """

    def __init__(self, stores: Iterable[Store]) -> None:
        """Join stores; they are closed with the chain."""
        super().__init__()
        self._tiers = tuple(_flat(stores))
        if not self._tiers:
            raise ConfigurationError(
                "a chain needs at least one store, the fastest first, e.g. ChainedStore([ProcessMemoryStore(), SqlAlchemyStore(url)])"
            )
        _refuse_twice(self._tiers)
        self._io = io_of(self._tiers)
        self._levels: dict[type, int] = {}
        self._origins: dict[int, Origin] = {}
        self._strict: dict[tuple[Store, ...], ChainedStore] = {}
        self._quick: ProcessMemoryStore | None = None
        self._told: ProcessMemoryStore | None = None
        self._memory: LocalStore | None = None
        watch_hooks(self)

    def switch_hooks(self) -> None:
        """Take the faster way to hits of the first tier, while there is a hook the one that tells of them."""
        memory = self._memory_tier()
        quick = memory if self._io != "awaited" and isinstance(memory, ProcessMemoryStore) else None
        self._memory = None if listening else memory
        self._quick, self._told = (None, quick) if listening else (quick, None)

    def _memory_tier(self) -> LocalStore | None:
        """Give the first tier where it is in process memory, and a hit of it is the chain's."""
        first = self._tiers[0]
        above = isinstance(first, LocalStore) and len(self._tiers) > 1 and not self._watched
        return cast("LocalStore", first) if above and isinstance(tier_of(first), LocalTier) else None

    @property
    def tiers(self) -> tuple[Store, ...]:
        """The tiers, from the top down."""
        return self._tiers

    # -- reading --------------------------------------------------------------------------------

    def get(self, cls: type[T], key: Key = MISSING, *, session: "Session | None" = None, strict: bool = False, **names: object) -> T | None:
        """Give the object of a key from the first tier that has it, or ``None``."""
        if strict:
            return self.strictly(cls).get(cls, key, session=session, strict=False, **names)
        if self._quick is not None:
            asked = one_key(key, names) if names else key
            found = self._quick.get(cls, asked) if session is None else self._quick.get(cls, asked, session=session)
            if found is not None:
                return found
            # It is asked again, for a lease.
            self._quick._counters.add(misses=-1)  # noqa: SLF001 - a store as this one
        elif self._told is not None:
            found = self._told.told_hit(cls, one_key(key, names))
            if found is not None:
                return found
        return super().get(cls, key, session=session, strict=False, **names)

    def get_from_memory(self, cls: type[T], key: Key = MISSING, *, session: "Session | None" = None, **names: object) -> T | None:
        """Give the object of a key where the first tier is in process memory and has it; no I/O."""
        if self._memory is None:
            return None
        asked = one_key(key, names) if names else key
        found = self._memory.get(cls, asked) if session is None else self._memory.get(cls, asked, session=session)
        if found is None:
            # As above.
            self._memory._counters.add(misses=-1)  # noqa: SLF001 - a store as this one
        return found

    def strictly(self, cls: type) -> Store:
        """Give a chain of the tiers without those of which other processes' writes may be unseen for a moment."""
        keys_of(cls)  # refuses what is no class
        level = self._level(cls)
        self._origin(cls)
        above = tuple(tier for tier in self._tiers[:level] if not is_bounded(tier))
        kept = (*above, *self._tiers[level:])
        if len(kept) == len(self._tiers):
            return self
        chain = self._strict.get(kept)
        if chain is None:
            chain = self._strict.setdefault(kept, ChainedStore(kept))
            chain._counters = self._counters  # noqa: SLF001 - a store as this one
        return chain

    def batch_get(self, cls: type[T], keys: Iterable[Key], *, session: "Session | None" = None, strict: bool = False) -> list[T | None]:
        """Give the objects of these keys, in their positions, ``None`` where no tier has one; ``strict`` as for ``get``."""
        if strict:
            return self.strictly(cls).batch_get(cls, keys, session=session)
        asked = keys_in(keys)
        found = None if self._quick is None else self._quick.batch_hits(cls, asked, session)
        return cast("list[T | None]", restore_all(self._fetched(cls, asked, session), session)) if found is None else found

    def batch_fetch(self, cls: type, keys: Sequence[Key], *, session: "Session | None" = None) -> list[Snapshot | None]:
        """Give snapshots in the positions of the keys; each tier is asked only for what is still missing."""
        self._refuse_blocking()
        compiled = keys_of(cls)
        places = [compiled.lookup(key)[:2] for key in keys]
        with reading_for(session if compiled.mapped else None):
            found = self._origin(cls).reader.read(cls, dict(zip(places, keys, strict=True)), session=session) if places else {}
        self._counters.add(misses=sum(place not in found for place in places))
        return [found.get(place) for place in places]

    def batch_list(self, cls: type, lookups: Sequence[ListLookup], *, session: "Session | None" = None) -> list[list[Snapshot]]:
        """Give the rows of some lists; where caches have them, in one round trip for the lists and one for the rows."""
        self._refuse_blocking()
        return self._origin(cls).lists.read(cls, lookups, self.batch_fetch, session=session)

    # -- writing --------------------------------------------------------------------------------

    def batch_put(self, objects: Iterable[object]) -> None:
        """Store objects in their origin, then in the tiers above it; nothing is written where one cannot be encoded."""
        self._stored(objects_of(objects))

    def batch_store(self, objects: Sequence[object], before_commit: BeforeCommit | None = None) -> Outcome:
        """Store objects and tell what is now stored."""
        self._refuse_blocking()
        groups = self._by_origin(objects)
        self._check_caches(groups)
        outcomes = {level: self._store(level, groups[level], before_commit) for level in sorted(groups, reverse=True)}
        self._counters.add(puts=len(objects))
        return joined(groups, outcomes, objects)

    def _store(self, level: int, objects: Sequence[object], before_commit: BeforeCommit | None) -> Outcome:
        def store(origin: Origin, part: Sequence[object]) -> Outcome:
            write = self._write(level, origin, before_commit)
            write.attempt(part)
            with write.around():
                outcome = origin.store.batch_store(part, write.before_commit)
            write.done(outcome)
            return outcome

        origin = self._at(level)
        if not origin.parts:
            return store(origin, objects)
        return cast("ShardedStore", origin.store).store_parts(objects, lambda shard, part: store(origin.parts[shard], part))

    def _write(self, level: int, origin: Origin, before_commit: BeforeCommit | None) -> ChainWrite:
        return ChainWrite(origin, lambda snapshots: self._check_above(level, snapshots), before_commit)

    def _check_caches(self, groups: Mapping[int, Sequence[object]]) -> None:
        """A database has its rows checked before it commits; all else is checked before the first tier is written."""
        for level, objects in groups.items():
            if not self._tiers[level].is_origin:
                self._check_above(level + 1, [snapshot_of(obj) for obj in objects])

    def _check_above(self, level: int, snapshots: Sequence[Snapshot]) -> None:
        for tier in self._tiers[:level]:
            tier.check([snapshot for snapshot in snapshots if tier.holds(snapshot.cls)])

    def _by_origin(self, objects: Iterable[object]) -> dict[int, list[object]]:
        groups: dict[int, list[object]] = {}
        for obj in objects:
            groups.setdefault(self._level(type(obj)), []).append(obj)
        return groups

    def batch_delete(self, targets: Iterable[object] | type, keys: Iterable[Key] | None = None) -> int:
        """Delete from the origin, then from the tiers above it; where the origin refuses, nothing was deleted."""
        return self._erased(targets, keys)

    def batch_erase(
        self, targets: Iterable[object] | type, keys: Iterable[Key] | None = None, before_commit: BeforeCommit | None = None
    ) -> Outcome:
        """Delete as ``batch_delete`` does, and tell what else was changed by it."""
        self._refuse_blocking()
        if isinstance(targets, type):
            outcomes = [self._erase(self._level(targets), targets, keys_in(keys), before_commit)]
        else:
            groups = self._by_origin(objects_of(targets, keys))
            outcomes = [self._erase(level, group, None, before_commit) for level, group in groups.items()]
        count = sum(outcome.count for outcome in outcomes)
        self._counters.add(deletes=count)
        swept = frozenset[type]().union(*(o.swept for o in outcomes))
        return Outcome(count, [], [row for o in outcomes for row in o.others], swept, lists=[at for o in outcomes for at in o.lists])

    def _erase(
        self, level: int, targets: Iterable[object] | type, keys: Sequence[Key] | None, before_commit: BeforeCommit | None
    ) -> Outcome:
        def erase(origin: Origin, part: Iterable[object] | type, part_keys: Sequence[Key] | None) -> Outcome:
            write = self._write(level, origin, before_commit)
            self._expect(write, level, origin.store, part, part_keys)
            with write.around():
                outcome = origin.store.batch_erase(part, part_keys, write.before_commit)
            write.done(outcome)
            return outcome

        origin = self._at(level)
        if not origin.parts:
            return erase(origin, targets, keys)
        return cast("ShardedStore", origin.store).erase_parts(
            targets, keys, lambda shard, part, part_keys: erase(origin.parts[shard], part, part_keys)
        )

    def _expect(self, write: ChainWrite, level: int, store: Store, targets: Iterable[object] | type, keys: Sequence[Key] | None) -> None:
        """Note what is to be deleted."""
        if isinstance(targets, type):
            lookups = [keys_of(targets).lookup(key) for key in keys or ()]
            identity = keys_of(targets).identity
            write.expect(targets, [lookup for lookup in lookups if lookup.plan is identity])
            for row in self._meant(level, store, targets, lookups):
                write.expect(row.cls, [row.key()])
            return
        for snapshot in map(snapshot_of, targets):
            write.expect(snapshot.cls, snapshot.former_keys())

    def _meant(self, level: int, store: Store, cls: type, lookups: Sequence[Lookup]) -> list[Snapshot]:
        """Give what keys mean that need not tell the identity, to a cache that is the origin, or as caches above it believe."""
        identity = None if may_be_pointed_at(cls) else keys_of(cls).identity
        others = [lookup for lookup in lookups if lookup.plan is not identity]
        found = [row for tier in self._tiers[:level] for row in believed(tier, cls, others)] if others else []
        if others and not store.is_origin:
            found += store.known(cls, others)
        return found

    def clear(self, cls: type | None = None) -> None:
        """Clear every cache tier, the lowest first; an origin's rows stay."""
        self._refuse_blocking()
        for tier in reversed(self._tiers):
            clear_tier(tier, cls)

    # -- tiers ----------------------------------------------------------------------------------

    def _origin(self, cls: type) -> Origin:
        return self._at(self._level(cls))

    def _at(self, level: int) -> Origin:
        origin = self._origins.get(level)
        return origin or self._origins.setdefault(level, Origin(self._tiers[level], self._tiers[:level]))

    def _level(self, cls: type) -> int:
        level = self._levels.get(cls)
        if level is None:
            keys_of(cls)
            holding = [at for at, tier in enumerate(self._tiers) if tier.holds(cls)]
            if not holding:
                needed = (
                    "a plain class needs a cache tier, a mapped one the database or a cache"
                    if keys_of(cls).cached
                    else "it says __cache__ = False, so that no cache keeps it, and needs a tier that is none, such as the database of a mapped class"
                )
                raise ConfigurationError(f"no tier of {self!r} holds {keys_of(cls).name}; {needed}")
            level = self._levels[cls] = holding[-1]
        return level

    def holds(self, cls: type) -> bool:
        """Whether any tier holds objects of this class."""
        return any(tier.holds(cls) for tier in self._tiers)

    def finds(self, kind: type, plan: KeyPlan) -> bool:
        """Whether any tier that holds the class does."""
        return any(tier.finds(kind, plan) for tier in self._tiers if tier.holds(kind))

    @property
    def is_origin(self) -> bool:
        """Whether the lowest tier is the truth itself."""
        return self._tiers[-1].is_origin

    @property
    def io(self) -> IO:
        """How its tiers wait for their servers: all of them block, or all are awaited."""
        return self._io

    def _refuse_blocking(self) -> None:
        if self._io == "awaited" and not in_greenlet():
            raise ConfigurationError(f"{self!r} is for asyncio, and was called by blocking code; await AsyncStore(store) instead")

    def raises(self, error: Exception) -> bool:
        """Whether any tier was told to raise an error."""
        return any(tier.raises(error) for tier in self._tiers)

    @property
    def partition(self) -> str:
        """The namespaces that this caller reads and writes."""
        return ":".join(tier.partition for tier in self._tiers)

    def stats(self) -> Stats:
        """Give the sums over the tiers, and in ``tiers`` each tier's own; a miss is one of the whole chain."""
        tiers = tuple(tier.stats() for tier in self._tiers)
        own = self._counters.snapshot(repr(self), tiers)
        return replace(
            own,
            hits=sum(tier.hits for tier in tiers),
            fills=sum(tier.fills for tier in tiers),
            refused_fills=sum(tier.refused_fills for tier in tiers),
            bypasses=dict(sum((Counter(tier.bypasses) for tier in tiers), Counter(own.bypasses))),
            evictions=sum(tier.evictions for tier in tiers),
            expirations=sum(tier.expirations for tier in tiers),
            errors=sum(tier.errors for tier in tiers),
        )

    @contextmanager
    def scope(self) -> "Iterator[Self]":
        """Scope every tier that keeps objects for one request alone."""
        with ExitStack() as stack:
            for tier in self._tiers:
                stack.enter_context(tier.scope())
            yield self

    def close(self) -> None:
        """Close every tier; may be called twice."""
        self._refuse_blocking()
        for tier in self._tiers:
            tier.close()

    def __repr__(self) -> str:
        """Name the tiers, without passwords."""
        return f"{type(self).__name__}([{', '.join(map(repr, self._tiers))}])"


def _flat(stores: Iterable[Store]) -> Iterator[Store]:
    if isinstance(stores, (str, bytes, Store)) or not isinstance(stores, Iterable):
        raise ConfigurationError(f"a chain is made of a list of stores, not {stores!r}")
    for store in stores:
        if not isinstance(store, Store):
            raise ConfigurationError(f"{store!r} is no store; a chain is made of stores, e.g. RedisStore('redis://localhost')")
        if type(store) is ChainedStore:
            yield from store.tiers
        else:
            yield store


def _refuse_twice(tiers: Sequence[Store]) -> None:
    for at, tier in enumerate(tiers):
        if any(tier is above for above in tiers[:at]):
            raise ConfigurationError(f"{tier!r} is listed twice; a chain has each store once")
