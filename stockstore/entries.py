"""The bytes of one cell on a server: a tag, a format version, the exact expiry, the payload.

The first byte is the tag. ``V`` is a value; ``A`` is an alias, whose rest is the text of the
key that holds the value. The expiry is Unix time as a big-endian float, infinity for none.
"""

import math
import struct
import time
from collections.abc import Iterable

from stockstore.errors import CodecError

ALIAS = b"A"
VALUE = b"V"
FORMAT = 1
_HEADER = struct.Struct(">cBd")
_HEADER_SIZE = _HEADER.size
_ABOVE = VALUE + bytes([FORMAT + 1])
_NEVER = math.inf
_LASTING = _HEADER.pack(VALUE, FORMAT, _NEVER)


def pack_value(payload: bytes, expires: float) -> bytes:
    """Give the cell that holds a payload until a moment (Unix time)."""
    return (_LASTING if expires == _NEVER else _HEADER.pack(VALUE, FORMAT, expires)) + payload


def unpack_value(cell: bytes) -> tuple[bytes, float]:
    """Give the payload of a cell and its expiry (Unix time).

    Raises:
        CodecError: The cell holds no value of this format.
    """
    if cell.startswith(_LASTING):
        return cell[_HEADER_SIZE:], _NEVER
    if len(cell) < _HEADER_SIZE:
        raise CodecError(f"a cell of {len(cell)} bytes is shorter than its header of {_HEADER_SIZE}")
    tag, version, expires = _HEADER.unpack_from(cell)
    if tag != VALUE or version != FORMAT:
        raise CodecError(f"a cell with tag {tag!r} and format {version} is not a value of format {FORMAT}")
    return cell[_HEADER_SIZE:], expires


def fresh_payloads(cells: Iterable[bytes | None], stamp: bytes, *, drop: int = 0) -> list[bytes | None]:
    """Give the payloads of those cells that hold one with this beginning and have not expired, ``None`` for the others.

    Args:
        cells: The cells, ``None`` where there is none.
        stamp: What payloads begin with.
        drop: The bytes of that beginning to leave out of what is given.
    """
    # Positive floats and infinity compare as their big-endian bytes do: tag, format and expiry are one comparison.
    expired = _HEADER.pack(VALUE, FORMAT, math.nextafter(time.time(), math.inf))
    begin, rest = slice(_HEADER_SIZE, _HEADER_SIZE + len(stamp)), slice(_HEADER_SIZE + drop, None)
    return [cell[rest] if cell is not None and expired < cell < _ABOVE and cell[begin] == stamp else None for cell in cells]


def pack_alias(target: str) -> bytes:
    """Give the cell that points to another key.

    >>> pack_alias("stockstore:shop.User:id:i1")
    b'Astockstore:shop.User:id:i1'
    """
    return ALIAS + target.encode()
