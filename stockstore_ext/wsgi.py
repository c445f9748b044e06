"""WSGI: a scope of the store around each request."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from stockstore_ext.scoped import Scoped, checked

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_WHOLE: Final = (list, tuple)


class RequestScope:
    """Middleware that starts what a ``ThreadLocalStore`` keeps empty with each request, and empties it at its end.

    A request ends when its body was sent or closed; so a body that is generated while it is sent reads in the scope too.

    Args:
        app: The application.
        store: The store whose tiers are scoped, usually a chain.

    Raises:
        ConfigurationError: It is no store.

    >>> from stockstore import open_store
    >>> def app(environ, start_response):
    ...     start_response("200 OK", [])
    ...     return [b"hello"]
    >>> RequestScope(app, open_store("thread://", "memory://"))({}, lambda status, headers: None)
    [b'hello']
    """

    def __init__(self, app: "WSGIApplication", store: Scoped) -> None:
        """Wrap an application."""
        self._app = app
        self._store = checked(store)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Serve one request."""
        with ExitStack() as scope:
            scope.enter_context(self._store.scope())
            body = self._app(environ, start_response)
            # Nothing is read any more by what is whole, and servers know its length, or send a file by the system's own call.
            if type(body) in _WHOLE or _is_file(body, environ):
                return body
            return _Body(body, iter(body), scope.pop_all())


class _Body:
    """A body that ends the scope with itself."""

    def __init__(self, body: Iterable[bytes], parts: Iterator[bytes], scope: ExitStack) -> None:
        self._body = body
        self._parts = parts
        self._scope = scope

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._parts)
        except BaseException:
            self._scope.close()
            raise

    def close(self) -> None:
        """End the scope, whether or not the body was sent as a whole."""
        with self._scope:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()


def _is_file(body: Iterable[bytes], environ: "WSGIEnvironment") -> bool:
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(wrapper, type) and isinstance(body, wrapper)
