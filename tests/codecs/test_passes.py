"""A batch gives what its objects give one by one."""

from __future__ import annotations

import typing
import zlib
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stockstore.codecs import MsgpackCodec
from stockstore.codecs.passes import Passes, passes_of
from stockstore.errors import CodecError
from tests.codecs import samples as s
from tests.codecs.same import same
from tests.codecs.test_quick import MAKERS, state
from tests.codecs.test_values import anything

pytestmark = pytest.mark.sa_agnostic

CODEC = MsgpackCodec()
PASSES = passes_of(CODEC)


@dataclass
class Point:
    """Two attributes."""

    x: object
    y: object


class Squeezing(MsgpackCodec):
    """Encodes in its own way."""

    def encode(self, obj: object) -> bytes:
        """Pack the payload."""
        return zlib.compress(super().encode(obj))

    def decode(self, cls: type[typing.Any], payload: bytes) -> typing.Any:
        """Unpack the payload."""
        return super().decode(cls, zlib.decompress(payload))


def bodies(cls: type, objects: list[object]) -> list[bytes]:
    """What follows the head in the payloads."""
    head = PASSES.head(cls)
    payloads = encoded(PASSES, objects)
    assert all(payload.startswith(head) for payload in payloads)
    return [payload[len(head) :] for payload in payloads]


def encoded(passes: Passes, objects: list[object]) -> list[bytes]:
    """The payloads."""
    begin, rests = passes.encode(objects)
    return [begin + rest for rest in rests]


@pytest.mark.parametrize("make", MAKERS)
@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])  # so many values take long on a busy machine
@given(values=st.lists(st.one_of(st.integers(), st.text(), anything), min_size=1, max_size=4))
def test_a_batch_gives_the_same_bytes_and_objects(make: typing.Callable[[object], object], values: list[object]) -> None:
    """Whatever the class and the values, payloads and objects are those of each alone."""
    try:
        objects = [make(value) for value in values]
    except TypeError:  # attrs hashes
        return
    assert encoded(PASSES, objects) == [CODEC.encode(obj) for obj in objects]
    cls = type(objects[0])
    found = PASSES.decode(cls, bodies(cls, objects))
    assert [type(obj) for obj in found] == [cls] * len(objects)
    assert all(same(state(one), state(obj)) for one, obj in zip(found, objects, strict=True))


def test_objects_with_other_attributes_keep_their_own() -> None:
    """What one object has too many, another too few, or in another order is not moved from one to the other."""
    few, many, turned = Point(1, 2), Point(3, 4), Point(5, 6)
    vars(many)["x2"] = vars(few).pop("y")
    vars(turned)["x"] = vars(turned).pop("x")
    objects: list[object] = [few, many, turned, Point(7, 8)]
    found = PASSES.decode(Point, bodies(Point, objects))
    assert [list(vars(obj).items()) for obj in found] == [list(vars(obj).items()) for obj in objects]


def test_named_tuples_of_other_lengths_are_not_mixed_up() -> None:
    """Items too many in one and too few in another are an error, as they are alone."""
    objects = [tuple.__new__(s.Pair, items) for items in ((1,), (2, 3, 4))]
    with pytest.raises(CodecError):
        PASSES.decode(s.Pair, bodies(s.Pair, list(objects)))


def test_what_cannot_be_encoded_is_named() -> None:
    """The message tells class and attribute."""
    with pytest.raises(CodecError, match=r"Point\.y"):
        PASSES.encode([Point(1, 2), Point(1, object())])


@pytest.mark.parametrize("damaged", [b"", b"\x92\x01", b"\x92\x01\x02\x03", b"\x91\x01", b"\x82\x01\x02\x03\x04", b"\xa2ab", b"\x01"])
def test_damage_in_a_batch_is_an_error(damaged: bytes) -> None:
    """As for one payload: whatever is read there, it is no object."""
    good = bodies(Point, [Point(1, 2)])
    with pytest.raises(CodecError):
        PASSES.decode(Point, [*good, damaged, *good])


def test_a_codec_that_overrides_encode_and_decode_is_asked() -> None:
    """No pass goes around the methods of a subclass."""
    codec, point = Squeezing(), Point(1, "a")
    passes = passes_of(codec)
    assert encoded(passes, [point]) == [codec.encode(point)]
    assert passes.head(Point) == b""
    assert passes.decode(Point, [codec.encode(point)]) == [point]
