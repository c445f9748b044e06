"""Values of any kind, lowered to what msgpack keeps exactly or to tagged extension values, and raised again.

The codes are part of the stored format: never reuse one.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any
from uuid import UUID

from msgspec import msgpack

from stockstore.codecs._enums import EnumKey, enum_key, find_enum, find_member, member_label
from stockstore.codecs._postgresql import FROM_PARTS, parts_of
from stockstore.codecs._scalars import FROM_BYTES, TO_BYTES
from stockstore.codecs.drivers import is_uuid_of_driver
from stockstore.errors import CodecError

MAX_DEPTH = 100
_PATH = 10

_TUPLE, _SET, _FROZENSET, _DICT, _ENUM, _OBJECT = 1, 2, 3, 4, 5, 6

NATIVE = frozenset({type(None), bool, float, bytes, int, str})
# ints beyond 64 bits and lone surrogates are rare: values are first taken to hold none, and lowered once more
# with this set when msgpack refuses one
_ALWAYS_NATIVE = frozenset({type(None), bool, float, bytes})
_ONLY_STR = frozenset({str})
_TOO_DEEP = f"it is nested more than {MAX_DEPTH} levels deep, or contains itself; store a flatter value"
encode = msgpack.Encoder().encode


def refused(cls: type, advice: str) -> str:
    """Why a value of this type is not encoded."""
    name = f"{cls.__module__}.{cls.__qualname__}"
    for base in cls.__mro__[1:]:
        if base in NATIVE or base in TO_BYTES or base in _LOWER_CONTAINER:
            return f"cannot encode a value of type {name} without losing that type; make it a plain {base.__qualname__}"
    return f"cannot encode a value of type {name}; {advice}"


def _fits(value: object) -> bool:
    try:
        encode(value)
    except (OverflowError, UnicodeEncodeError):
        return False
    return True


def _scalar(value: object, code: int, to_bytes: Callable[[Any], bytes]) -> msgpack.Ext:
    try:
        return msgpack.Ext(code, to_bytes(value))
    except ValueError as error:
        raise Refusal(str(error)) from error


def _key_label(key: object) -> str:
    return reprlib.repr(key) if type(key) in NATIVE and _fits(key) else f"a key of type {type(key).__qualname__}"


class Refusal(Exception):  # noqa: N818 - it is turned into a CodecError
    """A value cannot be encoded; the path grows while the error travels up."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.steps: list[str] = []

    @property
    def path(self) -> str:
        """The way from the outermost value to the refused one, such as ``.address.lines[2]``."""
        steps = self.steps[::-1]
        return "".join(steps if len(steps) <= _PATH else [*steps[:_PATH], "..."])


class Scope:
    """What may be encoded and built beyond plain values: nothing, unless a subclass knows objects."""

    def __init__(self, enums: Mapping[EnumKey, type[Enum]] | None = None) -> None:
        self.enums = enums or {}
        self.decode: Callable[[bytes], Any] = msgpack.Decoder(ext_hook=self._raise_value).decode
        self.decode_list: Callable[[bytes], list[Any]] = msgpack.Decoder(list[Any], ext_hook=self._raise_value).decode
        self.fast = Lower(self, NATIVE)
        self._careful = Lower(self, _ALWAYS_NATIVE)

    def take(self, value: object, lower: Lower, depth: int) -> bytes:  # noqa: ARG002 - objects are for subclasses
        """The body of an object's record."""
        raise Refusal(refused(type(value), "turn it into plain values first"))

    def build(self, body: bytes) -> object:  # noqa: ARG002 - as take
        """The object of a record."""
        raise CodecError("the payload holds an object where only plain values may stand")

    def encode(self, value: object) -> bytes:
        """The bytes of a value; `Refusal` where there are none."""
        return self.run(lambda lower: encode(lower(value, 0)))

    def run(self, job: Callable[[Lower], bytes], *, careful: bool = False) -> bytes:
        """Encode with lowering that takes ints and text as they are, and with careful lowering where msgpack refuses one."""
        try:
            try:
                return job(self._careful if careful else self.fast)
            except (OverflowError, UnicodeEncodeError):
                return job(self._careful)
        except RecursionError:
            raise Refusal(_TOO_DEEP) from None
        except (OverflowError, ValueError) as error:
            raise Refusal(str(error)) from error

    def _raise_value(self, code: int, view: memoryview) -> object:
        data = bytes(view)
        scalar = FROM_BYTES.get(code)
        if scalar is not None:
            return scalar(data)
        if code == _OBJECT:
            return self.build(data)
        return self._raise_container(code, self.decode(data))

    def _raise_container(self, code: int, items: Any) -> object:
        if type(items) is not list:
            raise CodecError("the payload is damaged: a container without its items")
        if code == _ENUM:
            module, qualname, label = items
            return find_member(find_enum((module, qualname), self.enums), label)
        if code == _DICT:
            pairs = iter(items)
            return dict(zip(pairs, pairs, strict=True))
        return _CONTAINERS[code](items)


