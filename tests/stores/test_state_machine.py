"""A chain against a dict: whatever is put, deleted, dropped, evicted and expired, a read gives what the dict has."""

import os
import time
from typing import Any, TypeAlias

import pytest
import time_machine
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from redis import Redis
from sqlalchemy import create_engine

from stockstore import ChainedStore, MappingStore, ProcessMemoryStore, RedisStore, SqlAlchemyStore, Store
from stockstore.testing import metadata
from stockstore.testing.samples import MappedGuest, MappedMember, MappedUser, PlainUser
from stockstore.testing.store_basics import fields
from tests.stores.conftest import follow_wall_clock

pytestmark = pytest.mark.sa_agnostic

LIFETIME = 99.0
CLASSES: dict[bool, list[Any]] = {
    False: [PlainUser] * 6,
    True: [MappedUser, MappedUser, MappedMember, MappedMember, MappedGuest, MappedGuest],
}
Place: TypeAlias = tuple[bool, int]

MAPPED = st.booleans()
IDS = st.integers(0, 5)
ROWS = st.fixed_dictionaries(
    {
        "email": st.sampled_from([None, "", "a", "b", "A b:c", "ü"]),
        "tenant": st.sampled_from([None, 1, 2]),
        "username": st.sampled_from([None, "x", "y"]),
        "visits": st.integers(0, 3),
    }
)


