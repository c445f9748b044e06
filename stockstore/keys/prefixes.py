"""What the texts of keys begin with, and how long they may be."""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from stockstore.keys.declared import class_name
from stockstore.keys.encoding import Canonical, escape, text_of

KEY_LIMIT: Final = 250
"""The bytes that memcached allows a key to have."""
_LABEL_LIMIT: Final = 100
NAMESPACE_LIMIT: Final = 40
"""The bytes of a namespace in a key."""
_DIGEST_SIZE: Final = 16


def label_of(cls: type) -> str:
    """Give the text by which keys name a class; a very long name ends in a digest."""
    return bounded(escape(class_name(cls)), _LABEL_LIMIT)


@lru_cache(maxsize=1024)
def namespace_text(namespace: str) -> str:
    """Give a namespace as keys show it, in at most 40 bytes."""
    return bounded(escape(namespace), NAMESPACE_LIMIT)


@lru_cache(maxsize=4096)
def key_prefix(namespace: str, space: str) -> str:
    """Give what the texts of all keys of one sort begin with."""
    return f"{namespace_text(namespace)}:{space}:"


def key_text(namespace: str, space: str, parts: Sequence[Canonical]) -> str:
    """Give the text of a key: ``namespace:class:names:values``, in at most 250 bytes.

    >>> key_text("stockstore", "shop.User:tenant,username", (1, "ann"))
    'stockstore:shop.User:tenant,username:i1:sann'
    """
    return bounded(key_prefix(namespace, space) + ":".join(map(text_of, parts)))


def bounded(text: str, limit: int = KEY_LIMIT) -> str:
    """Give a text that is shorter than the limit; a longer one ends in a digest."""
    return text if len(text) < limit else _shortened(text, limit)


def _shortened(text: str, limit: int) -> str:
    """Give the beginning of a text and its digest, exactly as long as the limit."""
    # What is not shortened is shorter than that: nobody can write a text that equals the digest of another.
    digest = blake2b(text.encode(), digest_size=_DIGEST_SIZE).hexdigest()
    return f"{text[: limit - len(digest) - 1]}~{digest}"
