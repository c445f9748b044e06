"""FastAPI: a lifespan that closes the store, and a dependency that gives it in a scope of the request."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from inspect import isawaitable
from typing import Protocol, TypeVar

from stockstore_ext.asgi import RequestScope
from stockstore_ext.scoped import Scoped, checked

__all__ = ["RequestScope", "lifespan", "request_store"]

AnyStore = TypeVar("AnyStore", bound=Scoped)


class Closing(Scoped, Protocol):
    """A ``Store``, or an ``AsyncStore``, which is awaited."""

    def close(self) -> object:
        """Release what the store opened."""
        ...


def lifespan(store: Closing) -> Callable[[object], AbstractAsyncContextManager[None]]:
    """Give a lifespan, ``FastAPI(lifespan=lifespan(store))``, that opens nothing and closes the store at shutdown.

    Where the application has a lifespan of its own, that one enters this: ``async with lifespan(store)(app):``.

    Raises:
        ConfigurationError: It is no store.
    """
    checked(store)

    @asynccontextmanager
    async def closing(app: object) -> AsyncIterator[None]:
        del app
        try:
            yield
        finally:
            closed = store.close()
            if isawaitable(closed):
                await closed

    return closing


def request_store(store: AnyStore) -> Callable[[], AsyncIterator[AnyStore]]:
    """Give a dependency that gives the store, and scopes what a ``ThreadLocalStore`` in it keeps to the request.

    Make it once, ``get_store = request_store(store)``, and depend on it in any endpoint, ``Annotated[ChainedStore,
    Depends(get_store)]``. Endpoints that are coroutines, blocking ones in the thread pool, and other dependencies of the
    same request share the scope. With FastAPI 0.106 to 0.117 it ends before a streamed body is sent; for a scope that
    lasts, or that covers every endpoint, add the middleware instead: ``app.add_middleware(RequestScope, store=store)``.

    Raises:
        ConfigurationError: It is no store.
    """
    checked(store)

    # A coroutine's context is the endpoint's; what a blocking dependency sets would stay in its thread.
    async def scoped() -> AsyncIterator[AnyStore]:
        with store.scope():
            yield store

    return scoped
