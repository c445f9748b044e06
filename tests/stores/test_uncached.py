"""Classes that no cache may keep."""

import pytest
from sqlalchemy import Engine, create_engine, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.pool import StaticPool

from stockstore import ChainedStore, ConfigurationError, ProcessMemoryStore, SqlAlchemyStore
from stockstore.keys import keys_of


class Base(DeclarativeBase):
    pass


class Secret(Base):
    __tablename__ = "secrets"
    __cache__ = False

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


class Plain(Base):
    __tablename__ = "plains"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


@pytest.fixture
def engine() -> Engine:
    """An empty database that only this process has."""
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    Base.metadata.create_all(engine)
    return engine


@pytest.mark.parametrize(("cls", "kept"), [(Plain, "old"), (Secret, "new")])
def test_only_classes_that_allow_it_are_kept(engine: Engine, cls: type[Plain] | type[Secret], kept: str) -> None:
    """A chain reads a class with ``__cache__ = False`` from the database each time, also after a put."""
    store = ChainedStore([ProcessMemoryStore(), SqlAlchemyStore(engine=engine)])
    store.put(cls(id=1, text="old"))
    assert getattr(store.get(cls, 1), "text", None) == "old"
    with engine.begin() as connection:
        connection.execute(update(cls).values(text="new"))
    assert getattr(store.get(cls, 1), "text", None) == kept


def test_a_chain_of_caches_says_why_it_cannot_hold_it() -> None:
    """The error tells of ``__cache__``, and does not ask for the cache tier that there is."""
    chain = ChainedStore([ProcessMemoryStore()])
    with pytest.raises(ConfigurationError, match=r"holds .*Secret; it says __cache__ = False, so that no cache keeps it, and needs a tier"):
        chain.get(Secret, 1)


def test_another_value_is_refused() -> None:
    """Nothing but True and False is taken."""

    class Odd:
        __keys__ = ["id"]
        __cache__ = "no"

    with pytest.raises(ConfigurationError, match=r"Odd\.__cache__ is True or False, not 'no'"):
        keys_of(Odd)
