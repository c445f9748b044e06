"""A write-through object cache for web backends, and the second-level cache that SQLAlchemy never had."""

from importlib import import_module
from typing import TYPE_CHECKING

from stockstore.errors import (
    CacheUnreachable,
    CodecError,
    ConfigurationError,
    NonUniqueKeyError,
    NotKeyedError,
    OriginError,
    StockstoreError,
    UnknownKeyError,
)

if TYPE_CHECKING:
    from stockstore.aio.store import AsyncStore
    from stockstore.backends.base import Backend
    from stockstore.codecs import Codec, MsgpackCodec, PickleCodec
    from stockstore.instrumentation import Stats
    from stockstore.stores.backed import BackendStore
    from stockstore.stores.base import Store
    from stockstore.stores.chained import ChainedStore
    from stockstore.stores.mapping import MappingStore
    from stockstore.stores.memcache import MemcacheStore
    from stockstore.stores.memory import ProcessMemoryStore
    from stockstore.stores.null import NullStore
    from stockstore.stores.redis import RedisStore
    from stockstore.stores.sharded import ShardedStore
    from stockstore.stores.sqlalchemy import SqlAlchemyStore
    from stockstore.stores.threadlocal import ThreadLocalStore
    from stockstore.stores.typed_mapping import StoreMapping
    from stockstore.urls import open_store

__all__ = [
    "AsyncStore",
    "Backend",
    "BackendStore",
    "CacheUnreachable",
    "ChainedStore",
    "Codec",
    "CodecError",
    "ConfigurationError",
    "MappingStore",
    "MemcacheStore",
    "MsgpackCodec",
    "NonUniqueKeyError",
    "NotKeyedError",
    "NullStore",
    "OriginError",
    "PickleCodec",
    "ProcessMemoryStore",
    "RedisStore",
    "ShardedStore",
    "SqlAlchemyStore",
    "Stats",
    "StockstoreError",
    "Store",
    "StoreMapping",
    "ThreadLocalStore",
    "UnknownKeyError",
    "open_store",
]

# Loaded at first use: importing stockstore costs no driver.
_MODULES = {
    "AsyncStore": "aio.store",
    "Backend": "backends.base",
    "BackendStore": "stores.backed",
    "ChainedStore": "stores.chained",
    "Codec": "codecs",
    "MappingStore": "stores.mapping",
    "MemcacheStore": "stores.memcache",
    "MsgpackCodec": "codecs",
    "NullStore": "stores.null",
    "PickleCodec": "codecs",
    "ProcessMemoryStore": "stores.memory",
    "RedisStore": "stores.redis",
    "ShardedStore": "stores.sharded",
    "SqlAlchemyStore": "stores.sqlalchemy",
    "Stats": "instrumentation",
    "Store": "stores.base",
    "StoreMapping": "stores.typed_mapping",
    "ThreadLocalStore": "stores.threadlocal",
    "open_store": "urls",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
