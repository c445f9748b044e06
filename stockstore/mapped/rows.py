"""Column state <-> bytes, by code that is generated once per class.

A payload is ``fingerprint (8 bytes) + format (1 byte) + msgpack array of the columns``. In a ``PLAIN`` row every column stands in
the one form that its type gives it. As soon as a value has no such form (a subclass, an aware time, an integer past 64 bits, an
unloaded column), the row is ``PATCHED``: there that value is an extension, which says how to read it.
"""

import datetime as dt
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from msgspec.msgpack import Decoder, Encoder, Ext
from sqlalchemy.ext.mutable import MutableDict, MutableList, MutableSet

from stockstore.codecs.values import dumps, loads
from stockstore.errors import CodecError
from stockstore.mapped import moments
from stockstore.mapped.columns import UNLOADED, Json, Kind, Members, Moments, Native

PLAIN: Final = b"\x01"
PATCHED: Final = b"\x81"
"""The format version is in the low seven bits; the high one tells a patched row."""

HEADER: Final = 9
"""Bytes before the row: the fingerprint and the format."""

_ARRAY: Final = b"\xdd"
"""Begins an array of msgpack whose length follows in four bytes."""

_UNLOADED_CODE: Final = 0
_VALUE_CODE: Final = 1
_JSON_CODE: Final = 2

# Column values are of any type: the mapped class decides.
State = tuple[Any, ...]
_SCALARS: Final = frozenset((str, int, bool, float, type(None)))
_TRACKED: Final = ((MutableDict, dict), (MutableList, list), (MutableSet, set))
_ENCODE: Final = Encoder(uuid_format="bytes", decimal_format="string").encode


def _refuse(code: int, _data: memoryview) -> object:
    raise ValueError(f"extension {code} where no extension belongs")


_DECODE_JSON: Final = Decoder(ext_hook=_refuse).decode


def _is_json(value: object) -> bool:
    """Whether the value is made only of what ``json.loads`` makes; subclasses would lose their type."""
    if type(value) is dict:
        return all([type(k) is str and (type(v) in _SCALARS or _is_json(v)) for k, v in value.items()])  # noqa: C419 - twice as fast as a generator
    if type(value) is list:
        return all([type(v) in _SCALARS or _is_json(v) for v in value])  # noqa: C419
    return type(value) in _SCALARS


def decode_documents(encoded: bytes, count: int) -> list[Any]:
    """Give so many JSON documents that are encoded one after the other."""
    documents: list[Any] = _DECODE_JSON(_ARRAY + count.to_bytes(4, "big") + encoded)
    return documents


class Parsed(State):
    """The state of a row whose JSON documents have come out of ``json.loads``, so that they need not be looked through."""

    __slots__ = ()


_PARSED: Final = frozenset((Parsed,))


def _untracked(value: object) -> object:
    """A value without the wrapper by which SQLAlchemy notices changes in place; loading puts it on again."""
    return next((plain(value) for tracked, plain in _TRACKED if isinstance(value, tracked)), value)


_SOURCE: Final = """
def pack(state):
    {names}, = state
    if {fits}:
        return PREFIX + ENCODE(({stored},))
    return None

def pack_all(states):
    return [PREFIX + ENCODE(({stored},)) for {names}, in states if {fits}]

def pack_parsed(states):
    return [PREFIX + ENCODE(({stored},)) for {names}, in states if {parsed}]

def decode(body):
    {names}, = DECODE(body)
    return ({restored},)

def decode_all(bodies):
    return [({restored},) for {names}, in DECODE_ALL(bodies)]

def unpack_patched(body):
    {names}, = DECODE_PATCHED(body)
    return ({mended},)

STORE = ({store},)
"""


