"""What the caches give is what each driver gives, to the exact type, of values that few programs have; what cannot be read raises as without the hook."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import (
    ARRAY,
    JSON,
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
    String,
    Table,
    Text,
    Time,
    Uuid,
    create_engine,
    text,
    update,
)
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import Session, registry, sessionmaker

from stockstore import ChainedStore, RedisStore, SqlAlchemyStore
from stockstore.aio.bridge import greenlet_spawn
from stockstore_ext.sqlalchemy import SessionSync
from tests.aio.databases import DRIVERS, async_engine
from tests.codecs.same import same

Types = dict[str, tuple[Any, list[str]]]
ON_POSTGRESQL: Types = {
    "day": (Date, ["'infinity'", "'-infinity'", "'0001-01-01'", "'0044-03-15 BC'"]),
    "clock": (Time(timezone=True), ["'24:00:00+00'", "'12:00:00-15:59:59'"]),
    "moment": (DateTime, ["'infinity'", "'9999-12-31 23:59:59.999999'", "'294276-12-31'"]),
    "zoned": (DateTime(timezone=True), ["'-infinity'", "'0001-01-01 00:00+00'", "'2024-10-27 02:30+01'"]),
    "span": (Interval, ["'178000000 years'", "'-999999999 days'", "'1 mon -1 day'", "'-1 microsecond'"]),
    "number": (Numeric, ["'NaN'", "'Infinity'", "1e-100", "-0.00"]),
    "floating": (Float, ["'NaN'", "'-Infinity'", "'-0'", "5e-324"]),
    "letters": (Text, ["''", "E'\\u200b\\U0001F468\\u200D\\uFFFF\\u0001'"]),
    "document": (JSON, ["'null'", "'1e400'", "'-0.0'", "'123456789012345678901234567890'", "'\"\\ud800\"'", "'[[{}]]'"]),
    "packed": (postgresql.JSONB, ["'null'", "'1e400'"]),
    "switch": (Enum("on", "off", native_enum=False, create_constraint=False, length=9), ["'on'", "'PINK'"]),
    "numbers": (ARRAY(Integer), ["'{}'", "'{NULL}'", "'{{1,2},{3,NULL}}'", "'[0:1]={1,2}'"]),
    "amounts": (ARRAY(Numeric), ["'{NaN,1.50,NULL}'"]),
    "documents": (ARRAY(postgresql.JSONB), ['\'{"null",NULL,"{}"}\'']),
    "host": (postgresql.INET, ["'192.168.0.1/24'", "'::1'"]),
    "net": (postgresql.CIDR, ["'::/0'"]),
    "card": (postgresql.MACADDR, ["'08:00:2b:01:02:03'"]),
    "price": (postgresql.MONEY, ["-1"]),
    "vector": (postgresql.TSVECTOR, ["'a:1 fat:2A'"]),
    "thing": (postgresql.OID, ["4294967295"]),
    "period": (postgresql.DATERANGE, ["'[2024-01-01,infinity)'", "'empty'", "'(,)'"]),
    "hours": (postgresql.TSMULTIRANGE, ["'{}'", "'{[2024-01-01,2025-01-01)}'"]),
    "plain_id": (Uuid(as_uuid=False), ["'00000000-0000-0000-0000-00000000000A'"]),
}
ON_SQLITE: Types = {
    "count": (Integer, ["9223372036854775807", "'text'", "1.5", "x'00'"]),
    "number": (Numeric(10, 4), ["1e300", "'NaN'"]),
    "floating": (Float, ["9e999", "-0.0", "'x'"]),
    "letters": (Text, ["char(8203)", "'a' || char(0)", "5", "x'ff'", "CAST(x'ff' AS TEXT)"]),
    "raw": (LargeBinary, ["x''", "'text'"]),
    "day": (Date, ["'0001-01-01'", "'bad'", "5"]),
    "moment": (DateTime, ["'2024-01-01 12:00:00+02:00'", "''"]),
    "span": (Interval, ["'1969-12-31 23:59:59.999999'", "'9999-12-31 23:59:59.999999'"]),
    "own_id": (Uuid, ["'0000000000000000000000000000000A'", "'bad'"]),
    "switch": (Enum("on", "off"), ["'on'", "'PINK'"]),
    "document": (JSON, ["'null'", "'1e400'", "'NaN'", "'-0'", "'\"\\ud800\"'", "'bad'", "5.5"]),
}
ON_MARIADB: Types = {
    "count": (mysql.BIGINT(unsigned=True), ["18446744073709551615"]),
    "day": (Date, ["'0000-00-00'", "'2024-00-00'"]),
    "clock": (mysql.TIME(fsp=6), ["'-01:00:00'", "'838:59:59'", "'23:59:59.999999'"]),
    "moment": (DateTime, ["'0000-00-00 00:00:00'"]),
    "bits": (mysql.BIT(10), ["b'101'"]),
    "several": (mysql.SET("a", "b"), ["'a,b'", "''"]),
    "switch": (Enum("on", "off"), ["'on'", "''"]),
    "letters": (String(20), ["'a\\0b'", "_utf8mb4 x'F09F9880'"]),
    "document": (JSON, ["'null'", "'1e400'", "'-0.0'", "'123456789012345678901234567890'"]),
}
DATABASES = {"sqlite": ON_SQLITE, "postgresql": ON_POSTGRESQL, "mariadb": ON_MARIADB}


class Kinds:
    """Has a column of each type."""

    id: Any


@pytest.fixture(params=["pysqlite", "psycopg", "pymysql", *DRIVERS])
def driver(request: pytest.FixtureRequest) -> str:
    """Each driver in turn."""
    return str(request.param)


@pytest.fixture
def other(driver: str, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A blocking engine of the driver's database, in which each value stands in a row of its own."""
    name = {"pysqlite": "sqlite", "aiosqlite": "sqlite", "pymysql": "mariadb"}.get(driver, "postgres")
    engine: Engine = request.getfixturevalue(f"{name}_engine")
    types, metadata, mappings = DATABASES[engine.dialect.name], MetaData(), registry()
    columns = [Column(name, kind) for name, (kind, _) in types.items()]
    table = Table("driver_values", metadata, Column("id", Integer, primary_key=True), Column("note", String(9)), *columns)
    mappings.map_imperatively(Kinds, table)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        if name == "mariadb":
            connection.exec_driver_sql("SET sql_mode = ''")
        for column, literal in _literals(engine):
            connection.execute(text(f"INSERT INTO driver_values ({column}) VALUES ({literal.replace(':', chr(92) + ':')})"))
    yield engine
    mappings.dispose()
    metadata.drop_all(engine)


