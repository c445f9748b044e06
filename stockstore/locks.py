"""Locks that a fork never leaves held in the child."""

import os
import threading
import weakref
from contextlib import AbstractContextManager
from typing import Final, Protocol

_PATIENCE: Final = 0.1


class _Lock(AbstractContextManager[bool, None], Protocol):
    def acquire(self, blocking: bool = ..., timeout: float = ...) -> bool: ...

    def release(self) -> None: ...


_locks: "weakref.WeakSet[_Lock]" = weakref.WeakSet()
_held: "list[_Lock]" = []
_registry = threading.Lock()


def fork_safe_lock() -> _Lock:
    """Give a lock that a fork waits for, so that what it guards is whole in the child.

    Its thread may take it again: the garbage collector may run a finalizer that uses the store at any allocation.
    """
    lock = threading.RLock()
    with _registry:
        _locks.add(lock)
    return lock


def _before_fork() -> None:
    _registry.acquire()
    # Who has one lock may wait for another, which must not stay held here.
    while not _take_all():
        _let_go()


def _take_all() -> bool:
    for lock in list(_locks):
        if not lock.acquire(timeout=_PATIENCE):
            return False
        _held.append(lock)
    return True


def _let_go() -> None:
    for lock in _held:
        lock.release()
    _held.clear()


def _after_fork() -> None:
    _let_go()
    _registry.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
