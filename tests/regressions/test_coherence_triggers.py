"""Triggers on tables and columns of odd names, on hierarchies of tables, and the command line with what cannot be imported."""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Engine, Integer, event, select, text, update
from sqlalchemy.orm import DeclarativeBase

from stockstore import ChainedStore, ConfigurationError, RedisStore, SqlAlchemyStore, Store
from stockstore.evidence import Outbox
from stockstore_ext.cli import main
from stockstore_ext.sqlalchemy.janitor import Janitor
from stockstore_ext.sqlalchemy.triggers import install, installed, remove


class Base(DeclarativeBase):
    pass


NAMES = ["select", 'we"ird', "it's", "50%", "a:b", "Üml äut", "$stockstore$", "a.b", "back\\slash", "{x}"]
KINDS: dict[str, Any] = {
    name: type(
        f"Odd{number}",
        (Base,),
        {"__tablename__": name, "id": Column(f"i{name}", Integer, primary_key=True), "v": Column("v", Integer)},
    )
    for number, name in enumerate(NAMES)
}


class Part(DeclarativeBase):
    pass


class Piece(Part):
    """A table that has others below it."""

    __tablename__ = "pieces"
    id = Column("id", Integer, primary_key=True)
    v = Column("v", Integer)


@pytest.fixture
def pg(postgres_engine: Engine) -> Iterator[Engine]:
    """The engine of a PostgreSQL with the outbox and the odd tables, empty."""
    Outbox().create(postgres_engine)
    Base.metadata.create_all(postgres_engine)
    yield postgres_engine
    Base.metadata.drop_all(postgres_engine)
    Outbox().definition.drop(postgres_engine)


def value(store: Store, kind: type[Any]) -> object:
    """Give what the row of these tests has."""
    found = store.get(kind, -1)
    return None if found is None else found.v


@pytest.mark.parametrize("name", NAMES)
def test_a_table_and_a_column_of_an_odd_name(pg: Engine, redis_url: str, namespace: str, name: str) -> None:
    """What psql writes to it leaves the caches."""
    kind, cache = KINDS[name], RedisStore(redis_url, namespace=namespace)
    chain, janitor = ChainedStore([cache, SqlAlchemyStore(engine=pg)]), Janitor(pg, [cache])
    with pg.begin() as connection:
        install(connection, [name], namespaces=[namespace])
        assert len(installed(connection)) == 4
    chain.put(kind(id=-1, v=1))
    janitor.run_once()
    assert value(chain, kind) == value(cache, kind) == 1
    with pg.begin() as connection:
        connection.execute(update(kind).values(v=2))
    assert janitor.run_once() == 1
    assert cache.get(kind, -1) is None
    assert value(chain, kind) == 2
    with pg.begin() as connection:
        remove(connection, [name])
        assert not installed(connection)


@pytest.mark.parametrize(
    "below",
    [
        "CREATE TABLE pieces (id int PRIMARY KEY, v int) PARTITION BY RANGE (id); CREATE TABLE pieces_1 PARTITION OF pieces DEFAULT",
        "CREATE TABLE pieces (id int PRIMARY KEY, v int); CREATE TABLE pieces_1 () INHERITS (pieces); INSERT INTO pieces_1 VALUES (1, 0)",
    ],
    ids=["partition", "inheritance"],
)
def test_a_table_with_others_below_it(pg: Engine, redis_url: str, namespace: str, below: str) -> None:
    """A row of a table below, written by the name of the one above, leaves the caches."""
    cache = RedisStore(redis_url, namespace=namespace)
    chain, janitor = ChainedStore([cache, SqlAlchemyStore(engine=pg)]), Janitor(pg, [cache])
    with pg.begin() as connection:
        for statement in below.split(";"):
            connection.execute(text(statement))
        install(connection, ["pieces"], namespaces=[namespace])
        connection.execute(text("INSERT INTO pieces SELECT 1, 0 WHERE NOT EXISTS (SELECT FROM pieces)"))
    try:
        assert chain.get(Piece, 1)
        assert cache.get(Piece, 1)
        with pg.begin() as connection:
            connection.execute(text("UPDATE pieces SET v = 2"))
        janitor.run_once()
        assert cache.get(Piece, 1) is None
    finally:
        with pg.begin() as connection:
            connection.execute(text("DROP TABLE pieces CASCADE"))


def test_a_class_that_goes_while_its_triggers_are_made(pg: Engine) -> None:
    """They note its keys, as if it had gone a moment later."""
    held = [fleeting()]
    table = held[0].__table__

    def forget(*_: object) -> None:
        if held:
            held.clear()
            gc.collect()

    with pg.begin() as connection:
        table.create(connection)
        event.listen(connection, "before_cursor_execute", forget)
        install(connection, ["fleeting"])
        connection.execute(table.insert().values(id=5))
        (texts,) = connection.execute(select(Outbox().definition.c.texts)).scalars()
        assert texts.endswith(":i5")
        table.drop(connection)


def fleeting() -> Any:
    """Give a class that nobody else holds."""
    columns = {"__tablename__": "fleeting", "id": Column("id", Integer, primary_key=True)}
    return type("Fleeting", (type("Alone", (DeclarativeBase,), {}),), columns)


def test_a_namespace_that_no_cache_can_have(pg: Engine) -> None:
    """Triggers for an empty namespace would note what nothing is kept under."""
    with pg.begin() as connection, pytest.raises(ConfigurationError, match="a namespace is a text that is not empty"):
        install(connection, ["select"], namespaces=[""])


@pytest.mark.parametrize("module", ["", "..", "no.such.module", "half_written"])
def test_models_that_cannot_be_imported(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line and the status 2, whatever the import raises."""
    (tmp_path / "half_written.py").write_text("def (", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert (
        main(["triggers", "install", "--database", "postgresql+psycopg://nobody@127.0.0.1:1/none", "--models", module, "--table", "x"]) == 2
    )
    told = capsys.readouterr().err
    assert told.startswith(f"stockstore: the module {module!r} cannot be imported: ")
    assert told.count("\n") == 1
