"""What is compiled once per class: its layout, its fingerprint and the classes that its objects may hold."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary, finalize, ref

from stockstore.codecs._describe import FINGERPRINT_BYTES, classes_below, fingerprint_of, name_of, subclasses_of
from stockstore.codecs._enums import enum_key
from stockstore.codecs._layouts import DICT, SLOTS, layout_of
from stockstore.codecs._lowering import NATIVE, Lower, Refusal, Scope, encode, refused
from stockstore.codecs._quick import packer, rebuilder, rebuilder_of_many
from stockstore.errors import CodecError

T = TypeVar("T")
FORMAT = b"\x01"
_NATIVE = (int, str, *(NATIVE - {int, str}))


class Plan:
    """How the objects of one class become a record and come back; holds no reference to the class."""

    def __init__(self, cls: type) -> None:
        self.name = name_of(cls)
        self.fingerprint = fingerprint_of_class(cls)
        self.head = FORMAT + self.fingerprint
        self.scope = ObjectScope(cls)
        self.decode = self.scope.decode
        self._layout = layout_of(cls)
        self.pack = packer(cls, self._layout, self.head, self.scope.fast)
        self.rebuild = rebuilder(cls, self._layout)
        self.rebuild_many = rebuilder_of_many(cls, self._layout)

    def pack_many(self, objects: Sequence[object]) -> list[bytes] | None:
        """What follows the head in the payloads of objects whose values are all native ones; None or any error where one is to be packed alone."""
        rows = self._layout.rows(objects, _NATIVE)
        return None if rows is None else list(map(encode, rows))

    def record(self, obj: object, lower: Lower, depth: int) -> bytes:
        """All attributes in order where the object has exactly the expected ones, else by name."""
        values = self._layout.take(obj)
        if values is not None:
            return encode(lower.items(values, depth, self._layout.names))
        slots, attributes = self._layout.take_apart(obj)
        return encode({SLOTS: lower.mapping(slots, depth, attributes=True), DICT: lower.mapping(attributes, depth, attributes=True)})


class ObjectScope(Scope):
    """Allows the objects of the classes that the annotations of one class lead to."""

    def __init__(self, cls: type) -> None:
        found = classes_below(cls)
        super().__init__({enum_key(each): each for each in found if issubclass(each, Enum)})
        self._root = ref(cls)
        self._by_class: WeakKeyDictionary[type, Plan] = WeakKeyDictionary()
        self._by_fingerprint: WeakValueDictionary[bytes, type] = WeakValueDictionary()

    def take(self, value: object, lower: Lower, depth: int) -> bytes:
        cls = type(value)
        plan = self._by_class.get(cls)
        if plan is None:
            plan = self._by_class[cls] = self._admit(cls)
        return plan.fingerprint + plan.record(value, lower, depth)

    def build(self, body: bytes) -> object:
        fingerprint = body[:FINGERPRINT_BYTES]
        cls = self._by_fingerprint.get(fingerprint)
        if cls is None:
            cls = self._by_fingerprint[fingerprint] = self._find(fingerprint)
        return plan_of(cls).rebuild(cls, self.decode(body[FINGERPRINT_BYTES:]))

    def _admit(self, cls: type) -> Plan:
        if cls not in self._classes():
            root = self._root()
            holder = f"of {root.__qualname__}" if root else "above it"
            raise Refusal(
                refused(cls, f"leave it out, or annotate the attribute with its class (the annotations {holder} do not lead there)")
            )
        if self._find(fingerprint_of_class(cls)) is not cls:
            raise Refusal(f"cannot encode an object of {name_of(cls)}, because another class has that name and those fields; rename one")
        try:
            return plan_of(cls)
        except CodecError as error:
            raise Refusal(str(error)) from None

    def _find(self, fingerprint: bytes) -> type:
        for cls in self._classes():
            if fingerprint_of_class(cls) == fingerprint:
                return cls
        raise CodecError("it holds an object of an unknown class, or of an older shape of one")

    def _classes(self) -> dict[type, None]:
        root = self._root()
        return {} if root is None else classes_below(root, subclasses=True)


# by the address of the class, which is found several times faster than a weak reference to it
_plans: dict[int, Plan] = {}
_fingerprints: dict[int, bytes] = {}
known_plan = _plans.get
known_fingerprint = _fingerprints.get


def plan_of(cls: type) -> Plan:
    """The plan of a class; `CodecError` for a class whose objects have no visible state."""
    return known_plan(id(cls)) or _kept(_plans, cls, Plan(cls))


def fingerprint_of_class(cls: type) -> bytes:
    """The fingerprint, computed once."""
    return known_fingerprint(id(cls)) or _kept(_fingerprints, cls, fingerprint_of(cls))


def _kept(table: dict[int, T], cls: type, value: T) -> T:
    """Keep a value until the class is gone: an address stands for another class only after that."""
    table[id(cls)] = value
    finalize(cls, table.pop, id(cls), None).atexit = False
    return value


def class_of(cls: type, fingerprint: bytes) -> type:
    """``cls`` or the imported subclass with that fingerprint."""
    if fingerprint_of_class(cls) == fingerprint:
        return cls
    for each in subclasses_of(cls):
        if fingerprint_of_class(each) == fingerprint:
            return each
    raise CodecError(f"a payload of {name_of(cls)} is of another class, or of an older shape of this one; treat it as absent")
