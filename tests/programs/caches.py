"""The caches that programs run with, and the hook's modes."""

import uuid
from collections.abc import Callable
from typing import Any, Final

from stockstore import MemcacheStore, ProcessMemoryStore, RedisStore, Store

CACHES: Final = ("memory", "redis", "memcached", "memory+redis")
MODES: Final[dict[str, dict[str, Any]]] = {
    "exact": {},
    "invalidate": {"write": "invalidate"},
    "fast": {"consistency": "fast"},
    "outbox": {"outbox": True},
    "classes": {"bulk_limit": 0},
}


def tiers_of(kind: str, redis_url: str, memcached: str) -> Callable[[], list[Store]]:
    """Give what makes caches that are empty."""

    def made() -> list[Store]:
        namespace = uuid.uuid4().hex
        makers: dict[str, Callable[[], Store]] = {
            "memory": lambda: ProcessMemoryStore(namespace=namespace, max_staleness=1.0 if "+" in kind else None),
            "redis": lambda: RedisStore(redis_url, namespace=namespace),
            "memcached": lambda: MemcacheStore([memcached], namespace=namespace),
        }
        return [makers[name]() for name in kind.split("+")]

    return made
