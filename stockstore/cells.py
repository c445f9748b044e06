"""The bytes of one cell of a shared cache, by the states of the coherence protocol.

The first byte is the tag::

    V  server id (8)  format (1)  expiry (8)  generation (8)  payload     a value
    L  server id (8)  token (16)                                          a reader's lease
    W  -              ticket                                              a writer's marker
    W  +              ticket | ticket ...                                 markers that no value will follow
    A  key text                                                           an alias: a hint where the value stands

The expiry is Unix time as a big-endian float, infinity for none. The server id tells one life of a server
from the next: what a server holds from an earlier life is not to be believed. A generation cell is a value
whose rest is a random token alone.
"""

import struct
import time
from collections.abc import Sequence
from typing import TypeGuard, cast

from stockstore.errors import CodecError

VALUE, LEASE, MARKER, ALIAS = b"V", b"L", b"W", b"A"
SOLE, JOINED = b"-", b"+"
FORMAT = 2
ID_SIZE = GENERATION_SIZE = 8
TOKEN_SIZE = 16
NO_ID = bytes(ID_SIZE)
NO_GENERATION = bytes(GENERATION_SIZE)
_BODY = struct.Struct(">Bd8s")
BODY_AT = 1 + ID_SIZE
PAYLOAD_AT = BODY_AT + _BODY.size
_STAMP_AT = PAYLOAD_AT - GENERATION_SIZE
_EXPIRY = struct.Struct(">d")
_STAMP = struct.Struct(">Bd")
_EXPIRY_AT = slice(_STAMP_AT - _EXPIRY.size, _STAMP_AT)
_ABOVE = bytes([FORMAT + 1])
UNCOMPARED = VALUE + NO_ID
"""What stands before the body of a value where nothing compares and sets."""


def pack_body(payload: bytes, expires: float, generation: bytes = NO_GENERATION) -> bytes:
    """Give what stands behind tag and server id of a value; a backend puts those before it."""
    return _BODY.pack(FORMAT, expires, generation) + payload


def unpack_value(cell: bytes) -> tuple[bytes, float, bytes]:
    """Give payload, expiry (Unix time) and generation of a value.

    Raises:
        CodecError: The cell holds no value of this format.
    """
    if len(cell) < PAYLOAD_AT:
        raise CodecError(f"a cell of {len(cell)} bytes is shorter than its header of {PAYLOAD_AT}")
    version, expires, generation = _BODY.unpack_from(cell, BODY_AT)
    if cell[:1] != VALUE or version != FORMAT:
        raise CodecError(f"a cell with tag {cell[:1]!r} and format {version} is not a value of format {FORMAT}")
    return cell[PAYLOAD_AT:], expires, generation


def fresh_payloads(cells: Sequence[bytes | None], stamp: bytes, *, drop: int = 0) -> list[bytes | None]:
    """Give the payloads of those cells that hold a live value with this beginning, ``None`` for the others.

    Args:
        cells: The cells, ``None`` where there is none.
        stamp: The generation, and what payloads begin with.
        drop: The bytes of that beginning of payloads to leave out of what is given.
    """
    # Positive floats and infinity compare as their big-endian bytes do: format and expiry are one comparison.
    expired, rest = _STAMP.pack(FORMAT, time.time()), PAYLOAD_AT + drop
    first = cells[0] if cells else None
    # What was put at one time, or without an end, begins alike.
    if first is not None and _is_fresh(first, expired, stamp) and all_begin(cells, first[: _STAMP_AT + len(stamp)]):
        return [cell[rest:] for cell in cells]
    return [cell[rest:] if cell is not None and _is_fresh(cell, expired, stamp) else None for cell in cells]


def all_begin(cells: Sequence[bytes | None], head: bytes) -> TypeGuard[Sequence[bytes]]:
    """Whether cells are all there, and begin with the same bytes.

    >>> all_begin([b"V1 one", b"V1 two"], b"V1"), all_begin([b"V1 one", b"V2", b"V1 two"], b"V1"), all_begin([b"V1 one", None], b"V1")
    (True, False, False)
    """
    if not cells or None in cells:
        return False
    # All others stand between these two in the order of bytes: to find them takes a third of looking at each.
    present = cast("Sequence[bytes]", cells)
    return min(present).startswith(head) and max(present).startswith(head)


def _is_fresh(cell: bytes, expired: bytes, stamp: bytes) -> bool:
    return expired < cell[BODY_AT:_STAMP_AT] < _ABOVE and cell.startswith(stamp, _STAMP_AT) and cell.startswith(VALUE)


def expiries(cells: Sequence[bytes]) -> list[float]:
    """Give the expiries (Unix time) of values."""
    stamps = [cell[_EXPIRY_AT] for cell in cells]
    # What was put at one time, or without an end, has one for all.
    known = {stamp: _EXPIRY.unpack(stamp)[0] for stamp in set(stamps)}
    return [known[stamp] for stamp in stamps]


def generation_of(cell: bytes | None) -> bytes | None:
    """Give the token of a generation cell, ``None`` where it is absent, leased or marked."""
    return cell[BODY_AT:] if cell is not None and cell.startswith(VALUE) and len(cell) == BODY_AT + GENERATION_SIZE else None


def is_marker(cell: bytes | None) -> bool:
    """Whether a writer's marker stands in a cell."""
    return cell is not None and cell.startswith(MARKER)


def tickets_of(cell: bytes) -> list[bytes]:
    """Give the tickets of the writers whose markers stand in a cell.

    >>> tickets_of(b"W+db.7|db.9")
    [b'db.7', b'db.9']
    """
    return [ticket for ticket in cell[2:].split(b"|") if ticket] if cell.startswith(MARKER) else []


def pack_alias(target: str) -> bytes:
    """Give the cell that points to another key.

    >>> pack_alias("stockstore:shop.User:id:i1")
    b'Astockstore:shop.User:id:i1'
    """
    return ALIAS + target.encode()
