"""An AsyncStore as a blocking one, each call of which runs an event loop: so the contract's tests are tests of it."""

# ruff: noqa: D102 - the verbs are a store's

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from stockstore import AsyncStore, Stats, Store
from stockstore.keys import Key
from stockstore.stores.arguments import MISSING

T = TypeVar("T")


class Driven(Store):
    """The verbs of a store by its AsyncStore, on one loop."""

    def __init__(self, store: Store, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.awaited = AsyncStore(store)
        self._loop = loop

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop."""
        return self._loop.run_until_complete(work)

    def batch_put(self, objects: Iterable[object]) -> None:
        self.run(self.awaited.batch_put(objects))

    def batch_get(self, cls: type[T], keys: Iterable[Key], *, session: Session | None = None) -> list[T | None]:
        return self.run(self.awaited.batch_get(cls, keys, session=session))

    def batch_delete(self, targets: Iterable[object] | type, keys: Iterable[Key] | None = None) -> int:
        return self.run(self.awaited.batch_delete(targets, keys))

    def clear(self, cls: type | None = None) -> None:
        self.run(self.awaited.clear(cls))

    def put(self, obj: object) -> None:
        self.run(self.awaited.put(obj))

    def get(self, cls: type[T], key: Key = MISSING, *, session: Session | None = None, strict: bool = False, **names: object) -> T | None:
        return self.run(self.awaited.get(cls, key, session=session, strict=strict, **names))

    def get_all(
        self, cls: type[T], key: Key = MISSING, *, session: Session | None = None, strict: bool = False, **names: object
    ) -> list[T]:
        return self.run(self.awaited.get_all(cls, key, session=session, strict=strict, **names))

    def delete(self, target: object, key: Key = MISSING, **names: object) -> bool:
        return self.run(self.awaited.delete(target, key, **names))

    def contains(self, cls: type, key: Key = MISSING, **names: object) -> bool:
        return self.run(self.awaited.contains(cls, key, **names))

    def get_or_load(self, cls: type[T], key: Key, loader: Callable[..., T | None], *, session: Session | None = None) -> T | None:
        return self.run(self.awaited.get_or_load(cls, key, loader, session=session))

    def stats(self) -> Stats:
        return self.awaited.stats()

    def holds(self, cls: type) -> bool:
        return self.awaited.store.holds(cls)

    @property
    def is_origin(self) -> bool:
        return self.awaited.store.is_origin

    @property
    def partition(self) -> str:
        return self.awaited.store.partition

    @property
    def tiers(self) -> Sequence[Store]:
        return getattr(self.awaited.store, "tiers", ())

    def close(self) -> None:
        self.run(self.awaited.close())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.awaited!r})"


@contextmanager
def driving(new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop) -> Iterator[Callable[[Store], Driven]]:
    """Give what drives stores on a loop of their own; closes both."""
    loop = new_loop()
    made: list[Driven] = []

    def drive(store: Store) -> Driven:
        made.append(Driven(store, loop))
        return made[-1]

    try:
        yield drive
        for store in made:
            store.close()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
