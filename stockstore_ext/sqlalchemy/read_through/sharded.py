"""The parts of the caches that are shards' own, for SQLAlchemy's ``ShardedSession``."""

from collections.abc import Callable

from stockstore_ext.sqlalchemy.read_through.serving import Serving
from stockstore_ext.sqlalchemy.shards import Token


class Shards:
    """What serves the sessions that read a shard, made for each shard when it is first read.

    Args:
        make: Gives what serves those who read a shard.
    """

    def __init__(self, make: Callable[[Token], Serving]) -> None:
        """Know no shard yet."""
        self._make = make
        self._known: dict[Token, Serving] = {}

    def serving(self, token: Token) -> Serving:
        """Give what serves a shard."""
        found = self._known.get(token)
        return self._known.setdefault(token, self._make(token)) if found is None else found
