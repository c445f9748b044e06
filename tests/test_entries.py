"""The bytes of one cell. A change here makes what is stored unreadable: it needs a new format byte."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockstore import CodecError
from stockstore.entries import pack_alias, pack_value, unpack_value

pytestmark = pytest.mark.sa_agnostic

STORED = [
    (b"payload", 1715947200.5, b"V\x01A\xd9\x91\xd1\xb0 \x00\x00payload"),
    (b"payload", math.inf, b"V\x01\x7f\xf0\x00\x00\x00\x00\x00\x00payload"),
    (b"", 0.0, b"V\x01\x00\x00\x00\x00\x00\x00\x00\x00"),
]


@pytest.mark.parametrize(("payload", "expires", "cell"), STORED)
def test_a_value_is_stored_in_these_bytes(payload: bytes, expires: float, cell: bytes) -> None:
    """A value is a tag, a format version, the expiry as a big-endian float, and the payload."""
    assert pack_value(payload, expires) == cell
    assert unpack_value(cell) == (payload, expires)


def test_an_alias_is_stored_in_these_bytes() -> None:
    """An alias is a tag and the text of the key that holds the value."""
    assert pack_alias("shop:shop.User:id:i1") == b"Ashop:shop.User:id:i1"


@given(st.binary(), st.floats(allow_nan=False))
def test_a_value_is_read_as_it_was_written(payload: bytes, expires: float) -> None:
    """Payload and expiry come back exactly."""
    assert unpack_value(pack_value(payload, expires)) == (payload, expires)


@pytest.mark.parametrize("cell", [b"", b"V", b"V\x01", b"V\x01" + bytes(7)])
def test_a_cell_that_was_cut_is_refused(cell: bytes) -> None:
    """Fewer bytes than the header are CodecError with their number."""
    with pytest.raises(CodecError, match=f"^a cell of {len(cell)} bytes is shorter than its header of 10$"):
        unpack_value(cell)


@pytest.mark.parametrize(
    ("cell", "shown"),
    [(b"A" + bytes(20), "tag b'A' and format 0"), (b"V\x02" + bytes(8), "tag b'V' and format 2"), (b"\x80\x04" + bytes(9), "tag b'\\x80'")],
)
def test_a_cell_of_another_sort_or_format_is_refused(cell: bytes, shown: str) -> None:
    """An alias, a later format and foreign bytes are CodecError showing what they are."""
    with pytest.raises(CodecError, match=re.escape(shown)):
        unpack_value(cell)
