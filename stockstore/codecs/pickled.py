"""An opt-in codec for objects that only pickle can carry, signed."""

from __future__ import annotations

import hashlib
import hmac
import pickle
from typing import TypeVar, cast

from stockstore.codecs._describe import FINGERPRINT_BYTES, name_of
from stockstore.codecs._plans import class_of, fingerprint_of_class
from stockstore.errors import CodecError, ConfigurationError

T = TypeVar("T")
_OBJECT, _VALUE = b"\x81", b"\x82"
_SIGNATURE_BYTES = hashlib.sha256().digest_size
_MIN_KEY_BYTES = 32


class PickleCodec:
    """Pickles, signed with HMAC-SHA256: a payload whose signature does not match is refused before it is unpickled.

    Whoever has the key can run code in every process that reads the cache: keep it out of the server and the repository.
    The signature covers the format, the class's fingerprint and the pickle; it does not tell under which key a payload
    was stored.

    Args:
        key: At least 32 random bytes, the same in all processes, such as ``secrets.token_bytes(32)`` once made.

    Raises:
        ConfigurationError: The key is no bytes, or too short.
    """

    def __init__(self, *, key: bytes) -> None:
        problem = _key_problem(key)
        if problem is not None:
            raise ConfigurationError(
                f"PickleCodec needs a key of at least {_MIN_KEY_BYTES} bytes, not {problem}; make one with secrets.token_bytes({_MIN_KEY_BYTES})"
            )
        self._key = key

    def __repr__(self) -> str:
        return "PickleCodec(key=...)"

    def fingerprint(self, cls: type) -> bytes:
        """Return 8 bytes that change with the name or fields of ``cls``, or of a class that its annotations lead to."""
        return fingerprint_of_class(cls)

    def encode(self, obj: object) -> bytes:
        """Return a format byte, the signature, the class's fingerprint and the pickle.

        Raises:
            CodecError: The object cannot be pickled.
        """
        return self._sealed(_OBJECT, fingerprint_of_class(type(obj)), obj)

    def decode(self, cls: type[T], payload: bytes) -> T:
        """Return a new object of ``cls``, or of the imported subclass of it that was encoded.

        Raises:
            CodecError: The signature does not match, or the payload is of another class or an older shape of it.
        """
        what = name_of(cls)
        signed = self._opened(_OBJECT, payload, what)
        actual = class_of(cls, signed[:FINGERPRINT_BYTES])
        obj = _unpickled(signed[FINGERPRINT_BYTES:], what)
        if type(obj) is not actual:
            raise CodecError(f"a payload of {what} holds a {name_of(type(obj))}; treat it as absent")
        return cast("T", obj)

    def encode_value(self, value: object) -> bytes:
        """Return the signed pickle of a single value.

        Raises:
            CodecError: It cannot be pickled.
        """
        return self._sealed(_VALUE, b"", value)

    def decode_value(self, data: bytes) -> object:
        """Return the value that `encode_value` was given.

        Raises:
            CodecError: The signature does not match.
        """
        return _unpickled(self._opened(_VALUE, data, "value"), "value")

    def _sealed(self, mark: bytes, head: bytes, obj: object) -> bytes:
        try:
            signed = head + pickle.dumps(obj, protocol=5)
        except Exception as error:
            raise CodecError(f"{name_of(type(obj))}: cannot be pickled: {error}; leave out what pickle refuses") from error
        return mark + self._signature(mark, signed) + signed

    def _opened(self, mark: bytes, payload: bytes, what: str) -> bytes:
        if not isinstance(payload, bytes):
            raise CodecError(f"a payload of {what} is bytes, not {payload!r}; treat it as absent")
        start = len(mark) + _SIGNATURE_BYTES
        signature, signed = payload[len(mark) : start], payload[start:]
        if payload[: len(mark)] != mark or not hmac.compare_digest(signature, self._signature(mark, signed)):
            raise CodecError(f"a payload of {what} has no valid signature of this key; treat it as absent, and look for who wrote it")
        return signed

    def _signature(self, mark: bytes, signed: bytes) -> bytes:
        return hmac.digest(self._key, mark + signed, "sha256")


def _unpickled(data: bytes, what: str) -> object:
    try:
        return pickle.loads(data)  # noqa: S301 - signed
    except Exception as error:
        raise CodecError(f"a payload of {what} cannot be unpickled: {error!r}; treat it as absent") from error


def _key_problem(key: object) -> str | None:
    if not isinstance(key, bytes):
        return f"a value of type {type(key).__name__}"
    return f"{len(key)} bytes" if len(key) < _MIN_KEY_BYTES else None
