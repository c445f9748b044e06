"""The default codec: objects of ordinary classes, dataclasses, attrs, Structs, pydantic models and named tuples."""

from __future__ import annotations

from typing import TypeVar

from stockstore.codecs import values
from stockstore.codecs._describe import FINGERPRINT_BYTES, name_of
from stockstore.codecs._lowering import Refusal
from stockstore.codecs._plans import FORMAT, Plan, class_of, fingerprint_of_class, known_fingerprint, known_plan, plan_of
from stockstore.errors import CodecError

T = TypeVar("T")
_HEAD = len(FORMAT) + FINGERPRINT_BYTES


class MsgpackCodec:
    """Attributes of objects as msgpack, every value with its exact type; the codec that stores use by default.

    An object may hold further objects where the annotations of its class lead to their classes (or to a base class of
    them, as far as imported). Only these classes are ever built from a payload, and no name in a payload is imported or
    called. ``__init__`` is not called either: attributes come back as they were, those never set stay unset. Only a
    msgspec Struct is made by its own constructor. Cached properties are left out.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Point:
        ...     x: int
        ...     y: int
        >>> codec = MsgpackCodec()
        >>> codec.decode(Point, codec.encode(Point(1, 2)))
        Point(x=1, y=2)
    """

    def __repr__(self) -> str:
        return "MsgpackCodec()"

    def fingerprint(self, cls: type) -> bytes:
        """Return 8 bytes that change with the name or fields of ``cls``, or of a class that its annotations lead to."""
        return known_fingerprint(id(cls)) or fingerprint_of_class(cls)

    def encode(self, obj: object) -> bytes:
        """Return a format version byte, the fingerprint and the attributes.

        Raises:
            CodecError: A value below the object cannot be encoded; the message names its path.
        """
        plan = known_plan(id(type(obj))) or plan_of(type(obj))
        careful = False
        try:
            payload = plan.pack(obj)
        except Exception as error:  # noqa: BLE001 - the general way tells whether it is one, and where
            payload, careful = None, isinstance(error, (OverflowError, UnicodeEncodeError))
        return _encoded(plan, obj, careful=careful) if payload is None else payload

    def decode(self, cls: type[T], payload: bytes) -> T:
        """Return a new object of ``cls``, or of the imported subclass of it that was encoded.

        Raises:
            CodecError: The payload is damaged, of another class, or of an older shape of it.
        """
        try:
            plan = known_plan(id(cls)) or plan_of(cls)
            if payload[:_HEAD] != plan.head:
                return _decoded_below(cls, payload)
            obj: T = plan.rebuild(cls, plan.decode(payload[_HEAD:]))
        except Exception as error:
            raise CodecError(f"a payload of {name_of(cls)} cannot be decoded: {error}; treat it as absent") from error
        return obj

    def encode_value(self, value: object) -> bytes:
        """Return the bytes of a single value; see `stockstore.codecs.values.dumps`."""
        return values.dumps(value)

    def decode_value(self, data: bytes) -> object:
        """Return the value that `encode_value` was given; see `stockstore.codecs.values.loads`."""
        return values.loads(data)


def _encoded(plan: Plan, obj: object, *, careful: bool) -> bytes:
    try:
        return plan.head + plan.scope.run(lambda lower: plan.record(obj, lower, 0), careful=careful)
    except Refusal as refusal:
        raise CodecError(f"{plan.name}{refusal.path}: {refusal.problem}") from refusal.__cause__


def _decoded_below(cls: type[T], payload: bytes) -> T:
    """The object of a payload that is not of ``cls`` itself."""
    if payload[:1] != FORMAT:
        raise CodecError(f"it is of format {payload[:1]!r}, not {FORMAT!r}")
    actual = class_of(cls, payload[1:_HEAD])
    plan = plan_of(actual)
    obj: T = plan.rebuild(actual, plan.decode(payload[_HEAD:]))
    return obj
