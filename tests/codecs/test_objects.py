from __future__ import annotations

import dataclasses
import enum
import gc
import socket
import subprocess
import sys
import threading
import typing
import weakref
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from functools import partial

import msgspec
import pytest
from hypothesis import given

from stockstore.codecs import Codec, MsgpackCodec
from stockstore.errors import CodecError
from tests.codecs import samples as s
from tests.codecs.same import same
from tests.codecs.test_values import anything

pytestmark = pytest.mark.sa_agnostic

CODEC = MsgpackCodec()
T = typing.TypeVar("T")


def back(obj: T) -> T:
    """The object as another reader gets it."""
    found = CODEC.decode(type(obj), CODEC.encode(obj))
    assert type(found) is type(obj)
    assert found is not obj
    return found


def state(obj: object) -> dict[str, object]:
    """All attributes of an object that are set, its own and those in slots."""
    slots = [name for cls in type(obj).__mro__ for name in vars(cls) if type(vars(cls)[name]).__name__ == "member_descriptor"]
    return {name: object.__getattribute__(obj, name) for name in slots if hasattr(obj, name)} | getattr(obj, "__dict__", {})


@pytest.mark.parametrize(
    "obj",
    [
        s.User(1, "n", s.Address("s", [1, (2, {3})]), datetime(2024, 1, 2, tzinfo=timezone.utc), ("a",), Decimal("1.50"), s.Color.GREEN),
        s.Frozen(1),
        s.Slotted(1, s.Slotted(2)),
        s.SlottedChild(1, 2),
        s.Derived(1),
        s.AttrsSlotted(1, "c"),
        s.AttrsFrozen("a"),
        s.AttrsDict(1, s.Address("x")),
        s.Struct(1, [s.Address("x")]),
        s.FrozenStruct(a=1),
        s.Model.model_validate({"a": 1, "at": s.Address("x"), "more": [1]}),
        s.FrozenModel(a={1, 2}),
        s.Pair(1, s.Address("x")),
        s.LabelledPair(1),
    ],
    ids=lambda obj: type(obj).__name__,
)
def test_objects_of_every_library_come_back_equal(obj: object) -> None:
    """Dataclasses, attrs, Structs, pydantic models and named tuples come back equal, and equal attribute by attribute."""
    found = back(obj)
    assert found == obj
    assert repr(found) == repr(obj)
    assert list(state(found)) == list(state(obj))


@given(anything)
def test_attributes_keep_their_exact_types(value: object) -> None:
    """An attribute holds any supported value exactly, whatever its class is made with."""
    assert same(back(s.Plain(value)).x, value)
    assert same(back(s.Address("s", [value])).lines, [value])
    assert same(back(s.Model.model_validate({"a": 1, "extra": [value]})).model_extra, {"extra": [value]})


def test_ordinary_objects_come_back_without_their_constructor() -> None:
    """Attributes of an unannotated class return in order, private ones included; ``__init__`` does not run."""
    obj = s.Plain((1, 2), more={1}, **{"no identifier": 1})
    made = s.Plain.made
    found = back(obj)
    assert same(vars(found), vars(obj))
    assert s.Plain.made == made


def test_slots_of_all_bases_come_back() -> None:
    """Slots across the classes, mangled ones too, return beside the dictionary; weak references are ignored."""
    obj = s.MixedSlots(1)
    keep = weakref.ref(obj)
    found = back(obj)
    assert (found.x, found.private, found.z) == (1, 2, "z")
    assert keep() is obj


@pytest.mark.parametrize("obj", [s.PlainSlots(1), s.Initial(1), s.MixedSlots(2), s.AttrsSlotted(1)], ids=lambda obj: type(obj).__name__)
def test_attributes_never_set_stay_unset(obj: object) -> None:
    """What was never set, or was deleted, is absent afterwards too."""
    first = next(iter(state(obj)))
    object.__delattr__(obj, first)
    found = back(obj)
    assert not hasattr(found, first)
    assert state(found) == state(obj)


def test_attributes_beyond_the_fields_come_back() -> None:
    """An attribute added to an object of a class with fields is kept."""
    obj = s.Base(1)
    obj.__dict__["added"] = (1,)
    assert vars(back(obj)) == {"a": 1, "added": (1,)}
    pair = s.LabelledPair(1)
    pair.__dict__["label"] = "l"
    assert vars(back(pair)) == {"label": "l"}


def test_guarded_classes_are_not_asked() -> None:
    """``__new__``, ``__setattr__`` and ``__getattr__`` of the class are not run."""
    obj = s.Guarded(proof=True)
    assert vars(back(obj)) == {}
    obj.__dict__["x"] = 1
    assert vars(back(obj)) == {"x": 1}


