"""Payloads give column values back with their exact types, and refuse everything else."""

import datetime as dt
import decimal
import math
import random
import uuid
import zoneinfo
from collections import OrderedDict
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from asyncpg.pgproto import pgproto  # type: ignore[import-untyped]
from sqlalchemy import Column, Engine, types
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session, column_property

from stockstore.errors import CodecError
from stockstore.mapped import UNLOADED, plan_of
from stockstore.mapped.columns import Anything, Json, Kind, Members, Moments, Native, kind_of
from stockstore.mapped.rows import HEADER, PATCHED, PLAIN, Rows
from tests.mapped.models import NOON, Colour, Everything, Money, Rights, Shade

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
FINGERPRINT = b"\x00" * 8


class Name(str):
    __slots__ = ()


def rows(*kinds: Kind) -> Rows:
    """The packer of a class with columns of these kinds."""
    return Rows("app.User", [f"c{i}" for i in range(len(kinds))], kinds, FINGERPRINT)


def same(left: object, right: object) -> bool:  # noqa: PLR0911
    """Equal, of one type, down to the values inside; NaN equals NaN."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict) and isinstance(right, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float) and math.isnan(left):
        return isinstance(right, float) and math.isnan(right)
    if isinstance(left, decimal.Decimal | float):
        return repr(left) == repr(right)
    if isinstance(left, dt.datetime | dt.time) and isinstance(right, dt.datetime | dt.time):
        return (left.replace(tzinfo=None), left.fold, repr(left.tzinfo)) == (right.replace(tzinfo=None), right.fold, repr(right.tzinfo))
    return left == right


PLAIN_VALUES: list[tuple[Kind, list[object]]] = [
    (Native(int), [0, -1, 2**63, 2**64 - 1, -(2**63)]),
    (Native(float), [1.5, 5.0, -0.0, 1e300, math.inf, math.nan]),
    (Native(str), ["", "a\x00b", "é", "a" * 70_000]),
    (Native(bool), [True, False]),
    (Native(bytes), [b"", b"\xff\x00"]),
    (Native(decimal.Decimal), [decimal.Decimal(text) for text in ("1.10", "-0", "1E+5", "NaN", "sNaN12", "Infinity", "0." + "1" * 60)]),
    (Native(uuid.UUID), [uuid.UUID(int=5)]),
    (Native(dt.date), [dt.date.min, dt.date.max]),
    (Native(dt.time), [dt.time(1), dt.time.max]),
    (Native(dt.datetime), [NOON, dt.datetime.min, dt.datetime.max]),
    (Native(dt.timedelta), [dt.timedelta(0), dt.timedelta(microseconds=-1), dt.timedelta.min, dt.timedelta.max]),
    (Members(Colour), [Colour.RED, Colour.CRIMSON, Colour.BLUE]),
    (Json(), [{"a": [1, 1.0, True, None, "x", {"b": []}]}, [], "x", 1, 1.5, False, math.inf]),
    (
        Moments(),
        [
            NOON,
            NOON.replace(fold=1),
            NOON.replace(tzinfo=dt.timezone.utc),
            NOON.replace(tzinfo=zoneinfo.ZoneInfo("Etc/UTC")),
            NOON.replace(tzinfo=BERLIN),
            dt.datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1),
            NOON.replace(tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=30))),
            NOON.replace(tzinfo=dt.timezone(-dt.timedelta(hours=23, minutes=59))),
            dt.datetime.max.replace(tzinfo=dt.timezone.utc),
        ],
    ),
    (Anything(), [1, "x", (1, [2]), 2**70, NOON.replace(tzinfo=BERLIN), Rights.READ | Rights.WRITE, {1: "a"}, {1, 2}]),
]


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, values in PLAIN_VALUES for value in values])
def test_plain_value(kind: Kind, value: object) -> None:
    """A value of its column's kind comes back exactly, from a plain row."""
    payload = rows(kind).pack((value,))
    assert payload[8:HEADER] == PLAIN
    assert same(rows(kind).unpack(payload), (value,))


def test_the_uuid_of_a_driver() -> None:
    """Asyncpg gives UUIDs of a class of its own, which equal the plain ones that come back."""
    given = pgproto.UUID(uuid.UUID(int=5).hex)
    for kind, value in ((Native(uuid.UUID), given), (Anything(), [given])):
        payload = rows(kind).pack((value,))
        assert payload[8:HEADER] == PLAIN
        assert same(rows(kind).unpack(payload), (uuid.UUID(int=5),) if value is given else ([uuid.UUID(int=5)],))


