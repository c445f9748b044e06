"""A clock, and every way to read."""

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

from stockstore import ProcessMemoryStore
from tests.stores.things import User

USER_KEYS: list[Callable[[int], Any]] = [
    lambda number: number,
    lambda number: {"id": number},
    lambda number: {"email": f"{number}@b.c"},
    lambda number: {"username": f"u{number}", "tenant": number % 3},
]


class Clock:
    """A monotonic clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Give the time."""
        return self.now


def counts(store: ProcessMemoryStore) -> dict[str, int]:
    """Give the counts that are not zero."""
    return {name: value for name, value in dataclasses.asdict(store.stats()).items() if type(value) is int and value}


def every_reading(store: ProcessMemoryStore, cls: type, key: Any) -> list[Any]:
    """Read one key in every way, twice: the first read of a class is not the way of the later ones."""
    keywords = [store.get(cls, **key)] if isinstance(key, dict) else []
    return [*keywords, *store.batch_get(cls, [key, key]), store.get(cls, key), *store.batch_get(cls, [key])]


READINGS: list[Callable[[ProcessMemoryStore, Any], Any]] = [
    lambda store, key: store.get(User, key),
    lambda store, key: store.get(User, **(key if isinstance(key, dict) else {"id": key})),
    lambda store, key: store.batch_get(User, [key])[0],
    lambda store, key: store.batch_get(User, [404, key])[1],
    lambda store, key: next(iter(store.batch_fetch(User, [key]))),
    lambda store, key: store.contains(User, key) or None,
]


def run_threads(works: list[Callable[[], None]]) -> None:
    """Run functions in threads, and raise the first error of any."""
    errors: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    if errors:
        raise errors[0]
