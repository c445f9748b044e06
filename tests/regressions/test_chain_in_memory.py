"""A chain over a database in memory, which has one connection, and the sessions that it refuses."""

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, scoped_session, sessionmaker

from stockstore import ChainedStore, ConfigurationError, MappingStore, OriginError, ProcessMemoryStore, SqlAlchemyStore

THREADS = 8
ROWS = 40


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    count: Mapped[int] = mapped_column(default=0)


@pytest.fixture
def database() -> Iterator[SqlAlchemyStore]:
    """A database in memory."""
    with SqlAlchemyStore("sqlite://") as database:
        Base.metadata.create_all(database.engine)
        yield database


def test_threads_share_a_database_in_memory(database: SqlAlchemyStore) -> None:
    """What each thread puts all see, and no thread's write is lost to another's."""
    chain = ChainedStore([ProcessMemoryStore(maxsize=THREADS), database])
    errors: list[BaseException] = []

    def work(first: int) -> None:
        try:
            for number in range(first, first + ROWS):
                chain.put(Item(id=number, count=number))
                chain.batch_get(Item, range(ROWS))
        except BaseException as error:  # noqa: BLE001 - told by the test
            errors.append(error)

    threads = [threading.Thread(target=work, args=(ROWS * position,)) for position in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [item and item.count for item in database.batch_get(Item, range(ROWS * THREADS))] == list(range(ROWS * THREADS))


def test_what_is_no_session_is_refused(database: SqlAlchemyStore) -> None:
    """A scoped_session, or anything else that is no Session, is refused in every tier with a message that says what to give."""
    chain = ChainedStore([ProcessMemoryStore(), MappingStore({}), database])
    chain.put(Item(id=1))
    scoped = scoped_session(sessionmaker(database.engine))
    for session in (scoped, database.engine, "session", 0, ""):
        for store in (chain, *chain.tiers):
            with pytest.raises(
                ConfigurationError, match=r"session= takes a sqlalchemy.orm.Session, not .*; of a scoped_session give scoped\(\)"
            ):
                store.get(Item, 1, session=session)  # type: ignore[arg-type]
    assert chain.get(Item, 1, session=scoped()) in scoped
    scoped.remove()


def test_a_namespace_that_cannot_be_told_is_refused_first(database: SqlAlchemyStore) -> None:
    """A put whose tier has no namespace now raises before anything is written."""

    def namespace() -> str:
        raise LookupError("no tenant")

    for tier in (ProcessMemoryStore(namespace=namespace), MappingStore({}, namespace=namespace)):
        with pytest.raises(LookupError, match="no tenant"):
            ChainedStore([tier, database]).put(Item(id=1))
        assert database.get(Item, 1) is None


def test_the_only_connection_in_use_is_still_refused(database: SqlAlchemyStore) -> None:
    """A read while another session has written to the only connection is refused."""
    with sessionmaker(database.engine)() as session:
        session.add(Item(id=1))
        session.flush()
        with pytest.raises(OriginError, match="open transaction of another session"):
            database.get(Item, 1)
