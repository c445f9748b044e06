"""Texts that are, or were meant for, URLs, as messages show them."""

import re
from typing import Final
from urllib.parse import unquote

_SECRET: Final = re.compile("pass|pwd|secret|token", re.IGNORECASE)
_SCHEME: Final = re.compile(r"[\w+.-]+://")
_PLACE: Final = re.compile(r"(?:\[[^\]]*\]|[^/:\[]|:\d{1,5}(?=[/,]|$))*")
"""Hosts with ports: what follows is a path, or no place at all."""


def redacted(url: object) -> str:
    """Give a text without what may be a password in it: what stands before an ``@``, for a port, or as a parameter.

    Characters of a password that are not percent-encoded part a URL elsewhere than whoever wrote it has thought.

    >>> redacted("redis://:s3cret@cache:6379/0")
    'redis://***@cache:6379/0'
    >>> redacted("redis://ann:s3cret"), redacted("postgresql://cache/shop?password=s3cret")
    ('redis://ann:***', 'postgresql://cache/shop?password=***')
    """
    text = str(url)
    scheme = match[0] if (match := _SCHEME.match(text)) else ""
    credentials, at, rest = text[len(scheme) :].rpartition("@")
    if re.search("[?#]", credentials):
        return f"{scheme}***"  # of the query, or of a password
    place, mark, query = rest.partition("#")[0].partition("?")
    known = _PLACE.match(place)
    end = known.end() if known else 0
    shown = place + mark + _shown(query) if place[end:][:1] in ("", "/") else f"{place[: end + 1]}***"
    return f"{scheme}{'***@' if at else ''}{shown}"


def is_secret(name: str, value: object) -> bool:
    """Whether a parameter is a password, or a text of several settings that has one: ``dsn``, ``options``, ``odbc_connect``."""
    text = unquote(str(value))
    return bool(_SECRET.search(name) or _SECRET.search(text)) or "@" in text


def _shown(query: str) -> str:
    parts = (part.partition("=") for part in query.split("&") if part)
    return "&".join(f"{name}={'***' if is_secret(name, value) else value}" if equals else "***" for name, equals, value in parts)
