"""Batches of one class: in passes over all of them by the default codec, one by one by any other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from stockstore.codecs._plans import plan_of
from stockstore.codecs.base import Codec
from stockstore.codecs.structural import MsgpackCodec


class Passes(Protocol):
    """How a store has batches encoded and decoded."""

    def fingerprint(self, cls: type) -> bytes:
        """Return the codec's fingerprint of a class."""
        ...

    def head(self, cls: type) -> bytes:
        """Return what the payloads that `decode` takes begin with."""
        ...

    def encode(self, objects: Sequence[object]) -> tuple[bytes, list[bytes]]:
        """Return what the payloads of objects of one class begin with, and the rest of each.

        Raises:
            CodecError: One cannot be encoded; the message names the class and the attribute.
        """
        ...

    def decode(self, cls: type, bodies: list[bytes]) -> list[Any]:
        """Return objects of what follows the head in their payloads.

        Raises:
            CodecError: One cannot be decoded.
        """
        ...


def passes_of(codec: Codec) -> Passes:
    """Return the fastest way of a codec."""
    # A subclass may encode in its own way.
    return _AtOnce(codec) if type(codec) is MsgpackCodec else _OneByOne(codec)


class _OneByOne:
    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    def fingerprint(self, cls: type) -> bytes:
        return self._codec.fingerprint(cls)

    def head(self, cls: type) -> bytes:
        del cls
        return b""

    def encode(self, objects: Sequence[object]) -> tuple[bytes, list[bytes]]:
        return b"", list(map(self._codec.encode, objects))

    def decode(self, cls: type, bodies: list[bytes]) -> list[Any]:
        decode = self._codec.decode
        return [decode(cls, body) for body in bodies]


class _AtOnce(_OneByOne):
    def head(self, cls: type) -> bytes:
        return plan_of(cls).head

    def encode(self, objects: Sequence[object]) -> tuple[bytes, list[bytes]]:
        try:
            plan = plan_of(type(objects[0]))
            bodies = plan.pack_many(objects)
        except Exception:  # noqa: BLE001 - one by one tells whether it is one, and where
            bodies = None
        return super().encode(objects) if bodies is None else (plan.head, bodies)

    def decode(self, cls: type, bodies: list[bytes]) -> list[Any]:
        plan = plan_of(cls)
        try:
            return plan.rebuild_many(cls, map(plan.scope.decode_list, bodies))
        except Exception:  # noqa: BLE001 - one by one tells whether it is one
            return super().decode(cls, [plan.head + body for body in bodies])