def test_computed_properties_are_left_out() -> None:
    """A cached property is computed again by the reader."""
    obj = s.Plain(1)
    assert obj.costly is obj.costly
    assert "costly" not in vars(back(obj))


def test_a_cached_hash_is_not_carried_over() -> None:
    """The hash that attrs keeps belongs to one process."""
    obj = s.AttrsFrozen("a")
    hash(obj)
    assert state(back(obj))["_attrs_cached_hash"] is None


def test_a_cached_hash_in_a_dictionary_is_not_carried_over() -> None:
    """The same holds for classes of attrs without slots."""
    obj = s.AttrsHashed("a")
    hash(obj)
    found = back(obj)
    assert vars(found)["_attrs_cached_hash"] is None
    assert hash(found) == hash(obj)


def test_attributes_in_another_order_come_back_in_that_order() -> None:
    """An object with as many attributes as fields, but others or in another order, is not mixed up."""
    obj = s.Derived(1)
    obj.__dict__.clear()
    obj.__dict__.update(b="later", a=2)
    assert list(vars(back(obj)).items()) == [("b", "later"), ("a", 2)]
    obj.__dict__["c"] = obj.__dict__.pop("a")
    assert vars(back(obj)) == {"b": "later", "c": 2}


def test_pydantic_state_comes_back() -> None:
    """Which fields were set, extra fields and private attributes return; validators do not run."""
    obj = s.Model.model_validate({"a": 1, "more": [1]})
    obj._secret = 5
    found = back(obj)
    assert found.model_fields_set == {"a", "more"}
    assert found.model_extra == {"more": [1]}
    assert found._secret == 5
    assert type(found.b) is Decimal


def test_a_struct_gets_its_state_not_what_its_constructor_adds() -> None:
    """``__post_init__`` of a Struct runs, and cannot change what was stored."""
    obj = s.CountingStruct(1)
    assert back(obj).note == obj.note == "!"


def test_a_struct_without_a_field_is_refused() -> None:
    """A Struct can only be made whole."""
    obj = s.Struct(1)
    del obj.a
    with pytest.raises(CodecError, match=r"samples.Struct: cannot encode an object whose field 'a' is not set; set it"):
        CODEC.encode(obj)


def test_subclasses_of_annotated_classes_may_be_held() -> None:
    """An attribute annotated with a base class holds its subclasses, and what their annotations lead to."""
    obj = s.Drawing({"a": [s.Circle(s.Point(1)), s.Shape()]}, frame=s.Point(2))
    found = back(obj)
    first, second = found.shapes["a"]
    assert type(first) is s.Circle
    assert first.centre == s.Point(1)
    assert type(second) is s.Shape
    assert found.frame == s.Point(2)


def test_a_payload_of_a_subclass_is_decoded_as_that_subclass() -> None:
    """Asked for a base class, the codec gives the object that was encoded; a base is no subclass."""
    assert CODEC.decode(s.Base, CODEC.encode(s.Derived(1, "x"))) == s.Derived(1, "x")
    with pytest.raises(CodecError, match=r"samples.Derived .* of another class, or of an older shape"):
        CODEC.decode(s.Derived, CODEC.encode(s.Base(1)))


def test_an_enum_of_the_annotations_needs_no_module() -> None:
    """A local enum class is found through the annotations of the class that holds it."""

    class Local(enum.Enum):
        ONE = 1

    holder = dataclasses.make_dataclass("holder", [("value", Local), ("more", typing.List[int])])  # noqa: UP006
    assert back(holder(Local.ONE, [1])) == holder(Local.ONE, [1])


Refused = typing.Annotated[object, "anything"]


@dataclass
class Holder:
    value: Refused


class Handle(socket.socket):
    pass


