"""Strict reads of shards: none is answered by a memory that may be old."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, update

from stockstore import ChainedStore, ProcessMemoryStore, ShardedStore, SqlAlchemyStore, Store
from tests.stores.listed import Base, Item

pytestmark = pytest.mark.sa_agnostic
IDS = [*range(1, 9)]


@pytest.fixture
def engines(tmp_path: Path) -> Iterator[list[Engine]]:
    """Two databases that others write as well."""
    engines = [create_engine(f"sqlite:///{tmp_path / name}.db") for name in ("a", "b")]
    for engine in engines:
        Base.metadata.create_all(engine)
    yield engines
    for engine in engines:
        engine.dispose()


def memory() -> ProcessMemoryStore:
    """Give a memory that is believed for longer than a test takes."""
    return ProcessMemoryStore(channel=None, max_staleness=600)


def chains(engines: list[Engine]) -> Store:
    """A memory above each database."""
    # By names that are the same in each run, as the rows are spread by them.
    return ShardedStore(
        {name: ChainedStore([memory(), SqlAlchemyStore(engine=engine)]) for name, engine in zip("ab", engines, strict=True)}
    )


def memories(engines: list[Engine]) -> Store:
    """Several memories above all databases."""
    return ChainedStore([ShardedStore([memory(), memory()]), ShardedStore([SqlAlchemyStore(engine=engine) for engine in engines])])


@pytest.mark.parametrize("make", [chains, memories])
def test_a_strict_read_is_the_databases(make: type[Store], engines: list[Engine]) -> None:
    """By each verb; others give what was remembered, and go on doing so."""
    with make(engines) as store:  # type: ignore[call-arg]
        store.batch_put([Item(id=number, code=f"c{number}", owner_id=None, tenant=7) for number in IDS])
        for _ in range(2):
            assert plain(store) == {"old"}
        for engine in engines:
            with engine.begin() as connection:
                assert connection.execute(update(Item).values(title="new")).rowcount > 0
        assert plain(store) == {"old"}
        for _ in range(2):
            assert strict(store) == {"new"}
        assert plain(store) == {"old"}
        assert store.stats().errors == 0


def plain(store: Store) -> set[str]:
    """Give the titles that any read finds."""
    found = [*store.batch_get(Item, IDS), *[store.get(Item, code=f"c{number}") for number in IDS]]
    return {item.title for item in [*found, *store.get_all(Item, tenant=7, kind="book")] if item is not None}


def strict(store: Store) -> set[str]:
    """Give those that strict ones find."""
    assert isinstance(store, (ShardedStore, ChainedStore))
    found = [store.get(Item, number, strict=True) for number in IDS] + [store.get(Item, code=f"c{number}", strict=True) for number in IDS]
    found += store.batch_get(Item, IDS, strict=True)
    listed = store.get_all(Item, tenant=7, kind="book", strict=True)
    assert [item.id for item in listed] == IDS
    assert None not in found
    return {item.title for item in [*found, *listed] if item is not None}
