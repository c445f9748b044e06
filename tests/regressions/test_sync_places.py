"""Sessions that worked on other tables than the caches hold, and were taken for such that did not; and bad input."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text, update
from sqlalchemy.orm import Session, sessionmaker

from stockstore import ChainedStore, ConfigurationError, OriginError, ProcessMemoryStore, SqlAlchemyStore
from stockstore_ext.sqlalchemy import SessionSync
from tests.regressions.hooked import Base, Hooked, Person, hook


@pytest.fixture
def hooked(postgres_engine: Engine, namespace: str) -> Iterator[Hooked]:
    """Hooked sessions on PostgreSQL."""
    with hook(postgres_engine, ProcessMemoryStore(max_staleness=None, namespace=namespace)) as made:
        yield made


@pytest.fixture
def tenant(hooked: Hooked) -> Iterator[str]:
    """A schema with the same table, and other persons."""
    with hooked.other.begin() as connection:
        name = f"{connection.scalar(text('SELECT current_schema()'))}_tenant"
        connection.execute(text(f"CREATE SCHEMA {name}"))
        connection.execute(text(f"CREATE TABLE {name}.persons (LIKE persons INCLUDING ALL)"))
        connection.execute(text(f"INSERT INTO {name}.persons (id, name) VALUES (1, 'of the tenant'), (5, 'only there')"))
    yield name
    with hooked.other.begin() as connection:
        connection.execute(text(f"DROP SCHEMA {name} CASCADE"))


@pytest.mark.parametrize("how", ["connect_args", "listener"])
def test_engine_of_a_tenant(hooked: Hooked, tenant: str, how: str) -> None:
    """An engine of the same URL whose connections work in another schema is another database."""
    hooked.prove_cached()
    if how == "connect_args":
        engine = create_engine(hooked.engine.url, connect_args={"options": f"-csearch_path={tenant}"})
    else:
        engine = create_engine(hooked.engine.url)
        event.listen(engine, "connect", lambda driver, _record: (driver.execute(f"SET search_path TO {tenant}"), driver.commit()))
    with hooked.maker(bind=engine) as session:
        assert hooked.store.get(Person, 1, session=session).name == "of the tenant"  # type: ignore[union-attr]
        assert hooked.store.get(Person, 5, session=session) is not None
        session.get_one(Person, 1).name = "changed"
        session.commit()
    assert hooked.name() == "old"
    assert hooked.name(5) is None
    engine.dispose()


@pytest.mark.parametrize("kept", [True, False])
def test_temporary_table_of_the_same_name(hooked: Hooked, kept: bool) -> None:
    """What a session writes to a temporary table that stands before the mapped one is in no cache."""
    hooked.prove_cached()
    with hooked.maker() as session:
        session.execute(text(f"CREATE TEMPORARY TABLE persons {'' if kept else 'ON COMMIT DROP'} AS SELECT * FROM persons"))
        session.execute(update(Person).where(Person.id == 1).values(name="temporary"))
        assert hooked.store.get(Person, 1, session=session).name == "temporary"  # type: ignore[union-attr]
        if kept:
            session.execute(text("DROP TABLE pg_temp.persons"))
        session.commit()
    assert hooked.name() == hooked.row() == "old"


TURNS = {
    "temporary table": "CREATE TEMPORARY TABLE persons AS SELECT 1 AS id, 'of its own' AS name",
    "in its schema": "CREATE TABLE IF NOT EXISTS pg_temp.persons AS SELECT 1 AS id, 'of its own' AS name",
    "temporary view": "CREATE OR REPLACE TEMP VIEW persons AS SELECT 1 AS id, 'of its own' AS name",
    "new table": "SELECT 1 AS id, 'of its own' AS name INTO TEMP persons",
    "new table in its schema": "SELECT 1 AS id, 'of its own' AS name INTO pg_temp.persons",
    "new name": "CREATE TEMP TABLE draft AS SELECT 1 AS id, 'of its own' AS name; ALTER TABLE IF EXISTS draft RENAME TO persons",
    "search_path": "SET search_path TO {tenant}",
}


@pytest.mark.parametrize("sql", TURNS.values(), ids=TURNS)
def test_store_on_a_connection_that_means_other_tables(hooked: Hooked, tenant: str, sql: str) -> None:
    """What a session has left to the pool is neither read nor written by the store."""
    hooked.engine.dispose()
    with hooked.maker() as session:
        session.execute(text(sql.format(tenant=tenant)))
        assert session.scalar(text("SELECT name FROM persons WHERE id = 1")) != "old"
        session.commit()
    assert hooked.name() == hooked.name() == "old"
    hooked.store.put(Person(id=1, name="put"))
    assert hooked.name() == hooked.row() == "put"


@pytest.mark.parametrize("ended", [True, False])
def test_store_whose_engine_sets_each_connection(hooked: Hooked, tenant: str, ended: bool) -> None:
    """The listener is told of the connection that is taken instead, and a transaction that it has begun is no hindrance."""
    hooked.engine.dispose()
    with hooked.maker() as session:
        session.execute(text(f"SET search_path TO {tenant}"))
        session.commit()
    paths: list[object] = []

    def ask(connection: Connection) -> None:
        paths.append(connection.scalar(text("SHOW search_path")))
        if ended:
            connection.rollback()

    event.listen(hooked.engine, "engine_connect", ask)
    assert hooked.name() == "old"
    event.remove(hooked.engine, "engine_connect", ask)
    assert [path == tenant for path in paths] == [True, False]


def test_store_on_whose_connections_names_always_mean_other_tables(hooked: Hooked) -> None:
    """It gives up, and leaves no connection."""
    store = SqlAlchemyStore(engine=create_engine(hooked.engine.url, pool_size=1, max_overflow=0, pool_timeout=20))
    made = "CREATE TEMPORARY TABLE IF NOT EXISTS persons (id int, name text)"
    with hooked.maker(bind=store.engine) as session:
        session.execute(text("SELECT 1"))
    event.listen(store.engine, "engine_connect", lambda connection: connection.execute(text(made)))
    for _ in range(2):
        with pytest.raises(OriginError, match="on 100 connections of"):
            store.get(Person, 1)
    store.engine.dispose()


@pytest.mark.parametrize("name", ["persons", "draft"])
def test_temporary_table_of_nobodys(hooked: Hooked, name: str) -> None:
    """The same of a table that is made, and perhaps renamed, past any session."""
    with hooked.maker() as session:
        assert session.scalar(text("SELECT name FROM persons WHERE id = 1")) == "old"
    with hooked.engine.begin() as connection:
        connection.execute(text(f"CREATE TEMPORARY TABLE {name} AS SELECT 1 AS id, 'of its own' AS name"))
        if name != "persons":
            connection.execute(text(f"ALTER TABLE {name} RENAME TO persons"))
    assert hooked.name() == "old"


def test_only_connection_that_means_another_table(namespace: str) -> None:
    """In memory there is no other."""
    with ChainedStore([ProcessMemoryStore(namespace=namespace), SqlAlchemyStore("sqlite://")]) as store:
        engine = store.tiers[-1].engine  # type: ignore[attr-defined]
        Base.metadata.create_all(engine)
        maker: sessionmaker[Session] = sessionmaker(engine, class_=type("Watched", (Session,), {}))
        sync = SessionSync(store).attach(maker)
        with maker() as session:
            session.execute(text("CREATE TEMPORARY TABLE persons (id integer PRIMARY KEY, name text)"))
            session.commit()
        with pytest.raises(OriginError, match="has made a temporary table"):
            store.get(Person, 1)
        sync.detach()


def test_outbox_of_something_else(hooked: Hooked) -> None:
    """What is no engine and no MetaData is refused by name."""
    with pytest.raises(ConfigurationError, match="by an Engine, not by 'sqlite://'"):
        hooked.sync.create_outbox("sqlite://")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="takes a MetaData, not None"):
        hooked.sync.outbox_table(None)  # type: ignore[arg-type]


_SECRET = "postgresql+psycopg://ann:s3cret@localhost/shop?password=s3cret"


@pytest.mark.parametrize("given", [_SECRET, make_url(_SECRET), sessionmaker(create_engine(_SECRET))], ids=["text", "url", "maker"])
def test_an_outbox_of_something_else_shows_no_password(hooked: Hooked, given: object) -> None:
    """Whatever was given in place of the engine."""
    with pytest.raises(ConfigurationError, match=r"not by .*postgresql\+psycopg://") as refused:
        hooked.sync.create_outbox(given)  # type: ignore[arg-type]
    assert "s3cret" not in str(refused.value)


def test_a_session_without_a_database_is_refused_with_our_own_error() -> None:
    """Not with SQLAlchemy's."""
    with ChainedStore([ProcessMemoryStore(), SqlAlchemyStore("sqlite://")]) as store:
        sync = SessionSync(store).attach()
        with Session() as unbound, pytest.raises(OriginError, match="Could not locate a bind"):
            store.get(Person, 1, session=unbound)
        sync.detach()
