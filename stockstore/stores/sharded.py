"""Several stores as one: each object is kept on one of them."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast

from stockstore.backends.base import IO
from stockstore.errors import ConfigurationError, OriginError
from stockstore.instrumentation import Stats
from stockstore.keys import Key, KeyPlan, ListLookup, Lookup, keys_of
from stockstore.stores.arguments import keys_in, objects_of
from stockstore.stores.base import Store
from stockstore.stores.members import Members
from stockstore.stores.outcome import BeforeCommit, Outcome
from stockstore.stores.restoring import restore_all
from stockstore.stores.shard_parts import each, joined, one_of
from stockstore.stores.shard_reading import ShardReading
from stockstore.stores.sharding import ShardBy, Sharding
from stockstore.stores.snapshots import Snapshot, snapshot_of

if TYPE_CHECKING:
    from sqlalchemy.orm import Session
    from typing_extensions import Self

T = TypeVar("T")
_SUMMED: Final = ("hits", "puts", "deletes", "fills", "refused_fills", "evictions", "expirations", "errors")
Erase: TypeAlias = Callable[[Store, "Iterable[object] | type", "Sequence[Key] | None"], Outcome]


class ShardedStore(Store):
    """Several stores as one: caches, databases, or chains of both; each object is on one of them.

    Which one is told by rendezvous hashing of the object's canonical key and the shards' names, alike in every process. What is asked for
    by its canonical key is asked of one shard, by other keys or by an index of all of them; a batch is one call to each shard concerned.
    A call that fails on one shard has been done on the others, and raises then; each shard's part of a write is its own transaction.

    Keys have to be unique over all shards. Where the database would generate the primary key, give it beforehand, or give ``shard_by``
    and let the shards' databases generate different ones.

    Args:
        stores: The shards. A list names them by their positions, so that a new one comes last, and none goes; a dict names them itself.
        shard_by: Gives for a class and some values by their names (those of the key asked for; of an object those of all its keys and
            indexes) the value by which objects are kept together, such as a customer's id, and ``None`` where these do not tell: then a
            key is asked of all shards, and an object is routed by its canonical key.

    Raises:
        ConfigurationError: There are none, one is no store or sharded itself, some are databases and others are caches, or some are for
            asyncio and others would block it.

    >>> from stockstore import ProcessMemoryStore
    >>> class Town:
    ...     __keys__ = ["name"]
    ...     def __init__(self, name): self.name = name
    >>> store = ShardedStore({"north": ProcessMemoryStore(), "south": ProcessMemoryStore()})
    >>> store.batch_put([Town("Oslo"), Town("Rome")])
    >>> [town.name for town in store.batch_get(Town, ["Rome", "Oslo"])]
    ['Rome', 'Oslo']
    """

    def __init__(self, stores: "Iterable[Store] | Mapping[str, Store]", *, shard_by: ShardBy | None = None) -> None:
        """Join stores; they are closed with this one."""
        super().__init__()
        if shard_by is not None and not callable(shard_by):
            raise ConfigurationError(f"shard_by is a callable of a class and a dict of values, not {shard_by!r}")
        self._named = _named(stores)
        self._shards = tuple(self._named.values())
        self._are_origins = one_of({shard.is_origin for shard in self._shards}, "some of them are databases and others are caches")
        self._io: IO = one_of({shard.io for shard in self._shards} - {"either"} or {"either"}, "some are for asyncio and others block")
        self._by_position = not isinstance(stores, Mapping)
        self.sharding = Sharding(list(self._named), shard_by)
        self._reading = ShardReading(self, self._shards, self.sharding, are_origins=self._are_origins)

    @property
    def shards(self) -> tuple[Store, ...]:
        """The stores, in the order given."""
        return self._shards

    # -- reading --------------------------------------------------------------------------------

    def strictly(self, cls: type) -> Store:
        """Give a store of what the shards answer without caches in this process that may be old."""
        kept = tuple(shard.strictly(cls) for shard in self._shards)
        return self if kept == self._shards else self._over(kept)

    def _over(self, shards: tuple[Store, ...]) -> "ShardedStore":
        """Give the same store, counters included, with others in the places of its shards."""
        found = copy(self)
        reading = ShardReading(found, shards, self.sharding, are_origins=self._are_origins)
        vars(found).update(_named=dict(zip(self._named, shards, strict=True)), _shards=shards, _reading=reading)
        return found

    def batch_get(self, cls: type[T], keys: Iterable[Key], *, session: "Session | None" = None, strict: bool = False) -> list[T | None]:
        """Give the objects of these keys, in their positions, ``None`` where no shard has one; one call to each shard; ``strict`` as for ``get``."""
        if strict:
            return self.strictly(cls).batch_get(cls, keys, session=session)
        return cast("list[T | None]", restore_all(self._fetched(cls, keys_in(keys), session), session))

    def batch_fetch(self, cls: type, keys: Sequence[Key], *, session: "Session | None" = None) -> list[Snapshot | None]:
        """Give snapshots in the positions of the keys.

        Raises:
            NonUniqueKeyError: Two databases have a row of one key.
        """
        return self._reading.fetch(cls, keys, session)

    def batch_list(self, cls: type, lookups: Sequence[ListLookup], *, session: "Session | None" = None) -> list[list[Snapshot]]:
        """Give the rows of lists, each ordered by its primary keys: where they are on several shards, as Python orders these."""
        return self._reading.lists(cls, lookups, session)

    def batch_members(self, cls: type, keys: Sequence[ListLookup], *, session: "Session | None" = None) -> list[Members | None]:
        """Give the primary keys of lists that :meth:`keeps_list` says caches may keep, in the order of ``batch_list``."""
        return self._reading.members(cls, keys, session)

    def keeps_list(self, lookup: ListLookup) -> bool:
        """Whether caches may keep a list: each database that may have its rows tells its values apart as Python does."""
        return self._reading.keeps_list(lookup)

    def known(self, cls: type, lookups: Sequence[Lookup]) -> list[Snapshot]:
        """Give what is there under some keys, without counting that as reads."""
        return self._reading.known(cls, lookups)

    # -- writing --------------------------------------------------------------------------------

    def batch_put(self, objects: Iterable[object]) -> None:
        """Store objects, each on its shard; of each shard all or none where that can."""
        self._stored(objects_of(objects))

    def batch_store(self, objects: Sequence[object], before_commit: BeforeCommit | None = None) -> Outcome:
        """Store objects and tell what is now stored."""
        return self.store_parts(objects, lambda shard, part: shard.batch_store(part, before_commit))

    def store_parts(self, objects: Sequence[object], store: Callable[[Store, Sequence[object]], Outcome]) -> Outcome:
        """Have each shard store its part of some objects.

        Raises:
            NotKeyedError: One does not tell its shard; nothing was stored then.
            OriginError: A row would have to move from one database to another; nothing was stored then.
        """
        snapshots = [snapshot_of(obj) for obj in objects]
        groups = self._reading.grouped([self.sharding.of_object(snapshot) for snapshot in snapshots])
        self._leave_former(snapshots)
        parts = each([partial(store, self._shards[shard], [objects[at] for at in places]) for shard, places in groups.items()])
        stored = {
            at: row for places, part in zip(groups.values(), parts, strict=True) for at, row in zip(places, part.snapshots, strict=True)
        }
        return joined(parts, [stored[at] for at in range(len(objects))])

    def _leave_former(self, snapshots: Sequence[Snapshot]) -> None:
        """Remove from its former shard what has another primary key now."""
        for snapshot in snapshots:
            former = self.sharding.of_former(snapshot)
            if former is None or snapshot.former is None or former == self.sharding.of_object(snapshot):
                continue
            if self._are_origins:
                raise OriginError(
                    f"the primary key of a {keys_of(snapshot.cls).name} was changed from {snapshot.former} to {snapshot.key()}, which is on "
                    f"another shard of {self!r}; put a new object instead, and delete the old one"
                )
            self._shards[former].batch_delete(snapshot.cls, [snapshot.former])

    def batch_fill(self, snapshots: Sequence[Snapshot]) -> None:
        """Store what another tier gave, each on its shard."""
        self._leave_former(snapshots)
        groups = self._reading.grouped([self.sharding.of_object(snapshot) for snapshot in snapshots])
        each([partial(self._shards[shard].batch_fill, [snapshots[at] for at in places]) for shard, places in groups.items()])

    def batch_delete(self, targets: Iterable[object] | type, keys: Iterable[Key] | None = None) -> int:
        """Delete objects, or a class's objects by their keys, and give how many there were; one call to each shard."""
        return self._erased(targets, keys)

    def batch_erase(
        self, targets: Iterable[object] | type, keys: Iterable[Key] | None = None, before_commit: BeforeCommit | None = None
    ) -> Outcome:
        """Delete as ``batch_delete`` does, and tell what else was changed by it."""
        return self.erase_parts(targets, keys, lambda shard, part, its_keys: shard.batch_erase(part, its_keys, before_commit))

    def erase_parts(self, targets: Iterable[object] | type, keys: Iterable[Key] | None, erase: Erase) -> Outcome:
        """Have each shard delete its part."""
        parts = each([partial(erase, self._shards[shard], *part) for shard, part in self._parts(targets, keys).items()])
        return joined(parts, [])

    def _parts(self, targets: Iterable[object] | type, keys: Iterable[Key] | None) -> dict[int, tuple[Any, list[Key] | None]]:
        if isinstance(targets, type):
            given = keys_in(keys)
            groups = self._reading.asked(targets, [keys_of(targets).lookup(key) for key in given])
            return {shard: (targets, [given[at] for at in places]) for shard, places in groups.items()}
        objects = objects_of(targets, keys)
        groups = self._reading.grouped([self._shard_to_delete_from(snapshot_of(obj)) for obj in objects])
        return {shard: ([objects[at] for at in places], None) for shard, places in groups.items()}

    def _shard_to_delete_from(self, snapshot: Snapshot) -> int | None:
        if snapshot.former is None:
            return self.sharding.of_object(snapshot)
        former = self.sharding.of_former(snapshot)
        # A cache may have it by its new key as well.
        return former if self._are_origins or former == self.sharding.of_object(snapshot) else None

    def check(self, snapshots: Sequence[Snapshot]) -> None:
        """Raise what filling with these snapshots would raise for their own sake."""
        for shard, places in self._reading.grouped([self.sharding.of_object(snapshot) for snapshot in snapshots]).items():
            self._shards[shard].check([snapshots[at] for at in places])

    def clear(self, cls: type | None = None) -> None:
        """Clear every shard; rows of databases stay."""
        each([partial(shard.clear, cls) for shard in self._shards])

    # -- what chains use ------------------------------------------------------------------------

    def holds(self, cls: type) -> bool:
        """Whether objects of this class can be on every shard."""
        return all(shard.holds(cls) for shard in self._shards)

    def finds(self, kind: type, plan: KeyPlan) -> bool:
        """As every shard."""
        return all(shard.finds(kind, plan) for shard in self._shards)

    @property
    def is_origin(self) -> bool:
        """Whether the shards are databases."""
        return self._are_origins

    @property
    def io(self) -> IO:
        """How the shards wait for their servers."""
        return self._io

    def raises(self, error: Exception) -> bool:
        """Whether any shard was told to raise an error."""
        return any(shard.raises(error) for shard in self._shards)

    @property
    def partition(self) -> str:
        """The namespaces that this caller reads and writes."""
        return ":".join(shard.partition for shard in self._shards)

    # -- housekeeping ---------------------------------------------------------------------------

    def stats(self) -> Stats:
        """Give the sums over the shards, and in ``tiers`` each shard's own; a miss is one of all shards that were asked."""
        shards = tuple(shard.stats() for shard in self._shards)
        sums = {name: sum(getattr(shard, name) for shard in shards) for name in _SUMMED}
        # A store of anybody's class may not count.
        misses = max(0, sum(shard.misses for shard in shards) - self.sharding.repeated)
        return Stats(repr(self), misses=misses, tiers=shards, bypasses=dict(sum((Counter(s.bypasses) for s in shards), Counter())), **sums)

    @contextmanager
    def scope(self) -> "Iterator[Self]":
        """Scope every shard that keeps objects for one request alone."""
        with ExitStack() as stack:
            for shard in self._shards:
                stack.enter_context(shard.scope())
            yield self

    def close(self) -> None:
        """Close every shard; may be called twice."""
        each([shard.close for shard in self._shards])

    def __repr__(self) -> str:
        """Name the shards, without passwords."""
        named = ", ".join(repr(shard) if self._by_position else f"{name!r}: {shard!r}" for name, shard in self._named.items())
        return f"{type(self).__name__}({f'[{named}]' if self._by_position else f'{{{named}}}'})"


def _named(stores: object) -> dict[str, Store]:
    if isinstance(stores, (str, bytes, Store)) or not isinstance(stores, Iterable):
        raise ConfigurationError(f"ShardedStore takes a list of stores, or a dict of them by their names, not {stores!r}")
    pairs = stores.items() if isinstance(stores, Mapping) else ((str(at), store) for at, store in enumerate(stores))
    named: dict[str, Store] = {}
    for name, store in pairs:
        if not isinstance(name, str) or not isinstance(store, Store):
            raise ConfigurationError(f"a shard is a store under a name, e.g. {{'eu': RedisStore('redis://eu')}}, not {name!r}: {store!r}")
        if isinstance(store, ShardedStore):
            raise ConfigurationError(f"{store!r} is sharded itself; list its shards instead")
        named[name] = store
    if not named:
        raise ConfigurationError("ShardedStore needs at least one store, e.g. ShardedStore([SqlAlchemyStore(url), SqlAlchemyStore(other)])")
    return named
