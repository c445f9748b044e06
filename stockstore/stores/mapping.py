"""Any mapping as a cache store: the dictionary store."""

from collections.abc import MutableMapping

from stockstore.backends.mapping import MappingBackend
from stockstore.codecs import Codec
from stockstore.errors import ConfigurationError
from stockstore.lifetimes import Lifetime
from stockstore.stores.backed import BackendStore, OnError
from stockstore.stores.cache import Namespace


class MappingStore(BackendStore):
    """Objects as bytes in a ``MutableMapping[str, bytes]``, such as a dict or a ``shelve``.

    Args:
        mapping: Where the bytes are; it stays open when the store is closed.
        lifetime: As for ``RedisStore``; the mapping itself drops nothing.
        polymorphic: Whether plain objects are also found by their keyed base classes.
        namespace: The first part of every key, or a callable that gives it (a tenant).
        jitter: The fraction by which lifetimes are shortened at random.
        codec: How plain objects become bytes; msgpack by default.
        on_error: Whether a read at which the mapping fails is a miss (counted as an error) or raises.

    Raises:
        ConfigurationError: It is no mutable mapping.
    """

    def __init__(
        self,
        mapping: MutableMapping[str, bytes],
        *,
        lifetime: Lifetime = None,
        polymorphic: bool = False,
        namespace: Namespace = "stockstore",
        jitter: float = 0.0,
        codec: Codec | None = None,
        on_error: OnError = "miss",
    ) -> None:
        """Keep the mapping and the settings."""
        if not isinstance(mapping, MutableMapping):
            raise ConfigurationError(f"MappingStore takes a MutableMapping, such as a dict, not {type(mapping).__name__}")
        super().__init__(
            MappingBackend(mapping),
            lifetime=lifetime,
            polymorphic=polymorphic,
            namespace=namespace,
            jitter=jitter,
            codec=codec,
            on_error=on_error,
        )
