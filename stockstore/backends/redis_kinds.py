"""The exchange for each kind of client."""

import redis
from redis.cluster import ClusterPipeline, RedisCluster

from stockstore.backends.redis_awaited import OnAwaitedServer
from stockstore.backends.redis_awaited_cluster import OnAwaitedCluster
from stockstore.backends.redis_cluster import OnCluster
from stockstore.backends.redis_exchange import Exchange, OnServer
from stockstore.errors import ConfigurationError


def exchange_of(client: object) -> Exchange:
    """Give how to exchange commands by a client.

    Raises:
        ConfigurationError: It is none that can be used.
    """
    if isinstance(client, (redis.client.Pipeline, redis.asyncio.client.Pipeline, ClusterPipeline, redis.asyncio.cluster.ClusterPipeline)):
        raise ConfigurationError("a pipeline does nothing before its execute(); give the client that it was made by")
    if isinstance(client, redis.asyncio.RedisCluster):
        return OnAwaitedCluster(client)
    if isinstance(client, redis.asyncio.Redis):
        return OnAwaitedServer(client)
    if isinstance(client, RedisCluster):
        return OnCluster(client)
    if not isinstance(client, redis.Redis):
        raise ConfigurationError(
            f"a client of type {type(client).__name__} is none that can be used; give redis-py's Redis, RedisCluster or asyncio.Redis"
        )
    return OnServer(client)