ODD_VALUES: list[tuple[Kind, list[object]]] = [
    (Native(int), [2**64, -(2**63) - 1, True, 1.0, "1", Shade.DARK]),
    (Native(float), [1, True, decimal.Decimal(1)]),
    (Native(str), ["\ud800", b"x", 5, Colour.RED]),
    (Native(bool), [1, 0, "t"]),
    (Native(decimal.Decimal), [1, 1.5, "1"]),
    (Native(uuid.UUID), [str(uuid.UUID(int=5)), 5]),
    (Native(dt.date), [NOON, "2024-01-01"]),
    (Native(dt.time), [dt.time(1, tzinfo=dt.timezone.utc), dt.time(1, fold=1)]),
    (
        Native(dt.datetime),
        [
            NOON.replace(tzinfo=dt.timezone.utc),
            NOON.replace(tzinfo=BERLIN),
            NOON.replace(tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=30))),
            NOON.replace(fold=1),
            NOON.date(),
        ],
    ),
    (
        Moments(),
        [
            NOON.date(),
            NOON.replace(tzinfo=dt.timezone(dt.timedelta(hours=1), "here")),
            NOON.replace(tzinfo=dt.timezone(dt.timedelta(seconds=1))),
            NOON.replace(tzinfo=dt.timezone(dt.timedelta(0), "Z")),
        ],
    ),
    (Native(dt.timedelta), [5, "P1D"]),
    (Members(Colour), ["RED", Rights.READ, 1]),
    (Json(), [{"a": (1, 2)}, {1: "a"}, {"a": {1, 2}}, {"a": 2**70}, {"a": NOON}, {"a": decimal.Decimal("1.10")}, ["\ud800"], b"x"]),
]


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, values in ODD_VALUES for value in values])
def test_odd_value(kind: Kind, value: object) -> None:
    """A value that is not exactly of its column's kind comes back exactly too, from a patched row."""
    payload = rows(kind).pack((value,))
    assert payload[8:HEADER] == PATCHED
    assert same(rows(kind).unpack(payload), (value,))


def test_each_kind_beside_an_odd_value() -> None:
    """One odd value changes nothing for the columns beside it."""
    kinds = [kind for kind, _ in PLAIN_VALUES]
    state = (UNLOADED, *(values[0] for _, values in PLAIN_VALUES))
    packer = rows(Native(int), *kinds)
    payload = packer.pack(state)
    assert payload[8:HEADER] == PATCHED
    assert same(packer.unpack(payload), state)


@pytest.mark.parametrize("patched", [False, True])
def test_none(patched: bool) -> None:
    """None stays None in every kind of column."""
    kinds = [kind for kind, _ in PLAIN_VALUES]
    state = (None,) * len(kinds) + ((UNLOADED,) if patched else (None,))
    packer = rows(*kinds, Native(int))
    assert packer.unpack(packer.pack(state)) == state


@pytest.mark.parametrize("kind", [kind for kind, _ in PLAIN_VALUES])
def test_unloaded(kind: Kind) -> None:
    """UNLOADED stays UNLOADED in every kind of column, by an extension without data."""
    payload = rows(kind).pack((UNLOADED,))
    assert payload[8:] == PATCHED + b"\x91\xc7\x00\x00"
    assert rows(kind).unpack(payload) == (UNLOADED,)


TYPES: list[tuple[Any, Kind]] = [
    (types.Integer(), Native(int)),
    (types.BigInteger(), Native(int)),
    (types.Boolean(), Native(bool)),
    (types.Text(), Native(str)),
    (types.LargeBinary(), Native(bytes)),
    (types.Numeric(), Native(decimal.Decimal)),
    (types.Numeric(asdecimal=False), Native(float)),
    (types.Float(), Native(float)),
    (types.Float(asdecimal=True), Native(decimal.Decimal)),
    (types.Uuid(), Native(uuid.UUID)),
    (types.Uuid(as_uuid=False), Native(str)),
    (types.DateTime(), Native(dt.datetime)),
    (types.DateTime(timezone=True), Moments()),
    (postgresql.TIMESTAMP(timezone=True), Moments()),
    (types.Interval(), Native(dt.timedelta)),
    (types.Enum("a", "b"), Native(str)),
    (types.Enum(Colour), Members(Colour)),
    (types.Enum(Rights), Anything()),
    (types.JSON(), Json()),
    (postgresql.JSONB(), Json()),
    (postgresql.UUID(), Native(uuid.UUID)),
    (postgresql.ARRAY(types.Integer), Anything()),
    (postgresql.INET(), Anything()),
    (types.PickleType(), Anything()),
    (Money(), Anything()),
]


