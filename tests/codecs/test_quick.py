"""What generated code packs and rebuilds is what the general way gives."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import gc
import sys
import typing
from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from stockstore.codecs import MsgpackCodec
from stockstore.codecs._describe import slots_of
from stockstore.codecs._plans import plan_of
from tests.codecs import samples as s
from tests.codecs.same import same
from tests.codecs.test_values import anything

pytestmark = pytest.mark.sa_agnostic

CODEC = MsgpackCodec()


class Text(str, enum.Enum):
    """A text that is no plain text."""

    NAME = "name"


@dataclass
class Hooked:
    """Every hook of attribute access is one of its own."""

    x: object

    def __getattribute__(self, name: str) -> object:
        raise RuntimeError(f"not asked for {name}")

    def __setattr__(self, name: str, value: object) -> None:
        self_dict: dict[str, object] = object.__getattribute__(self, "__dict__")
        self_dict[name] = value


class Shadowed:
    """A property of the name under which the value is kept."""

    x: object
    y: object

    def __init__(self, x: object, y: object) -> None:
        self.__dict__.update(x=x, y=y)


def _shown(_self: object) -> object:
    raise RuntimeError("not asked for")


setattr(Shadowed, "x", property(_shown))  # noqa: B010 - beside an annotation of that name


class Asking:
    """Answers for slots that are not set."""

    __slots__ = ("x", "y")
    x: object
    y: object

    def __getattr__(self, name: str) -> object:
        return "made up"


class DictStruct(msgspec.Struct, dict=True):
    """A Struct with further attributes."""

    x: object


class Ligature:
    """An attribute that the compiler would give another name."""

    def __init__(self, x: object) -> None:
        self.__dict__["\ufb01"] = x


Ligature.__annotations__ = {"\ufb01": object, "class": object, "a b": object}
Keyword: typing.Any = msgspec.defstruct("Keyword", [("class", typing.Any), ("\ufb01", typing.Any), ("x", typing.Any)])


def generally(obj: object) -> bytes:
    """The payload that the general way gives."""
    plan = plan_of(type(obj))
    return plan.head + plan.scope.run(lambda lower: plan.record(obj, lower, 0))


def state(obj: object) -> dict[str, object]:
    """All that is set, in slots and in the dictionary."""
    slots: dict[str, object] = {}
    for name in slots_of(type(obj)):
        with contextlib.suppress(AttributeError):
            slots[name] = object.__getattribute__(obj, name)
    return slots | (object.__getattribute__(obj, "__dict__") if type(obj).__dictoffset__ else {})


def ligature(x: object) -> Ligature:
    """With all attributes of its annotations, in order."""
    obj = Ligature(x)
    vars(obj).update({"class": 1, "a b": x})
    return obj


MAKERS: list[typing.Callable[[typing.Any], object]] = [
    lambda x: s.Address("s", [x]),
    lambda x: s.Address(x, []),
    s.Frozen,
    s.Slotted,
    lambda x: s.SlottedChild(x, x),
    lambda x: s.AttrsSlotted(1, x),
    s.AttrsFrozen,
    s.AttrsHashed,
    s.Struct,
    lambda x: s.FrozenStruct(a=1, b=x),
    s.Pair,
    s.LabelledPair,
    lambda x: s.Plain(x, **{"a b": x}),
    s.MixedSlots,
    lambda x: s.Model.model_validate({"a": 1, "extra": x}),
    Hooked,
    lambda x: Shadowed(x, 1),
    DictStruct,
    ligature,
    lambda x: Keyword(x, 1, x),
]


@pytest.mark.parametrize("make", MAKERS)
@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])  # so many values take long on a busy machine
@given(value=anything)
def test_both_ways_give_the_same_bytes_and_objects(make: typing.Callable[[object], object], value: object) -> None:
    """Whatever the class and the value, the payload is that of the general way, and the object has the same state."""
    try:
        obj = make(value)
    except TypeError:  # attrs hashes
        return
    payload = CODEC.encode(obj)
    assert payload == generally(obj)
    found = CODEC.decode(type(obj), payload)
    assert type(found) is type(obj)
    assert same(state(found), state(obj))


def test_an_unset_slot_is_not_made_up() -> None:
    """A class that answers for missing attributes is not asked: what was not set stays unset."""
    obj = Asking()
    obj.y = 1
    found = CODEC.decode(Asking, CODEC.encode(obj))
    assert found.x == "made up"
    with pytest.raises(AttributeError):
        object.__getattribute__(found, "x")


def test_a_name_that_is_no_plain_text_keeps_its_type() -> None:
    """An attribute may be named by an enum member that is a text, too."""
    obj = s.Plain(1)
    obj.__dict__[Text.NAME] = 1
    assert [type(name) for name in vars(CODEC.decode(s.Plain, CODEC.encode(obj)))] == [str, str, Text]


def test_an_address_is_not_mistaken_for_a_former_class() -> None:
    """Classes made and dropped one after the other, often at the same address, keep apart."""
    for number in range(200):
        name = f"field{number}"
        cls = dataclasses.make_dataclass(f"Passing{number}", [(name, int)])
        obj = cls(number)
        assert CODEC.decode(cls, CODEC.encode(obj)) == obj
        assert CODEC.encode(obj)[1:9] == CODEC.fingerprint(cls)
        del cls, obj
        if number % 20 == 0:
            gc.collect()


@dataclass
class Pair:
    """Has two attributes."""

    one: int
    two: int


@dataclass
class Holder:
    """Has an object."""

    pair: Pair


@pytest.mark.parametrize("make", [lambda pair: pair, Holder], ids=["alone", "held"])
def test_an_object_that_another_thread_changes(make: typing.Callable[[Pair], object]) -> None:
    """No value is stored as another attribute's where some are deleted and set after the names were looked at, and before the values."""
    changed = Pair(1, 2)

    def change(_frame: object, _event: str, called: typing.Any) -> None:
        if getattr(called, "__name__", None) == "values" and "one" in called.__self__:
            del changed.__dict__["one"]
            changed.__dict__["three"] = 3
            sys.setprofile(None)

    expected, obj = CODEC.encode(make(Pair(1, 2))), make(changed)
    sys.setprofile(change)
    try:
        found = CODEC.encode(obj)
    finally:
        sys.setprofile(None)
    assert found == expected
    assert vars(changed) == {"two": 2, "three": 3}
