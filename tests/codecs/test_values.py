from __future__ import annotations

import collections
import datetime as dt
import enum
import ipaddress
import socket
import sys
import types
import uuid
import zoneinfo
from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import msgpack

from stockstore.codecs.values import dumps, loads
from stockstore.errors import CodecError
from tests.codecs.same import same
from tests.codecs.samples import Color, Level, Mode, Outer, Pair, Right, Unit

pytestmark = pytest.mark.sa_agnostic

ZONES = ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5"]
offsets = st.timedeltas(min_value=dt.timedelta(hours=-23, minutes=-59), max_value=dt.timedelta(hours=23, minutes=59))
zones = st.one_of(
    st.none(),
    st.just(dt.timezone.utc),
    st.builds(dt.timezone, offsets),
    st.builds(dt.timezone, offsets, st.text()),
    st.sampled_from(ZONES).map(zoneinfo.ZoneInfo),
)
folds = st.integers(0, 1)
datetimes = st.builds(lambda value, zone, fold: value.replace(tzinfo=zone, fold=fold), st.datetimes(), zones, folds)
times = st.builds(lambda value, zone, fold: value.replace(tzinfo=zone, fold=fold), st.times(), zones, folds)
text = st.text(st.characters())
small = st.integers(-(10**30), 10**30)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=2**62, max_value=2**65),
    st.integers(min_value=-(2**65), max_value=-(2**62)),
    st.floats(),
    st.complex_numbers(),
    text,
    st.text(st.characters(categories=["Cs"])),
    st.binary(),
    st.decimals(),
    st.fractions(),
    st.uuids(),
    st.dates(),
    times,
    datetimes,
    st.timedeltas(),
    st.ip_addresses(),
    st.ip_addresses().map(ipaddress.ip_interface),
    st.ip_addresses().map(ipaddress.ip_network),
    st.builds(range, small, small, small.filter(bool)),
    st.sampled_from([*Color, *Level, *Unit, *Right, Outer.Inner.ONE, Right(0), Right.READ | Right.RUN, Mode.A | Mode.B, Mode(12)]),
)
hashable = st.recursive(
    scalars.filter(lambda value: not (isinstance(value, Decimal) and value.is_snan())),
    lambda inner: st.one_of(st.lists(inner).map(tuple), st.frozensets(inner)),
    max_leaves=4,
)
anything = st.recursive(
    scalars | st.binary().map(bytearray),
    lambda inner: st.one_of(
        st.lists(inner), st.lists(inner).map(tuple), st.sets(hashable), st.dictionaries(text, inner), st.dictionaries(hashable, inner)
    ),
    max_leaves=12,
)


@given(anything)
def test_every_value_comes_back_as_it_was(value: object) -> None:
    """Any nest of supported values returns with exact types, order, signs of zero, exponents, time zones and folds."""
    assert same(loads(dumps(value)), value)


