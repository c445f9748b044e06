"""Which channel there is."""

import sys
from typing import TYPE_CHECKING, Final, TypeAlias

from stockstore.backends.base import Backend
from stockstore.channels.base import Channel
from stockstore.errors import ConfigurationError
from stockstore.redacting import redacted

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

Setting: TypeAlias = "Channel | str | Engine | AsyncEngine | None"
"""``"auto"``: that of the nearest tier below that carries one; a URL or an engine of PostgreSQL; or a channel."""

AUTO: Final = "auto"
_REDIS: Final = ("redis://", "rediss://", "unix://")


def channel_of(backend: Backend) -> Channel | None:
    """Give the channel on which all that write to a backend tell of it; ``None`` where there is none."""
    # Whoever has made such a backend has imported it.
    redis = sys.modules.get("stockstore.backends.redis")
    if redis is None or not isinstance(backend, redis.RedisBackend):
        return None
    from stockstore.backends.redis_clients import AnyCluster
    from stockstore.channels.redis import RedisChannel
    from stockstore.channels.redis_cluster import ClusterChannel

    return ClusterChannel(backend.client) if isinstance(backend.client, AnyCluster) else RedisChannel(backend.client)


def channel_from(setting: Setting) -> Channel | None:
    """Give the channel that was set; ``None`` where there is to be none, or the tiers below decide. Opens no connection.

    Raises:
        ConfigurationError: It is nothing that names a channel.
    """
    if setting is None or setting == AUTO or isinstance(setting, Channel):
        return setting if isinstance(setting, Channel) else None
    if isinstance(setting, str) and setting.startswith(_REDIS):
        from stockstore.backends.redis_clients import open_client
        from stockstore.channels.redis import RedisChannel

        return RedisChannel(open_client(setting, 1.0, 1.0))
    if isinstance(setting, str) and not setting.startswith("postgresql"):
        raise ConfigurationError(
            f"channel is 'auto', None, a URL such as 'redis://localhost/0' or 'postgresql://localhost/shop', an engine or a Channel, "
            f"not {redacted(setting)!r}"
        )
    from stockstore.channels.postgresql import PostgresChannel

    return PostgresChannel(setting)
