"""Write paths on MariaDB, which has RETURNING for some statements only, and reads from one snapshot per transaction by default."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Literal

import pytest
from sqlalchemy import Engine, MetaData, create_engine, delete, func, insert, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from stockstore import ChainedStore, RedisStore, SqlAlchemyStore
from stockstore.evidence import Outbox
from stockstore_ext.sqlalchemy import SessionSync
from tests.stores.shop import empty
from tests.sync.odd import Base, Keyless, Part, Touched, Versioned, Whole, rows
from tests.sync.paths import OUT_OF_BAND, Path, Watched

OUT_OF_BAND |= {table.name: ("text", "out of band") for table in Base.metadata.sorted_tables if "text" in table.columns}
VERSIONS: Any = Versioned.__table__
KEYLESS: Any = Keyless.__table__
VERSIONED: list[Watched] = [(Versioned, 1), (Versioned, 2)]


@pytest.fixture(scope="module")
def other(mariadb_engine: Engine) -> Iterator[Engine]:
    """Another engine on the same database."""
    Base.metadata.create_all(mariadb_engine)
    engine = create_engine(mariadb_engine.url)
    yield engine
    engine.dispose()


@pytest.fixture
def attach(mariadb_engine: Engine, other: Engine, redis_url: str, namespace: str) -> Iterator[Callable[..., Path]]:
    """A function of options that gives a hooked path with two rows of each class; with the outbox, if it is to be."""
    made: list[Path] = []

    def attached(*, table: bool = True, engine: Engine = mariadb_engine, **options: Any) -> Path:
        empty(mariadb_engine, Base.metadata)
        Outbox().create(mariadb_engine) if table else Outbox().table(MetaData()).drop(mariadb_engine, checkfirst=True)
        store = ChainedStore([RedisStore(redis_url, namespace=namespace), SqlAlchemyStore(engine=mariadb_engine)])
        maker: sessionmaker[Session] = sessionmaker(engine, class_=type("Watched", (Session,), {}))
        made.append(Path(mariadb_engine, other, store, maker, SessionSync(store, **options).attach(maker)))
        made[-1].seed(*rows())
        return made[-1]

    yield attached
    for path in made:
        path.sync.detach()
        path.store.close()


def _change(session: Session) -> None:
    session.get_one(Versioned, 1).text = "changed"
    session.flush()


def _savepoints(session: Session) -> None:
    _change(session)
    with session.begin_nested() as savepoint:
        session.get_one(Versioned, 2).text = "dropped"
        session.flush()
        savepoint.rollback()


WRITES: dict[str, tuple[Callable[[Session], Any], list[Watched]]] = {
    "flush": (_change, VERSIONED),
    "savepoints": (_savepoints, VERSIONED),
    "orm update": (lambda s: s.execute(update(Versioned).where(Versioned.text == "one").values(text="bulk")), VERSIONED),
    "orm update of an alternate key": (lambda s: s.execute(update(Versioned).where(Versioned.id == 1).values(name="new")), VERSIONED),
    "orm update by primary key": (lambda s: s.execute(update(Keyless), [{"id": 1, "text": "x"}]), [(Keyless, 1), (Keyless, 2)]),
    "orm insert": (lambda s: s.execute(insert(Versioned), [{"id": 3, "name": "three", "text": "x", "version": 1}]), [(Versioned, 3)]),
    "orm delete": (lambda s: s.execute(delete(Keyless).where(Keyless.id == 1)), [(Keyless, 1), (Keyless, 2)]),
    "onupdate": (lambda s: s.execute(update(Touched).where(Touched.id == 1).values(text="x")), [(Touched, 1), (Touched, 2)]),
    "two tables": (
        lambda s: s.execute(update(Versioned).where(Versioned.id == Keyless.id).values({Keyless.text: "both"})),
        [*VERSIONED, (Keyless, 1), (Keyless, 2)],
    ),
    "two tables, by Core": (
        lambda s: s.execute(
            update(VERSIONS).where(VERSIONS.c.id == KEYLESS.c.id).values({KEYLESS.c.text: "both", VERSIONS.c.text: "both"})
        ),
        [*VERSIONED, (Keyless, 1), (Keyless, 2)],
    ),
    "joined inheritance": (lambda s: s.execute(update(Part).values(size=9)), [(Part, 1), (Whole, 2)]),
    "core update": (lambda s: s.connection().execute(update(VERSIONS).values(text="core")), VERSIONED),
    "settings for a statement": (
        lambda s: s.execute(text("SET STATEMENT max_statement_time = 100 FOR UPDATE odd_versioned SET text = 'text'")),
        VERSIONED,
    ),
    "text": (lambda s: s.execute(text("UPDATE odd_versioned SET text = 'text' WHERE id = 1")), VERSIONED),
}


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("table", [True, False], ids=["outbox", "no outbox"])
@pytest.mark.parametrize("name", WRITES)
def test_mariadb(attach: Callable[..., Path], name: str, table: bool, end: Literal["commit", "rollback"]) -> None:
    """What was written is in the caches when it is committed, and never before or otherwise; with evidence of its end or without."""
    path = attach(table=table)
    assert [tier.level for tier in path.sync.guarantee.tiers] == ["strict" if table else "fast"]
    write, watched = WRITES[name]
    path.check(write, *watched, end=end)


@pytest.mark.parametrize(
    "statement",
    [
        "ANALYZE TABLE odd_versioned",
        "FLUSH STATUS",
        "SET autocommit = 1",
        "SET PASSWORD = ''",
        "SET DEFAULT ROLE NONE",
        "EXECUTE IMMEDIATE 'CREATE OR REPLACE TABLE odd_other (id int)'",
        "SET STATEMENT max_statement_time = 100 FOR CREATE OR REPLACE TABLE odd_other (id int)",
        "IF 1 THEN CREATE OR REPLACE TABLE odd_other (id int); END IF",
        "/*M! CREATE OR REPLACE TABLE odd_other (id int) */",
        "DROP TABLE odd_missing",
    ],
)
@pytest.mark.parametrize("table", [True, False], ids=["outbox", "no outbox"])
def test_statement_that_commits_before_it(attach: Callable[..., Path], statement: str, table: bool) -> None:
    """What a statement commits that was written before it stays told whatever becomes of the statement, and of the session."""
    path = attach(table=table)
    path.prove_cached((Versioned, 1))
    with path.maker() as session:
        _change(session)
        with suppress(OperationalError):  # the COMMIT is first, also of a statement that fails
            session.execute(text(statement))
        session.connection().detach()  # what is set on it would outlive the session
        session.rollback()
    assert (path.row(Versioned, 1) or {})["text"] == "changed"
    path.compare(*VERSIONED)


@pytest.mark.parametrize(("snapshot", "expected"), [("respect", "one"), ("latest", "changed")])
def test_repeatable_read_by_default(attach: Callable[..., Path], snapshot: str, expected: str) -> None:
    """A transaction that has read is given nothing newer than its snapshot, unless that is asked for; the caches get nothing older."""
    path = attach(snapshot=snapshot)
    path.prove_cached((Versioned, 1))
    with path.maker() as reader:
        reader.execute(text("SELECT count(*) FROM odd_versioned"))
        with path.maker() as writer:
            _change(writer)
            writer.commit()
        assert (path.read(Versioned, 1) or {})["text"] == "changed"
        found = path.store.get(Versioned, 1, session=reader)
        assert found is not None
        assert found.text == expected
        path.compare((Versioned, 1))
    path.compare((Versioned, 1))


def test_autocommit(attach: Callable[..., Path], other: Engine) -> None:
    """On an engine made for AUTOCOMMIT each statement is told at once."""
    engine = create_engine(other.url, isolation_level="AUTOCOMMIT")
    path = attach(engine=engine)
    path.prove_cached((Versioned, 1))
    with path.maker() as session:
        session.execute(update(Versioned).where(Versioned.id == 1).values(text="at once"))
        assert (path.row(Versioned, 1) or {})["text"] == "at once"
        path.compare(*VERSIONED)
        session.rollback()
    path.compare(*VERSIONED)
    assert "fast" in [tier.level for tier in path.sync.guarantee.tiers]
    engine.dispose()


@pytest.mark.parametrize("before", [None, "SELECT 1", "SELECT * FROM odd_versioned", "START TRANSACTION WITH CONSISTENT SNAPSHOT"])
def test_first_read_of_a_transaction(attach: Callable[..., Path], before: str | None) -> None:
    """Its snapshot begins with it at the default level, so that it fills the caches; where it began earlier, whoever began it, it does not."""
    path = attach(read_through=True)
    table = Versioned.__table__
    with path.maker() as session:
        if before is not None:
            session.connection().connection.cursor().execute(before)
        with path.other.begin() as connection:
            connection.execute(update(table).values(text="out of band"))  # type: ignore[arg-type]
        told = session.get_one(Versioned, 1).text
    with path.other.begin() as connection:
        connection.execute(update(table).values(text="later"))  # type: ignore[arg-type]
    with path.maker() as session:
        assert session.get_one(Versioned, 1).text == ("out of band" if told == "out of band" else "later")
    assert (told == "out of band") is (before in {None, "SELECT 1"})


@pytest.mark.parametrize("rule", ["respect", "latest"])
def test_read_through(attach: Callable[..., Path], rule: str) -> None:
    """A transaction that reads from a snapshot fills nothing from it; one that reads what is committed does."""
    path = attach(read_through=True, snapshot=rule)
    table = Versioned.__table__
    with path.maker() as session:
        session.execute(select(func.count()).select_from(table))
        with path.other.begin() as connection:
            connection.execute(update(table).values(text="out of band"))  # type: ignore[arg-type]
        assert session.get_one(Versioned, 1).text != "out of band"
    committed = path.engine.execution_options(isolation_level="READ COMMITTED")
    with path.maker(bind=committed) as session:
        assert session.get_one(Versioned, 1).text == "out of band"
    with path.other.begin() as connection:
        connection.execute(update(table).values(text="later"))  # type: ignore[arg-type]
    with path.maker() as session:
        # Where the first one asked the cache, it still has the lease.
        assert session.get_one(Versioned, 1).text == ("out of band" if rule == "respect" else "later")


def test_two_phases_that_only_read(attach: Callable[..., Path]) -> None:
    """They are committed as without the hook, and what is cached stays: what they begin and end by are no writes."""
    path = attach()
    path.maker.configure(twophase=True)
    path.prove_cached((Versioned, 1))
    before = path.store.stats().tiers[0].misses
    with path.maker() as session:
        assert session.get_one(Versioned, 2).text == "two"
        session.commit()
    path.read(Versioned, 1)
    assert path.store.stats().tiers[0].misses == before
