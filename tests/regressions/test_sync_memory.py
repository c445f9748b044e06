"""What is remembered of statements, which has to have an end."""

import gc
import tracemalloc

from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from stockstore import ChainedStore, ProcessMemoryStore, SqlAlchemyStore
from stockstore.mapped.statements import reading_of
from stockstore_ext.sqlalchemy import SessionSync


def test_long_texts_are_not_remembered() -> None:
    """Texts full of values leave nothing behind, and short ones are read once."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(50):
            assert not reading_of(f"INSERT INTO users VALUES ({number}, '{'x' * 200_000}')").harmless
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 1_000_000
    assert reading_of("SELECT 1") is reading_of("SELECT 1")


def test_long_statements_of_a_session_are_not_remembered() -> None:
    """Nothing of the hook keeps them."""
    engine = create_engine("sqlite://", connect_args={"cached_statements": 0})
    sessions = type("Sessions", (Session,), {})
    sync = SessionSync(ChainedStore([ProcessMemoryStore(), SqlAlchemyStore(engine=engine)])).attach(sessions)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        with sessions(engine) as session:
            for number in range(50):
                session.connection().exec_driver_sql(f"SELECT {number}, '{'x' * 200_000}'")
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        sync.detach()
        engine.dispose()
    assert after - before < 3_000_000
