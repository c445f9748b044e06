"""Locks that a fork never leaves held in the child."""

import os
import threading
import weakref

_locks: "weakref.WeakSet[threading.Lock]" = weakref.WeakSet()
_held: "list[threading.Lock]" = []
_registry = threading.Lock()


def fork_safe_lock() -> threading.Lock:
    """Give a lock that a fork waits for, so that what it guards is whole in the child."""
    lock = threading.Lock()
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
