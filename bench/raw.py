"""What a program would write by hand on a driver: the store's own keys and cells, read and made without the store."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from stockstore.cells import PAYLOAD_AT
from stockstore.keys import key_text, keys_of

# Cell header, the store's fingerprint, the codec's format byte and fingerprint: what comes before the attributes.
_HEAD: Final = PAYLOAD_AT + 8 + 1 + 8
_decode: Final = msgspec.msgpack.Decoder(tuple[int, str, str, int]).decode


def record_keys(namespace: str, cls: type, numbers: Iterable[int]) -> list[str]:
    """Give the keys under which a store keeps objects."""
    space = keys_of(cls).identity.record_space
    return [key_text(namespace, space, (number,)) for number in numbers]


def alias_keys(namespace: str, cls: type, skus: Iterable[str]) -> list[str]:
    (plan,) = keys_of(cls).alternates
    return [key_text(namespace, plan.alias_space, (sku,)) for sku in skus]


# The answers of redis-py are typed as bytes or text; they are bytes here, since no client decodes them.
def decoder_for(cls: Callable[..., Any]) -> Callable[[Any], Any]:
    """Give a function that makes the object of a cell by msgspec alone."""
    return lambda cell: cls(*_decode(cell[_HEAD:]))


def decoded(cells: Sequence[Any], make: Callable[[Any], Any]) -> list[Any]:
    return [None if cell is None else make(cell) for cell in cells]
