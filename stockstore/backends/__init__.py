"""Text keys and bytes values on one kind of storage each; no objects.

A driver is imported when the backend that needs it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from stockstore.backends.base import Backend

if TYPE_CHECKING:
    from stockstore.backends.mapping import MappingBackend
    from stockstore.backends.memcache import MemcacheBackend
    from stockstore.backends.null import NullBackend
    from stockstore.backends.redis import RedisBackend

__all__ = ["Backend", "MappingBackend", "MemcacheBackend", "NullBackend", "RedisBackend"]

_MODULES = {
    "MappingBackend": "mapping",
    "MemcacheBackend": "memcache",
    "NullBackend": "null",
    "RedisBackend": "redis",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
