"""A chain above a database, and sessions that a hook is attached to, for the tests of what sessions did wrong once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Engine, ForeignKey, UniqueConstraint, create_engine, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from stockstore import ChainedStore, SqlAlchemyStore, Store
from stockstore.evidence import Outbox
from stockstore_ext.sqlalchemy import SessionSync


class Base(DeclarativeBase):
    pass


class Person(Base):
    __tablename__ = "persons"
    __keys__ = ["id"]
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="old")


class Seat(Base):
    """On SQLite a new seat takes the place of an old one of its number."""

    __tablename__ = "seats"
    __table_args__ = (UniqueConstraint("number", sqlite_on_conflict="REPLACE"),)
    __keys__ = ["id"]
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]


class Chair(Base):
    """Of a table whose name is always quoted."""

    __tablename__ = "Chairs"
    __table_args__ = {"quote": True}
    __keys__ = ["id"]
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="old")


class Leg(Base):
    __tablename__ = "legs"
    __keys__ = ["id"]
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    chair: Mapped[int] = mapped_column(ForeignKey("Chairs.id", ondelete="CASCADE"))


@dataclass
class Hooked:
    """A database that nobody else watches by another engine, a chain above it, and hooked sessions."""

    engine: Engine
    other: Engine
    store: ChainedStore
    maker: sessionmaker[Session]
    sync: SessionSync

    def name(self, identity: int = 1) -> str | None:
        """Give what the chain has."""
        person = self.store.get(Person, identity)
        return None if person is None else person.name

    def row(self, identity: int = 1) -> str | None:
        """Give what the database has."""
        with Session(self.other) as session:
            person = session.get(Person, identity)
            return None if person is None else person.name

    def prove_cached(self, identity: int = 1) -> None:
        """Show that a read does not reach the database."""
        before = self.name(identity)
        with self.other.begin() as connection:
            connection.execute(update(Person).where(Person.id == identity).values(name="out of band"))
        assert self.name(identity) == before
        with self.other.begin() as connection:
            connection.execute(update(Person).where(Person.id == identity).values(name=before))

    def check(self, write: Callable[[Session], object]) -> None:
        """Write through a session: what is read afterwards is what the database has, which is something new."""
        for identity in (1, 2):
            self.prove_cached(identity)
        with self.maker() as session:
            write(session)
            session.commit()
        assert self.row() != "old"
        for identity in (1, 2):
            assert self.name(identity) == self.row(identity)


@contextmanager
def hook(engine: Engine, cache: Store) -> Iterator[Hooked]:
    """Make the tables anew, with two persons, and attach a hook."""
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    Outbox().create(engine)
    other, store = create_engine(engine.url), ChainedStore([cache, SqlAlchemyStore(engine=engine)])
    maker: sessionmaker[Session] = sessionmaker(engine, class_=type("Watched", (Session,), {}))
    with Session(other) as session:
        session.add_all([Person(id=1), Person(id=2)])
        session.commit()
    sync = SessionSync(store).attach(maker)
    yield Hooked(engine, other, store, maker, sync)
    sync.detach()
    store.close()
    other.dispose()
