"""What SQLAlchemy's own tests of its ORM found wrong with sessions that read through the caches."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, select, text
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


@pytest.fixture
def maker(engine: Engine, namespace: str) -> Iterator[sessionmaker[Session]]:
    """Sessions that read through process memory."""
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    store = ChainedStore([ProcessMemoryStore(max_staleness=None, namespace=namespace), SqlAlchemyStore(engine=engine)])
    made = sessionmaker(engine, class_=type("Watched", (Session,), {}))
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
