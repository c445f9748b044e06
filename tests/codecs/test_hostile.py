from __future__ import annotations

import resource
import struct
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import msgpack

from stockstore.codecs import MsgpackCodec
from stockstore.codecs.values import dumps, loads
from stockstore.errors import CodecError
from tests.codecs.samples import Address, Color, Drawing, Right, Struct, User
from tests.codecs.test_values import anything

pytestmark = pytest.mark.sa_agnostic

CODEC = MsgpackCodec()


def decoded(data: bytes) -> None:
    """Decode to a value or to a CodecError."""
    try:
        loads(data)
    except CodecError:
        return


extensions = st.recursive(
    st.binary()
    | st.integers(0, 2**32)
    | st.text(max_size=3)
    | st.sampled_from([b"\x93\xa4enum\xa4Enum\xa1A", b"1/0", b"1E+9999999999999999999"]),
    lambda inner: st.one_of(
        st.builds(lambda code, value: msgpack.Ext(code, msgpack.encode(value)), st.integers(-128, 127), inner),
        st.lists(inner, max_size=4),
    ),
    max_leaves=8,
)


@given(st.binary(max_size=60))
@example(b"")
@example(b"\xc7\x00\x04")
def test_any_bytes_are_a_value_or_a_codec_error(data: bytes) -> None:
    """Bytes of any origin never raise anything else."""
    decoded(data)


@given(extensions)
def test_any_extension_is_a_value_or_a_codec_error(value: object) -> None:
    """Well-formed msgpack with senseless extension values never raises anything else."""
    decoded(msgpack.encode(value))


@given(st.integers(0, 40), st.binary(max_size=30))
def test_any_body_of_an_extension_is_a_value_or_a_codec_error(code: int, body: bytes) -> None:
    """Every kind of extension value bears a senseless body."""
    decoded(msgpack.encode(msgpack.Ext(code, body)))


@given(anything, st.data())
def test_a_damaged_payload_is_a_value_or_a_codec_error(value: object, data: st.DataObject) -> None:
    """Payloads that lost their end or had a byte changed never raise anything else; one cut short is always an error."""
    payload = dumps(value)
    cut = data.draw(st.integers(0, len(payload) - 1))
    with pytest.raises(CodecError, match="a stored value cannot be decoded"):
        loads(payload[:cut])
    decoded(payload[:cut] + data.draw(st.binary(min_size=1, max_size=2)) + payload[cut + 1 :])


@given(st.data())
def test_a_damaged_object_is_an_object_or_a_codec_error(data: st.DataObject) -> None:
    """Objects' payloads with bytes changed, cut or added never raise anything else."""
    payload = CODEC.encode(User(1, "n", Address("s", [1, (2, 3)]), None, ("a",)))
    at = data.draw(st.integers(0, len(payload)))
    changed = payload[:at] + data.draw(st.binary(max_size=4)) + payload[at + data.draw(st.integers(0, 4)) :]
    try:
        CODEC.decode(User, changed)
    except CodecError:
        return


@pytest.mark.parametrize("cls", [Address, Struct, Drawing])
@given(body=st.binary(max_size=30))
def test_a_senseless_body_is_an_object_or_a_codec_error(cls: type, body: bytes) -> None:
    """The right head before a senseless body never raises anything else."""
    try:
        CODEC.decode(cls, b"\x01" + CODEC.fingerprint(cls) + body)
    except CodecError:
        return


@pytest.mark.parametrize(
    "data",
    [
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff\xa1a",
        b"\xc6\xff\xff\xff\xffabc",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\x91" * 500_000,
        b"".join(b"\xdd" + struct.pack(">I", 4_000_000 - 5 * level) for level in range(900)) + b"\xc0" * 4_000_000,
        b"\xc7\x17\x131E+9999999999999999999999",
        msgpack.encode(msgpack.Ext(25, b"\x00\x00\x00\x01\x01\x00")),
        msgpack.encode(msgpack.Ext(2, msgpack.encode([[]]))),
        msgpack.encode(msgpack.Ext(4, msgpack.encode([1]))),
        msgpack.encode(msgpack.Ext(1, msgpack.encode({}))),
        msgpack.encode(msgpack.Ext(99, msgpack.encode([]))),
        msgpack.encode(msgpack.Ext(6, b"12345678\x90")),
        msgpack.encode(msgpack.Ext(23, b"2024-01-01T00:00:00|0|../../etc/passwd")),
        msgpack.encode(msgpack.Ext(23, b"2024-01-01T00:00:00|7|")),
        dumps(Color.RED).replace(b"RED", b"mro"),
        dumps(Right.READ | Right.RUN)[:-1] + b"\x40",
    ],
)
def test_hostile_payloads_are_refused_in_little_memory(data: bytes) -> None:
    """Sizes that lie, deep nests and senseless contents are errors that cost no more than the payload itself."""
    tracemalloc.start()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        with pytest.raises(CodecError):
            loads(data)
        assert tracemalloc.get_traced_memory()[1] < 10 * len(data) + 1_000_000
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
    finally:
        tracemalloc.stop()


def test_deep_extensions_are_refused() -> None:
    """Extension values nested within each other without end are an error."""
    body = b"\x90"
    for _ in range(2000):
        body = msgpack.encode([msgpack.Ext(1, body)])
    with pytest.raises(CodecError, match="RecursionError"):
        loads(body)
