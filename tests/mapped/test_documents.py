"""JSON documents that are read again are those of a SELECT, down to the types of their parts."""

import json
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.adapt import Loader
from psycopg.types.json import JsonLoader, set_json_loads
from sqlalchemy import JSON, Column, Connection, Dialect, Engine, Integer, MetaData, Table, TypeDecorator, create_engine, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import registry

from stockstore.mapped import documents, plan_of
from stockstore.mapped.reread import reread
from stockstore.mapped.rows import Parsed
from stockstore.stores.snapshots import RowSnapshot, payloads_of
from tests.mapped.test_rows import same

EVERYWHERE = [
    '{"theme": "dark", "n": 7, "tags": ["a", "b"], "deep": [[{}, {"x": [null, true, false]}]]}',
    "[]", "{}", "null", "true", '""', '"é€😀"', " [ 1 ,\t2 ]\n",
    "0", "-0", "-0.0", "1.0", "5e0", "1E5", "-1.5e-7", "0.1", "123456789.123456789", "5e-324", "2.2250738585072011e-308",
    "9223372036854775807", "-9223372036854775808", "18446744073709551615", "18446744073709551616", "1234567890123456789012345678901234567890",
    "[9007199254740993, 9007199254740993.0, 179769313486231570000000000000000000000]",
    '{"a": 1, "b": 2, "a": 3}', r'{"\u0061": "\ud83d\ude00", "": "\"\\\/\b\f\n\r\t"}', r'["\u0001\u007f\u2028"]',
]  # fmt: skip
ON_POSTGRESQL = [r'"\ud800"', r'["\udc00\ud800x"]', "1e400", "[-1e999]", "1e-400", "123e300000", '"\\u0000"']
ON_SQLITE = [*ON_POSTGRESQL, "NaN", "[Infinity, -Infinity]", "5.5", "text", b'{"blob": [1]}', b'"\xff"', 7, 1.5, 2**53]


class Shouted(TypeDecorator[Any]):
    """Documents that the program has as something else."""

    impl = JSON
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Give a tuple."""
        return value, "!"


TYPES: dict[str, Any] = {
    "plain": JSON(),
    "packed": JSON().with_variant(postgresql.JSONB(), "postgresql"),
    "changed": MutableDict.as_mutable(JSON(none_as_null=True)),
    "decorated": Shouted(),
    "decorated_there": JSON().with_variant(Shouted(), "postgresql", "sqlite"),
}


@pytest.fixture(scope="module")
def table() -> Table:
    """A table with columns of JSON in every way."""
    return Table("papers", MetaData(), Column("id", Integer, primary_key=True), *(Column(name, kind) for name, kind in TYPES.items()))


def mapped(table: Table, *names: str) -> Iterator[type]:
    """Give a class mapped to some of the columns."""
    cls: type = type("Paper", (), {"__module__": __name__, "__keys__": ["id"]})
    mappings = registry(metadata=table.metadata)
    mappings.map_imperatively(cls, table, include_properties=["id", *names])
    yield cls
    mappings.dispose()


@pytest.fixture(scope="module")
def every(table: Table) -> Iterator[type]:
    """A class with all columns."""
    yield from mapped(table, *TYPES)


@pytest.fixture(scope="module")
def usual(table: Table) -> Iterator[type]:
    """A class with those alone that are the dialect's own JSON."""
    yield from mapped(table, "plain", "packed", "changed")


@pytest.fixture(scope="module")
def tables(engine: Engine, table: Table) -> Iterator[Engine]:
    """A database with a row for each document, numbered from 1, and one without any, numbered 0."""
    table.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO papers (id) VALUES (0)"))
        for number, document in enumerate(texts_of(engine), start=1):
            # What JSONB refuses stands in the others alone.
            names = [name for name in TYPES if name != "packed" or document not in ON_POSTGRESQL]
            place = ":doc" if engine.dialect.name == "sqlite" else "CAST(CAST(:doc AS text) AS json)"
            values = ", ".join([place] * len(names))
            connection.execute(text(f"INSERT INTO papers (id, {', '.join(names)}) VALUES ({number}, {values})"), {"doc": document})
    yield engine
    table.metadata.drop_all(engine)


