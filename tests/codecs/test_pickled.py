from __future__ import annotations

import hashlib
import hmac
import os
import pickle
from decimal import Decimal
from pathlib import Path

import pytest

from stockstore.codecs import Codec, PickleCodec
from stockstore.errors import CodecError, ConfigurationError
from tests.codecs import samples as s

pytestmark = pytest.mark.sa_agnostic

KEY = bytes(range(32))
CODEC = PickleCodec(key=KEY)


def test_objects_and_values_come_back() -> None:
    """What pickle can carry comes back, single values too."""
    codec: Codec = CODEC
    user = s.User(1, "n", s.Address("s"), balance=Decimal("1.0"))
    assert codec.decode(s.User, codec.encode(user)) == user
    assert codec.decode(s.Base, codec.encode(s.Derived(1))) == s.Derived(1)
    assert codec.decode_value(codec.encode_value({"a": s.Address})) == {"a": s.Address}


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("exploded",)


def forged(mark: bytes, signed: bytes, key: bytes) -> bytes:
    """A payload as somebody with another key makes it."""
    return mark + hmac.new(key, mark + signed, hashlib.sha256).digest() + signed


@pytest.mark.parametrize("key", [b"\xff" * 32, b"", KEY[:-1]])
def test_nothing_is_unpickled_without_the_key(key: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pickle that is not signed with the key is refused before it can run anything."""
    monkeypatch.chdir(tmp_path)
    bomb = pickle.dumps(Bomb())
    with pytest.raises(CodecError, match="no valid signature of this key; treat it as absent"):
        CODEC.decode(s.Base, forged(b"\x81", CODEC.fingerprint(s.Base) + bomb, key))
    with pytest.raises(CodecError, match="no valid signature"):
        CODEC.decode_value(forged(b"\x82", bomb, key))
    for payload in (bomb, b"", b"\x81", b"\x81" + bomb):
        with pytest.raises(CodecError, match="no valid signature"):
            CODEC.decode(s.Base, payload)
    assert list(tmp_path.iterdir()) == []


def test_every_byte_is_signed() -> None:
    """A payload with any one bit changed, or cut short, is refused."""
    payload = CODEC.encode(s.Base(1))
    for at in range(len(payload)):
        changed = bytearray(payload)
        changed[at] ^= 1
        for damaged in (bytes(changed), payload[:at]):
            with pytest.raises(CodecError, match="no valid signature"):
                CODEC.decode(s.Base, damaged)


def test_a_signed_payload_is_of_one_class_and_use() -> None:
    """A valid payload is refused for another class, and a value's payload for an object."""
    with pytest.raises(CodecError, match=r"a payload of tests.codecs.samples.Frozen is of another class"):
        CODEC.decode(s.Frozen, CODEC.encode(s.Base(1)))
    with pytest.raises(CodecError, match="no valid signature"):
        CODEC.decode(s.Base, CODEC.encode_value(s.Base(1)))
    with pytest.raises(CodecError, match="no valid signature"):
        CODEC.decode_value(CODEC.encode(s.Base(1)))
    signed = CODEC.fingerprint(s.Base) + pickle.dumps(s.Frozen(1))
    with pytest.raises(CodecError, match=r"a payload of tests.codecs.samples.Base holds a tests.codecs.samples.Frozen"):
        CODEC.decode(s.Base, forged(b"\x81", signed, KEY))


def test_a_signed_pickle_that_cannot_be_read_is_refused() -> None:
    """A class that is gone, or a damaged pickle under a valid signature, is a CodecError."""
    with pytest.raises(CodecError, match=r"a payload of value cannot be unpickled: UnpicklingError.*; treat it as absent"):
        CODEC.decode_value(forged(b"\x82", b"nonsense", KEY))


@pytest.mark.parametrize("payload", [None, 5, "text", bytearray(b"bytes")])
def test_what_is_no_payload_is_refused(payload: object) -> None:
    """As what has no signature is."""
    with pytest.raises(CodecError, match=r"^a payload of .*Plain is bytes, not "):
        CODEC.decode(s.Plain, payload)  # type: ignore[arg-type]


def test_what_pickle_refuses_is_named() -> None:
    """An object that pickle refuses is a CodecError that names its class."""
    with pytest.raises(CodecError, match=r"samples.Plain: cannot be pickled: .*lambda.*; leave out what pickle refuses"):
        CODEC.encode(s.Plain(lambda: 1))


@pytest.mark.parametrize(
    ("key", "given"),
    [
        (b"", "0 bytes"),
        (KEY[:-1], "31 bytes"),
        ("x" * 40, "a value of type str"),
        (None, "a value of type NoneType"),
        (bytearray(40), "of type bytearray"),
    ],
)
def test_a_weak_key_is_refused(key: object, given: str) -> None:
    """A key that is short or no bytes is a ConfigurationError, which does not show it."""
    with pytest.raises(ConfigurationError, match=f"a key of at least 32 bytes, not .*{given}; make one with secrets.token_bytes"):
        PickleCodec(key=key)  # type: ignore[arg-type]


def test_the_key_is_not_shown() -> None:
    """Neither the codec's repr nor an error contains the key."""
    assert repr(PickleCodec(key=b"secret" * 8)) == "PickleCodec(key=...)"
