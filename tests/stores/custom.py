"""Stores as a third party writes them."""

import pickle
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from stockstore import ConfigurationError, RedisStore, Store
from stockstore.keys import Key, Native, keys_of
from stockstore.stores.snapshots import snapshot_of

T = TypeVar("T")


class PickleStore(Store):
    """Straight over the abstract methods: pickles in a dict, found by looking at all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[tuple[str, Native], bytes] = {}

    def batch_put(self, objects: Iterable[object]) -> None:
        """Keep pickles under the identity."""
        if isinstance(objects, (str, type)) or not hasattr(objects, "__iter__"):
            raise ConfigurationError(f"a batch is an iterable of objects, not {objects!r}")
        self.rows.update({self._place(obj): pickle.dumps(obj) for obj in list(objects)})

    @staticmethod
    def _place(obj: object) -> tuple[str, Native]:
        identity = keys_of(type(obj)).identity
        return identity.label, identity.native_of(obj)

    def batch_get(self, cls: type[T], keys: Iterable[Key], *, session: object = None) -> list[T | None]:
        """Look at everything."""
        rows: list[Any] = [row for row in map(_detached, list(self.rows.values())) if self._fits(cls, row)]
        lookups = [keys_of(cls).lookup(key) for key in keys]
        return [next((row for row in rows if lookup.plan.native_of(row) == lookup.native), None) for lookup in lookups]

    @staticmethod
    def _fits(kind: type, row: object) -> bool:
        return isinstance(row, kind) if keys_of(kind).mapped else type(row) is kind

    def batch_delete(self, targets: Iterable[object] | type, keys: Iterable[Key] | None = None) -> int:
        """Drop by identity."""
        gone: Iterable[Any] = self.batch_get(targets, keys or ()) if isinstance(targets, type) else targets
        places = {self._place(obj) for obj in gone if obj is not None}
        return sum(self.rows.pop(place, None) is not None for place in places)

    def clear(self, cls: type | None = None) -> None:
        """Drop by the label of the identity."""
        for place in [place for place in list(self.rows) if cls is None or place[0] == keys_of(cls).identity.label]:
            del self.rows[place]


def _detached(pickled: bytes) -> object:
    return snapshot_of(pickle.loads(pickled)).restore()


class RecordingStore(PickleStore):
    """Notes what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Sequence[Key]] = []

    def batch_get(self, cls: type[T], keys: Iterable[Key], *, session: object = None) -> list[T | None]:
        """Note the keys."""
        keys = list(keys)
        self.asked.append(keys)
        return super().batch_get(cls, keys, session=session)


class ShoutingRedisStore(RedisStore):
    """Overrides one verb, as a subclass does that logs or measures."""

    calls = 0

    def batch_get(self, cls: type[T], keys: Iterable[Key], *, session: Any = None) -> list[T | None]:
        """Count the call."""
        self.calls += 1
        return super().batch_get(cls, keys, session=session)
