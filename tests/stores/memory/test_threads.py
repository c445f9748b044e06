"""Threads, forks and finalizers."""

import dataclasses
import os
import random
import signal
import threading
from typing import Any

import pytest

from stockstore import ProcessMemoryStore
from tests.stores.memory.readings import USER_KEYS, Clock, every_reading, run_threads
from tests.stores.things import Code, Thing, User, user

pytestmark = pytest.mark.sa_agnostic


def test_reads_take_no_lock() -> None:
    """While another thread holds the lock of the writers, every sort of hit is answered."""
    store, ann = ProcessMemoryStore(), user(1)
    store.put(ann)
    answers: list[Any] = []
    with store._spaces.cells.lock:
        reader = threading.Thread(target=lambda: answers.extend(every_reading(store, User, key(1))[-1] for key in USER_KEYS), daemon=True)
        reader.start()
        reader.join(10)
        assert answers == [ann] * 4


def test_a_reader_never_takes_away_what_a_writer_just_renewed(clock: Clock) -> None:
    """An entry found expired and put again before it is dropped stays."""
    store, ann = ProcessMemoryStore(lifetime=10), user(1)
    store.put(ann)
    (cells,) = [cells for (_, _, alias), cells in store._spaces._dicts.items() if not alias]
    node = cells[1]
    clock.now += 10
    store.put(ann)
    store._expire(node)
    assert store.get(User, 1) is ann
    assert store.stats().expirations == 0


def test_threads_see_whole_objects_only() -> None:
    """While eight threads put, get and delete, no read gives an object of another key, and the store ends whole."""
    store = ProcessMemoryStore(maxsize=30, lifetime=lambda obj: obj.seconds)

    def hammer(seed: int) -> None:
        chooser = random.Random(seed)
        for _ in range(1500):
            number = chooser.randrange(60)
            action = chooser.random()
            if action < 0.3:
                store.put(user(number, seconds=chooser.choice((None, 1e-6, 60))))
            elif action < 0.4:
                store.delete(User, number)
            elif action < 0.7:
                found = store.get(User, number)
                assert found is None or found.id == number
            elif action < 0.8:
                found = store.get(User, email=f"{number}@b.c")
                assert found is None or found.id == number
            else:
                batch = store.batch_get(User, [number, number + 1])
                assert [obj is None or obj.id - number for obj in batch] in ([0, 1], [True, 1], [0, True], [True, True])

    run_threads([lambda seed=seed: hammer(seed) for seed in range(8)])  # type: ignore[misc]
    spaces = store._spaces
    records = [cells for (_, _, alias), cells in spaces._dicts.items() if not alias]
    live = {id(node) for cells in records for node in cells.values()}
    assert len(spaces.cells) == len(live) <= 30
    assert all(id(node) in live for cells in spaces._dicts.values() for node in cells.values())


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_while_another_thread_writes_and_evicts() -> None:
    """No fork waits for ever, and each child can read, write and count, however busy other threads were."""
    store = ProcessMemoryStore(maxsize=5)
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            store.put(user(random.randrange(50)))

    writers = [threading.Thread(target=write) for _ in range(3)]
    for writer in writers:
        writer.start()
    try:
        statuses = [_status_of_child(store) for _ in range(15)]
    finally:
        done.set()
        for writer in writers:
            writer.join(10)
    assert statuses == [0] * 15


def _status_of_child(store: ProcessMemoryStore) -> int:
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        status = 1
        try:
            store.put(user(99))
            status = 0 if store.contains(User, 99) and store.stats().puts > 0 else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_an_object_s_finalizer_may_use_the_store() -> None:
    """What is evicted may use the store as it goes, without waiting for itself."""
    store = ProcessMemoryStore(maxsize=2)

    class Careful(Thing):
        __keys__ = ["id"]
        id: int

        def __del__(self) -> None:
            store.delete(Code, self.id)

    def use() -> None:
        store.batch_put([Careful(id=number) for number in range(10)])
        store.clear()

    run_threads([use])
    assert store.stats().evictions == 8


def test_a_step_that_was_cut_off_at_its_very_end() -> None:
    """Where a thread has left the cells as in the middle of a step, another one still drops what it is told to."""
    store = ProcessMemoryStore()
    store.put(CutOff(1))
    store._shelves.cells._busy = threading.get_ident()
    other = threading.Thread(target=store.delete, args=[CutOff, 1])
    other.start()
    other.join()
    assert store.get(CutOff, 1) is None


@dataclasses.dataclass
class CutOff:
    __keys__ = ["number"]
    number: int
