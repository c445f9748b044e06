"""A list of rows as caches keep it: their primary keys, by which they are looked up one by one."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from msgspec import DecodeError, ValidationError
from msgspec.msgpack import Decoder, Encoder

from stockstore.codecs.values import dumps, loads
from stockstore.errors import CodecError
from stockstore.keys import KeyPlan, ListLookup, Native, keys_of
from stockstore.keys.declared import identity_class
from stockstore.lifetimes import LifetimeRule

if TYPE_CHECKING:
    from stockstore.stores.snapshots import RowSnapshot

_FINGERPRINT_SIZE = 8
_EXACT: Final = 2**53
"""Below this a number is the same to a script of a server, which has floats alone."""
_encode_numbers: Final = Encoder().encode
_decode_numbers: Final = Decoder(list[int]).decode
Keys = tuple[tuple[object, ...], ...]
"""Primary keys, each in the order of the identity plan's names."""


class Members:
    """The rows of one list, in the order of the database."""

    __slots__ = ("keys", "lookup", "rows", "shared")

    def __init__(self, lookup: ListLookup, keys: Keys, *, rows: "Sequence[RowSnapshot]" = (), shared: bool = True) -> None:
        """Hold primary keys, and the rows where they were read along; what is not ``shared`` was read inside a caller's transaction and belongs in no cache."""
        self.lookup = lookup
        self.keys = keys
        self.rows = rows
        self.shared = shared

    @property
    def cls(self) -> type:
        """The class that the index belongs to."""
        return self.lookup.plan.owner

    def key(self) -> dict[str, object]:
        """Give the values of the index."""
        return dict(zip(self.lookup.plan.names, self.lookup.values, strict=True))

    def native(self, plan: KeyPlan) -> Native:  # noqa: ARG002 - as objects, of which this is none
        """Give the place of the list beside the records of its hierarchy."""
        return self.lookup.place

    def payload(self) -> bytes:
        """Give the bytes that a shared cache keeps, behind what tells the rows' class and the form.

        Raises:
            CodecError: A primary key cannot be written.
        """
        numbers = [value for key in self.keys for value in key if type(value) is int and -_EXACT < value < _EXACT]
        if len(numbers) == len(self.keys) == sum(map(len, self.keys)):
            return stamp_of_numbers(self.lookup) + _encode_numbers(numbers)
        return _fingerprint(self.lookup) + dumps(self.keys)


class OtherMembersError(CodecError):
    """A list that another release of the application has kept, of rows with other columns."""


def members_in(payload: bytes, lookup: ListLookup) -> Members:
    """Give the list of a payload.

    Raises:
        OtherMembersError: The rows had other columns then.
        CodecError: It is damaged.
    """
    if payload.startswith(stamp_of_numbers(lookup)):
        return Members(lookup, tuple([(number,) for number in numbers_in(payload[_FINGERPRINT_SIZE:])]))
    if payload[:_FINGERPRINT_SIZE] != _fingerprint(lookup):
        raise OtherMembersError(f"the list of {lookup.plan.describe()} is one of another shape of {lookup.plan.label}")
    keys, width = loads(payload[_FINGERPRINT_SIZE:]), len(keys_of(lookup.plan.owner).identity.names)
    if not isinstance(keys, tuple) or not all(isinstance(key, tuple) and len(key) == width for key in keys):
        raise CodecError(f"the list of {lookup.plan.describe()} holds no primary keys: {keys!r}")
    return Members(lookup, keys)


def numbers_in(body: bytes) -> list[int]:
    """Give the primary keys of a list of plain numbers, from what follows its stamp.

    Raises:
        CodecError: It is damaged.
    """
    try:
        return _decode_numbers(body)
    except (DecodeError, ValidationError) as error:
        raise CodecError(f"a list of numbers is damaged: {error}") from error


def stamp_of_numbers(lookup: ListLookup) -> bytes:
    """Give what a list begins with of which all primary keys are plain numbers, such as a script of a server can read."""
    fingerprint = _fingerprint(lookup)
    known: tuple[bytes, bytes] | None = lookup.plan.__dict__.get("_numbers")
    if known is None or known[0] != fingerprint:
        stamp = blake2b(fingerprint + b"numbers", digest_size=_FINGERPRINT_SIZE).digest()
        known = lookup.plan.__dict__["_numbers"] = fingerprint, stamp
    return known[1]


def _fingerprint(lookup: ListLookup) -> bytes:
    from stockstore.mapped import plan_of

    return plan_of(identity_class(lookup.plan.owner)).fingerprint


def seconds_for_lists(rule: LifetimeRule) -> float | None:
    """Give how long a list may live; 0 where the lifetime of a row is its own, which a list has none of."""
    return 0.0 if rule.needs_object else rule.seconds(None)
