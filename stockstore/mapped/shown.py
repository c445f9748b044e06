"""Databases as messages name them."""

from typing import Final

from sqlalchemy import URL

_SECRETS: Final = ("password", "passwd", "pwd", "sslpassword", "odbc_connect")


def hidden(url: URL) -> URL:
    """Give a database's URL without the passwords in its query; its ``repr`` shows none then."""
    return url.update_query_dict({name: "hidden" for name in url.query if name.lower() in _SECRETS})


def shown(url: URL) -> str:
    """Give the text of a database's URL without any password.

    >>> from sqlalchemy import make_url
    >>> shown(make_url("postgresql+psycopg://ann:s3cret@host/shop?password=s3cret"))
    'postgresql+psycopg://ann:***@host/shop?password=hidden'
    """
    return hidden(url).render_as_string(hide_password=True)
