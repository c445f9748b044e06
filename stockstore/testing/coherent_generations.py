"""What a backend's generations must do, and what clears them, as tests."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from stockstore.backends.coherent import CoherentBackend
from stockstore.cells import (
    BODY_AT,
    GENERATION_SIZE,
    NO_GENERATION,
    generation_of,
    tickets_of,
)
from stockstore.testing.coherent_basics import (
    MANY,
    ONE,
    PATIENCE,
    THREADS,
    TWO,
    CoherentBasics,
    Key,
    bodies,
    body,
    fresh_token,
    item,
    lease,
)


class CoherentGenerations(CoherentBasics):
    """Generations and clear."""

    # -- generations ----------------------------------------------------------------------------

    def test_a_generation_is_made_once_and_shared(
        self, backend: CoherentBackend, other: CoherentBackend, key: Key, generation: str
    ) -> None:
        """The first lease of a class makes its generation; all later ones, and reads, are given the same."""
        first = backend.lease_many({key(1): None}, fresh_token(), generation)
        assert first.granted == {key(1)}
        assert first.generation not in (None, NO_GENERATION)
        assert len(first.generation or b"") == GENERATION_SIZE
        assert other.lease_many({key(2): None}, fresh_token(), generation).generation == first.generation
        assert generation_of(other.get_many([generation])[generation]) == first.generation

    def test_threads_that_race_for_a_generation_share_one(
        self, backend: CoherentBackend, other: CoherentBackend, key: Key, generation: str
    ) -> None:
        """Readers at the same time are all given one generation."""
        start = Barrier(THREADS)

        def race(thread: int) -> bytes | None:
            start.wait(PATIENCE)
            return (backend, other)[thread % 2].lease_many({key(thread): None}, fresh_token(), generation).generation

        with ThreadPoolExecutor(THREADS) as threads:
            tokens = list(threads.map(race, range(THREADS)))
        assert len(set(tokens)) == 1
        assert generation_of(backend.get_many([generation])[generation]) == tokens[0]

    def test_a_marked_generation_grants_nothing(self, backend: CoherentBackend, other: CoherentBackend, key: Key, generation: str) -> None:
        """While a writer of the whole class is at work there is no generation and no lease."""
        backend.lease_many({key(1): None}, fresh_token(), generation)
        backend.put_many([item(key(2), b"two")])
        backend.mark_many([], ONE, [generation])
        answer = other.lease_many({key(2): None, key(3): None}, fresh_token(), generation)
        assert (answer.granted, answer.generation) == (frozenset(), None)
        assert {name: cell[BODY_AT:] for name, cell in answer.cells.items()} == {key(2): body(b"two")}
        assert bodies(backend, key(3), generation) == {generation: b"W-" + ONE}

    def test_a_mark_tells_the_generations(self, backend: CoherentBackend, other: CoherentBackend, key: Key, namespace: str) -> None:
        """A mark gives the generations that stand, makes those that are absent, and leaves out those that are marked."""
        labels = ("User", "Order", "Seat")
        user, order, seat = (f"{namespace}:{label}:" for label in labels)
        made = [backend.lease_many({key(1, label): None}, fresh_token(), f"{namespace}:{label}:").generation for label in labels[:2]]
        other.mark_many([], TWO, [order])
        found = backend.mark_many([key(1)], ONE, [key(2)], [user, order, seat])
        assert found == {user: made[0], seat: generation_of(other.get_many([seat])[seat])}
        assert other.lease_many({key(4, "Seat"): None}, fresh_token(), seat).generation == found[seat]
        assert other.mark_many([key(5)], TWO, (), [seat]) == {seat: found[seat]}
        assert backend.mark_many([], ONE, [user], [user]) == {}
        assert backend.mark_many([key(3)], ONE) == {}

    @pytest.mark.parametrize("end", ["commit", "rollback", "death"])
    def test_a_generation_that_a_mark_makes_is_a_new_one(
        self, backend: CoherentBackend, other: CoherentBackend, key: Key, generation: str, end: str
    ) -> None:
        """It is none that ever was, and stays whatever becomes of the writer."""
        old = backend.lease_many({key(1): None}, fresh_token(), generation).generation
        backend.invalidate_many([generation])
        made = backend.mark_many([key(2)], ONE, (), [generation])[generation]
        assert made not in (None, NO_GENERATION, old)
        if end != "death":
            backend.release_many([key(2)], ONE, committed=end == "commit")
        assert other.lease_many({key(3): None}, fresh_token(), generation).generation == made

    @pytest.mark.parametrize("committed", [True, False])
    def test_a_generation_after_its_writers_is_a_new_one(
        self, backend: CoherentBackend, other: CoherentBackend, key: Key, generation: str, committed: bool
    ) -> None:
        """Once all of its markers are released a generation is made anew, and is never one that was."""
        old = backend.lease_many({key(1): None}, fresh_token(), generation).generation
        backend.mark_many([], ONE, [generation])
        other.mark_many([], TWO, [generation])
        assert backend.release_many([generation], ONE, committed=committed) == 1
        assert backend.lease_many({key(2): None}, fresh_token(), generation).generation is None
        assert other.release_many([generation], TWO, committed=committed) == 1
        new = backend.lease_many({key(2): None}, fresh_token(), generation).generation
        assert new not in (None, NO_GENERATION, old)

    def test_an_invalidated_generation_is_made_anew(self, backend: CoherentBackend, key: Key, generation: str) -> None:
        """An invalidation takes the generation away."""
        old = backend.lease_many({key(1): None}, fresh_token(), generation).generation
        backend.invalidate_many([generation])
        assert backend.get_many([generation]) == {}
        assert backend.lease_many({key(2): None}, fresh_token(), generation).generation not in (None, NO_GENERATION, old)

    def test_a_class_without_generations_has_none(self, backend: CoherentBackend, key: Key, generation: str) -> None:
        """Where no generation is asked for, none is made."""
        assert backend.lease_many({key(1): None}, fresh_token(), "").generation == NO_GENERATION
        assert backend.get_many([generation]) == {}

    # -- clear ----------------------------------------------------------------------------------

    def test_clear_invalidates_a_namespace(self, backend: CoherentBackend, other: CoherentBackend, key: Key, namespace: str) -> None:
        """Values and leases of all classes go, nothing of a namespace whose name goes on from there."""
        outside = key(1, space=namespace + "2")
        backend.put_many([item(key(1), b"user"), item(key(1, "Order"), b"order"), item(outside, b"other")])
        token = lease(backend, key(2))
        other.clear(f"{namespace}:")
        assert bodies(backend, key(1), key(1, "Order"), key(2), outside) == {outside: body(b"other")}
        assert backend.fill_many([item(key(2), b"old")], token) == 0
        assert backend.get_many([key(2)]) == {}

    def test_clear_of_a_class_leaves_the_others(self, backend: CoherentBackend, key: Key, namespace: str) -> None:
        """Clearing a class drops no other class's keys, also where that one's label goes on from there."""
        backend.put_many([item(key(1), b"user"), item(key(1, "UserGroup"), b"group")])
        backend.clear(f"{namespace}:User:")
        assert bodies(backend, key(1), key(1, "UserGroup")) == {key(1, "UserGroup"): body(b"group")}

    def test_clear_lets_no_value_follow_a_marker(self, backend: CoherentBackend, other: CoherentBackend, key: Key, namespace: str) -> None:
        """A writer that was at work while its class was cleared leaves no value, and is still to be waited for."""
        backend.mark_many([key(1)], ONE)
        other.clear(f"{namespace}:User:")
        assert other.lease_many({key(1): None}, fresh_token(), "").granted == frozenset()
        assert tickets_of(other.get_many([key(1)])[key(1)]) == [ONE]
        backend.release_many([key(1)], ONE, committed=True, values=[item(key(1), b"one")])
        assert backend.get_many([key(1)]) == {}

    @pytest.mark.parametrize(("cleared", "kept"), [("*", "xy"), ("?", "x"), ("[xy]", "x"), ("x-z", "y"), ("a\\b", "ab"), ("^", "x")])
    def test_clear_takes_a_prefix_literally(self, backend: CoherentBackend, key: Key, namespace: str, cleared: str, kept: str) -> None:
        """Characters that are wildcards elsewhere stand for themselves."""
        backend.put_many([item(key(1, cleared), b"cleared"), item(key(1, kept), b"kept")])
        backend.clear(f"{namespace}:{cleared}:")
        assert bodies(backend, key(1, cleared), key(1, kept)) == {key(1, kept): body(b"kept")}

    def test_cleared_keys_can_be_put_again(self, backend: CoherentBackend, key: Key, namespace: str) -> None:
        """After a clear, twice over, a new value is kept, and those not put again stay absent and uncounted."""
        for text in (b"one", b"two", b"three"):
            backend.put_many([item(key(1), text), item(key(2), text)])
            backend.clear(f"{namespace}:")
        backend.put_many([item(key(1), b"new")])
        assert bodies(backend, key(1), key(2)) == {key(1): body(b"new")}
        assert backend.invalidate_many([key(1), key(2)]) == 1

    def test_clear_of_nothing_is_fine(self, backend: CoherentBackend, namespace: str) -> None:
        """A prefix without keys can be cleared."""
        backend.clear(f"{namespace}:")
        backend.clear(f"{namespace}:User:")

    def test_clear_reaches_thousands(self, backend: CoherentBackend, key: Key, namespace: str) -> None:
        """A clear reaches every key of a large class."""
        backend.put_many([item(key(number), b"value") for number in range(MANY)])
        backend.clear(f"{namespace}:User:")
        assert backend.get_many([key(number) for number in range(MANY)]) == {}
