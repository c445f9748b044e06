"""Flask: the store on the application, and a scope of it around each request."""

from typing import Final

from stockstore.errors import ConfigurationError
from stockstore.stores.base import Store
from stockstore_ext.wsgi import RequestScope

try:
    from flask import Flask, current_app
    from werkzeug.local import LocalProxy
except ModuleNotFoundError as exc:
    raise ConfigurationError('stockstore_ext.flask needs Flask, which is missing: pip install "stockstore[flask]"') from exc

NAME: Final = "stockstore"
"""The store's name in ``app.extensions``."""


class Stockstore:
    """The extension: puts a store on applications, and scopes a ``ThreadLocalStore`` in it to each request.

    The scope lasts until a response's body was sent, a streamed one too. Requests that go through ``app.wsgi_app`` have it,
    those of ``app.test_client()`` included. The store stays the caller's: who opened it closes it.

    Args:
        app: The application; none where ``init_app`` is called later, as application factories do.
        store: The store, usually a chain.

    Raises:
        ConfigurationError: There is an application but no store, or it has one already.

    >>> from stockstore import open_store
    >>> app, store = Flask("shop"), open_store("thread://", "memory://")
    >>> extension = Stockstore(app, store)
    >>> app.extensions["stockstore"] is store
    True
    """

    def __init__(self, app: Flask | None = None, store: Store | None = None) -> None:
        """Extend an application, or remember the store for those that come."""
        self._store = store
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask, store: Store | None = None) -> None:
        """Extend an application; ``store`` instead of the extension's own.

        Raises:
            ConfigurationError: There is no store, or the application has one already.
        """
        if not isinstance(app, Flask):
            raise ConfigurationError(f"the extension extends a Flask application, not {app!r}")
        store = self._store if store is None else store
        if not isinstance(store, Store):
            raise ConfigurationError(
                f"the extension takes a blocking store, Stockstore(app, open_store('thread://', 'sqlite:///shop.db')), not {store!r}"
            )
        if NAME in app.extensions:
            raise ConfigurationError(f"{app!r} has a store already, {app.extensions[NAME]!r}; one chain can have all the tiers")
        app.extensions[NAME] = store
        app.wsgi_app = RequestScope(app.wsgi_app, store)  # type: ignore[method-assign]


def _current() -> Store:
    """Give the store of the application that is at work.

    Raises:
        ConfigurationError: The application was not extended.
        RuntimeError: No application is at work.
    """
    store: Store | None = current_app.extensions.get(NAME)
    if store is None:
        raise ConfigurationError(f"{current_app.name!r} has no store; give it one: Stockstore(app, store)")
    return store


current_store: Store = LocalProxy(_current)  # type: ignore[assignment] # it stands for one, as flask.current_app does
"""The store of the application that is at work."""
