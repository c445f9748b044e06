"""Locks and forks: a child never inherits a lock that nobody will release."""

import gc
import os
import signal
import threading
import weakref
from collections.abc import Callable

import pytest
from sqlalchemy.event import listens_for
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from stockstore import SqlAlchemyStore, locks
from stockstore.locks import fork_safe_lock

pytestmark = [
    pytest.mark.sa_agnostic,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


class Base(DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "rows"
    __keys__ = ["id"]
    id: Mapped[int] = mapped_column(primary_key=True)


def exit_status_of_child(work: Callable[[], bool]) -> int:
    """Fork, and give 0 where the child's work gave true; a child that hangs is killed by its own alarm."""
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_lock_is_free_in_parent_and_child_after_a_fork() -> None:
    """Both sides of a fork can take a lock that was free before."""
    lock = fork_safe_lock()
    assert exit_status_of_child(lambda: lock.acquire(timeout=20)) == 0
    assert lock.acquire(timeout=20)
    lock.release()


def test_a_fork_waits_for_a_lock_that_another_thread_holds() -> None:
    """The child starts only after the holder has let go, so what the lock guards is whole there."""
    lock, halves = fork_safe_lock(), [0, 0]
    inside, forking = threading.Event(), threading.Event()

    def change() -> None:
        with lock:
            halves[0] = 1
            inside.set()
            forking.wait(20)
            halves[1] = 1

    holder = threading.Thread(target=change)
    holder.start()
    inside.wait(20)
    threading.Timer(0.05, forking.set).start()
    status = exit_status_of_child(lambda: halves == [1, 1] and lock.acquire(timeout=20))
    holder.join(20)
    assert status == 0


def test_a_fork_lets_a_holder_of_one_lock_have_another_one() -> None:
    """Whichever of two locks the fork takes first, a thread that has one and waits for the other gets it, and the fork goes on."""
    locked, inside, forking, inner = [fork_safe_lock(), fork_safe_lock()], threading.Event(), threading.Event(), threading.Event()

    def nest(outer: int) -> None:
        with locked[outer]:
            inside.set()
            forking.wait(20)
            with locked[1 - outer]:
                inner.set()

    for outer in (0, 1):
        for event in (inside, forking, inner):
            event.clear()
        holder = threading.Thread(target=nest, args=(outer,), daemon=True)
        holder.start()
        inside.wait(20)
        threading.Timer(0.05, forking.set).start()
        assert exit_status_of_child(lambda: inner.is_set() and all(lock.acquire(timeout=20) for lock in locked)) == 0
        holder.join(20)


def test_several_threads_can_fork_while_others_use_locks() -> None:
    """Forks at the same time and busy locks end, in each child too."""
    first, second = fork_safe_lock(), fork_safe_lock()
    done = threading.Event()
    statuses: list[int] = []

    def use(lock: threading.Lock) -> None:
        while not done.is_set():
            with lock:
                pass

    users = [threading.Thread(target=use, args=(lock,)) for lock in (first, second) for _ in range(2)]
    forkers = [
        threading.Thread(
            target=lambda: statuses.extend(
                exit_status_of_child(lambda: first.acquire(timeout=20) and second.acquire(timeout=20)) for _ in range(5)
            )
        )
        for _ in range(3)
    ]
    for thread in users + forkers:
        thread.start()
    for thread in forkers:
        thread.join(30)
    done.set()
    for thread in users:
        thread.join(20)
    assert statuses == [0] * 15


def test_a_lock_that_nobody_uses_any_more_is_forgotten() -> None:
    """Locks of stores that are gone cost nothing at the next fork."""
    lock = fork_safe_lock()
    gone = weakref.ref(lock)
    assert lock in locks._locks
    del lock
    gc.collect()
    assert gone() is None


def test_a_fork_waits_for_the_only_connection_of_a_database_in_memory() -> None:
    """A child that asks the database does not wait for a thread that it does not have."""
    store = SqlAlchemyStore("sqlite://")
    Base.metadata.create_all(store.engine)
    inside, forking = threading.Event(), threading.Event()

    @listens_for(store.engine, "before_cursor_execute")
    def hold(*_: object) -> None:
        inside.set()
        forking.wait(20)

    holder = threading.Thread(target=store.put, args=(Row(id=1),))
    holder.start()
    inside.wait(20)
    threading.Timer(0.2, forking.set).start()
    status = exit_status_of_child(lambda: store.contains(Row, 1))
    holder.join(20)
    store.close()
    assert status == 0
