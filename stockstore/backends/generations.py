"""How memcached, which cannot list its keys, forgets all keys of a prefix.

Each server keeps a cell with a random token for each ``"namespace:"`` and ``"namespace:class label:"``.
A value starts with the tokens of both its prefixes, and is present only while they are still those of the
cells; to clear a prefix is to put a fresh token into its cell. Tokens are never used again, so a cell that
was evicted, or a server that was flushed, makes values absent and never brings one back.

A cell's key is the prefix itself, which is shorter than any key of a value.
"""

import secrets
from collections.abc import Iterable, Mapping, Sequence

from stockstore.errors import ConfigurationError

TOKEN_SIZE = 8


def fresh_token() -> bytes:
    """Give a token that was never used before."""
    return secrets.token_bytes(TOKEN_SIZE)


def head_of(key: str) -> str:
    """Give the longer prefix of a key.

    >>> head_of("shop:User:id:i1")
    'shop:User:'
    """
    end = key.find(":", key.find(":") + 1) + 1
    if end == 0 or end == key.find(":") + 1:
        raise ConfigurationError(f'{key!r} is no cache key; it reads "namespace:class label:names:values"')
    return key[:end]


def heads_of(keys: Iterable[str]) -> list[str]:
    """Give the head of each key; a batch is mostly of one class, which makes this fast."""
    heads: list[str] = []
    head = "\n"
    for key in keys:
        if not key.startswith(head):
            head = head_of(key)
        heads.append(head)
    return heads


def cells_of(head: str) -> tuple[str, str]:
    """Give the keys of the cells for a head.

    >>> cells_of("shop:User:")
    ('shop:', 'shop:User:')
    """
    return head[: head.find(":") + 1], head


def all_cells(heads: Iterable[str]) -> list[str]:
    """Give each cell of some heads once."""
    return list(dict.fromkeys(cell for head in dict.fromkeys(heads) for cell in cells_of(head)))


def stamps_of(heads: Iterable[str], tokens: Mapping[str, bytes]) -> dict[str, bytes]:
    """Give what the values under each head start with; a head without both tokens has none."""
    pairs = {head: [tokens.get(cell) for cell in cells_of(head)] for head in heads}
    return {head: b"".join(token for token in pair if token) for head, pair in pairs.items() if all(pair)}


def live_values(keys: Sequence[str], heads: Sequence[str], found: Mapping[str, bytes]) -> dict[str, bytes]:
    """Give the values of the keys that are present, from an answer that holds values and cells."""
    stamps = stamps_of(set(heads), found)
    live: dict[str, bytes] = {}
    for key, head in zip(keys, heads, strict=True):
        value, stamp = found.get(key), stamps.get(head)
        if value is not None and stamp is not None and value.startswith(stamp):
            live[key] = value[len(stamp) :]
    return live
