"""A part of the namespace that belongs to the caller's session rather than to the store."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

_scope: Final[ContextVar[str | None]] = ContextVar("stockstore.scope", default=None)


@contextmanager
def scoped(scope: str) -> Iterator[None]:
    """Let keys stand in a scope meanwhile."""
    token = _scope.set(scope)
    try:
        yield
    finally:
        _scope.reset(token)


def in_scope(namespace: str) -> str:
    """Give a namespace as the caller's scope narrows it."""
    scope = _scope.get()
    return namespace if scope is None else f"{namespace}@{scope}"
