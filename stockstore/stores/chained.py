"""Several stores as one: read from the top down, written from the bottom up."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias, TypeVar, cast

from stockstore.coherence import WriteThrough
from stockstore.errors import ConfigurationError
from stockstore.instrumentation import Stats
from stockstore.keys import Key, KeyPlan, Lookup, Native, keys_of
from stockstore.stores.arguments import MISSING, keys_in, objects_of
from stockstore.stores.base import Store
from stockstore.stores.cache import CacheStore, restore_all
from stockstore.stores.outcome import Outcome, UnconfirmedError
from stockstore.stores.snapshots import Snapshot, snapshot_of

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

T = TypeVar("T")
_Place: TypeAlias = tuple[KeyPlan, Native]


class ChainedStore(Store):
    """A write-through chain of tiers.

    ``get`` asks tier by tier and fills the tiers above the one that answered. ``put`` and ``delete``
    go to the *origin* first, which per class is the bottom-most tier that holds it, and then to the
    tiers above; a tier that cannot be written then is not read for that class until its old values
    are gone. Chains in the list count as their tiers.

    Coherence: right for one writer of a key at a time, and for what is written through this chain.

    Args:
        stores: The tiers, the fastest first, the database last.

    Raises:
        ConfigurationError: There are none, or one is no store.

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
        self._through: WriteThrough[Snapshot] = WriteThrough(self._tiers)
        self._origins: dict[type, int] = {}

    @property
    def tiers(self) -> tuple[Store, ...]:
        """The tiers, from the top down."""
        return self._tiers

    # -- reading --------------------------------------------------------------------------------

    def get(self, cls: type[T], key: Key = MISSING, *, session: "Session | None" = None, **names: object) -> T | None:
        """Give the object of a key from the first tier that has it, or ``None``."""
        first = self._tiers[0]
        if self._watched or not isinstance(first, CacheStore) or not self._through.readable(0, cls):
            return super().get(cls, key, session=session, **names)
        found = first.get(cls, key, session=session, **names)
        if found is not None:
            return found
        below = self._fetch(cls, [names or key], session, 1)[0]
        return None if below is None else cast("T", below.restore(session))

    def batch_get(self, cls: type[T], keys: Iterable[Key], *, session: "Session | None" = None) -> list[T | None]:
        """Give the objects of these keys, in their positions, ``None`` where no tier has one."""
        return cast("list[T | None]", restore_all(self._fetched(cls, keys_in(keys), session), session))

    def batch_fetch(self, cls: type, keys: Sequence[Key], *, session: "Session | None" = None) -> list[Snapshot | None]:
        """Give snapshots in the positions of the keys; each tier is asked only for what is still missing."""
        return self._fetch(cls, keys, session, 0)

    def _fetch(self, cls: type, keys: Sequence[Key], session: "Session | None", level: int) -> list[Snapshot | None]:
        compiled = keys_of(cls)
        places = [compiled.lookup(key)[:2] for key in keys]
        distinct = dict(zip(places, keys, strict=True))
        self._origin(cls)
        found: dict[_Place, Snapshot] = {}
        for at in range(level, len(self._tiers)):
            missing = {place: key for place, key in distinct.items() if place not in found}
            if missing and self._through.readable(at, cls):
                found.update(self._ask(at, cls, missing, session))
        self._counters.add(misses=sum(place not in found for place in places))
        return [found.get(place) for place in places]

    def _ask(self, level: int, cls: type, keys: "Mapping[_Place, Key]", session: "Session | None") -> "Iterator[tuple[_Place, Snapshot]]":
        answers = self._tiers[level].batch_fetch(cls, list(keys.values()), session=session)
        self._through.fill(level, [answer for answer in answers if answer is not None])
        return ((place, answer) for place, answer in zip(keys, answers, strict=True) if answer is not None)

    # -- writing --------------------------------------------------------------------------------

    def batch_put(self, objects: Iterable[object]) -> None:
        """Store objects in their origin, then in the tiers above it; nothing is written where one cannot be encoded."""
        self._stored(objects_of(objects))

    def batch_store(self, objects: Sequence[object], before_commit: Callable[[list[Snapshot]], None] | None = None) -> Outcome:
        """Store objects and tell what is now stored."""
        groups = self._by_origin(objects)
        self._check_caches(groups, before_commit)
        outcomes = {level: self._store(level, groups[level], before_commit) for level in sorted(groups, reverse=True)}
        self._counters.add(puts=len(objects))
        return _joined(groups, outcomes, objects)

    def _store(self, level: int, objects: Sequence[object], before_commit: Callable[[list[Snapshot]], None] | None) -> Outcome:
        def check(snapshots: list[Snapshot]) -> None:
            if before_commit is not None:
                before_commit(snapshots)
            self._check_above(level, snapshots)

        tier = self._tiers[level]
        with self._doubting(level):
            outcome = tier.batch_store(objects, check if tier.is_origin else None)
        self._spread(level, outcome)
        return outcome

    @contextmanager
    def _doubting(self, level: int) -> Iterator[None]:
        """Drop from the caches what a database may have changed that was lost while it committed."""
        try:
            yield
        except UnconfirmedError as error:
            for cls in error.outcome.swept:
                self._through.sweep(level, cls)
            self._through.distrust(level, [*error.outcome.snapshots, *error.outcome.others])
            raise

    def _spread(self, level: int, outcome: Outcome) -> None:
        for cls in outcome.swept:
            self._through.sweep(level, cls)
        self._through.spread(level, [*outcome.snapshots, *outcome.others])

    def _check_caches(self, groups: Mapping[int, Sequence[object]], before_commit: Callable[[list[Snapshot]], None] | None) -> None:
        """A database has its rows checked before it commits; all else is checked before the first tier is written."""
        for level, objects in groups.items():
            if not self._tiers[level].is_origin:
                snapshots = [snapshot_of(obj) for obj in objects]
                self._check_above(level + 1, snapshots)
                if before_commit is not None:
                    before_commit(snapshots)

    def _check_above(self, level: int, snapshots: Sequence[Snapshot]) -> None:
        for tier in self._tiers[:level]:
            tier.check([snapshot for snapshot in snapshots if tier.holds(snapshot.cls)])

    def _by_origin(self, objects: Iterable[object]) -> dict[int, list[object]]:
        groups: dict[int, list[object]] = {}
        for obj in objects:
            groups.setdefault(self._origin(type(obj)), []).append(obj)
        return groups

    def batch_delete(self, targets: Iterable[object] | type, keys: Iterable[Key] | None = None) -> int:
        """Delete from the origin, then from the tiers above it; where the origin refuses, nothing was deleted."""
        return self._erased(targets, keys)

    def batch_erase(self, targets: Iterable[object] | type, keys: Iterable[Key] | None = None) -> Outcome:
        """Delete as ``batch_delete`` does, and tell what else was changed by it."""
        if isinstance(targets, type):
            outcomes = [self._erase_keys(targets, keys_in(keys))]
        else:
            outcomes = [self._erase_objects(level, group) for level, group in self._by_origin(objects_of(targets, keys)).items()]
        count = sum(outcome.count for outcome in outcomes)
        self._counters.add(deletes=count)
        return Outcome(count, [], [row for o in outcomes for row in o.others], frozenset().union(*(o.swept for o in outcomes)))

    def _erase_objects(self, level: int, objects: Sequence[object]) -> Outcome:
        # The keys first: the origin may change the objects.
        keys: dict[type, list[dict[str, object]]] = {}
        for snapshot in map(snapshot_of, objects):
            keys.setdefault(snapshot.cls, []).extend(snapshot.former_keys())
        with self._doubting(level):
            outcome = self._tiers[level].batch_erase(objects)
        for cls, gone in keys.items():
            self._through.forget(level, cls, gone)
        self._spread(level, outcome)
        return outcome

    def _erase_keys(self, cls: type, keys: Sequence[Key]) -> Outcome:
        level, lookups = self._origin(cls), [keys_of(cls).lookup(key) for key in keys]
        others = [key for key, lookup in zip(keys, lookups, strict=True) if lookup.plan is not keys_of(cls).identity]
        # A cache may hold a record without the alias that is asked for: the origin knows its identity.
        found = [row for row in self._tiers[level].batch_fetch(cls, others) if row is not None] if others else []
        with self._doubting(level):
            outcome = self._tiers[level].batch_erase(cls, keys)
        self._through.forget(level, cls, [*map(_as_dict, lookups), *(row.key() for row in found)])
        self._spread(level, outcome)
        return outcome

    def clear(self, cls: type | None = None) -> None:
        """Clear every cache tier, the lowest first; an origin's rows stay."""
        for tier in reversed(self._tiers):
            tier.clear(cls)

    # -- tiers ----------------------------------------------------------------------------------

    def _origin(self, cls: type) -> int:
        level = self._origins.get(cls)
        if level is None:
            keys_of(cls)
            holding = [at for at, tier in enumerate(self._tiers) if tier.holds(cls)]
            if not holding:
                raise ConfigurationError(
                    f"no tier of {self!r} holds {keys_of(cls).name}; a plain class needs a cache tier, a mapped one the database or a cache"
                )
            level = self._origins[cls] = holding[-1]
        return level

    def holds(self, cls: type) -> bool:
        """Whether any tier holds objects of this class."""
        return any(tier.holds(cls) for tier in self._tiers)

    @property
    def is_origin(self) -> bool:
        """Whether the lowest tier is the truth itself."""
        return self._tiers[-1].is_origin

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
            evictions=sum(tier.evictions for tier in tiers),
            expirations=sum(tier.expirations for tier in tiers),
            errors=sum(tier.errors for tier in tiers),
        )

    def close(self) -> None:
        """Close every tier; may be called twice."""
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


def _as_dict(lookup: Lookup) -> dict[str, object]:
    return dict(zip(lookup.plan.names, lookup.values, strict=True))


def _joined(groups: Mapping[int, Sequence[object]], outcomes: Mapping[int, Outcome], objects: Sequence[object]) -> Outcome:
    stored = {id(obj): row for level, group in groups.items() for obj, row in zip(group, outcomes[level].snapshots, strict=True)}
    others = [row for outcome in outcomes.values() for row in outcome.others]
    return Outcome(len(objects), [stored[id(obj)] for obj in objects], others, frozenset().union(*(o.swept for o in outcomes.values())))
