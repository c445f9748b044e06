"""Process memory in a chain, whose user is interrupted at a bad moment."""

import gc
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from stockstore import ChainedStore, ProcessMemoryStore, SqlAlchemyStore
from stockstore.coherence.commit import Commit


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="old")


@pytest.fixture
def memory() -> ProcessMemoryStore:
    """The memory of these tests."""
    return ProcessMemoryStore(max_staleness=None)


@pytest.fixture
def chain(sqlite_engine: Engine, memory: ProcessMemoryStore) -> Iterator[ChainedStore]:
    """The memory over a database, both with one row."""
    Base.metadata.create_all(sqlite_engine)
    chain = ChainedStore([memory, SqlAlchemyStore(engine=sqlite_engine)])
    chain.put(Item(id=1))
    assert name_in(memory) == "old"
    yield chain
    Base.metadata.drop_all(sqlite_engine)


def name_in(store: ProcessMemoryStore | ChainedStore) -> str | None:
    """Give the name of the row."""
    item = store.get(Item, 1)
    return None if item is None else item.name


def test_a_put_that_is_cut_off_before_its_end(chain: ChainedStore, memory: ProcessMemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal's exception between commit and release leaves no marker behind for ever: the row is kept again."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Commit, "finish", interrupt)
        with pytest.raises(KeyboardInterrupt):
            chain.put(Item(id=1, name="new"))
    gc.collect()
    assert name_in(chain) == "new"
    assert name_in(memory) == "new"


def test_a_put_in_the_middle_of_a_step(chain: ChainedStore, memory: ProcessMemoryStore) -> None:
    """A finalizer or a signal's handler that puts a row while its own thread works on the memory reads what it put."""
    seen = []

    def handler(_dropped: list[object]) -> int:
        chain.put(Item(id=1, name="new"))
        seen.append(name_in(chain))
        return 0

    memory._spaces.cells.alone(handler)
    assert seen == ["new"]
    assert name_in(chain) == "new"
