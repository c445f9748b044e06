"""A backend that keeps nothing."""

from collections.abc import Sequence

from stockstore.backends.base import Backend


class NullBackend(Backend):
    """Forgets every value at once: for switching a cache off without changing the code around it.

    >>> backend = NullBackend()
    >>> backend.set_many([("shop:User:id:i1", b"Ann", 60)])
    >>> backend.get_many(["shop:User:id:i1"])
    {}
    """

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:  # noqa: ARG002 - the published name
        """Give nothing."""
        return {}

    def set_many(self, items: Sequence[tuple[str, bytes, int]]) -> None:
        """Forget the values."""

    def delete_many(self, keys: Sequence[str]) -> int:  # noqa: ARG002 - the published name
        """Find nothing to drop."""
        return 0

    def clear(self, prefix: str) -> None:
        """Find nothing to drop."""

    def close(self) -> None:
        """Do nothing."""