@dataclass
class SocketHolder:
    handle: socket.socket


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        (
            s.User(1, "n", s.Address("s", [1, 2, socket.socket])),
            r"samples.User.address.lines\[2\]: cannot encode a value of type builtins.type; leave it out, or annotate the attribute with its class",
        ),
        (
            Holder(s.Stranger()),
            r"Holder.value: cannot encode a value of type tests.codecs.samples.Stranger; leave it out, or annotate .* annotations of Holder do not lead there",
        ),
        (s.Plain(1, lock=threading.Lock()), r"samples.Plain.lock: cannot encode a value of type _thread.lock; "),
        (s.Pair(1, typing.cast("s.Address", {"k": object()})), r"samples.Pair.right\['k'\]: cannot encode a value of type builtins.object"),
        (
            s.Struct(1, [s.Address("s", [{1: partial(int)}])]),
            r"samples.Struct.items\[0\].lines\[0\]\[1\]: cannot encode a value of type functools.partial",
        ),
        (s.Model(a=1, at=s.Address("s", [object()])), r"samples.Model.at.lines\[0\]: "),
        (s.Plain(s.Stranger()), r"samples.Plain.x: .*Stranger"),
        (Holder(Holder), r"Holder.value: cannot encode a value of type builtins.type"),
        (
            ValueError("x"),
            r"builtins.ValueError: cannot encode its objects: a part of their state is kept outside slots and __dict__; keep plain",
        ),
        ({"a": 1}, r"builtins.dict: cannot encode its objects: "),
        (1, r"builtins.int: cannot encode its objects: "),
        (None, r"builtins.NoneType: cannot encode its objects: "),
        (s.Color.RED, r"samples.Color: cannot encode its objects: an enum member is a single value; use encode_value"),
    ],
    ids=str,
)
def test_what_cannot_be_encoded_is_named(obj: object, message: str) -> None:
    """The error names the class, the way to the value, the value's type and what to do."""
    with pytest.raises(CodecError, match=message):
        CODEC.encode(obj)


def test_state_outside_attributes_is_refused() -> None:
    """A class whose objects keep state in C is refused even where an annotation leads to it."""
    with (
        socket.socket() as handle,
        pytest.raises(CodecError, match=r"SocketHolder.handle: socket.socket: cannot encode its objects: a part of their state"),
    ):
        CODEC.encode(SocketHolder(handle))


def test_a_hidden_slot_is_refused() -> None:
    """A slot that another attribute hides would be lost."""

    class Hiding(s.PlainSlots):
        x = 5

    with pytest.raises(
        CodecError, match=r"Hiding: cannot encode its objects: the slot 'x' is hidden by another class attribute of that name; rename"
    ):
        CODEC.encode(object.__new__(Hiding))


def test_a_slot_declared_again_is_one() -> None:
    """A subclass that declares a slot of its base again has one attribute of that name."""

    class Again(s.PlainSlots):
        __slots__ = ("x",)

    found = back(Again(4))
    assert (found.x, found.private) == (4, 5)


def test_objects_that_hold_themselves_are_refused() -> None:
    """A cycle of objects is an error, not a RecursionError."""
    obj = s.Slotted(1)
    object.__setattr__(obj, "child", obj)
    with pytest.raises(CodecError, match=r"samples.Slotted(.child){10}\.\.\.: it is nested more than 100 levels deep, or contains itself"):
        CODEC.encode(obj)


def test_only_annotated_classes_are_built() -> None:
    """A payload cannot have an object built of a class that the annotations do not lead to."""
    inner = CODEC.fingerprint(s.Stranger) + msgspec.msgpack.encode({"slots": {}, "dict": {}})
    payload = b"\x01" + CODEC.fingerprint(Holder) + msgspec.msgpack.encode([msgspec.msgpack.Ext(6, inner)])
    with pytest.raises(CodecError, match="it holds an object of an unknown class, or of an older shape of one"):
        CODEC.decode(Holder, payload)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", r"it is of format b'', not b'\\x01'"),
        (b"\x02" + CODEC.encode(s.Base(1))[1:], r"it is of format b'\\x02', not"),
        (CODEC.encode(s.Frozen(1)), r"of another class, or of an older shape"),
        (CODEC.encode(s.Base(1)) + b"\x01", "trailing characters"),
        (b"\x01" + CODEC.fingerprint(s.Base) + b"\x92\x01\x02", r"has 2 attributes for tests.codecs.samples.Base, which has 1"),
        (
            b"\x01" + CODEC.fingerprint(s.Base) + b"\x82\xa5slots\x81\xa1a\x01\xa4dict\x80",
            r"has attributes that tests.codecs.samples.Base has not",
        ),
    ],
)
def test_payloads_that_do_not_fit_are_refused(payload: bytes, message: str) -> None:
    """A payload of another format, class, shape or size is an error that names the class."""
    with pytest.raises(CodecError, match=rf"a payload of tests.codecs.samples.Base cannot be decoded: .*({message}).*; treat it as absent"):
        CODEC.decode(s.Base, payload)