@pytest.mark.parametrize(("type_", "kind"), TYPES, ids=repr)
def test_kind_of_a_column(type_: Any, kind: Kind) -> None:
    """A column's type tells its values only where SQLAlchemy itself makes them."""
    assert kind_of(column_property(Column("c", type_))) == kind


class Opaque:
    pass


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Native(str), Name("x")),
        (Json(), {"a": Name("x")}),
        (Json(), OrderedDict(a=1)),
        (Anything(), Opaque()),
        (Json(), MappingProxyType({})),
    ],
)
def test_value_without_an_encoding(kind: Kind, value: object) -> None:
    """A value that could not come back as it is raises a CodecError with class, attribute and type."""
    with pytest.raises(CodecError, match=rf"^app\.User\.c1: cannot encode a value of type {type(value).__qualname__}; give the column "):
        rows(Native(int), kind).pack((1, value))


def test_cycle() -> None:
    """A JSON value that contains itself is a CodecError."""
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(CodecError, match=r"app\.User\.c0"):
        rows(Json()).pack((loop,))


def test_wrong_length() -> None:
    """A state with too few values raises a CodecError that says how many there are."""
    with pytest.raises(CodecError, match=r"app\.User: a state has 2 values \(c0, c1\), this one has 1"):
        rows(Native(int), Native(int)).pack((1,))


def test_golden_bytes() -> None:
    """The stored bytes of both formats stay what they are."""
    kinds: list[Kind] = [
        Native(int),
        Native(str),
        Native(dt.datetime),
        Json(),
        Members(Colour),
        Moments(),
        Native(decimal.Decimal),
        Native(uuid.UUID),
    ]
    packer = Rows("app.User", [kind.__class__.__name__ for kind in kinds], kinds, b"12345678")
    noon = NOON.replace(microsecond=0)
    state = (5, "n", noon, {"a": [1]}, Colour.RED, noon.replace(tzinfo=BERLIN), decimal.Decimal("1.50"), uuid.UUID(int=1))
    clock, key = b"\xb32024-05-17T12:00:00", b"\xc4\x10" + bytes(15) + b"\x01"
    plain = b"12345678\x01\x98\x05\xa1n" + clock + b"\x81\xa1a\x91\x01\xa3RED\x93" + clock + b"\xadEurope/Berlin\xc2\xa41.50" + key
    assert packer.pack(state) == plain
    assert same(packer.unpack(plain), state)
    odd = (5, UNLOADED, None, {"a": [1]}, Colour.RED, None, None, None)
    patched = b"12345678\x81\x98\x05\xc7\x00\x00\xc0\xc7\x05\x02\x81\xa1a\x91\x01\xa3RED\xc0\xc0\xc0"
    assert packer.pack(odd) == patched
    assert packer.unpack(patched) == odd


def hostile() -> list[bytes]:
    """Rows that are not whole, not msgpack, or not of the columns below."""
    encode = msgspec.msgpack.encode
    ext = msgspec.msgpack.Ext
    moment = "2024-01-01T00:00:00"
    bodies = [
        b"",
        b"\xc1",
        encode(5),
        encode([]),
        encode([1, "a"]),
        encode([1, "a", None, None, None, 5]),
        encode(["1", "a", {}, None, None]),
        encode([1.5, "a", {}, None, None]),
        encode([1, "a", {}, "no such member", None]),
        encode([1, "a", ext(9, b""), None, None]),
        encode([1, "a", {"x": ext(1, b"")}, None, None]),
        encode([ext(9, b""), "a", None, None, None]),
        encode([ext(1, b"\xc1"), "a", None, None, None]),
        encode([1, "a", ext(2, b"\x91" * 100_000), None, None]),
        encode([1, "a", ext(2, encode(ext(1, b""))), None, None]),
        encode([1, "a", None, None, moment]),
        encode([1, "a", None, None, [moment, None, 5]]),
        encode([1, "a", None, None, [moment, "No/Where", False]]),
        encode([1, "a", None, None, [moment, "../../etc/passwd", False]]),
        encode([1, "a", None, None, [moment, "+99999999999", False]]),
        encode([1, "a", None, None, [moment, "", False]]),
        b"\x95\x01\xa1\xff\xc0\xc0\xc0",
        b"\x95\x01\xa1a" + b"\x91" * 100_000,
        b"\xdd\xff\xff\xff\xff",
    ]
    return [form + body for body in bodies for form in (PLAIN, PATCHED)] + [b"", b"\x02", b"\x00\x94"]


