"""A cache for one thread, or one asyncio task, alone: what a request has read once."""

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

from stockstore.aio.bridge import acting_task
from stockstore.lifetimes import Lifetime
from stockstore.stores.cache import Namespace
from stockstore.stores.claimed import ClaimedSpaces
from stockstore.stores.local import LocalStore

if TYPE_CHECKING:
    from typing_extensions import Self


class _Owned(NamedTuple):
    """Shelves, and who alone may see them; a task inherits its parent's context but not its shelves."""

    owner: "weakref.ref[object]"
    spaces: ClaimedSpaces

    @property
    def is_mine(self) -> bool:
        """Whether the caller may see them."""
        return self.owner() is _owner()


class _Scope:
    """Shelves for all that runs in the context in which a scope began, or in a copy of it, until the scope ends."""

    __slots__ = ("is_mine", "spaces")

    def __init__(self, spaces: ClaimedSpaces) -> None:
        """Begin."""
        self.spaces = spaces
        self.is_mine = True


class ThreadLocalStore(LocalStore):
    """Objects that only the thread, or the asyncio task, that put them sees; or only one request.

    Wrap each request in ``with store.scope():`` and a pooled thread carries nothing over to the next. The tasks that the
    request starts, and the threads that work for it in a copy of its context, then share what it has read.

    Args:
        maxsize: Objects kept at the most, per thread or task.
        lifetime: As for ``ProcessMemoryStore``.
        polymorphic: Whether plain objects are also found by their keyed base classes.
        namespace: A name, or a callable that gives one (a tenant).
        jitter: The fraction by which lifetimes are shortened at random.
        max_staleness: Seconds for which a chain believes what it has read from the tiers below; ``None``: until the
            scope or a transaction of the thread ends.
    """

    def __init__(
        self,
        *,
        maxsize: int = 10_000,
        lifetime: Lifetime = None,
        polymorphic: bool = False,
        namespace: Namespace = "stockstore",
        jitter: float = 0.0,
        max_staleness: float | None = 1.0,
    ) -> None:
        """Start empty."""
        super().__init__(lifetime=lifetime, polymorphic=polymorphic, namespace=namespace, jitter=jitter, max_staleness=max_staleness)
        self._maxsize = maxsize
        self._owned: ContextVar[_Owned | _Scope | None] = ContextVar("stockstore.ThreadLocalStore", default=None)
        ClaimedSpaces(maxsize)  # a wrong size shows now, not in the first request

    @property
    def _spaces(self) -> ClaimedSpaces:
        owned = self._owned.get()
        return owned.spaces if owned is not None and owned.is_mine else self._start()

    def _start(self) -> ClaimedSpaces:
        spaces = ClaimedSpaces(self._maxsize)
        self._owned.set(_Owned(weakref.ref(_owner()), spaces))
        return spaces

    @contextmanager
    def scope(self) -> "Iterator[Self]":
        """Start empty, and empty again at the end, also where the end runs in another context.

        Tasks that begin inside, and threads that are given a copy of the context (``asyncio.to_thread``, the pools of
        web frameworks), see the objects of the scope, and whoever of them writes ends what the scope has read. One that
        lives on after the end starts empty.
        """
        outer, scope = self._owned.get(), _Scope(ClaimedSpaces(self._maxsize))
        self._owned.set(scope)
        try:
            yield self
        finally:
            scope.is_mine = False
            scope.spaces.cells.clear()
            if self._owned.get() is scope:
                self._owned.set(outer)
            # What the scope around this one has read may have been written in here.
            self._spaces.cells.clear()

    def __repr__(self) -> str:
        """Name the store."""
        return f"{type(self).__name__}(maxsize={self._maxsize})"


def _owner() -> object:
    task = acting_task()
    return threading.current_thread() if task is None else task