class _Column:
    """One column in the generated source: its value is called ``v0``, ``v1`` and so on."""

    def __init__(self, position: int, kind: Kind) -> None:
        v, i = f"v{position}", position
        self.name, self.stored, self.restored = v, v, v
        self.wire: Any = object
        self.parsed = ""
        self.space: dict[str, Any] = {}
        if isinstance(kind, Native):
            self.fits, self.wire, self.space = self._is_exactly(v, i, kind.python_type), kind.python_type, {f"T{i}": kind.python_type}
        elif isinstance(kind, Members):
            self.fits, self.wire = f"({v} is None or type({v}) is T{i})", str
            self.stored, self.restored = f"{v} if {v} is None else {v}._name_", f"{v} if {v} is None else M{i}[{v}]"
            self.space = {f"T{i}": kind.enum_class, f"M{i}": dict(kind.enum_class.__members__)}
        elif isinstance(kind, Moments):
            self.fits, self.wire = f"({v} is None or type({v}) is DATETIME)", moments.Parts
            self.stored, self.restored = f"{v} if {v} is None else SPLIT({v})", f"{v} if {v} is None else JOIN(*{v})"
        elif isinstance(kind, Json):
            self.fits, self.wire, self.parsed = f"IS_JSON({v})", Any, f"{v} is not UNLOADED"
        else:
            self.fits, self.wire = f"{v} is not UNLOADED", bytes
            self.stored, self.restored = f"{v} if {v} is None else DUMPS({v})", f"{v} if {v} is None else LOADS({v})"
        self.parsed = self.parsed or self.fits
        self.mended = f"OPEN({v}) if type({v}) is EXT else ({self.restored})"
        # A JSON document inside an extension is read by a decoder that lets no further extension through.
        self.patch_wire = Ext if self.wire is Any else self.wire | Ext
        self.store = f"lambda {v}: ({self.stored},) if {self.fits} else None"

    @staticmethod
    def _is_exactly(v: str, i: int, python_type: type) -> str:
        if python_type is uuid.UUID:  # asyncpg has a class of its own for it, of what equals a plain one
            return f"({v} is None or isinstance({v}, T{i}))"
        local = f" and {v}.tzinfo is None and not {v}.fold" if python_type in (dt.datetime, dt.time) else ""
        return f"({v} is None or type({v}) is T{i}{local})"