def test_hostile_bytes() -> None:
    """Bytes that are no row raise CodecError and nothing else."""
    packer = rows(Native(int), Native(str), Json(), Members(Colour), Moments())
    good = FINGERPRINT + PLAIN + msgspec.msgpack.encode([1, "a", {}, "RED", ["2024-01-01T00:00:00", "+60", False]])
    assert packer.unpack(good)[:4] == (1, "a", {}, Colour.RED)
    for body in hostile():
        with pytest.raises(CodecError, match=r"app\.User"):
            packer.unpack(FINGERPRINT + body)


def test_damaged_bytes() -> None:
    """A payload with bytes changed at random is a state or a CodecError, never another exception."""
    rng = random.Random(7)
    kinds = [kind for kind, _ in PLAIN_VALUES]
    packer = rows(*kinds, Native(int))
    for last in (1, UNLOADED):
        payload = packer.pack((*(values[0] for _, values in PLAIN_VALUES), last))
        for _ in range(5000):
            damaged = bytearray(payload)
            for _ in range(rng.randint(1, 3)):
                damaged[rng.randrange(HEADER, len(damaged))] = rng.randrange(256)
            try:
                state = packer.unpack(bytes(damaged[: rng.randint(HEADER, len(damaged))]))
            except CodecError:
                continue
            assert len(state) == len(kinds) + 1


def test_all_of_a_batch() -> None:
    """Payloads of plain rows give together what each gives, and nothing where one of them is not such a row."""
    packer = rows(*(kind for kind, _ in PLAIN_VALUES))
    states = [tuple([values[at % len(values)] for _, values in PLAIN_VALUES]) for at in range(20)]
    payloads = [packer.pack(state) for state in states]
    assert packer.pack_all(states) == payloads
    assert packer.pack_all([]) == []
    for odd_state in ((UNLOADED, *states[0][1:]), states[0][1:], (*states[0], None)):
        assert packer.pack_all([*states, odd_state, *states]) is None
    found = packer.unpack_all(payloads)
    assert found is not None
    assert all(map(same, found, states))
    assert packer.unpack_all([]) == []
    patched = packer.pack((UNLOADED, *states[0][1:]))
    for odd in (patched, b"87654321" + payloads[0][8:], payloads[0][:-1], payloads[0] + b"\xc0", b""):
        assert packer.unpack_all([*payloads, odd, *payloads]) is None


VALUES: Mapping[str, Any] = MappingProxyType(
    {
        "big": 2**62,
        "real": 0.1,
        "exact": decimal.Decimal("12345678.123456"),
        "text": "é\n",
        "blob": b"\x00\xff",
        "flag": True,
        "key": uuid.UUID(int=7),
        "day": dt.date(2024, 2, 29),
        "clock": dt.time(23, 59, 59, 5),
        "moment": NOON,
        "aware": NOON.replace(tzinfo=dt.timezone.utc),
        "span": dt.timedelta(days=-1, seconds=5),
        "colour": Colour.BLUE,
        "word": "two",
        "price": decimal.Decimal("9.99"),
        "pickled": (1, {2}),
        "doc": {"a": [1, 2.5, None]},
    }
)


@pytest.mark.parametrize("values", [VALUES, {}], ids=["values", "nulls"])
def test_every_type_as_the_database_gives_it(db: Engine, values: Mapping[str, Any]) -> None:
    """A row with a column of every type comes back exactly as the database gave it."""
    plan = plan_of(Everything)
    with Session(db) as session:
        session.add(Everything(id=1, **values))
        session.commit()
        session.expunge_all()
        state = plan.dehydrate(session.get(Everything, 1))
    assert UNLOADED not in state
    assert same(plan.unpack(plan.pack(state)), (plan, state))
