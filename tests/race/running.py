"""The cache of a race: somebody's, or one that is run for it."""

import contextlib
from collections.abc import Iterator
from urllib.parse import urlsplit

from tests.race.caches import CacheServer, MemcachedServerOf, RedisServerOf
from tests.race.scattered import ClusterOf, SentinelOf, url_of
from tests.servers.memcached import running_memcached
from tests.servers.redis import running_redis
from tests.servers.redis_cluster import running_redis_nodes
from tests.servers.redis_sentinel import SERVICE, running_sentinels

NAMED = ("redis", "cluster", "sentinel", "memcached")
"""Those that a race can run by itself."""
_REDIS_SCHEMES = ("redis", "rediss", "unix")


def is_cache_url(text: str) -> bool:
    """Whether a text is the URL of a cache that can race."""
    return urlsplit(text).scheme in {*_REDIS_SCHEMES, "cluster", "sentinel", "memcached"}


@contextlib.contextmanager
def running_cache(cache: str, *, small: bool) -> Iterator[CacheServer]:
    """Give the cache of a URL, or run one; a small one drops values for want of memory, but no markers where it can tell."""
    if cache == "redis":
        options = ["--maxmemory", "4mb", "--maxmemory-policy", "volatile-random"] if small else []
        with running_redis(*options) as server:
            yield RedisServerOf(server.url, server)
    elif cache == "cluster":
        with running_redis_nodes(3, 1) as nodes:
            yield ClusterOf(url_of("cluster", nodes.nodes), nodes)
    elif cache == "sentinel":
        with running_sentinels() as servers:
            yield SentinelOf(f"{url_of('sentinel', servers.sentinels)}/{SERVICE}", servers)
    elif cache == "memcached":
        with running_memcached(*(["-m", "2"] if small else [])) as server:
            yield MemcachedServerOf(f"memcached://{server.address}", server)
    elif urlsplit(cache).scheme == "cluster":
        yield ClusterOf(cache)
    elif urlsplit(cache).scheme == "sentinel":
        yield SentinelOf(cache)
    elif urlsplit(cache).scheme in _REDIS_SCHEMES:
        yield RedisServerOf(cache)
    else:
        yield MemcachedServerOf(cache)
