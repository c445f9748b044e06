"""Readers and writers of one list that meet at the worst moment, one at a time: several writers have to do with it at once."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from stockstore import ChainedStore, MemcacheStore, ProcessMemoryStore, RedisStore, Store
from stockstore.evidence import Outbox
from tests.stores.halting import HaltingWrites
from tests.stores.listed import Item, Owner, create_tables, empty, ids

ON_POSTGRES = pytest.mark.parametrize("database_url", ["postgres"], indirect=True)


class Halting(HaltingWrites):
    """Halts the reads of lists."""

    def batch_members(self, cls: type, keys: Sequence[Any], *, session: Any = None) -> list[Any]:
        """Read, and halt before the lists reach a cache."""
        found = super().batch_members(cls, keys, session=session)
        self._halt("after_read")
        return found


@pytest.fixture(params=["memory", "redis", "memcached", "memory redis", "memory memcached"])
def caches(request: pytest.FixtureRequest) -> Iterator[Sequence[Store]]:
    """Each sort of cache, empty, and two of them as two levels."""
    made: dict[str, Callable[[], Store]] = {
        "memory": lambda: ProcessMemoryStore(max_staleness=None),
        "redis": lambda: RedisStore(request.getfixturevalue("redis_url"), namespace=uuid.uuid4().hex),
        "memcached": lambda: MemcacheStore(request.getfixturevalue("memcached_address"), namespace=uuid.uuid4().hex),
    }
    stores = [made[name]() for name in str(request.param).split()]
    yield stores
    for store in stores:
        store.close()


@pytest.fixture(scope="module")
def tables(engine: Engine) -> Engine:
    """The engine of a database that has the tables, and the outbox, without which SQLite would be fast."""
    create_tables(engine)
    Outbox().create(engine)
    return engine


@pytest.fixture
def origin(tables: Engine) -> Halting:
    """A database in which one owner has one item, that no cache has seen yet."""
    empty(tables)
    with Session(tables) as session:
        session.add(Owner(id=1))
        session.flush()
        session.add(Item(id=1, owner_id=1))
        session.commit()
    return Halting(engine=tables)


@pytest.fixture
def chain(caches: Sequence[Store], origin: Halting) -> ChainedStore:
    """The caches over the database."""
    return ChainedStore([*caches, origin])


def is_right(chain: ChainedStore, expected: list[int]) -> None:
    """Check what is read at once, and what is cached by then."""
    for _ in range(3):
        assert ids(chain, Item, owner_id=1) == expected


def test_a_fill_that_a_writer_has_overtaken_is_refused(chain: ChainedStore, origin: Halting) -> None:
    """What was read before a row came is not kept after it."""
    origin.after_read = lambda: chain.put(Item(id=2, owner_id=1))
    assert ids(chain, Item, owner_id=1) == [1]
    is_right(chain, [1, 2])


def test_a_fill_that_a_wide_writer_has_overtaken_is_refused(chain: ChainedStore, origin: Halting) -> None:
    """A list read before its class was cleared is not kept after it."""

    def meanwhile() -> None:
        chain.tiers[-1].put(Item(id=2, owner_id=1))
        chain.clear(Item)

    origin.after_read = meanwhile
    assert ids(chain, Item, owner_id=1) == [1]
    is_right(chain, [1, 2])


def test_a_reader_behind_a_marker_fills_nothing(chain: ChainedStore, origin: Halting) -> None:
    """Who reads between the marker and the commit sees the list as it was, and keeps nothing."""
    is_right(chain, [1])
    seen: list[list[int]] = []
    origin.before_commit = lambda: seen.append(ids(chain, Item, owner_id=1))
    chain.put(Item(id=2, owner_id=1))
    assert seen == [[1]]
    is_right(chain, [1, 2])


def test_a_reader_after_the_commit_sees_it(chain: ChainedStore, origin: Halting) -> None:
    """Who reads after the commit, and before the caches were told of it, has the list from the database."""
    is_right(chain, [1])
    seen: list[list[int]] = []
    origin.after_commit = lambda: seen.append(ids(chain, Item, owner_id=1))
    chain.put(Item(id=2, owner_id=1))
    assert seen == [[1, 2]]
    is_right(chain, [1, 2])


@ON_POSTGRES
def test_the_first_of_two_writers_to_end_leaves_the_marker_of_the_other(chain: ChainedStore, origin: Halting) -> None:
    """Writers of two rows of a list need not wait for one another; no list is kept before the last of them has ended."""
    is_right(chain, [1])
    seen: list[list[int]] = []

    def meanwhile() -> None:
        chain.put(Item(id=3, owner_id=1))
        seen.extend(ids(chain, Item, owner_id=1) for _ in range(2))

    origin.before_commit = meanwhile
    chain.put(Item(id=2, owner_id=1))
    assert seen == [[1, 3], [1, 3]]
    is_right(chain, [1, 2, 3])


@ON_POSTGRES
def test_a_lease_between_two_writers_is_lost(chain: ChainedStore, origin: Halting) -> None:
    """A reader who has read what one writer has committed keeps nothing where another has marked the list since."""

    def meanwhile() -> None:
        chain.put(Item(id=2, owner_id=1))
        chain.put(Item(id=3, owner_id=1))

    origin.after_read = meanwhile
    assert ids(chain, Item, owner_id=1) == [1]
    is_right(chain, [1, 2, 3])


@ON_POSTGRES
def test_a_writer_that_is_refused_leaves_the_list_to_the_other(chain: ChainedStore, origin: Halting) -> None:
    """A rolled back writer takes its own marker away, and nobody else's."""
    is_right(chain, [1])

    def fail() -> None:
        chain.put(Item(id=3, owner_id=1))
        raise RuntimeError("no")

    origin.before_commit = fail
    with pytest.raises(RuntimeError):
        chain.put(Item(id=2, owner_id=1))
    is_right(chain, [1, 3])
