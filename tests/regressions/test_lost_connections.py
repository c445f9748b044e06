"""What the race found where the database cuts connections at the worst moment."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from stockstore import RedisStore, SqlAlchemyStore
from stockstore_ext.sqlalchemy import SessionSync
from tests.servers.server import wait_until


class Base(DeclarativeBase):
    pass


class Boat(Base):
    __tablename__ = "cut_boats"
    __keys__ = ["id"]
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@pytest.fixture
def boats(postgres_engine: Engine) -> Iterator[Engine]:
    """A database with one boat."""
    Base.metadata.create_all(postgres_engine)
    with Session(postgres_engine) as session:
        session.add(Boat(id=1, name="Argo"))
        session.commit()
    yield postgres_engine
    Base.metadata.drop_all(postgres_engine)


def cut(engine: Engine, connection: Connection) -> None:
    """Let the server end a connection, and wait until it has."""
    pid = connection.connection.driver_connection.info.backend_pid  # type: ignore[union-attr]
    # Within one transaction pg_stat_activity always shows what it showed first.
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
        other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        gone = text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid")
        wait_until(lambda: other.execute(gone, {"pid": pid}).scalar() == 0, "the end of a connection")


def test_a_read_whose_connection_is_cut_after_its_row_is_repeated(boats: Engine) -> None:
    """Neither is the row lost, nor does the driver's error come out of the store."""
    cuts: list[str] = []

    def after(connection: Connection, _cursor: object, sql: str, *_rest: object) -> None:
        if "cut_boats" in sql and not cuts:
            cuts.append(sql)
            cut(boats, connection)

    event.listen(boats, "after_cursor_execute", after)
    try:
        boat = SqlAlchemyStore(engine=boats).get(Boat, 1)
    finally:
        event.remove(boats, "after_cursor_execute", after)
    assert cuts
    assert boat is not None
    assert boat.name == "Argo"


def test_a_commit_whose_connection_is_cut_fails_with_an_error_of_sqlalchemy(boats: Engine, redis_url: str) -> None:
    """The rollback that cannot be sent any more hides no error, and the connection is given to nobody."""
    shop = sessionmaker(boats)
    sync = SessionSync(RedisStore(redis_url)).attach(shop)
    try:
        with shop() as session:
            session.get_one(Boat, 1).name = "Beagle"
            session.flush()
            cut(boats, session.connection())
            with pytest.raises(OperationalError):
                session.commit()
        with shop() as session:
            assert session.get_one(Boat, 1).name == "Argo"
    finally:
        sync.detach()


def test_an_engine_that_could_not_connect_yet_reads_when_it_can(boats: Engine, redis_url: str) -> None:
    """Until an engine has connected nobody knows the isolation level of its transactions, and sessions read the database."""
    engine = create_engine(boats.url)
    shop = sessionmaker(engine)

    def refuse(*_connection: object) -> None:
        raise ConnectionRefusedError

    event.listen(engine, "do_connect", refuse)
    sync = SessionSync(RedisStore(redis_url), read_through=True).attach(shop)
    event.remove(engine, "do_connect", refuse)
    try:
        for name in ("Argo", "Argo!", "Argo!"):
            with shop() as session:
                assert session.get_one(Boat, 1).name == name
            with boats.begin() as other:
                other.execute(text("UPDATE cut_boats SET name = name || '!'"))
    finally:
        sync.detach()
        engine.dispose()
