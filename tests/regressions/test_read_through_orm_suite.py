"""What SQLAlchemy's own tests of its ORM found wrong with sessions that read through the caches."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Dialect, Engine, String, TypeDecorator, select, text
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from stockstore import ChainedStore, ProcessMemoryStore, SqlAlchemyStore
from stockstore_ext.sqlalchemy import SessionSync


class Base(DeclarativeBase):
    pass


class Shape(Base):
    __tablename__ = "shapes"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "shape"}
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str | None]


class Code:
    """A value of an application's own."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Code) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


class Codes(TypeDecorator[Code]):
    impl = String
    cache_ok = True

    def process_bind_param(self, value: Code | None, _dialect: Dialect) -> str | None:
        """Give the text."""
        return None if value is None else value.text

    def process_result_value(self, value: str | None, _dialect: Dialect) -> Code | None:
        """Give the value."""
        return None if value is None else Code(value)


class Coded(Base):
    __tablename__ = "coded"
    code: Mapped[Code] = mapped_column(Codes, primary_key=True)
    text: Mapped[str]


@pytest.fixture
def maker(engine: Engine, namespace: str) -> Iterator[sessionmaker[Session]]:
    """Sessions that read through process memory."""
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    store = ChainedStore([ProcessMemoryStore(max_staleness=None, namespace=namespace), SqlAlchemyStore(engine=engine)])
    made: sessionmaker[Session] = sessionmaker(engine, class_=type("Watched", (Session,), {}))
    sync = SessionSync(store, read_through=True).attach(made)
    yield made
    sync.detach()
    store.close()


@pytest.mark.parametrize("by_get", [True, False])
def test_row_that_does_not_tell_its_class(maker: sessionmaker[Session], by_get: bool) -> None:
    """It is refused as SQLAlchemy refuses it, each time."""
    with maker() as session:
        session.execute(text("INSERT INTO shapes (id, kind) VALUES (1, NULL)"))
        session.commit()
    for _ in range(2):
        with maker() as session, pytest.raises(InvalidRequestError, match="is NULL"):
            session.get(Shape, 1) if by_get else session.scalars(select(Shape).where(Shape.id == 1)).all()


def test_refresh_by_a_key_that_caches_have_not(maker: sessionmaker[Session]) -> None:
    """An object whose key is of a class that no key of a cache can be is refreshed from the database."""
    with maker() as session:
        session.add(Coded(code=Code("a"), text="old"))
        session.commit()
        found = session.get_one(Coded, Code("a"))
        session.expire(found)
        assert found.text == "old"
        session.expire(found)
        found.text = "new"
        session.commit()
        assert found.text == "new"