@pytest.mark.parametrize(
    "value",
    [
        -0.0,
        float("nan"),
        float("-inf"),
        complex(-0.0, float("inf")),
        2**64,
        -(2**63) - 1,
        10**5000,
        "\ud800",
        "\ud800\udc00",
        ["\udfff", {"\ud800": 2**70}],
        b"",
        bytearray(b"\x00"),
        Decimal("1.50"),
        Decimal("-0E+5"),
        Decimal("sNaN12"),
        Decimal("-Infinity"),
        Decimal(10**60 + 1),
        Decimal("1E-999999"),
        uuid.UUID(int=2**128 - 1),
        dt.datetime(2024, 10, 27, 2, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"), fold=1),
        dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(seconds=-1, microseconds=1), "a|b")),
        dt.time(23, 59, 59, 999999, tzinfo=dt.timezone.utc, fold=1),
        dt.timedelta(days=-999999999),
        Fraction(-1, 10**40),
        ipaddress.IPv6Address("fe80::1%eth0"),
        ipaddress.IPv4Interface("10.1.2.3/8"),
        range(5, -5, -2),
        {1: "one", (1, 2): {"deep": {3}}, None: 0, b"k": 1},
        {"b": 1, "a": 2},
        set(),
        frozenset({(1, frozenset({2}))}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_edges_of_types_come_back_as_they_were(value: object) -> None:
    """The edges that formats commonly lose are kept."""
    assert same(loads(dumps(value)), value)


@pytest.mark.parametrize(
    "member", [Color.GREEN, Color.VERMILION, Level.HIGH, Unit.METRE, Outer.Inner.ONE, Right.READ | Right.WRITE, Right(0), Mode(64)]
)
def test_enum_members_come_back_as_themselves(member: enum.Enum) -> None:
    """A member is the very member again, a number or text enum included; a combination of flags too."""
    found = loads(dumps(member))
    assert found == member
    assert type(found) is type(member)
    assert found is member or isinstance(member, enum.Flag)


def test_the_utc_constant_stays_itself() -> None:
    """``timezone.utc`` and ``ZoneInfo("UTC")`` are told apart."""
    now = dt.datetime(2024, 5, 6, tzinfo=dt.timezone.utc)
    stamp = loads(dumps(now))
    assert isinstance(stamp, dt.datetime)
    assert stamp.tzinfo is dt.timezone.utc
    stamp = loads(dumps(now.replace(tzinfo=zoneinfo.ZoneInfo("UTC"))))
    assert isinstance(stamp, dt.datetime)
    assert stamp.tzinfo is zoneinfo.ZoneInfo("UTC")


def test_decimal_context_does_not_round() -> None:
    """A narrow decimal context changes nothing."""
    value = Decimal("1.23456789012345678901234567890123")
    with localcontext() as context:
        context.prec = 3
        assert same(loads(dumps(value)), value)


class Text(str):
    __slots__ = ()


class Zone(dt.tzinfo):
    utcoffset = tzname = dst = lambda self, when: None


class LocalZone(zoneinfo.ZoneInfo):
    pass


class Moment(dt.datetime):
    pass


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (Text("x"), r"value: .*Text without losing that type; make it a plain str$"),
        (collections.OrderedDict(a=1), r"value: .*collections.OrderedDict without losing that type; make it a plain dict$"),
        (collections.defaultdict(int), r"value: .*collections.defaultdict without losing"),
        (collections.Counter("ab"), r"value: .*Counter without losing"),
        (Moment(2024, 1, 1), r"value: .*Moment without losing that type; make it a plain datetime$"),
        (Pair(1), r"value: .*samples.Pair without losing that type; make it a plain tuple$"),
        ([{"a": (1, Text("x"))}], r"value\[0\]\['a'\]\[1\]: .*Text"),
        (
            {(1, 2): object()},
            r"value\[a key of type tuple\]: cannot encode a value of type builtins.object; turn it into plain values first$",
        ),
        ({1 << 20_000: object()}, r"value\[a key of type int\]: "),
        ({"s" * 200: object()}, r"value\['sss.*\.\.\..*sss'\]: "),
        ({1: {"a", 2, frozenset({Text("q")})}}, r"value\[1\]\[\d\]\[0\]: .*Text"),
        (socket.socket, r"value: cannot encode a value of type builtins.type"),
        (memoryview(b"x"), r"value: cannot encode a value of type builtins.memoryview"),
        (dt.datetime(2024, 1, 1, tzinfo=Zone()), r"value: cannot encode a time zone of type .*Zone; use datetime.timezone, or zoneinfo"),
        (dt.time(1, tzinfo=LocalZone("UTC")), r"value: cannot encode a time zone of type .*LocalZone"),
    ],
)
def test_a_value_that_would_lose_its_type_is_refused(value: object, named: str) -> None:
    """What cannot come back exactly is an error that names the way to it, its type and what to do."""
    with pytest.raises(CodecError, match=named):
        dumps(value)


def test_an_enum_that_cannot_be_found_again_is_refused() -> None:
    """A local enum class is refused, unless it is given as known at both ends."""

    class Local(enum.Enum):
        ONE = 1

    with pytest.raises(
        CodecError, match=r"value\[0\]: cannot encode a member of .*Local, which is not found again .* top level of a module"
    ):
        dumps([Local.ONE])
    data = dumps([Local.ONE], enums=[Local])
    assert loads(data, enums=[Local]) == [Local.ONE]
    with pytest.raises(CodecError, match="not imported here"):
        loads(data)