def texts_of(engine: Engine) -> Sequence[object]:
    """Give the documents of a database."""
    return [*EVERYWHERE, *(ON_SQLITE if engine.dialect.name == "sqlite" else ON_POSTGRESQL)]


def selected(connection: Connection, cls: type, number: int) -> object:
    """Give the state of a row by a SELECT of its columns, or the type of its error."""
    columns = [plan_of(cls).mapper.column_attrs[name].columns[0] for name in plan_of(cls).attrs]
    try:
        return tuple(connection.execute(select(*columns).where(columns[0] == number)).one())
    except ValueError as error:
        return type(error)


def read_again(connection: Connection, cls: type, *numbers: int) -> Any:
    """Give states as they are read before a COMMIT, or the type of the error."""
    try:
        return [state for _, state in reread(connection, cls, [(number,) for number in numbers])]
    except ValueError as error:
        return type(error)


def test_documents(tables: Engine, every: type) -> None:
    """Each document is read again as a SELECT gives it, by itself and among all others."""
    with tables.connect() as connection:
        wanted = {number: selected(connection, every, number) for number in range(len(texts_of(tables)) + 1)}
        assert documents.are_known(connection)
        for number, state in wanted.items():
            found = read_again(connection, every, number)
            assert same([state], [tuple(one) for one in found]) if isinstance(state, tuple) else found is state
        readable = {number: state for number, state in wanted.items() if isinstance(state, tuple)}
        assert len(readable) > len(EVERYWHERE)
        assert all(map(same, map(tuple, read_again(connection, every, *readable)), readable.values()))


def test_payloads(tables: Engine, usual: type) -> None:
    """What documents are packed to without another look at them is what each is packed to."""
    plan = plan_of(usual)
    with tables.connect() as connection:
        states = read_again(connection, usual, *range(len(EVERYWHERE) + 1))
    assert {type(state) for state in states} == {Parsed}
    one_by_one = [plan.pack(tuple(state)) for state in states]
    assert payloads_of(plan, [RowSnapshot(plan, state) for state in states]) == one_by_one
    whole = [state for state, payload in zip(states, one_by_one, strict=True) if payload.startswith(plan.pack((1, {}, {}, {}))[:9])]
    assert len(EVERYWHERE) - 4 < len(whole) < len(states)
    assert plan.pack_all(whole) == plan.pack_all([tuple(state) for state in whole]) is not None


def test_another_type_is_looked_at(tables: Engine, every: type) -> None:
    """Where one column's documents are what an application makes of them, none is taken for plain."""
    with tables.connect() as connection:
        ((_, state),) = reread(connection, every, [(1,)])
    assert type(state) is tuple


class Wrapped(JsonLoader):
    """Documents inside of lists."""

    def load(self, data: Any) -> Any:
        """Give the document."""
        return [json.loads(bytes(data))]


class UpperText(Loader):
    """Texts with upper-case letters."""

    def load(self, data: Any) -> Any:
        """Give the text."""
        return bytes(data).decode().upper()


def tens(document: str | bytes) -> object:
    """Give a document with numbers ten times as high."""
    return json.loads(document, parse_int=lambda number: int(number) * 10)


def check(connection: Connection, cls: type, *, changes: bool = True) -> None:
    """A document is as a SELECT has it, which is something else than usual."""
    wanted = selected(connection, cls, 1)
    assert not documents.are_known(connection)
    assert same([wanted], list(map(tuple, read_again(connection, cls, 1))))
    assert isinstance(wanted, tuple)
    assert (wanted[1] != json.loads(EVERYWHERE[0])) is changes


def test_deserializer_of_the_engine(tables: Engine, usual: type) -> None:
    """What the engine was given to read JSON is what reads it."""
    engine = create_engine(tables.url, json_deserializer=tens)
    with engine.connect() as connection:
        check(connection, usual)
    engine.dispose()


