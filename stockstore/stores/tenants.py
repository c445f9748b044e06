"""Rows that only some sessions see: the namespaces of tenants.

A hook tells the stores that it is attached to how to name the tenant of a session. While they read for such a session, they read and fill
in a namespace of that tenant's own. Writers name it in their ``Writes``.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, TypeAlias

from stockstore.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

TenantOf: TypeAlias = "Callable[[Session], str | None]"
"""Gives the name of a session's tenant; ``None`` where the session has none."""

_UNCHANGED: Final = nullcontext()
_SEPARATOR: Final = "\0"
_VERBS: Final = ("batch_get", "batch_put", "batch_delete", "batch_fetch", "batch_fill", "batch_store", "batch_erase", "clear", "check")

current: Final[ContextVar["Session | str | None"]] = ContextVar("stockstore.tenants", default=None)
"""For which session stores read just now, or the tenant in whose name they are asked."""


class _AskedBy:
    """Names who asks, for a while."""

    __slots__ = ("_reader", "_token")

    def __init__(self, reader: "Session | str | None") -> None:
        self._reader = reader

    def __enter__(self) -> None:
        self._token = current.set(self._reader)

    def __exit__(self, *_error: object) -> None:
        current.reset(self._token)


def reading_for(reader: "Session | str | None") -> AbstractContextManager[None]:
    """Have stores read and fill for a session, or in a tenant's name; with ``None`` nothing changes.

    No code of the application's is to run meanwhile: what it reads for nobody would be read for that one.
    """
    return _UNCHANGED if reader is None else _AskedBy(reader)


def reading_for_nobody() -> AbstractContextManager[None]:
    """Have stores read for no session, while objects are loaded whose events the application may hear."""
    return _UNCHANGED if current.get() is None else _AskedBy(None)


def checked(namespace: str) -> str:
    """Give a namespace that can be divided among tenants.

    Raises:
        ConfigurationError: It looks as if it had been.
    """
    if _SEPARATOR in namespace:
        raise ConfigurationError(f"a namespace holds no NUL character, which divides it from the tenant's name, as {namespace!r} does")
    return namespace


def namespace_of(namespace: str, tenant: str | None) -> str:
    """Give the namespace of a tenant's within another; ``None`` is for those who have no tenant."""
    return namespace if tenant is None else f"{namespace}{_SEPARATOR}{tenant}"


def has_own_verbs(kind: type) -> bool:
    """Whether a store's verbs are the library's own, so that all that it keeps stands in the namespace that it is asked in."""
    owners = (next(base for base in kind.__mro__ if verb in base.__dict__) for verb in _VERBS)
    return all(owner.__module__.startswith("stockstore.") for owner in owners)