def test_a_changed_class_refuses_old_payloads() -> None:
    """Another name, field, annotation or nested field is another fingerprint, and its payloads are refused."""

    def version(name: str, nested: str, *fields: tuple[str, object]) -> type:
        inner = dataclasses.make_dataclass("Inner", [(nested, int)])
        return dataclasses.make_dataclass(name, [("inner", inner), *fields])

    first = version("Thing", "x", ("a", int))
    others = [
        version("Thong", "x", ("a", int)),
        version("Thing", "y", ("a", int)),
        version("Thing", "x", ("a", str)),
        version("Thing", "x", ("b", int)),
        version("Thing", "x", ("a", int), ("b", int)),
    ]
    prints = {CODEC.fingerprint(each) for each in (first, *others)}
    assert len(prints) == 6
    assert {len(each) for each in prints} == {8}
    assert CODEC.fingerprint(version("Thing", "x", ("a", int))) == CODEC.fingerprint(first)
    obj = typing.cast("typing.Any", first)(None, 1)
    with pytest.raises(CodecError, match="older shape"):
        CODEC.decode(others[2], CODEC.encode(obj))


def test_metadata_of_annotations_does_not_count() -> None:
    """What ``Annotated`` adds to a type says nothing about the stored shape."""
    first, second = (dataclasses.make_dataclass("Noted", [("a", typing.Annotated[int, note])]) for note in ("x", "y"))
    assert CODEC.fingerprint(first) == CODEC.fingerprint(second)


def test_fingerprints_are_the_same_in_every_process() -> None:
    """Neither the hash seed nor addresses in annotations change a fingerprint."""
    script = (
        "import typing; from dataclasses import make_dataclass; from tests.codecs import samples as s; from stockstore.codecs import MsgpackCodec;"
        "odd = make_dataclass('Odd', [('a', typing.Annotated[int, object()]), ('b', typing.Callable[[int], typing.Any]), ('c', typing.Literal['x', 1])]);"
        "classes = [odd, s.User, s.Model, s.FrozenModel, s.Struct, s.AttrsSlotted, s.Pair, s.MixedSlots, s.Drawing, s.Plain];"
        "print([MsgpackCodec().fingerprint(each).hex() for each in classes])"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "77")
    ]
    assert runs[0] == runs[1] == runs[2]
    assert CODEC.fingerprint(s.User).hex() in runs[0]


def test_classes_stay_collectable() -> None:
    """A class that was coded, and one that it held, can be collected."""

    def use() -> list[weakref.ref[type]]:
        inner = dataclasses.make_dataclass("Inner", [("x", int)], slots=True)
        outer = dataclasses.make_dataclass("Outer", [("inner", inner)])
        derived = dataclasses.make_dataclass("Derived", [("y", int)], bases=(inner,))
        back(outer(inner(1)))
        back(outer(derived(1, 2)))
        CODEC.decode(inner, CODEC.encode(derived(1, 2)))
        return [weakref.ref(outer), weakref.ref(inner), weakref.ref(derived)]

    refs = use()
    gc.collect()
    assert [ref() for ref in refs] == [None, None, None]


def test_two_classes_of_one_name_are_refused() -> None:
    """Where a name and its fields stand for two classes, an object of the one that would not be found is refused."""

    def local() -> type:
        @dataclass
        class Twin(s.Shape):
            x: int

        return Twin

    old, new = local(), local()
    assert type(back(s.Drawing({"a": [new(1)]})).shapes["a"][0]) is new
    with pytest.raises(
        CodecError, match=r"Drawing.shapes\['a'\]\[0\]: .*Twin, because another class has that name and those fields; rename one"
    ):
        CODEC.encode(s.Drawing({"a": [old(1)]}))


def test_the_codec_imports_neither_attrs_nor_pydantic() -> None:
    """The libraries are known by their marks, so importing the codecs does not import them."""
    script = "import sys, stockstore.codecs; print({'attr', 'attrs', 'pydantic', 'sqlalchemy'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_threads_share_a_codec() -> None:
    """Many threads compile and use the plan of one class at once."""
    cls = dataclasses.make_dataclass("Shared", [("x", int), ("at", s.Address)])
    barrier = threading.Barrier(8)
    wrong: list[object] = []

    def work(number: int) -> None:
        barrier.wait()
        for _ in range(200):
            obj = cls(number, s.Address("s", [number]))
            if back(obj) != obj:
                wrong.append(obj)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_single_values_have_their_own_methods() -> None:
    """The codec offers values alone, for columns."""
    codec: Codec = CODEC
    assert same(codec.decode_value(codec.encode_value((Decimal("1.0"), {1}))), (Decimal("1.0"), {1}))
    assert repr(codec) == "MsgpackCodec()"
