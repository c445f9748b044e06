"""The bytes of one cell. A change here makes what is stored unreadable: it needs a new format byte."""

import math
import re
import time

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st

from stockstore import CodecError
from stockstore.cells import (
    NO_GENERATION,
    UNCOMPARED,
    fresh_payloads,
    generation_of,
    is_marker,
    pack_alias,
    pack_body,
    tickets_of,
    unpack_value,
)

pytestmark = pytest.mark.sa_agnostic

TOKEN = b"8 bytes."
HEAD = b"V" + bytes(8)
STORED = [
    (b"payload", 1715947200.5, NO_GENERATION, b"\x02A\xd9\x91\xd1\xb0 \x00\x00" + bytes(8) + b"payload"),
    (b"payload", math.inf, TOKEN, b"\x02\x7f\xf0\x00\x00\x00\x00\x00\x008 bytes.payload"),
    (b"", 0.0, TOKEN, b"\x02\x00\x00\x00\x00\x00\x00\x00\x008 bytes."),
]


@pytest.mark.parametrize(("payload", "expires", "generation", "body"), STORED)
def test_a_value_is_stored_in_these_bytes(payload: bytes, expires: float, generation: bytes, body: bytes) -> None:
    """A value is a tag, the server's id, a format version, the expiry as a big-endian float, the generation and the payload."""
    assert UNCOMPARED == HEAD
    assert pack_body(payload, expires, generation) == body
    for server in (bytes(8), b"serverid"):
        assert unpack_value(b"V" + server + body) == (payload, expires, generation)


def test_an_alias_is_stored_in_these_bytes() -> None:
    """An alias is a tag and the text of the key that holds the value."""
    assert pack_alias("shop:shop.User:id:i1") == b"Ashop:shop.User:id:i1"


@given(st.binary(), st.floats(allow_nan=False), st.binary(min_size=8, max_size=8))
def test_a_value_is_read_as_it_was_written(payload: bytes, expires: float, generation: bytes) -> None:
    """Payload, expiry and generation come back exactly."""
    assert unpack_value(HEAD + pack_body(payload, expires, generation)) == (payload, expires, generation)


@pytest.mark.parametrize("cell", [b"", b"V", b"V\x02", b"V" + bytes(24)])
def test_a_cell_that_was_cut_is_refused(cell: bytes) -> None:
    """Fewer bytes than the header are CodecError with their number."""
    with pytest.raises(CodecError, match=f"^a cell of {len(cell)} bytes is shorter than its header of 26$"):
        unpack_value(cell)


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        (b"A" + bytes(30), "tag b'A' and format 0"),
        (HEAD + b"\x03" + bytes(16), "tag b'V' and format 3"),
        (b"\x80\x04" + bytes(29), "tag b'\\x80'"),
        (b"L" + bytes(8) + b"\x02" + bytes(16), "tag b'L' and format 2"),
    ],
)
def test_a_cell_of_another_sort_or_format_is_refused(cell: bytes, shown: str) -> None:
    """An alias, a lease, another format and foreign bytes are CodecError showing what they are."""
    with pytest.raises(CodecError, match=re.escape(shown)):
        unpack_value(cell)


def test_payloads_of_live_values_alone_are_given() -> None:
    """In a batch only values of the format, generation and beginning asked for are given that have not expired."""
    with time_machine.travel(1_000_000, tick=False):
        now = time.time()
        lasting = HEAD + pack_body(b"shape-one", math.inf, TOKEN)
        cells = [
            lasting,
            None,
            HEAD + pack_body(b"shape-two", now + 0.001, TOKEN),
            HEAD + pack_body(b"shape-two", now, TOKEN),
            HEAD + pack_body(b"shape-two", now - 1, TOKEN),
            HEAD + pack_body(b"shape-two", math.inf),
            HEAD + pack_body(b"other-two", math.inf, TOKEN),
            b"L" + lasting[1:],
            HEAD + b"\x03" + lasting[10:],
            lasting[:-5],
            b"W-db.7",
            b"",
        ]
        assert fresh_payloads(cells, TOKEN + b"shape") == [b"shape-one", None, b"shape-two"] + [None] * 9
        assert fresh_payloads(cells, TOKEN + b"shape-", drop=6) == [b"one", None, b"two"] + [None] * 9
        assert fresh_payloads(cells[:1], TOKEN) == [b"shape-one"]
        alike = [lasting, lasting + b"!", lasting]
        assert fresh_payloads(alike, TOKEN) == [b"shape-one", b"shape-one!", b"shape-one"]
        below, above = cells[6], HEAD + pack_body(b"tower", math.inf, TOKEN)
        for other in (below, above):
            assert fresh_payloads([lasting, other, lasting], TOKEN + b"shape") == [b"shape-one", None, b"shape-one"]
        assert fresh_payloads([lasting[:-9]], TOKEN) == [b""]


def test_a_generation_is_a_value_of_nothing_but_its_token() -> None:
    """Anything else, a marked one too, is no generation."""
    assert generation_of(HEAD + TOKEN) == TOKEN
    for cell in (None, b"", b"L" + HEAD[1:] + TOKEN, HEAD + TOKEN + b"x", HEAD, b"W-0123456789abcde", HEAD + pack_body(b"", math.inf)):
        assert generation_of(cell) is None


@pytest.mark.parametrize(
    ("cell", "marked", "tickets"),
    [
        (b"W-db.7", True, [b"db.7"]),
        (b"W+db.7|db.9", True, [b"db.7", b"db.9"]),
        (b"W+", True, []),
        (HEAD + TOKEN, False, []),
        (b"A", False, []),
    ],
)
def test_markers_name_their_writers(cell: bytes, marked: bool, tickets: list[bytes]) -> None:
    """A marker's tickets are those of the transactions that put it."""
    assert (is_marker(cell), tickets_of(cell)) == (marked, tickets)
    assert is_marker(None) is False
