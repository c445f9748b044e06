"""Batches of which process memory, the first tier, has all: found there at once, and counted once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from stockstore import ChainedStore, MappingStore, NotKeyedError, ProcessMemoryStore, UnknownKeyError
from stockstore.instrumentation import Event, hooked
from tests.stores.conftest import Shop
from tests.stores.shop import Customer, columns_of


@dataclass
class Part:
    __keys__: ClassVar = ["id", ("row", "column")]
    id: int
    row: int = 0
    column: int = 0


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[Any]]:
    """The keys of each batch for which chains asked their tiers one by one."""
    batches: list[list[Any]] = []
    fetch = ChainedStore.batch_fetch

    def noting(self: ChainedStore, cls: type, keys: Sequence[Any], *, session: Session | None = None) -> Any:
        batches.append(list(keys))
        return fetch(self, cls, keys, session=session)

    monkeypatch.setattr(ChainedStore, "batch_fetch", noting)
    return batches


@pytest.fixture
def parts() -> list[Part]:
    """Ten plain objects."""
    return [Part(number, number, 0) for number in range(10)]


@pytest.fixture
def chain(parts: list[Part]) -> ChainedStore:
    """A chain that has them, in memory too."""
    chain = ChainedStore([ProcessMemoryStore(max_staleness=None), MappingStore({})])
    chain.batch_put(parts)
    return chain


def _counts(chain: ChainedStore) -> list[tuple[int, int]]:
    stats = chain.stats()
    return [(each.hits, each.misses) for each in (stats, *stats.tiers)]


def test_plain_objects_are_found_at_once(chain: ChainedStore, parts: list[Part], asked: list[list[Any]]) -> None:
    """By values or dicts, from the second batch on, with no look-up of one object before; each is a hit."""
    numbers = [part.id for part in parts]
    assert chain.batch_get(Part, numbers) == parts
    assert asked == [numbers]
    found = chain.batch_get(Part, numbers)
    assert [id(one) for one in found] == [id(part) for part in parts]
    assert chain.batch_get(Part, [{"id": number} for number in numbers]) == parts
    assert chain.batch_get(Part, (number for number in (5, 5, 3))) == [parts[5], parts[5], parts[3]]
    assert asked == [numbers]
    assert _counts(chain) == [(33, 0), (33, 0), (0, 0)]


@pytest.mark.parametrize("missing", [0, 4, 9])
def test_what_memory_has_not_is_asked_of_the_next_tier(
    chain: ChainedStore, parts: list[Part], asked: list[list[Any]], missing: int
) -> None:
    """With the whole batch, of which each object is counted once."""
    memory, below = chain.tiers
    numbers = [part.id for part in parts]
    chain.batch_get(Part, numbers)
    memory.delete(Part, missing)
    assert chain.batch_get(Part, numbers) == parts
    assert asked == [numbers, numbers]
    assert _counts(chain) == [(20, 0), (19, 1), (1, 0)]
    memory.delete(Part, missing)
    below.delete(Part, missing)
    assert chain.batch_get(Part, numbers)[missing] is None
    assert _counts(chain) == [(29, 1), (28, 2), (1, 1)]


def test_keys_of_several_names_and_mixed_ones(chain: ChainedStore, parts: list[Part]) -> None:
    """Are found the longer way."""
    for _ in range(2):
        assert chain.batch_get(Part, [{"row": 3, "column": 0}, {"id": 4}, 5, {"id": 99}]) == [parts[3], parts[4], parts[5], None]
        assert chain.batch_get(Part, []) == []


def test_a_changed_object_is_not_found_by_its_old_key(chain: ChainedStore, parts: list[Part]) -> None:
    """In a batch as alone."""
    for _ in range(2):
        assert chain.batch_get(Part, [1, 2]) == parts[1:3]
    parts[2].id = 77
    assert chain.batch_get(Part, [1, 2])[0] is parts[1]
    assert chain.get(Part, 2) is chain.batch_get(Part, [1, 2])[1]


def test_bad_input_is_refused_as_ever(chain: ChainedStore) -> None:
    """Before and after batches were learned."""
    for _ in range(2):
        with pytest.raises(NotKeyedError):
            chain.batch_get(int, [1])
        with pytest.raises(UnknownKeyError, match="other"):
            chain.batch_get(Part, [{"other": 1}])
        assert chain.batch_get(Part, [1])


def test_a_hook_hears_of_every_hit(chain: ChainedStore, asked: list[list[Any]]) -> None:
    """While there is one the tiers are asked one by one; when it has gone the next batch learns anew."""
    events: list[Event] = []
    for _ in range(2):
        chain.batch_get(Part, [1, 2])
    asked.clear()
    with hooked(events.append):
        chain.batch_get(Part, [1, 2])
    for _ in range(3):
        chain.batch_get(Part, [1, 2])
    assert (asked, [event.count for event in events if event.kind == "hit"]) == ([[1, 2]] * 2, [2])


def test_rows_are_found_at_once(shop: Shop, asked: list[list[Any]]) -> None:
    """As they were cached, as objects of their own; out of a session and in one."""
    shop.chain.batch_put([Customer(id=number, name=f"c{number}") for number in (1, 2, 3)])
    wanted = [columns_of(one) for one in shop.chain.batch_get(Customer, [1, 2, 3]) if one]
    with shop.engine.begin() as connection:
        connection.execute(update(Customer).values(name="unseen"))
    asked.clear()
    first, second = (shop.chain.batch_get(Customer, [1, 2, 3]) for _ in range(2))
    assert [columns_of(one) for one in first if one] == [columns_of(one) for one in second if one] == wanted
    assert {id(one) for one in first}.isdisjoint(map(id, second))
    with Session(shop.engine) as session:
        attached = shop.chain.batch_get(Customer, [1, 2], session=session)
        assert [columns_of(one) for one in attached if one] == wanted[:2]
        assert [one in session for one in attached] == [True, True]
    assert asked == []


def test_a_session_that_has_changed_a_row_reads_it_itself(shop: Shop) -> None:
    """As the session has it, and others as the caches do."""
    shop.chain.batch_put([Customer(id=number, name=f"c{number}") for number in (1, 2)])
    with Session(shop.engine) as session:
        changed = session.get(Customer, 1)
        assert changed is not None
        changed.name = "changed"
        session.flush()
        session.expunge(changed)
        found = shop.chain.batch_get(Customer, [1, 2], session=session)
        assert [one.name for one in found if one] == ["changed", "c2"]
        assert [one.name for one in shop.chain.batch_get(Customer, [1, 2]) if one] == ["c1", "c2"]
        session.rollback()
