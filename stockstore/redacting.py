"""Texts that are, or were meant for, URLs, as messages show them."""

import re
from typing import Final

SECRETS: Final = re.compile("pass|pwd|secret|token|dsn|conninfo|options|connect$|init_command|settings", re.IGNORECASE)
"""In the names of a query: passwords, and texts of several settings, of which one may be a password."""
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


def _shown(query: str) -> str:
    parts = (part.partition("=") for part in query.split("&") if part)
    return "&".join(f"{name}={'***' if SECRETS.search(name) else value}" if equals else "***" for name, equals, value in parts)
