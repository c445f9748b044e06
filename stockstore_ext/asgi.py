"""ASGI: a scope of the store around each request."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from stockstore_ext.scoped import Scoped, checked

# What ASGI sends about is a dict of anything.
Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApplication: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


class RequestScope:
    """Middleware that starts what a ``ThreadLocalStore`` keeps empty with each request, and empties it at its end.

    A request ends when the application returns, after its body was sent and its background tasks have run. The tasks that it
    starts, and the threads that it hands work to in a copy of its context, share the scope. A websocket may stay open for
    days: there each message that arrives starts empty. The lifespan has no scope.

    Args:
        app: The application.
        store: The store whose tiers are scoped, usually a chain; blocking or an ``AsyncStore``.

    Raises:
        ConfigurationError: It is no store.
    """

    def __init__(self, app: ASGIApplication, store: Scoped) -> None:
        """Wrap an application."""
        self._app = app
        self._store = checked(store)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, one websocket, or the lifespan."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        with self._store.scope():
            await self._app(scope, self._emptying(receive) if scope["type"] == "websocket" else receive, send)

    def _emptying(self, receive: Receive) -> Receive:
        async def receive_and_empty() -> Message:
            message = await receive()
            with self._store.scope():  # its end empties the scope around it
                return message

        return receive_and_empty