def test_an_enum_hidden_by_another_of_its_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class is taken only where its own name leads to itself."""
    member = Color.RED
    monkeypatch.setattr("tests.codecs.samples.Color", enum.Enum("Color", {"RED": "other"}, module="tests.codecs.samples"))
    with pytest.raises(CodecError, match="not found again by that name"):
        dumps(member)


def test_a_removed_member_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A member that the class no longer has makes the payload undecodable."""
    data = dumps(Color.GREEN)
    monkeypatch.setattr("tests.codecs.samples.Color", enum.Enum("Color", {"RED": "r"}, module="tests.codecs.samples"))
    with pytest.raises(CodecError, match="GREEN"):
        loads(data)


class Trap(type):
    def __getattribute__(cls, name: str) -> object:
        pytest.fail(f"asked a class for {name}")


class Disguised:
    __class__ = property(lambda self: pytest.fail("asked an object for its class"))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("trap", "Thing"),
        ("trap", "Disguised"),
        ("trap", "Trapped"),
        ("trap", "Trapped.Inner"),
        ("antigravity", "x"),
        ("no module", "x"),
        ("os", "system"),
    ],
)
def test_looking_for_an_enum_runs_no_code(monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> None:
    """Neither a module's ``__getattr__`` nor an import, a property or a metaclass is run by a name in a payload."""
    trap = types.ModuleType("trap")
    trap.__dict__["__getattr__"] = lambda name: pytest.fail(f"asked the module for {name}")
    trap.__dict__.update(Disguised=Disguised(), Trapped=Trap("Trapped", (), {}))
    monkeypatch.setitem(sys.modules, "trap", trap)
    with pytest.raises(CodecError, match="names an enum class that is not imported here"):
        loads(msgpack.encode(msgpack.Ext(5, msgpack.encode([module, name, "RED"]))))
    assert "antigravity" not in sys.modules


def test_a_class_that_overrides_how_members_are_missed_is_not_asked() -> None:
    """``_missing_`` of an enum is not run for a member or combination that does not exist."""

    class Asking(enum.Flag):
        ONE = 1

        @classmethod
        def _missing_(cls, value: object) -> object:
            pytest.fail(f"asked for {value}")

    for label in ("TWO", 64, None, 1.0):
        body = msgpack.encode(msgpack.Ext(5, msgpack.encode([Asking.__module__, Asking.__qualname__, label])))
        with pytest.raises(CodecError):
            loads(body, enums=[Asking])


def test_nesting_is_bounded() -> None:
    """Values nested too deep, or holding themselves, are refused without a RecursionError."""
    loop: list[object] = []
    loop.append(loop)
    knot: dict[str, object] = {}
    knot["a"] = (knot,)
    deep: object = ()
    for _ in range(5000):
        deep = (deep,)
    for value in (loop, knot, deep):
        with pytest.raises(
            CodecError, match=r"^value(\[.*\]){10}\.\.\.: it is nested more than 100 levels deep, or contains itself; store a flatter"
        ):
            dumps(value)


def test_a_hundred_levels_are_allowed() -> None:
    """The bound is far beyond what documents have, and holds for every container alike."""
    value: object = 1
    for level in range(100):
        value = [value] if level % 2 else (value,)
    assert same(loads(dumps(value)), value)


def test_little_stack_left_is_a_codec_error() -> None:
    """A caller that has nearly used up the stack gets a CodecError."""

    def sink(levels: int) -> str:
        if levels:
            return sink(levels - 1)
        try:
            dumps([[[[[[[[[[[[1]]]]]]]]]]]])
        except CodecError:
            return "refused"
        return "encoded"

    def outcome(levels: int) -> str:
        try:
            return sink(levels)
        except RecursionError:
            return "no stack for the test itself"

    assert {outcome(levels) for levels in range(sys.getrecursionlimit())} == {"encoded", "refused", "no stack for the test itself"}