class ChainMachine(RuleBasedStateMachine):
    """Memory for three objects, a middle tier, a database; the middle is the origin of the plain class, and forgets."""

    def middle(self) -> Store:
        """Give the middle tier, empty."""
        return MappingStore({}, lifetime=LIFETIME)

    @initialize()
    def start(self) -> None:
        """Start with empty tiers and a dict of rows, each with the moment of its end."""
        self.travel = time_machine.travel(time.time(), tick=False)
        self.clock = self.travel.start()
        engine = create_engine("sqlite://")
        metadata.create_all(engine)
        self.memory, self.cache = ProcessMemoryStore(maxsize=3, lifetime=LIFETIME / 3), self.middle()
        self.chain = ChainedStore([self.memory, self.cache, SqlAlchemyStore(engine=engine)])
        self.rows: dict[Place, dict[str, Any]] = {}
        self.ends: dict[Place, float] = {}
        self.expired: set[Place] = set()
        """Rows that no read finds; a mapping drops nothing by itself, so a delete may still count them."""
        self.engine = engine

    # -- the model ------------------------------------------------------------------------------

    def keys_of(self, place: Place) -> list[dict[str, Any]]:
        """Give the keys of a row that find it."""
        row = self.rows[place]
        keys = [{"id": place[1]}, {"email": row["email"]}, {"tenant": row["tenant"], "username": row["username"]}]
        return [key for key in keys if None not in key.values()]

    def expected(self, mapped: bool, cls: type, key: dict[str, Any]) -> tuple[object, ...] | None:
        """Give the values that a read gives."""
        for place, row in self.rows.items():
            if place[0] is mapped and key.items() <= {"id": place[1], **row}.items() and issubclass(CLASSES[mapped][place[1]], cls):
                return (place[1], row["email"], row["tenant"], row["username"], row["visits"])
        return None

    def take(self, place: Place, row: dict[str, Any]) -> Any:
        """Put a row into the dict, with None for keys that others have, and give its object."""
        others = [key for other in self.rows if other[0] is place[0] and other != place for key in self.keys_of(other)]
        if {"email": row["email"]} in others:
            row = {**row, "email": None}
        if {"tenant": row["tenant"], "username": row["username"]} in others:
            row = {**row, "username": None}
        self.rows[place] = row
        self.ends[place] = time.time() + LIFETIME
        return CLASSES[place[0]][place[1]](id=place[1], **row)

    def forget(self, *places: Place) -> None:
        """Drop rows from the dict."""
        for place in places:
            self.rows.pop(place, None)

    # -- writing --------------------------------------------------------------------------------

    @rule(mapped=MAPPED, number=IDS, row=ROWS)
    def put(self, mapped: bool, number: int, row: dict[str, Any]) -> None:
        """Put one object, new or changed, its keys too."""
        self.chain.put(self.take((mapped, number), row))

    @rule(puts=st.lists(st.tuples(MAPPED, IDS, ROWS), max_size=5))
    def batch_put(self, puts: list[tuple[bool, int, dict[str, Any]]]) -> None:
        """Put several, one row more than once too."""
        self.chain.batch_put([self.take((mapped, number), row) for mapped, number, row in puts])

    @rule(mapped=MAPPED, one=IDS, two=IDS, together=st.booleans())
    def swap(self, mapped: bool, one: int, two: int, together: bool) -> None:
        """Exchange the emails of two rows, in one batch or one after the other."""
        places = [(mapped, one), (mapped, two)]
        if one == two or not all(place in self.rows for place in places):
            return
        first, second = (dict(self.rows[place]) for place in places)
        first["email"], second["email"] = second["email"], first["email"]
        self.rows[places[0]]["email"] = None
        users = [self.take(places[1], second), self.take(places[0], first)]
        if together:
            self.chain.batch_put(users)
        else:
            for user in users:
                self.chain.put(user)

    @rule(mapped=MAPPED, number=IDS, loaded=st.booleans())
    def delete_object(self, mapped: bool, number: int, loaded: bool) -> None:
        """Delete an object: one that was read, or a new one with the key alone."""
        cls, there = CLASSES[mapped][number], (mapped, number) in self.rows
        target = (self.chain.get(cls, number) if loaded else None) or cls(id=number)
        assert self.chain.delete(target) in {there, (mapped, number) in self.expired or there}
        self.forget((mapped, number))

    @rule(mapped=MAPPED, number=IDS, which=st.integers(0, 2), by_base=st.booleans())
    def delete_by_key(self, mapped: bool, number: int, which: int, by_base: bool) -> None:
        """Delete by any of a row's keys, by its own class or the base."""
        place = (mapped, number)
        keys = self.keys_of(place) if place in self.rows else [{"id": number}]
        cls = CLASSES[mapped][0 if by_base else number]
        assert self.chain.delete(cls, keys[which % len(keys)]) in {place in self.rows, place in self.expired or place in self.rows}
        self.forget(place)

    @rule(mapped=MAPPED, numbers=st.lists(IDS, max_size=4))
    def batch_delete(self, mapped: bool, numbers: list[int]) -> None:
        """Delete several, repeats and absent ones too."""
        places = {(mapped, number) for number in numbers}
        there = len(places & self.rows.keys())
        assert there <= self.chain.batch_delete(CLASSES[mapped][0], numbers) <= there + len(places & self.expired)
        self.forget(*places)

    # -- what takes away ------------------------------------------------------------------------

    @rule(of_class=st.booleans())
    def clear(self, of_class: bool) -> None:
        """Clear the chain: the plain objects are gone, the rows of the database are not."""
        self.chain.clear(PlainUser if of_class else None)
        self.forget(*[place for place in self.rows if not place[0]])

    @rule(cls=st.sampled_from([None, MappedUser, PlainUser]))
    def clear_memory(self, cls: type | None) -> None:
        """Empty the top tier behind the chain's back."""
        self.memory.clear(cls)

    @rule()
    def clear_middle(self) -> None:
        """Drop the mapped objects of the middle tier behind the chain's back."""
        self.cache.clear(MappedUser)

    @rule(seconds=st.sampled_from([10.0, 40.0]))
    def wait(self, seconds: float) -> None:
        """Let entries expire: the plain class has no other place than the tiers that forget."""
        self.clock.shift(seconds)
        over = {place for place in self.rows if not place[0] and self.ends[place] <= time.time()}
        self.expired |= over
        self.forget(*over)

    # -- reading --------------------------------------------------------------------------------

    @rule(mapped=MAPPED, number=IDS, email=st.sampled_from(["", "a", "b", "A b:c", "ü"]), as_number=st.integers(0, 5))
    def get(self, mapped: bool, number: int, email: str, as_number: int) -> None:
        """Read by each sort of key, by the row's class, its base, or a sibling."""
        cls = CLASSES[mapped][as_number]
        keys: list[dict[str, Any]] = [{"id": number}, {"email": email}, {"tenant": 1 + number % 2, "username": "xy"[number % 2]}]
        for key in keys:
            assert fields(self.chain.get(cls, key)) == self.expected(mapped, cls, key)
            assert self.chain.contains(cls, key) is (self.expected(mapped, cls, key) is not None)

    @rule(mapped=MAPPED, numbers=st.lists(IDS, max_size=6))
    def batch_get(self, mapped: bool, numbers: list[int]) -> None:
        """Read a batch of mixed and repeated keys."""
        keys = [key for number in numbers if (mapped, number) in self.rows for key in self.keys_of((mapped, number))]
        keys += [{"id": number} for number in numbers] + [{"email": "nobody"}]
        cls = CLASSES[mapped][0]
        assert [fields(user) for user in self.chain.batch_get(cls, keys)] == [self.expected(mapped, cls, key) for key in keys]

    def teardown(self) -> None:
        """Read everything, then everything without the caches' mapped objects, and let the clock go on."""
        try:
            for mapped in CLASSES:
                self.batch_get(mapped, list(range(6)))
            self.memory.clear()
            self.cache.clear(MappedUser)
            for mapped in CLASSES:
                self.batch_get(mapped, list(range(6)))
        finally:
            self.travel.stop()
            self.chain.close()
            self.engine.dispose()


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Process memory follows the clock that the machine moves."""
    follow_wall_clock(monkeypatch)


def _run(machine: type[ChainMachine], examples: int) -> None:
    # In CI the same examples each time, so that a failure is the change's own.
    profile = settings(
        max_examples=examples,
        stateful_step_count=30,
        deadline=None,
        derandomize="CI" in os.environ,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=profile)


def test_a_chain_with_a_mapping_is_a_dict() -> None:
    """Memory over a mapping over SQLite gives what a dict gives."""
    _run(ChainMachine, 60)


def test_a_chain_with_redis_is_a_dict(redis_url: str) -> None:
    """Memory over Redis over SQLite gives what a dict gives."""

    class RedisMachine(ChainMachine):
        def middle(self) -> Store:
            with Redis.from_url(redis_url) as client:
                client.flushdb()
            return RedisStore(redis_url, lifetime=LIFETIME)

    _run(RedisMachine, 25)
