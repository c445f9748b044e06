"""How memcached, which cannot list its keys, forgets all keys of a prefix.

Each server keeps a cell with a random token for each ``"namespace:"`` and ``"namespace:class label:"``. The
*stamp* of a class on a server is a digest of both tokens and of what tells this life of the server from others.
It stands in every cell, and a cell is present only while that is the stamp of the moment; to clear a prefix is
to put a fresh token. Tokens are never used again, so one that was evicted, or a server that was flushed, makes
cells absent and never brings one back.

The tokens stand under ``"namespace:"`` and ``"namespace:class label"``, which are no keys of anything else.
"""

import secrets
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from hashlib import blake2b
from itertools import chain

from stockstore.cells import ID_SIZE
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


def heads_of(keys: Collection[str]) -> list[str]:
    """Give the head of each key; a batch is mostly of one class, which makes this fast."""
    if not keys:
        return []
    first, last = min(keys), max(keys)
    head = head_of(first)
    if last.startswith(head):  # then whatever lies between them does, too
        return [head] * len(keys)
    return [head := head if key.startswith(head) else head_of(key) for key in keys]


def token_key(prefix: str) -> str:
    """Give the key under which the token of a prefix stands.

    >>> token_key("shop:"), token_key("shop:User:")
    ('shop:', 'shop:User')
    """
    return prefix if prefix.count(":") == 1 else prefix[:-1]


def token_keys(heads: Iterable[str]) -> list[str]:
    """Give the key of each token that some heads need, once."""
    return list(dict.fromkeys(chain.from_iterable(map(_pair, dict.fromkeys(heads)))))


def stamps_of(heads: Iterable[str], tokens: Mapping[str, bytes], life: bytes) -> dict[str, bytes]:
    """Give the stamp of each head, but of one without both tokens."""
    stamps = {}
    for head in dict.fromkeys(heads):
        of_all, of_class = map(tokens.get, _pair(head))
        if of_all and of_class:
            stamps[head] = _stamp(life + of_all + of_class)
    return stamps


@lru_cache(maxsize=4096)
def _pair(head: str) -> tuple[str, str]:
    return head[: head.find(":") + 1], head[:-1]


def _stamp(parts: bytes) -> bytes:
    return blake2b(parts, digest_size=ID_SIZE).digest()
