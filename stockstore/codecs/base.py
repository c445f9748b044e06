"""What every codec offers: plain objects and single values to bytes, and back."""

from __future__ import annotations

from typing import Final, Protocol, TypeVar, cast

from stockstore.errors import ConfigurationError

T = TypeVar("T")

_METHODS: Final = ("fingerprint", "encode", "decode", "encode_value", "decode_value")


class Codec(Protocol):
    """Turns plain objects into bytes and back.

    Every failure is a `CodecError`, whatever the object or the payload. A codec holds no state
    about the objects it saw and may be used by any number of threads and stores at once.
    """

    def fingerprint(self, cls: type) -> bytes:
        """Return 8 bytes that change when the name or the fields of ``cls`` change.

        The same in every process and hash seed.
        """
        ...

    def encode(self, obj: object) -> bytes:
        """Return the payload of an object.

        Raises:
            CodecError: It cannot be encoded; the message names the class and the attribute.
        """
        ...

    def decode(self, cls: type[T], payload: bytes) -> T:
        """Return a new object of ``cls``, or of the subclass that was encoded.

        Raises:
            CodecError: The payload is damaged, of another class, or of an older shape of it.
        """
        ...

    def encode_value(self, value: object) -> bytes:
        """Return the payload of a single value, such as a column's.

        Raises:
            CodecError: It cannot be encoded with its exact type.
        """
        ...

    def decode_value(self, data: bytes) -> object:
        """Return the value that `encode_value` was given, with its exact type.

        Raises:
            CodecError: The payload is damaged.
        """
        ...


def checked_codec(codec: object) -> Codec:
    """Give a codec back.

    Raises:
        ConfigurationError: It is none, or the class of one.
    """
    if isinstance(codec, type) or not all(callable(getattr(codec, name, None)) for name in _METHODS):
        raise ConfigurationError(f"codec takes a codec, such as MsgpackCodec() or PickleCodec(key=...), not {codec!r}")
    return cast("Codec", codec)
