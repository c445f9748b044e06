"""Which servers a test has frozen: a short time-out counts for those only, while another server may stand still for a moment by itself."""

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from stockstore.locks import fork_safe_lock

PATIENCE = 10.0
SetTimeout = Callable[[Any, float], object]
_lock = fork_safe_lock()
_servers: set[int] = set()
_frozen: set[int] = set()
_connections: "WeakKeyDictionary[Any, tuple[int, float, SetTimeout]]" = WeakKeyDictionary()


def know(port: int) -> None:
    """Take note of a server, by its port."""
    _servers.add(port)


def freeze(port: int, *, frozen: bool) -> None:
    """Have connections to a server wait for as long as they were told, or for as long as an answer may take."""
    with _lock:
        (_frozen.add if frozen else _frozen.discard)(port)
        for connection, (target, seconds, set_timeout) in list(_connections.items()):
            if target == port:
                set_timeout(connection, seconds_for(port, seconds))


def seconds_for(port: int, seconds: float) -> float:
    """Give the time-out of connections that were told another one."""
    return max(seconds, PATIENCE) if port in _servers - _frozen else seconds


def add(connection: object, port: int, seconds: float, set_timeout: SetTimeout) -> None:
    """Take care of a connection, which was told a time-out."""
    with _lock:
        _connections[connection] = port, seconds, set_timeout
        set_timeout(connection, seconds_for(port, seconds))
