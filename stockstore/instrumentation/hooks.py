"""Who is told of events: hooks, for the whole process."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from inspect import iscoroutinefunction
from typing import Final, Protocol
from weakref import WeakValueDictionary

from stockstore.errors import ConfigurationError
from stockstore.instrumentation.events import Event, Kind
from stockstore.instrumentation.stats import READS, is_unasked
from stockstore.locks import fork_safe_lock


class Hook(Protocol):
    """What is called with every event, in the thread in which it happened."""

    def __call__(self, event: Event, /) -> object:
        """Take note of an event; what it raises is logged once, and goes no further."""


class Quick(Protocol):
    """A store with a way to a hit that tells of nothing."""

    def switch_hooks(self) -> None:
        """Take that way only while there is no hook."""


listening: Final[list[Hook]] = []
"""The hooks. Where it is empty there is nobody to make events for; ask that before anything else."""

_failed: Final[list[Hook]] = []
_quick: Final[WeakValueDictionary[int, Quick]] = WeakValueDictionary()
_lock: Final = fork_safe_lock()
_telling: Final = ContextVar("stockstore.telling", default=False)
_log: Final = logging.getLogger(__name__)


def add_hook(hook: Hook) -> None:
    """Have a hook called with every event of this process, until :func:`remove_hook`.

    Raises:
        ConfigurationError: It is no callable or a coroutine function, or it is there already.

    >>> from stockstore import NullStore
    >>> seen = []
    >>> add_hook(seen.append)
    >>> class Colour:
    ...     __keys__ = ["name"]
    >>> NullStore().get(Colour, "red")
    >>> remove_hook(seen.append)
    >>> [(event.kind, event.store, event.count) for event in seen]
    [('miss', 'NullStore()', 1)]
    """
    if not callable(hook):
        raise ConfigurationError(f"a hook is called with each Event, and {hook!r} cannot be called")
    if iscoroutinefunction(hook):
        raise ConfigurationError(f"a hook is called where nobody awaits it, and {hook!r} is a coroutine function; give a plain one")
    with _lock:
        if hook in listening:
            raise ConfigurationError(f"{hook!r} is a hook already, and would count everything twice; remove_hook() it first")
        listening.append(hook)
    _switch()


def remove_hook(hook: Hook) -> None:
    """Call a hook no more; does nothing where it is none."""
    with _lock:
        for known in (listening, _failed):
            if hook in known:
                known.remove(hook)
    _switch()


@contextmanager
def hooked(hook: Hook) -> Iterator[None]:
    """Have a hook called meanwhile."""
    add_hook(hook)
    try:
        yield
    finally:
        remove_hook(hook)


def watch_hooks(store: Quick) -> None:
    """Have a store told when there is a first hook, and when there is none any more; it is not kept alive by that."""
    _quick[id(store)] = store
    store.switch_hooks()


def emit(kind: Kind, store: object, cls: str = "", count: int = 1, reason: str = "", seconds: float = 0.0) -> None:
    """Tell the hooks; never raises, and must not be called under a lock.

    What a hook itself does with stores is told to nobody.
    """
    if (not count and kind != "outbox lag") or (kind in READS and is_unasked()) or _telling.get():
        return
    token = _telling.set(True)
    try:
        event = Event(kind, repr(store), cls, count, reason, seconds)
        for hook in tuple(listening):
            _tell(hook, event)
    finally:
        _telling.reset(token)


def _tell(hook: Hook, event: Event) -> None:
    try:
        hook(event)
    except Exception:  # noqa: BLE001 - anybody's code, in the middle of a read or a commit
        if hook not in _failed:
            _failed.append(hook)
            _log.exception("the hook %r failed; its next failures are not logged", hook)


def _switch() -> None:
    for store in [known() for known in _quick.valuerefs()]:
        if store is not None:
            store.switch_hooks()
