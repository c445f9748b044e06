"""Reads several stores as one."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from stockstore.errors import NonUniqueKeyError, NotKeyedError
from stockstore.keys import Key, ListLookup, Lookup, keys_of
from stockstore.stores.base import Store
from stockstore.stores.members import Members
from stockstore.stores.sharding import Sharding
from stockstore.stores.snapshots import Snapshot

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

R = TypeVar("R")


class ShardReading:
    """Asks each shard for what it may have, and joins the answers.

    Args:
        store: What the shards are of, by which errors name it.
        shards: The stores.
        sharding: Tells which one has what.
        are_origins: Whether they are databases, which all have to be asked for what may be on any.
    """

    def __init__(self, store: Store, shards: Sequence[Store], sharding: Sharding, *, are_origins: bool) -> None:
        """Read nothing yet."""
        self._store = store
        self._shards: Sequence[Any] = shards
        self._sharding = sharding
        self._are_origins = are_origins

    # -- who is asked ---------------------------------------------------------------------------

    def asked(self, cls: type, lookups: Sequence[Lookup]) -> dict[int, list[int]]:
        """Give the shards that are to be asked, each for the lookups at some places."""
        return self.grouped([self._sharding.of_lookup(cls, lookup) for lookup in lookups])

    def grouped(self, shards: Sequence[int | None]) -> dict[int, list[int]]:
        """Give the places at which each shard stands; ``None`` stands for all."""
        groups: dict[int, list[int]] = {}
        for at, shard in enumerate(shards):
            for one in range(len(self._shards)) if shard is None else (shard,):
                groups.setdefault(one, []).append(at)
        return dict(sorted(groups.items()))

    # -- rows -----------------------------------------------------------------------------------

    def fetch(self, cls: type, keys: Sequence[Key], session: "Session | None") -> list[Snapshot | None]:
        """Give snapshots in the positions of the keys.

        Raises:
            NonUniqueKeyError: Two databases have a row of one key.
        """
        found: list[Snapshot | None] = [None] * len(keys)
        compiled, missed = keys_of(cls), 0
        for shard, places in self.asked(cls, [compiled.lookup(key) for key in keys]).items():
            # Two caches may have an object of a key that has moved: one of these is not what it is looked at for.
            asked = places if self._are_origins else [at for at in places if found[at] is None]
            rows = self._shards[shard].batch_fetch(cls, [keys[at] for at in asked], session=session) if asked else []
            missed += rows.count(None)
            for at, row in zip(asked, rows, strict=True):
                if row is not None and self._belongs(row, shard):
                    if found[at] is not None:
                        raise NonUniqueKeyError(
                            f"{compiled.name} {keys[at]!r} is on several shards of {self._store!r}, the last of which is {shard}"
                        )
                    found[at] = row
        self._sharding.repeat(missed - found.count(None))
        return found

    def known(self, cls: type, lookups: Sequence[Lookup]) -> list[Snapshot]:
        """Give what is there under some keys, without counting that as reads."""
        parts = self.asked(cls, lookups).items()
        return [
            row
            for at, places in parts
            for row in self._shards[at].known(cls, [lookups[place] for place in places])
            if self._belongs(row, at)
        ]

    def _belongs(self, row: Snapshot, shard: int) -> bool:
        """Whether a shard is that of an object that it has: one that was left behind when shards were added is not kept true."""
        try:
            return self._sharding.of_object(row) == shard
        except NotKeyedError:
            return False

    # -- lists ----------------------------------------------------------------------------------

    def lists(self, cls: type, lookups: Sequence[ListLookup], session: "Session | None") -> list[list[Snapshot]]:
        """Give the rows of lists, each ordered by its primary keys: where they are on several shards, as Python orders these."""
        found: list[list[list[Snapshot]]] = [[] for _ in lookups]
        for shard, places in self._listing(cls, lookups).items():
            rows = self._shards[shard].batch_list(cls, [lookups[at] for at in places], session=session)
            for at, part in zip(places, rows, strict=True):
                found[at].append([row for row in part if self._belongs(row, shard)])
        return [_merged(parts, _order_of_row) for parts in found]

    def members(self, cls: type, lookups: Sequence[ListLookup], session: "Session | None") -> list[Members | None]:
        """Give the primary keys of lists, in the order of their rows.

        A row that was left behind on another shard is named too, once: it is found where it belongs, or it is not, and the list is not believed.
        """
        found: list[list[Members]] = [[] for _ in lookups]
        for shard, places in self._listing(cls, lookups).items():
            for at, part in zip(
                places, self._shards[shard].batch_members(cls, [lookups[at] for at in places], session=session), strict=True
            ):
                found[at].append(part)
        return [_joined(lookup, parts) for lookup, parts in zip(lookups, found, strict=True)]

    def keeps_list(self, lookup: ListLookup) -> bool:
        """Whether caches may keep a list: each database that may have its rows tells its values apart as Python does."""
        shards = [self._shards[at] for at in self._listing(lookup.plan.owner, [lookup])]
        return all(_lists_members(shard) and shard.keeps_list(lookup) for shard in shards)

    def _listing(self, cls: type, lookups: Sequence[ListLookup]) -> dict[int, list[int]]:
        return self.grouped([self._sharding.of_list(cls, lookup) for lookup in lookups])


def _lists_members(shard: Any) -> bool:
    """Whether it is a database of ours: a chain tells of rows, and who overrides a verb wants it called."""
    return hasattr(shard, "batch_members") and not shard._watched  # noqa: SLF001 - a store, too


def _joined(lookup: ListLookup, parts: Sequence[Members]) -> Members:
    plan = keys_of(lookup.plan.owner).identity
    places = [plan.names.index(name) for name in plan.declared]
    keys = _merged([part.keys for part in parts], lambda key: tuple([key[at] for at in places]))
    return Members(lookup, tuple(dict.fromkeys(keys)), shared=all(part.shared for part in parts))


def _merged(parts: Sequence[Iterable[R]], order: Callable[[R], Any]) -> list[R]:
    """Give what several shards have in the order of the primary keys."""
    whole = [each for part in parts for each in part]
    if sum(map(bool, parts)) < 2:  # noqa: PLR2004 - of one database they are in its own order
        return whole
    try:
        return sorted(whole, key=order)
    except TypeError:  # values without an order in Python, such as enums
        return whole


def _order_of_row(row: Snapshot) -> Any:
    key = row.key()
    return tuple([key[name] for name in keys_of(row.cls).identity.declared])