@pytest.fixture
def connection(postgres_engine: Engine) -> Iterator[Connection]:
    """A connection to PostgreSQL with a document of its own, thrown away."""
    with postgres_engine.connect() as connection:
        connection.execute(text('CREATE TEMPORARY TABLE papers (id integer PRIMARY KEY, plain json, "packed" jsonb, changed json)'))
        connection.execute(
            text("INSERT INTO papers SELECT 1, doc, CAST(doc AS jsonb), doc FROM (SELECT CAST(:doc AS json) AS doc) AS given"),
            {"doc": EVERYWHERE[0]},
        )
        assert documents.are_known(connection)
        yield connection
        connection.invalidate()


def load_by(adapted: Any) -> None:
    """Give psycopg another function."""
    set_json_loads(tens, adapted)


def load_wrapped(adapted: Any) -> None:
    """Give psycopg another class."""
    for name in ("json", "jsonb"):
        adapted.adapters.register_loader(name, Wrapped)


@pytest.mark.parametrize("arrange", [load_by, load_wrapped])
def test_loader_of_a_connection(connection: Connection, usual: type, arrange: Callable[[Any], None]) -> None:
    """What a connection of psycopg was given to read JSON is what reads it."""
    arrange(connection.connection.driver_connection)
    check(connection, usual)


def test_loader_of_all_connections(connection: Connection, usual: type) -> None:
    """So is what psycopg was given for all of them."""
    set_json_loads(tens)
    try:
        check(connection, usual)
    finally:
        set_json_loads(json.loads)


def test_loader_of_texts(connection: Connection, usual: type) -> None:
    """What a connection was given to read texts has nothing to do with its documents."""
    driver: Any = connection.connection.driver_connection
    driver.adapters.register_loader("text", UpperText)
    check(connection, usual, changes=False)


def test_encoding(connection: Connection, usual: type) -> None:
    """Documents that psycopg cannot read in the connection's encoding are not read otherwise."""
    connection.execute(text("SET client_encoding TO 'LATIN1'"))
    check(connection, usual, changes=False)
    connection.execute(text("UPDATE papers SET plain = :doc"), {"doc": '"é"'})
    assert selected(connection, usual, 1) is read_again(connection, usual, 1) is UnicodeDecodeError


def test_unknown_connection(postgres_engine: Engine) -> None:
    """Of a connection that is none of psycopg's, such as one that somebody has wrapped, nothing is known."""
    wrapped: Any = SimpleNamespace(dialect=postgres_engine.dialect, connection=SimpleNamespace(driver_connection=None))
    assert not documents.are_known(wrapped)


def test_column_that_is_no_json(postgres_engine: Engine, usual: type) -> None:
    """What PostgreSQL has as a text though it is mapped as JSON is the text that a SELECT gives."""
    with postgres_engine.connect() as connection:
        connection.execute(text('CREATE TEMPORARY TABLE papers (id integer, plain text, "packed" varchar(90), changed jsonb)'))
        connection.execute(
            text("INSERT INTO papers VALUES (1, CAST(:doc AS text), CAST(:doc AS text), '1'), (2, '', NULL, NULL)"), {"doc": EVERYWHERE[0]}
        )
        wanted = [selected(connection, usual, number) for number in (1, 2)]
        assert same(wanted, list(map(tuple, read_again(connection, usual, 1, 2))))
        assert wanted[0] == (1, EVERYWHERE[0], EVERYWHERE[0], 1)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda part: st.lists(part) | st.dictionaries(st.text(), part)
)


@pytest.mark.sa_agnostic
@given(_JSON, st.booleans(), st.data())
def test_any_text(document: Any, ascii_only: bool, data: st.DataObject) -> None:
    """Any text, also one that is no document, is decoded as json.loads does it, or refused."""
    whole = json.dumps(document, ensure_ascii=ascii_only)
    at = data.draw(st.integers(0, len(whole)))
    other = data.draw(st.sampled_from('0-.eE"\\ ,[]{}:'))
    check_text(whole)
    check_text(whole[:at] + whole[at + 1 :])
    check_text(whole[:at] + other + whole[at:])


def check_text(given_text: str) -> None:
    """One text among texts."""
    try:
        wanted: Any = [json.loads(given_text), None]
    except ValueError as error:
        with pytest.raises(type(error)):
            documents.decode([given_text, None], documents.loads)
    else:
        assert same(wanted, list(documents.decode([given_text, None], documents.loads)))
