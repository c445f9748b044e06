"""Rows of which a value cannot be read, such as another program may write: who writes their other columns need not know."""

import datetime as dt
import enum
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine, Enum, create_engine, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, load_only, mapped_column, sessionmaker

from stockstore import ChainedStore, OriginError, RedisStore, SqlAlchemyStore
from stockstore.evidence import Outbox
from stockstore_ext.sqlalchemy import SessionSync
from stockstore_ext.sqlalchemy.drivers import goes_on
from tests.sync.conftest import ON_POSTGRES


class Colour(enum.Enum):
    RED = 1


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "unreadable_notes"
    __keys__ = ["id"]
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(default="old")
    name: Mapped[str | None]
    day: Mapped[dt.date | None]
    colour: Mapped[Colour | None] = mapped_column(Enum(Colour, native_enum=False, length=10))


UNREADABLE = {
    "by SQLAlchemy": {"postgresql": "colour = 'PINK'", "sqlite": "day = 'some day'"},
    "by the driver": {"postgresql": "day = 'infinity'", "sqlite": "name = CAST(x'ff' AS TEXT)"},
}


def _by_unit_of_work(session: Session) -> None:
    for number in (1, 2):
        session.get_one(Note, number, options=[load_only(Note.text)]).text = "new"


WRITES: dict[str, Callable[[Session], object]] = {
    "unit of work": _by_unit_of_work,
    "bulk": lambda session: session.execute(update(Note).values(text="new")),
}


@pytest.fixture
def store(engine: Engine, redis_url: str, namespace: str) -> Iterator[ChainedStore]:
    """Redis above two notes."""
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    Outbox().create(engine)
    with Session(engine) as session:
        session.add_all([Note(id=1), Note(id=2)])
        session.commit()
    with ChainedStore([RedisStore(redis_url, namespace=namespace), SqlAlchemyStore(engine=engine)]) as made:
        yield made


@pytest.mark.parametrize("unreadable", UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_commit(engine: Engine, store: ChainedStore, write: Callable[[Session], object], unreadable: dict[str, str]) -> None:
    """It is done as without the hook, and the caches have nothing older of either row."""
    other = create_engine(engine.url)
    maker: sessionmaker[Session] = sessionmaker(engine, class_=type("Watched", (Session,), {}))
    sync = SessionSync(store).attach(maker)
    assert [note and note.text for note in store.batch_get(Note, [1, 2])] == ["old", "old"]
    with other.begin() as connection:
        connection.execute(text(f"UPDATE unreadable_notes SET {unreadable[engine.dialect.name]} WHERE id = 1"))
    with maker() as session:
        write(session)
        session.commit()
    assert store.get(Note, 2).text == "new"  # type: ignore[union-attr]
    with pytest.raises(OriginError):
        store.get(Note, 1)
    with other.begin() as connection:
        connection.execute(text("UPDATE unreadable_notes SET name = NULL, day = NULL, colour = NULL WHERE id = 1"))
    assert store.get(Note, 1).text == "new"  # type: ignore[union-attr]
    sync.detach()
    other.dispose()


@ON_POSTGRES
def test_a_transaction_that_has_failed_does_not_go_on(engine: Engine) -> None:
    """Its COMMIT would be a ROLLBACK, of which PostgreSQL tells nobody."""
    with engine.connect() as connection:
        assert goes_on(connection, ValueError())
        with pytest.raises(DBAPIError) as refused:
            connection.exec_driver_sql("SELECT 1 / 0")
        assert not goes_on(connection, refused.value)
        assert not goes_on(connection, ValueError())
        connection.rollback()
        assert not goes_on(connection, refused.value)