def _literals(engine: Engine) -> list[tuple[str, str]]:
    return [(name, literal) for name, (_, literals) in DATABASES[engine.dialect.name].items() for literal in literals]


def _columns(session: Session, number: int) -> Any:
    try:
        found = vars(session.get_one(Kinds, number))
        return {name: found[name] for name in sorted({*found} - {"_sa_instance_state", "note"})}
    except Exception as error:  # noqa: BLE001 - of any class, to be compared
        return type(error)


def _check(plain: Callable[[], Session], hooked: Callable[[], Session], engine: Engine) -> None:
    readable = 0
    for number, literal in enumerate(_literals(engine), start=1):
        with plain() as session:
            expected = _columns(session, number)
        readable += isinstance(expected, dict)
        for _ in range(2):
            with hooked() as session:
                assert same(_columns(session, number), expected), literal
        with hooked() as session:
            session.execute(update(Kinds).where(Kinds.id == number).values(note="written"))
            session.commit()
        for _ in range(2):
            with hooked() as session:
                assert same(_columns(session, number), expected), (literal, "written")
    assert readable > len(_literals(engine)) // 2


def test_values(driver: str, other: Engine, redis_url: str, namespace: str) -> None:
    """Read from the database, from the cache, and after a commit that has written them through; that commit raises nothing."""
    if driver in DRIVERS:
        asyncio.run(_awaited(driver, other, RedisStore(redis_url.replace("://", "+asyncio://", 1), namespace=namespace)))
        return
    engine = create_engine(other.url, **({"isolation_level": "READ COMMITTED"} if driver == "pymysql" else {}))
    store = ChainedStore([RedisStore(redis_url, namespace=namespace), SqlAlchemyStore(engine=engine)])
    maker: sessionmaker[Session] = sessionmaker(engine, class_=type("Watched", (Session,), {}))
    sync = SessionSync(store, read_through=True).attach(maker)
    _check(lambda: Session(engine), maker, other)
    assert store.stats().tiers[0].hits > len(_literals(other)) // 2
    sync.detach()
    store.close()
    engine.dispose()


async def _awaited(driver: str, other: Engine, cache: RedisStore) -> None:
    engine = async_engine(other.url, driver)
    store = ChainedStore([cache, SqlAlchemyStore(engine=engine)])
    maker = async_sessionmaker(engine, sync_session_class=type("Watched", (Session,), {}))
    sync = SessionSync(store, read_through=True).attach(maker)
    await greenlet_spawn(_check, lambda: async_sessionmaker(engine)().sync_session, lambda: maker().sync_session, other)
    assert store.stats().tiers[0].hits > len(_literals(other)) // 2
    sync.detach()
    await greenlet_spawn(store.close)
    await engine.dispose()
