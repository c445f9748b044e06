"""Cells of one class to snapshots, or to what is the matter with them."""

from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import TypeAlias

from stockstore.cells import NO_GENERATION, unpack_value
from stockstore.codecs import Codec
from stockstore.errors import CodecError
from stockstore.keys import KeyPlan, keys_of
from stockstore.lifetimes import remaining
from stockstore.stores.cache import subclasses_of
from stockstore.stores.snapshots import ObjectSnapshot, RowSnapshot, Snapshot

FINGERPRINT_SIZE = 8


class Unusable(Enum):
    """Why a value is a miss."""

    EXPIRED = "expired"
    OUTDATED = "generation"
    """Of another generation: a writer too wide for keys has been there."""
    OTHER_SHAPE = "shape"
    """Of another release of the application, which may still run."""
    OTHER_CLASS = "class"
    """Sound, but not of the class asked for."""
    DAMAGED = "damaged"


Generations: TypeAlias = Mapping[KeyPlan, bytes | None]
_Read: TypeAlias = Callable[[bytes, float | None], Snapshot | Unusable]


class CellReader:
    """Reads cells of one class.

    Args:
        cls: The class asked for.
        codec: How plain objects became bytes.
        polymorphic: Whether plain objects are found by their bases.
        generations: The tokens of the hierarchies that rows may belong to, ``None`` where one is absent or marked; or
            ``None`` where there are no generations.
        report: Called with what is damaged.
    """

    def __init__(
        self, cls: type, codec: Codec, *, polymorphic: bool, generations: Generations | None, report: Callable[[CodecError], None]
    ) -> None:
        """Look up what is the same for all cells."""
        self._cls = cls
        self._codec = codec
        self._polymorphic = polymorphic
        self._generations = generations if keys_of(cls).mapped else None
        self._valid = {NO_GENERATION} if self._generations is None else set(self._generations.values())
        self._report = report
        self._read = self._row_reader() if keys_of(cls).mapped else self._object_reader()

    def read(self, cell: bytes) -> Snapshot | Unusable:
        """Give the object in a cell, or why there is none that can be used."""
        try:
            payload, expires, generation = unpack_value(cell)
            lifetime = remaining(expires)
            if lifetime is not None and lifetime <= 0:
                return Unusable.EXPIRED
            if generation not in self._valid:
                return Unusable.OUTDATED
            found = self._read(payload, lifetime)
        except CodecError as error:
            self._report(error)
            return Unusable.DAMAGED
        return found if isinstance(found, Unusable) or self._is_of(found, generation) else Unusable.OUTDATED

    def _is_of(self, snapshot: Snapshot, generation: bytes) -> bool:
        return self._generations is None or self._generations.get(keys_of(snapshot.cls).identity) == generation

    def _row_reader(self) -> _Read:
        from stockstore.mapped import OtherShapeError, plan_of

        cls, unpack = self._cls, plan_of(self._cls).unpack

        def read(payload: bytes, lifetime: float | None) -> Snapshot | Unusable:
            try:
                plan, state = unpack(payload)
            except OtherShapeError:
                return Unusable.OTHER_SHAPE
            return RowSnapshot(plan, state, lifetime) if issubclass(plan.cls, cls) else Unusable.OTHER_CLASS

        return read

    def _object_reader(self) -> _Read:
        cls, mine, decode = self._cls, self._codec.fingerprint(self._cls), self._codec.decode

        def read(payload: bytes, lifetime: float | None) -> Snapshot | Unusable:
            kind = cls if payload.startswith(mine) else self._subclass(payload[:FINGERPRINT_SIZE])
            return Unusable.OTHER_SHAPE if kind is None else ObjectSnapshot(decode(kind, payload[FINGERPRINT_SIZE:]), lifetime)

        return read

    def _subclass(self, fingerprint: bytes) -> type | None:
        """Give the subclass of this fingerprint; another shape is a miss."""
        kinds: Iterator[type] = subclasses_of(self._cls) if self._polymorphic else iter(())
        return next((kind for kind in kinds if self._codec.fingerprint(kind) == fingerprint), None)
