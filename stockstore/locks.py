"""Locks that a fork never leaves held in the child."""

import os
import threading
import weakref
from contextlib import AbstractContextManager
from typing import Protocol


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
    _held[:] = list(_locks)
    for lock in _held:
        lock.acquire()


def _after_fork() -> None:
    for lock in _held:
        lock.release()
    _held.clear()
    _registry.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
