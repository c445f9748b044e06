"""What serves reads that may not be as old as process memory may be."""

from collections.abc import Callable, Sequence
from typing import Any

from stockstore.stores.tiers.local import LocalTier
from stockstore_ext.sqlalchemy.read_through.serving import Serving
from stockstore_ext.sqlalchemy.read_through.sharded import Shards
from stockstore_ext.sqlalchemy.shards import Token


class Servings:
    """What serves plain sessions, and those that read a shard.

    Attributes:
        plain: Serves sessions that are not sharded.
    """

    def __init__(self, plain: Serving, shards: Shards) -> None:
        """Join them."""
        self.plain = plain
        self._shards = shards

    def of(self, token: Token) -> Serving:
        """Give what serves a shard, or with ``None`` plain sessions."""
        return self.plain if token is None else self._shards.serving(token)


class Strictly:
    """Chooses between all tiers and those of which no write of another process is unseen for a moment.

    Args:
        tiers: From the top down.
        make: Gives what serves by some of them.
    """

    def __init__(self, tiers: Sequence[Any], make: Callable[[tuple[Any, ...]], Servings]) -> None:
        """Make what serves by all of them."""
        self._tiers = tuple(tiers)
        self._make = make
        self._known = {self._tiers: make(self._tiers)}

    def servings(self, *, strict: bool) -> Servings:
        """Give what serves a read."""
        # Asked each time: of what memory is told changes with the origins that are met.
        kept = tuple(tier for tier in self._tiers if not _is_bounded(tier)) if strict else self._tiers
        found = self._known.get(kept)
        return self._known.setdefault(kept, self._make(kept)) if found is None else found


def _is_bounded(tier: Any) -> bool:
    memory = getattr(tier, "inner", tier)
    return isinstance(memory, LocalTier) and memory.standing().level != "strict"
