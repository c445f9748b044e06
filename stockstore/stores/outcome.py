"""What a write has done besides what it was asked for, or may have done."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from stockstore.errors import OriginError
from stockstore.keys import ListLookup
from stockstore.stores.snapshots import Snapshot

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True)
class Outcome:
    """What a tier wrote or deleted, for the tiers above it.

    Attributes:
        count: How many of the targets were stored, or were there to be deleted.
        snapshots: The objects as they are now stored, in the order given; a deleted one has a lifetime of zero.
        others: Rows that were written or deleted along with them, such as by an ORM cascade.
        swept: Classes of which the database itself may have changed any row, such as by ``ON DELETE CASCADE``.
        exact: Those of the rows that were read back, under their locks, just as they will be committed.
        lists: The lists that rows have come into or left, but those of swept classes.
    """

    count: int
    snapshots: list[Snapshot]
    others: list[Snapshot]
    swept: frozenset[type]
    exact: Sequence[Snapshot] = ()
    lists: Sequence[ListLookup] = ()


NOTHING: Final = Outcome(0, [], [], frozenset())
BeforeCommit: TypeAlias = Callable[["Connection | None", Outcome], None]
"""Called after the last statement of a write and before its commit, with the connection of the database that will commit
(``None`` where there is none) and what the write has done; what it raises undoes the write."""


def joined(groups: Mapping[int, Sequence[object]], outcomes: Mapping[int, Outcome], objects: Sequence[object]) -> Outcome:
    """Give what was done to objects, in their order, by what was done to those of each level."""
    stored = {id(obj): row for level, group in groups.items() for obj, row in zip(group, outcomes[level].snapshots, strict=True)}
    others = [row for outcome in outcomes.values() for row in outcome.others]
    swept = frozenset[type]().union(*(o.swept for o in outcomes.values()))
    lists = [at for outcome in outcomes.values() for at in outcome.lists]
    return Outcome(len(objects), [stored[id(obj)] for obj in objects], others, swept, lists=lists)


class UnconfirmedError(OriginError):
    """The connection was lost while the database committed: it may or may not have written anything."""
