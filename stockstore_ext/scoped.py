"""What has a scope per request: any store, blocking or awaited."""

from contextlib import AbstractContextManager
from typing import Protocol

from stockstore.errors import ConfigurationError


class Scoped(Protocol):
    """A ``Store``, or an ``AsyncStore``."""

    def scope(self) -> AbstractContextManager[object]:
        """Give a context manager for one request."""
        ...


def checked(store: Scoped) -> Scoped:
    """Give a store, refusing what is none.

    Raises:
        ConfigurationError: It has no ``scope()``.
    """
    if isinstance(store, type) or not callable(getattr(store, "scope", None)):
        raise ConfigurationError(
            f"a request's scope is that of a store, such as open_store('thread://', 'sqlite:///shop.db'), not of {store!r}"
        )
    return store