class Rows:
    """The packer of one class.

    Args:
        label: The class's name for error messages.
        names: The attributes, in the order of the state.
        kinds: What is known of each one's values.
        fingerprint: The eight bytes that every payload of the class begins with.
    """

    prefix: bytes
    """What the payload of a plain row begins with; ``HEADER`` bytes."""

    decode: Callable[[bytes], State]
    """Give the state of a plain row, what follows the prefix; raises whatever a bad row provokes."""

    def __init__(self, label: str, names: Sequence[str], kinds: Sequence[Kind], fingerprint: bytes) -> None:
        self.label, self.names, self.kinds, self.fingerprint = label, tuple(names), tuple(kinds), fingerprint
        columns = [_Column(i, kind) for i, kind in enumerate(kinds)]
        space = self._generate(columns)
        self._pack_plain, self._store = space["pack"], space["STORE"]
        self._pack_all: Callable[[Sequence[State]], list[bytes]] = space["pack_all"]
        self._pack_parsed: Callable[[Sequence[State]], list[bytes]] = space["pack_parsed"]
        self.prefix, self._unpack_patched = fingerprint + PLAIN, space["unpack_patched"]
        # Where nothing is to be restored, the decoder's tuple is the state.
        restores = any(column.restored != column.name for column in columns)
        self.decode = space["decode"] if restores else space["DECODE"]
        self._decode_all: Callable[[bytes], list[State]] = space["decode_all"] if restores else space["DECODE_ALL"]

    def pack(self, state: State) -> bytes:
        """Give the payload of a state.

        Raises:
            CodecError: A value cannot be encoded; the message names class and attribute.
        """
        payload = self._try_plain(state)
        if payload is None:
            state = tuple(map(_untracked, state))
            payload = self._try_plain(state)
        return self._pack_patched(state) if payload is None else payload

    def pack_all(self, states: Sequence[State]) -> list[bytes] | None:
        """Give the payloads of states that are all plain rows, ``None`` where one is something else."""
        try:
            payloads = (self._pack_parsed if _PARSED.issuperset(map(type, states)) else self._pack_all)(states)
        except Exception:  # noqa: BLE001 - who packs them one by one is told what is wrong
            return None
        return payloads if len(payloads) == len(states) else None

    def unpack(self, payload: bytes) -> State:
        """Give the state of a payload of this class.

        Raises:
            CodecError: What follows the fingerprint is not a row of this class.
        """
        form = payload[8:HEADER]
        if form not in (PLAIN, PATCHED):
            raise CodecError(f"{self.label}: unknown payload format {form!r}; another version of stockstore wrote it")
        try:
            return self.decode(payload[HEADER:]) if form == PLAIN else self._unpack_patched(payload[HEADER:])
        except Exception as error:  # hostile bytes must not raise anything but a CodecError
            raise CodecError(f"{self.label}: the payload is not a row of this class: {error!r}") from error

    def unpack_all(self, payloads: Sequence[bytes]) -> list[State] | None:
        """Give the states of payloads that are all plain rows of this class, ``None`` where one is something else."""
        prefix, count = self.prefix, len(payloads)
        bodies = b"".join([payload.removeprefix(prefix) for payload in payloads])
        if len(bodies) + HEADER * count != sum(map(len, payloads)):
            return None
        try:
            # As one array of rows: a call for each would take as long again as an empty row.
            return self._decode_all(_ARRAY + count.to_bytes(4, "big") + bodies)
        except Exception:  # noqa: BLE001 - who asks for them one by one is told what is wrong
            return None

    def _generate(self, columns: list[_Column]) -> dict[str, Any]:
        parts = ("name", "fits", "parsed", "stored", "restored", "mended", "store")
        joined = {part: [getattr(column, part) for column in columns] for part in parts}
        source = _SOURCE.format(
            names=", ".join(joined.pop("name")),
            fits=" and ".join(joined.pop("fits")),
            parsed=" and ".join(joined.pop("parsed")),
            **{part: ", ".join(texts) for part, texts in joined.items()},
        )
        space = self._space()
        row = tuple.__class_getitem__(tuple(column.wire | None if column.wire is not Any else Any for column in columns))
        space["DECODE"] = Decoder(row, ext_hook=_refuse).decode
        space["DECODE_ALL"] = Decoder(list.__class_getitem__(row), ext_hook=_refuse).decode
        space["DECODE_PATCHED"] = Decoder(tuple.__class_getitem__(tuple(column.patch_wire | None for column in columns))).decode
        for column in columns:
            space.update(column.space)
        exec(source, space)  # noqa: S102 - the source holds positions only, no text from outside
        return space

    def _space(self) -> dict[str, Any]:
        return {
            "PREFIX": self.fingerprint + PLAIN,
            "ENCODE": _ENCODE,
            "DUMPS": dumps,
            "LOADS": loads,
            "IS_JSON": _is_json,
            "DATETIME": dt.datetime,
            "SPLIT": moments.split,
            "JOIN": moments.join,
            "UNLOADED": UNLOADED,
            "EXT": Ext,
            "OPEN": self._open,
        }

    def _try_plain(self, state: State) -> bytes | None:
        try:
            return self._pack_plain(state)  # type: ignore[no-any-return]
        except Exception:  # noqa: BLE001 - which column it was, and whether it fits an extension, is found out one by one
            return None

    def _pack_patched(self, state: State) -> bytes:
        if len(state) != len(self.names):
            raise CodecError(f"{self.label}: a state has {len(self.names)} values ({', '.join(self.names)}), this one has {len(state)}")
        row = tuple(map(self._patch, range(len(state)), state))
        return self.fingerprint + PATCHED + _ENCODE(row)

    def _patch(self, position: int, value: object) -> object:
        if value is None:
            return None
        if value is UNLOADED:
            return Ext(_UNLOADED_CODE, b"")
        try:
            return self._plain_part(position, value) or Ext(_VALUE_CODE, dumps(value))
        except Exception as error:
            where, what = f"{self.label}.{self.names[position]}", type(value).__qualname__
            raise CodecError(f"{where}: cannot encode a value of type {what}; give the column a type with plain values: {error}") from error

    def _plain_part(self, position: int, value: object) -> Ext | msgspec.Raw | None:
        try:
            stored = self._store[position](value)
            part = stored and _ENCODE(stored)[1:]  # without the byte that begins an array of one
        except Exception:  # noqa: BLE001 - the value codec has its try, and its error tells more
            return None
        if part and isinstance(self.kinds[position], Json):
            return Ext(_JSON_CODE, part)
        return msgspec.Raw(part) if part else None

    def _open(self, part: Ext) -> object:
        if part.code == _UNLOADED_CODE:
            return UNLOADED
        if part.code == _VALUE_CODE:
            return loads(bytes(part.data))
        if part.code == _JSON_CODE:
            return _DECODE_JSON(part.data)
        raise ValueError(f"unknown extension {part.code}")
