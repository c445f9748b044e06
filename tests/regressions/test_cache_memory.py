"""Process memory that is interrupted, used in the middle of its own steps, or shared by many tenants."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from stockstore import ProcessMemoryStore
from stockstore.backends import local
from stockstore.stores import spaces as shelves

MAXSIZE = 4


class Note:
    """Two keys."""

    __keys__ = ["id", "title"]

    def __init__(self, id: int, title: str = "") -> None:  # noqa: A002 - the attribute's name
        self.id, self.title = id, title or f"note {id}"


class Interrupt(BaseException):
    """What a signal's handler raises."""


def filled() -> ProcessMemoryStore:
    """Give a full store, some of whose objects were asked for."""
    store = ProcessMemoryStore(maxsize=MAXSIZE)
    for number in range(MAXSIZE + 2):
        store.put(Note(number))
        store.batch_get(Note, [number, number])
    return store


def assert_whole(store: ProcessMemoryStore, over: int = 0) -> None:
    """Fail unless size, queues and records agree."""
    cells = store._spaces.cells
    queued = [node for queue in (cells._small, cells._main) for node in queue if node.shelf is not None]
    standing = [
        node for (_, _, alias), place in store._spaces._dicts.items() if not alias for node in place.values() if node.shelf is not None
    ]
    assert len(cells) == len(queued) == len(set(map(id, queued))) <= MAXSIZE + over
    assert set(map(id, queued)) == set(map(id, standing))


@contextmanager
def at_call(number: int, action: Callable[[], object]) -> Iterator[list[int]]:
    """Do something at one of the calls that the bounded map makes, which are where a signal's handler runs."""
    seen = [0]

    def profile(frame: Any, event: str, argument: object) -> None:
        del argument
        if frame.f_code.co_filename == local.__file__ and event in ("call", "c_call", "c_return"):
            seen[0] += 1
            if seen[0] == number:
                sys.setprofile(None)
                action()

    sys.setprofile(profile)
    try:
        yield seen
    finally:
        sys.setprofile(None)


STEPS: dict[str, Callable[[ProcessMemoryStore], object]] = {
    "put": lambda store: store.put(Note(100)),
    "replace": lambda store: store.batch_put([Note(MAXSIZE, "other"), Note(MAXSIZE + 1, "another")]),
    "delete": lambda store: store.batch_delete(Note, list(range(MAXSIZE + 2))),
    "clear": lambda store: store.clear(),
    "stats": lambda store: store.stats(),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # an interrupt may hit the end of a generator
@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_an_interrupt_at_any_place_leaves_a_store_in_order(step: Callable[[ProcessMemoryStore], object]) -> None:
    """Whichever call a signal's exception cuts off, the store holds no more than it may, and all of it can be evicted."""

    def interrupt() -> None:
        raise Interrupt

    number, interrupted = 0, True
    while interrupted:
        store, number, interrupted = filled(), number + 1, False
        try:
            with at_call(number, interrupt):
                step(store)
        except Interrupt:
            interrupted = True
        # The cut off step may not have made room yet.
        assert_whole(store, over=1)
        for other in range(1000, 1010):
            store.put(Note(other))
            assert store.get(Note, other) is not None
        assert_whole(store)
    assert number > 2


@pytest.mark.parametrize("nested", [STEPS["put"], STEPS["delete"], STEPS["clear"], STEPS["stats"]])
@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_a_handler_in_the_middle_of_a_step_uses_the_store(
    step: Callable[[ProcessMemoryStore], object], nested: Callable[[ProcessMemoryStore], object]
) -> None:
    """What a signal's handler or a finalizer does to the store at any call is done, at once or when the step has ended."""
    number, reached = 0, True
    while reached:
        store, number = filled(), number + 1
        with at_call(number, lambda store=store: nested(store)) as seen:  # type: ignore[misc]
            step(store)
        reached = seen[0] >= number
        assert_whole(store)
        if reached and nested is STEPS["put"] and step not in (STEPS["clear"], STEPS["replace"]):
            assert store.get(Note, 100) is not None
        store.put(Note(7))
        assert store.get(Note, title="note 7") is not None
        assert_whole(store)
    assert number > 2


def test_tenants_that_have_nothing_left_are_forgotten() -> None:
    """Of many tenants, each with an object that was evicted since, only a bounded number is known."""
    tenant = [""]
    store = ProcessMemoryStore(maxsize=MAXSIZE, namespace=lambda: tenant[0])
    for number in range(5000):
        tenant[0] = f"tenant {number}"
        store.put(Note(1))
        assert store.get(Note, title="note 1") is not None
    assert len(store._spaces._dicts) < 2000
    assert len(store._spaces._shelves) < 2000


def test_no_tenant_loses_a_write_while_others_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What threads put for tenants that come and go is there at once, by every key."""
    monkeypatch.setattr(shelves, "_SWEEP_AT", 1)
    before, here, lost = sys.getswitchinterval(), threading.local(), []
    store = ProcessMemoryStore(namespace=lambda: here.tenant)

    def work(first: int) -> None:
        for number in range(400):
            here.tenant = f"tenant {first} {number % 50}"
            store.put(Note(number))
            if store.get(Note, number) is None or store.get(Note, title=f"note {number}") is None:
                lost.append(number)
            store.delete(Note, number)

    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(first,)) for first in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert not lost


def test_a_put_for_a_tenant_that_is_being_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that reads where its tenant's objects stand just before that goes puts once more, where they stand from then on."""
    tenant, given = threading.local(), threading.Event()
    tenant.name = "idle"
    store = ProcessMemoryStore(namespace=lambda: tenant.name)
    store.put(Note(1))
    store.delete(Note, 1)

    def write() -> None:
        tenant.name = "idle"
        store.put(Note(1))

    writer, shelf = threading.Thread(target=write), store._spaces.shelf

    def giving(*args: Any) -> Any:
        found = shelf(*args)
        if threading.current_thread() is writer:
            given.set()
        return found

    class Dicts(dict[Any, Any]):
        def pop(self, *args: Any) -> Any:
            if writer.ident is None:
                writer.start()
                assert given.wait(10)
            return super().pop(*args)

    monkeypatch.setattr(store._spaces, "shelf", giving)
    monkeypatch.setattr(store._spaces, "_dicts", Dicts(store._spaces._dicts))
    monkeypatch.setattr(store._spaces, "_sweep_at", 0)
    tenant.name = "other"
    store.put(Note(2))
    writer.join(10)
    tenant.name = "idle"
    assert store.get(Note, 1) is not None
