"""The store that keeps nothing: caching switched off."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

from stockstore.keys import Key, keys_of
from stockstore.stores.arguments import keys_in, objects_of
from stockstore.stores.base import Store

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

T = TypeVar("T")


class NullStore(Store):
    """Accepts everything, keeps nothing, and refuses bad keys as every store does."""

    def batch_put(self, objects: Iterable[object]) -> None:
        """Keep nothing."""
        for obj in objects_of(objects):
            keys_of(type(obj))

    def batch_get(self, cls: type[T], keys: Iterable[Key], *, session: "Session | None" = None) -> list[T | None]:
        """Give ``None`` for every key."""
        del session
        compiled = keys_of(cls)
        lookups = [compiled.lookup(key) for key in keys_in(keys)]
        self._note_reads(cls, 0, len(lookups))
        return [None] * len(lookups)

    def batch_delete(self, targets: Iterable[object] | type, keys: Iterable[Key] | None = None) -> int:
        """Delete nothing."""
        if isinstance(targets, type):
            compiled = keys_of(targets)
            for key in keys_in(keys):
                compiled.lookup(key)
        else:
            self.batch_put(objects_of(targets, keys))
        return 0

    def clear(self, cls: type | None = None) -> None:
        """Drop nothing."""
        if cls is not None:
            keys_of(cls)
