"""Any store, awaited."""

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from stockstore.aio.bridge import await_only, concurrency, spawn_in_loop
from stockstore.errors import ConfigurationError
from stockstore.instrumentation import Stats
from stockstore.keys import Key
from stockstore.stores.arguments import MISSING, keys_in, one_key, refuse_no_loader
from stockstore.stores.backed import BackendStore
from stockstore.stores.base import Store
from stockstore.stores.local import LocalStore
from stockstore.stores.null import NullStore

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session
    from typing_extensions import Self

T = TypeVar("T")


class AsyncStore:
    """The methods of a store, awaited; one implementation serves both.

    What process memory, or the first tier of a chain in process memory, has is given at once, without a greenlet.

    Args:
        store: Any store that does not block the event loop: one in process memory, ``MemcacheStore`` (whose sockets are served
            by a few threads then), ``RedisStore`` on a ``redis.asyncio`` client or a ``redis+asyncio://`` URL,
            ``SqlAlchemyStore`` on an ``AsyncEngine`` or an async URL, or a chain of such.

    Raises:
        ConfigurationError: It is no store, or one of its tiers would block the event loop; or greenlet is missing.

    >>> import asyncio
    >>> from stockstore import ProcessMemoryStore
    >>> class Colour:
    ...     __keys__ = ["name"]
    ...     def __init__(self, name): self.name = name
    >>> async def main():
    ...     async with AsyncStore(ProcessMemoryStore()) as store:
    ...         await store.put(Colour("red"))
    ...         return await store.get(Colour, "red")
    >>> asyncio.run(main()).name
    'red'
    """

    def __init__(self, store: Store) -> None:
        """Keep the store; opens no connection."""
        if not isinstance(store, Store):
            raise ConfigurationError(f"AsyncStore takes a store, such as RedisStore('redis+asyncio://localhost'), not {store!r}")
        concurrency()
        blocking = [part for part in getattr(store, "tiers", (store,)) if part.io == "blocking"]
        if blocking:
            raise ConfigurationError(
                f"{blocking[0]!r} would block the event loop; give AsyncStore a RedisStore on a redis.asyncio client or a "
                "redis+asyncio:// URL, a SqlAlchemyStore on an AsyncEngine or an async URL"
            )
        self._store = store
        self._is_local = isinstance(store, (LocalStore, NullStore))
        self._direct = _direct(store)
        self._quick: Callable[..., Any] | None = store.get if self._is_local else getattr(store, "get_from_memory", None)

    @property
    def store(self) -> Store:
        """The store itself, as ``SessionSync`` wants it."""
        return self._store

    # -- one object -----------------------------------------------------------------------------

    async def get(
        self, cls: type[T], key: Key = MISSING, *, session: "AsyncSession | Session | None" = None, strict: bool = False, **names: object
    ) -> T | None:
        """As ``Store.get``; the session may be an ``AsyncSession``."""
        plain = session if session is None else _sync_session(session)
        if strict:
            return await spawn_in_loop(self._store.get, cls, key, session=plain, strict=True, **names)
        if self._quick is not None:
            found: T | None = self._quick(cls, key, session=plain, **names)
            if found is not None or self._is_local:
                return found
        if self._direct is not None and plain is None:
            answer: list[T | None] | None = await self._direct(cls, [one_key(key, names)])
            if answer is not None:
                return answer[0]
        return await spawn_in_loop(self._store.get, cls, key, session=plain, **names)

    async def get_all(
        self, cls: type[T], key: Key = MISSING, *, session: "AsyncSession | Session | None" = None, strict: bool = False, **names: object
    ) -> list[T]:
        """As ``Store.get_all``; the session may be an ``AsyncSession``."""
        return await spawn_in_loop(self._store.get_all, cls, key, session=_sync_session(session), strict=strict, **names)

    async def put(self, obj: object) -> None:
        """As ``Store.put``."""
        await spawn_in_loop(self._store.put, obj)

    async def delete(self, target: object, key: Key = MISSING, **names: object) -> bool:
        """As ``Store.delete``."""
        return await spawn_in_loop(self._store.delete, target, key, **names)

    async def contains(self, cls: type, key: Key = MISSING, **names: object) -> bool:
        """As ``Store.contains``."""
        if self._quick is not None and self._quick(cls, key, **names) is not None:
            return True
        return not self._is_local and await spawn_in_loop(self._store.contains, cls, key, **names)

    async def get_or_load(
        self,
        cls: type[T],
        key: Key,
        loader: "Callable[..., T | None] | Callable[..., Awaitable[T | None]]",
        *,
        session: "AsyncSession | Session | None" = None,
    ) -> T | None:
        """As ``Store.get_or_load``; the loader may be a coroutine function."""
        return await spawn_in_loop(self._store.get_or_load, cls, key, _awaiting(loader), session=_sync_session(session))

    # -- batches --------------------------------------------------------------------------------

    async def batch_get(
        self, cls: type[T], keys: Iterable[Key], *, session: "AsyncSession | Session | None" = None, strict: bool = False
    ) -> list[T | None]:
        """As ``Store.batch_get``; the session may be an ``AsyncSession``, and ``strict`` is as for ``get``."""
        if strict:
            return await spawn_in_loop(lambda: self._store.strictly(cls).batch_get(cls, keys, session=_sync_session(session)))
        if self._is_local:
            return self._store.batch_get(cls, keys, session=_sync_session(session))
        if self._direct is not None and session is None:
            keys = keys_in(keys)
            answer: list[T | None] | None = await self._direct(cls, keys)
            if answer is not None:
                return answer
        return await spawn_in_loop(self._store.batch_get, cls, keys, session=_sync_session(session))

    async def batch_put(self, objects: Iterable[object]) -> None:
        """As ``Store.batch_put``."""
        await spawn_in_loop(self._store.batch_put, objects)

    async def batch_delete(self, targets: Iterable[object] | type, keys: Iterable[Key] | None = None) -> int:
        """As ``Store.batch_delete``."""
        return await spawn_in_loop(self._store.batch_delete, targets, keys)

    # -- housekeeping ---------------------------------------------------------------------------

    async def clear(self, cls: type | None = None) -> None:
        """As ``Store.clear``."""
        await spawn_in_loop(self._store.clear, cls)

    async def close(self) -> None:
        """As ``Store.close``."""
        await spawn_in_loop(self._store.close)

    def stats(self) -> Stats:
        """Give an immutable snapshot of the store's counts; nothing is awaited."""
        return self._store.stats()

    @contextmanager
    def scope(self) -> "Iterator[Self]":
        """Let the context-local tiers start empty, and empty again at the end, as around a request; nothing is awaited."""
        with self._store.scope():
            yield self

    async def __aenter__(self) -> "Self":
        """Give the store itself."""
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the store."""
        await self.close()

    def __repr__(self) -> str:
        """Name the store, without passwords."""
        return f"{type(self).__name__}({self._store!r})"


def _direct(store: Store) -> "Callable[..., Awaitable[Any]] | None":
    """Give the way to read a store without a greenlet, which costs more than the rest of a hit; not past a subclass's own verbs."""
    if not isinstance(store, BackendStore) or store.io != "awaited":
        return None
    own = type(store).get is Store.get and type(store).batch_get is BackendStore.batch_get
    return store.batch_get_awaited if own else None


def _sync_session(session: "AsyncSession | Session | None") -> "Session | None":
    """Give the session that an AsyncSession drives."""
    plain: Any = getattr(session, "sync_session", session)
    found: Session | None = plain
    return found


def _awaiting(loader: Callable[..., Any]) -> Callable[..., Any]:
    """Give a loader that waits for what a coroutine function gives; it tells the same arguments."""
    refuse_no_loader(loader)

    @functools.wraps(loader)
    def load(*arguments: object) -> object:
        loaded = loader(*arguments)
        return await_only(loaded) if inspect.isawaitable(loaded) else loaded

    return load
