"""Every column type comes out of every tier with the value and type that the database gives."""

import datetime as dt
import enum
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Engine,
    Enum,
    Float,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    PickleType,
    SmallInteger,
    String,
    Table,
    Text,
    Time,
    TypeDecorator,
    Unicode,
    Uuid,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import Range
from sqlalchemy.orm import Session, registry

from stockstore import ChainedStore, MappingStore, ProcessMemoryStore, RedisStore, SqlAlchemyStore, Store

MIDDAY = dt.datetime(2024, 5, 17, 12, 34, 56, 789012)
BERLIN = dt.timezone(dt.timedelta(hours=2))


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Cents(TypeDecorator[Decimal]):
    """Money as a number of cents in the database."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Any) -> int | None:
        """Give cents."""
        return None if value is None else int(value * 100)

    def process_result_value(self, value: int | None, dialect: Any) -> Decimal | None:
        """Give money."""
        return None if value is None else Decimal(value) / 100


EVERYWHERE: dict[str, tuple[Any, list[Any]]] = {
    "integer": (Integer, [0, -1, 2**31 - 1]),
    "small": (SmallInteger, [7]),
    "big": (BigInteger, [2**63 - 1, -(2**63)]),
    "boolean": (Boolean, [True, False]),
    "floating": (Float, [1.5, -0.0, 1e300]),
    "numeric": (Numeric(20, 4), [Decimal("12345678.9000"), Decimal("-0.0001")]),
    "as_float": (Numeric(10, 2, asdecimal=False), [2.25]),
    "string": (String(80), ["", "a b:\n", "ü\u20ac😀"]),
    "text": (Text, ["x" * 10_000]),
    "unicode": (Unicode(10), ["été"]),
    "binary": (LargeBinary, [b"", b"\x00END\r\n\xff"]),
    "date": (Date, [dt.date(1, 1, 1), dt.date(9999, 12, 31)]),
    "time": (Time, [dt.time(23, 59, 59, 999999)]),
    "moment": (DateTime, [MIDDAY]),
    "zoned": (DateTime(timezone=True), [MIDDAY.replace(tzinfo=BERLIN), MIDDAY.replace(tzinfo=dt.timezone.utc)]),
    "interval": (Interval, [dt.timedelta(days=3, microseconds=1), dt.timedelta(seconds=-1)]),
    "uuid": (Uuid, [uuid.UUID(int=5)]),
    "uuid_text": (Uuid(as_uuid=False), ["00000000-0000-0000-0000-000000000005"]),
    "enum": (Enum(Colour, name="colour"), [Colour.RED]),
    "enum_plain": (Enum(Level, native_enum=False), [Level.HIGH]),
    "enum_values": (Enum(Colour, name="by_value", values_callable=lambda kind: [m.value for m in kind]), [Colour.BLUE]),
    "enum_text": (Enum("on", "off", name="switch"), ["on"]),
    "json": (JSON, [{"a": [1, 1.5, "x", None, True, {"b": []}]}, [], "text", 5, {"big": 2**53}]),
    "pickled": (PickleType, [{"t": (1, 2), "s": {3}}]),
    "decorated": (Cents, [Decimal("12.34")]),
}

ON_POSTGRESQL: dict[str, tuple[Any, list[Any]]] = {
    "jsonb": (postgresql.JSONB, [{"a": {"b": [1, 2.5, None]}}]),
    "array": (ARRAY(Integer), [[1, 2, None], []]),
    "matrix": (ARRAY(Text, dimensions=2), [[["a", "b"], ["c", "d"]]]),
    "moments": (postgresql.ARRAY(DateTime(timezone=True)), [[MIDDAY.replace(tzinfo=BERLIN)]]),
    "zoned_time": (Time(timezone=True), [dt.time(12, 0, tzinfo=BERLIN)]),
    "inet": (postgresql.INET, ["192.168.0.1"]),
    "native_uuid": (postgresql.UUID(as_uuid=True), [uuid.UUID(int=7)]),
    "double": (postgresql.DOUBLE_PRECISION, [0.1]),
    "endless": (postgresql.NUMERIC, [Decimal("0.12345678901234567890123456789"), Decimal("1E+3")]),
    "char": (postgresql.CHAR(5), ["ab"]),
    "bits": (postgresql.BIT(5), ["10101"]),
    "numbers": (postgresql.INT4RANGE, [Range(1, 5, bounds="[]"), Range(None, 5), Range(empty=True)]),
    "period": (postgresql.TSTZRANGE, [Range(MIDDAY.replace(tzinfo=BERLIN), None, bounds="()")]),
    "days": (postgresql.DATEMULTIRANGE, [[Range(dt.date(2024, 1, 1), dt.date(2024, 2, 1)), Range(dt.date(2025, 1, 1), None)], []]),
    "amounts": (ARRAY(postgresql.NUMRANGE), [[Range(Decimal("1.50"), Decimal(2)), None]]),
}


def cases(engine: Engine) -> list[tuple[str, Any, Any]]:
    """Give name, type and value of every case of a database, a NULL for each type among them."""
    types = EVERYWHERE | (ON_POSTGRESQL if engine.dialect.name == "postgresql" else {})
    return [(name, kind, value) for name, (kind, values) in types.items() for value in [*values, None]]


@pytest.fixture(scope="module")
def kinds(engine: Engine) -> Iterator[type]:
    """A mapped class with a column of each type, and its table."""
    types = {name: kind for name, kind, _ in cases(engine)}
    metadata = MetaData()
    table = Table("kinds", metadata, Column("id", Integer, primary_key=True), *(Column(name, kind) for name, kind in types.items()))
    kind: type = type("Kinds", (), {"__module__": __name__, "__keys__": ["id"]})
    mappings = registry(metadata=metadata)
    mappings.map_imperatively(kind, table)
    metadata.create_all(engine)
    yield kind
    metadata.drop_all(engine)
    mappings.dispose()


def shape(value: Any) -> Any:
    """Give a value with the exact types of all its parts."""
    if isinstance(value, dict):
        return (dict, [(shape(k), shape(v)) for k, v in value.items()])
    if isinstance(value, (list, tuple)):
        return (type(value), [shape(part) for part in value])
    if isinstance(value, dt.datetime | dt.time):
        return (type(value), value.isoformat(), type(value.tzinfo))
    if isinstance(value, Decimal | float):
        return (type(value), str(value))
    return (type(value), value)


def test_every_type_comes_out_as_the_database_gives_it(engine: Engine, kinds: type, redis_url: str) -> None:
    """Memory, bytes in a mapping and Redis give the value that a session reads, of the same exact type, and not the object as put."""
    with SqlAlchemyStore(engine=engine) as database:
        for number, (name, _, value) in enumerate(cases(engine), start=1):
            caches: list[Store] = [ProcessMemoryStore(), MappingStore({}), RedisStore(redis_url)]
            put: Any = kinds()
            put.id = number
            setattr(put, name, value)
            ChainedStore([*caches, database]).put(put)
            with Session(engine) as session:
                expected = shape(getattr(session.get_one(kinds, number), name))
            with engine.begin() as connection:
                connection.execute(update(kinds).where(kinds.id == number).values({name: None}))  # type: ignore[attr-defined]
            for cache in caches:
                read: Any = cache.get(kinds, number)
                assert shape(getattr(read, name)) == expected, (name, value, cache)
                assert shape(getattr(put, name)) == expected, (name, value, "given back")
                cache.close()