_CONTAINERS: dict[int, Callable[[Iterable[object]], object]] = {_TUPLE: tuple, _SET: set, _FROZENSET: frozenset, **FROM_PARTS}


class Lower:
    """Lowers one value; called again for each value within it."""

    __slots__ = ("_natives", "_scope")

    def __init__(self, scope: Scope, natives: frozenset[type]) -> None:
        self._scope = scope
        self._natives = natives

    def __call__(self, value: Any, depth: int) -> object:
        cls = type(value)
        if cls in self._natives:
            return value
        scalar = TO_BYTES.get(cls)
        if scalar is not None:
            return value if cls in NATIVE and _fits(value) else _scalar(value, *scalar)
        if depth >= MAX_DEPTH:
            raise Refusal(_TOO_DEEP)
        container = _LOWER_CONTAINER.get(cls)
        if container is not None:
            return container(self, value, depth + 1)
        if issubclass(cls, Enum):
            return _enum(value, self._scope.enums)
        return _of_database(self, value, depth + 1) or msgpack.Ext(_OBJECT, self._scope.take(value, self, depth + 1))

    def items(self, values: Iterable[object], depth: int, names: Sequence[str] | None = None) -> list[object]:
        """A list of lowered values; ``names`` where they are attributes."""
        values = list(values)
        if self._natives.issuperset(map(type, values)):
            return values
        lowered: list[object] = []
        try:
            for value in values:
                lowered.append(self(value, depth))  # noqa: PERF401 - its length names the refused item
        except Refusal as refusal:
            refusal.steps.append(f".{names[len(lowered)]}" if names else f"[{len(lowered)}]")
            raise
        return lowered

    def mapping(self, values: dict[Any, Any], depth: int, *, attributes: bool = False) -> object:
        """A map of msgpack where all keys are text, else alternating keys and values."""
        lowered: dict[Any, Any] = dict(values)
        native = str in self._natives and _ONLY_STR.issuperset(map(type, lowered))
        if native and self._natives.issuperset(map(type, lowered.values())):
            return lowered
        pairs: list[object] = []
        try:
            for key, value in lowered.items():
                lowered[key] = self(value, depth)
                if not native:
                    pairs += (self(key, depth), lowered[key])
        except Refusal as refusal:
            refusal.steps.append(f".{key}" if attributes else f"[{_key_label(key)}]")
            raise
        return lowered if native else msgpack.Ext(_DICT, encode(pairs))


def _tuple(lower: Lower, value: tuple[object, ...], depth: int) -> object:
    return msgpack.Ext(_TUPLE, encode(lower.items(value, depth)))


def _set(lower: Lower, value: set[object], depth: int) -> object:
    return msgpack.Ext(_SET, encode(lower.items(value, depth)))


def _frozenset(lower: Lower, value: frozenset[object], depth: int) -> object:
    return msgpack.Ext(_FROZENSET, encode(lower.items(value, depth)))


def _of_database(lower: Lower, value: object, depth: int) -> msgpack.Ext | None:
    if is_uuid_of_driver(type(value)):
        return _scalar(value, *TO_BYTES[UUID])
    parts = parts_of(value)
    return None if parts is None else msgpack.Ext(parts[0], encode(lower.items(parts[1], depth)))


def _enum(value: Enum, known: Mapping[EnumKey, type[Enum]]) -> object:
    key = enum_key(type(value))
    if find_enum(key, known) is not type(value):
        raise Refusal(
            f"cannot encode a member of {'.'.join(key)}, which is not found again by that name; "
            "define the enum at the top level of a module, or name it in the annotations of the class"
        )
    return msgpack.Ext(_ENUM, encode((*key, member_label(value))))


_LOWER_CONTAINER: dict[type, Callable[[Lower, Any, int], object]] = {
    list: Lower.items,
    dict: Lower.mapping,
    tuple: _tuple,
    set: _set,
    frozenset: _frozenset,
}
