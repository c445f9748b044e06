"""Session classes that come and go."""

import gc
from pathlib import Path
from weakref import ref

from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session, sessionmaker

from stockstore import ChainedStore, ProcessMemoryStore, SqlAlchemyStore
from stockstore_ext.sqlalchemy import SessionSync
from stockstore_ext.sqlalchemy.read_through.listeners import CLASSES
from tests.read_through.models import Base, Item


def test_those_of_many_sessionmakers(tmp_path: Path) -> None:
    """An application that makes a sessionmaker each time does not fill the memory with their classes."""
    engine = create_engine(f"sqlite:///{tmp_path}/items.db")
    Base.metadata.create_all(engine)
    above: type[Session] = type("Above", (Session,), {})
    with ChainedStore([ProcessMemoryStore(max_staleness=None), SqlAlchemyStore(engine=engine)]) as store:
        SessionSync(store, read_through=True).attach(above)
        made = []
        for _ in range(CLASSES + 10):
            maker = sessionmaker(engine, class_=above)
            made.append(ref(maker.class_))
            with maker() as session:
                assert session.get(Item, 1) is None
                assert session.scalars(select(Item).limit(1)).all() == []
        del maker, session
        gc.collect()
        assert len([cls for cls in made if cls() is not None]) <= CLASSES // 2
    engine.dispose()
