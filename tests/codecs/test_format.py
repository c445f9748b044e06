"""The stored bytes. A change here makes what is stored unreadable: it needs a new format byte or code."""

from __future__ import annotations

import datetime as dt
import ipaddress
import uuid
import zoneinfo
from decimal import Decimal
from fractions import Fraction

import pytest
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import Range
from sqlalchemy.dialects.postgresql.ranges import MultiRange

from stockstore.codecs import MsgpackCodec, PickleCodec
from stockstore.codecs.values import dumps, loads
from tests.codecs.same import same
from tests.codecs.samples import Address, Color, Mode, Pair, Plain, Right, Slotted, User

pytestmark = pytest.mark.sa_agnostic

BERLIN = dt.datetime(2024, 10, 27, 2, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"), fold=1)
_bits: type[str] = getattr(postgresql, "BitString", str)  # as of SQLAlchemy 2.1, on which alone these tests run
STORED = [
    (None, b"\xc0"),
    (True, b"\xc3"),
    ([1, -1.5, "text", b"bytes"], b"\x94\x01\xcb\xbf\xf8\x00\x00\x00\x00\x00\x00\xa4text\xc4\x05bytes"),
    ({"a": 1, "b": {}}, b"\x82\xa1a\x01\xa1b\x80"),
    ((1, "a"), b"\xd6\x01\x92\x01\xa1a"),
    ({7}, b"\xd5\x02\x91\x07"),
    (frozenset({b"x"}), b"\xd6\x03\x91\xc4\x01x"),
    ({1: None, (2,): 3}, b"\xd7\x04\x94\x01\xc0\xd5\x01\x91\x02\x03"),
    (Color.RED, b"\xc7 \x05\x93\xb4tests.codecs.samples\xa5Color\xa3RED"),
    (Right.READ | Right.RUN, b"\xc7\x1d\x05\x93\xb4tests.codecs.samples\xa5Right\x05"),
    (Mode.B, b"\xc7\x1d\x05\x93\xb4tests.codecs.samples\xa4Mode\xa1B"),
    (2**64, b"\xc7\t\x10\x01\x00\x00\x00\x00\x00\x00\x00\x00"),
    (-(2**63) - 1, b"\xc7\t\x10\xff\x7f\xff\xff\xff\xff\xff\xff\xff"),
    ("\ud800", b"\xc7\x03\x11\xed\xa0\x80"),
    (bytearray(b"ab"), b"\xd5\x12ab"),
    (Decimal("-1.50E+3"), b"\xd7\x13-1.50E+3"),
    (uuid.UUID(int=1), b"\xd8\x14\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"),
    (dt.date(2024, 2, 29), b"\xc7\n\x152024-02-29"),
    (dt.time(1, 2, 3), b"\xd7\x1601:02:03"),
    (dt.datetime(2024, 2, 29, 1, 2, 3, 4), b"\xc7\x1a\x172024-02-29T01:02:03.000004"),
    (dt.datetime(2024, 2, 29, 1, 2, 3, tzinfo=dt.timezone.utc), b"\xc7\x19\x172024-02-29T01:02:03+00:00"),
    (dt.datetime(2024, 2, 29, 1, 2, 3, tzinfo=dt.timezone(dt.timedelta(hours=-1))), b'\xc7"\x172024-02-29T01:02:03|0|@-3600000000'),
    (dt.datetime(2024, 2, 29, 1, 2, 3, tzinfo=dt.timezone(dt.timedelta(0), "Z")), b"\xc7\x1a\x172024-02-29T01:02:03|0|@0|Z"),
    (BERLIN, b"\xc7#\x172024-10-27T02:30:00|1|Europe/Berlin"),
    (dt.timedelta(days=-1, microseconds=1), b"\xc7\x0c\x18\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x01"),
    (Fraction(-1, 3), b"\xc7\x06\x19\x00\x00\x00\x01\xff\x03"),
    (1 - 2j, b"\xd8\x1a?\xf0\x00\x00\x00\x00\x00\x00\xc0\x00\x00\x00\x00\x00\x00\x00"),
    (range(0, -10, -3), b"\xc7\x07\x1b0 -a -3"),
    (ipaddress.ip_address("10.0.0.1"), b"\xd7\x1c10.0.0.1"),
    (ipaddress.ip_address("fe80::1%eth0"), b"\xc7\x0c\x1dfe80::1%eth0"),
    (ipaddress.ip_network("10.0.0.0/8"), b"\xc7\n\x1e10.0.0.0/8"),
    (ipaddress.ip_network("fe80::/10"), b"\xc7\t\x1ffe80::/10"),
    (ipaddress.ip_interface("10.0.0.1/8"), b"\xc7\n 10.0.0.1/8"),
    (ipaddress.ip_interface("fe80::1/10"), b"\xc7\n!fe80::1/10"),
    (Range(1, None), b"\xc7\x07\x07\x94\x01\xc0\xa2[)\xc2"),
    (Range(Decimal("0.5"), Decimal(2), bounds="(]"), b"\xc7\x0e\x07\x94\xc7\x03\x130.5\xd4\x132\xa2(]\xc2"),
    (Range(empty=True), b"\xc7\x07\x07\x94\xc0\xc0\xa2[)\xc3"),
    (MultiRange([Range(1, 2)]), b"\xc7\x0b\x08\x91\xc7\x07\x07\x94\x01\x02\xa2[)\xc2"),
    (_bits("0101"), b"\xc7\x06\t\x91\xa40101"),
]


@pytest.mark.parametrize(("value", "stored"), STORED)
def test_values_are_stored_in_these_bytes(value: object, stored: bytes) -> None:
    """Every kind of value has these bytes, and these bytes are read as it."""
    assert dumps(value) == stored
    assert same(loads(stored), value)


OBJECTS = [
    (
        User(1, "n", Address("s", [(1,)]), BERLIN, ("a",), Decimal("0.10")),
        b"\x01Q\x0b6nv\xf84\x1d\x97\x01\xa1n\xd8\x06_\x90\x8fr\xdb\xa6\xeb\x9c\x92\xa1s\x91\xd5\x01\x91\x01\xc7#\x172024-10-27T02:30:00|1|Europe/Berlin\xc7\x03\x01\x91\xa1a\xd6\x130.10\xc7 \x05\x93\xb4tests.codecs.samples\xa5Color\xa3RED",
    ),
    (Slotted(1, Slotted(2)), b"\x01\xa9\xc2\xe7\xae\xce\x97\xd2.\x92\xc7\x0b\x06\xa9\xc2\xe7\xae\xce\x97\xd2.\x92\xc0\x02\x01"),
    (Pair(1), b"\x01\xd8\x94La\xb5\x7fh\xc8\x92\x01\xc0"),
    (Plain(1), b"\x01\xb7\xce\xc9?3%\x9d\xdb\x82\xa5slots\x80\xa4dict\x82\xa1x\x01\xa7_hidden\xd5\x01\x91\x01"),
]


@pytest.mark.parametrize(("obj", "stored"), OBJECTS)
def test_objects_are_stored_in_these_bytes(obj: object, stored: bytes) -> None:
    """An object's payload is the format byte, the fingerprint and its attributes, and is read as it."""
    codec = MsgpackCodec()
    assert codec.encode(obj) == stored
    found = codec.decode(type(obj), stored)
    assert same(getattr(found, "__dict__", found), getattr(obj, "__dict__", obj)) or found == obj


def test_a_signed_pickle_is_stored_in_this_order() -> None:
    """A format byte, 32 bytes of signature, the fingerprint and the pickle."""
    codec = PickleCodec(key=b"k" * 32)
    payload = codec.encode(Address("s"))
    assert payload[:1] == b"\x81"
    assert payload[33:41] == codec.fingerprint(Address)
    assert payload[41:43] == b"\x80\x05"
    assert codec.encode_value(1)[:1] == b"\x82"
