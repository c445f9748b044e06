"""Databases as messages name them, and what these say."""

from typing import Any, Final

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, StatementError

from stockstore.errors import ConfigurationError, OriginError
from stockstore.redacting import is_secret, redacted

_MISFITS: Final = TypeError, ValueError, AttributeError
"""What the types of columns raise."""


def hidden(url: URL) -> URL:
    """Give a database's URL without what may be a password in its query; its ``repr`` shows none then."""
    return url.update_query_dict({name: "hidden" for name, value in url.query.items() if is_secret(name, value)})


def misfit(url: object, error: Exception) -> ConfigurationError:
    """Tell that a database's URL does not fit; what other errors than these say may quote a part of it that is a password's."""
    why = f": {error}" if isinstance(error, (NoSuchModuleError, TypeError)) else ""
    return ConfigurationError(
        f"the database URL {redacted(url)!r} does not fit{why}; it is like 'postgresql+psycopg://user:password@host/name', "
        "with special characters percent-encoded"
    )


def shown(url: URL) -> str:
    """Give the text of a database's URL without any password.

    >>> from sqlalchemy import make_url
    >>> shown(make_url("postgresql+psycopg://ann:s3cret@host/shop?password=s3cret"))
    'postgresql+psycopg://ann:***@host/shop?password=hidden'
    """
    return hidden(url).render_as_string(hide_password=True)


def named(thing: object) -> str:
    """Give the ``repr`` of an engine, of what makes sessions on some, or of what was given in place of one, without any password of their URLs.

    >>> from sqlalchemy import create_engine
    >>> named(create_engine("postgresql+psycopg://host/shop?password=s3cret"))
    'Engine(postgresql+psycopg://host/shop?password=hidden)'
    """
    if isinstance(thing, str):
        return repr(redacted(thing))
    settings = getattr(thing, "kw", None)
    kept: dict[str, Any] = settings if isinstance(settings, dict) else {}
    engines = [thing, kept.get("bind"), *(kept.get("binds") or {}).values()]
    text = repr(thing)
    for url in (getattr(engine, "url", engine) for engine in engines):
        if isinstance(url, URL):
            text = text.replace(repr(url), repr(hidden(url)))
    return text


def first_line(error: Exception) -> str:
    """Give what a driver says of an error, or what SQLAlchemy met before it asked the driver, without the statement."""
    if isinstance(error, OriginError) and isinstance(error.__cause__, Exception):
        return first_line(error.__cause__)
    cause = getattr(error, "orig", None) or error
    told = str(cause).strip().split("\n", 1)[0]
    early = isinstance(error, StatementError) and not isinstance(error, DBAPIError)
    return f"a value does not fit its column: {told}" if early and isinstance(cause, _MISFITS) else told
