"""What redis-py raises, as the errors of a backend."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final

import redis

from stockstore.backends.redis_clients import AnyCluster, address_of
from stockstore.backends.redis_exchange import Exchange, Unanswered
from stockstore.errors import CacheUnreachable, StockstoreError

# RedisClusterException stands beside RedisError, not below it.
_DRIVERS = redis.RedisError, redis.exceptions.RedisClusterException, OSError, Unanswered
_ODD = TypeError, ValueError, AttributeError, LookupError
"""An answer of another kind, on which redis-py or the checks fail."""

_ADVICE: Final[Mapping[type[BaseException], str]] = {
    redis.AuthenticationError: "check the user and the password that the URL or the client gives",
    redis.ReadOnlyError: "name its primary: a cache is written to",
}


class Errors:
    """A block of commands, of whose errors those of the driver become ``CacheUnreachable``. It keeps nothing of a block: any number may be within."""

    __slots__ = ("_client", "_exchange")

    def __init__(self, client: "redis.Redis | AnyCluster", exchange: Exchange) -> None:
        """Name the client in what is raised."""
        self._client: Any = client
        self._exchange = exchange

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Turn what was raised into an error of the backend."""
        if error is None or isinstance(error, StockstoreError):
            return
        if not isinstance(error, _DRIVERS):
            # Or a signal's exception: the pool of a client that we were given may have a connection back whose answer is still to come,
            # which would be given to the next command.
            self._exchange.drop_idle()
        if isinstance(error, (*_DRIVERS, *_ODD)):
            raise self._unreachable(error) from error

    def _unreachable(self, error: BaseException) -> CacheUnreachable:
        advice = next((advice for kind, advice in _ADVICE.items() if isinstance(error, kind)), "check the server and its log")
        return CacheUnreachable(f"Redis at {address_of(self._client)} did not do what was asked: {error}; {advice}")
