"""What a backend's leases must do, and what is filled by them, as tests."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from stockstore.backends.coherent import CoherentBackend
from stockstore.cells import (
    BODY_AT,
    ID_SIZE,
    LEASE,
    NO_GENERATION,
    TOKEN_SIZE,
    VALUE,
    pack_alias,
)
from stockstore.testing.coherent_basics import (
    ONE,
    PATIENCE,
    THREADS,
    CoherentBasics,
    Key,
    alias,
    bodies,
    body,
    fresh_token,
    item,
    lease,
)


class CoherentLeases(CoherentBasics):
    """Leases and fills."""

    def test_a_key_never_written_is_absent(self, backend: CoherentBackend, key: Key) -> None:
        """A key that was never written is in no answer."""
        assert backend.get_many([key(1)]) == {}
        assert backend.follow_many([key(1)]) == {}

    def test_an_absent_key_is_leased_once(self, backend: CoherentBackend, other: CoherentBackend, key: Key) -> None:
        """The first reader gets the lease; the second is shown the first one's, and gets none."""
        token = fresh_token()
        first = backend.lease_many({key(1): None}, token, "")
        assert (dict(first.cells), set(first.granted), first.generation) == ({}, {key(1)}, NO_GENERATION)
        second = other.lease_many({key(1): None}, fresh_token(), "")
        assert second.granted == frozenset()
        cell = second.cells[key(1)]
        assert (cell[:1], len(cell), cell[BODY_AT:]) == (LEASE, 1 + ID_SIZE + TOKEN_SIZE, token)
        assert other.get_many([key(1)]) == {key(1): cell}

    def test_a_fill_makes_a_value_of_a_lease(self, backend: CoherentBackend, other: CoherentBackend, key: Key) -> None:
        """A fill under one's own lease is kept, and read as tag, server id and body."""
        token = lease(backend, key(1), key(2))
        assert backend.fill_many([item(key(1), b"one"), item(key(2), b"two")], token) == 2  # noqa: PLR2004 - two of them
        found = other.get_many([key(2), key(1), key(3)])
        assert {name: (cell[:1], cell[BODY_AT:]) for name, cell in found.items()} == {
            key(1): (VALUE, body(b"one")),
            key(2): (VALUE, body(b"two")),
        }

    def test_a_fill_without_a_lease_is_refused(self, backend: CoherentBackend, other: CoherentBackend, key: Key) -> None:
        """Nothing is filled where nothing was leased, nor under another's lease."""
        assert backend.fill_many([item(key(1), b"one")], fresh_token()) == 0
        assert backend.get_many([key(1)]) == {}
        token = lease(backend, key(1))
        assert other.fill_many([item(key(1), b"wrong")], fresh_token()) == 0
        assert backend.fill_many([item(key(1), b"right")], token) == 1
        assert bodies(other, key(1)) == {key(1): body(b"right")}

    def test_a_lease_is_filled_once(self, backend: CoherentBackend, key: Key) -> None:
        """A second fill with the token finds a value, and leaves it."""
        token = lease(backend, key(1))
        assert backend.fill_many([item(key(1), b"first")], token) == 1
        assert backend.fill_many([item(key(1), b"second")], token) == 0
        assert bodies(backend, key(1)) == {key(1): body(b"first")}

    def test_a_value_is_not_leased_unless_it_was_seen(self, backend: CoherentBackend, other: CoherentBackend, key: Key) -> None:
        """A value that came after the caller looked is given to it, not replaced."""
        backend.put_many([item(key(1), b"one")])
        answer = other.lease_many({key(1): None, key(2): None}, fresh_token(), "")
        assert answer.granted == {key(2)}
        assert {name: cell[BODY_AT:] for name, cell in answer.cells.items()} == {key(1): body(b"one")}

    def test_a_value_is_replaced_only_if_its_bytes_are_those_seen(self, backend: CoherentBackend, other: CoherentBackend, key: Key) -> None:
        """Of what the caller cannot use only the very bytes that it saw are replaced by its lease."""
        backend.put_many([item(key(1), b"stays"), item(key(2), b"changes")])
        seen = dict(other.get_many([key(1), key(2)]))
        backend.put_many([item(key(2), b"changed")])
        token = fresh_token()
        answer = other.lease_many(seen, token, "")
        assert answer.granted == {key(1)}
        assert {name: cell[BODY_AT:] for name, cell in answer.cells.items()} == {key(2): body(b"changed")}
        assert other.fill_many([item(key(1), b"new"), item(key(2), b"new")], token) == 1
        assert bodies(backend, key(1), key(2)) == {key(1): body(b"new"), key(2): body(b"changed")}

    def test_what_was_seen_and_has_gone_is_leased(self, backend: CoherentBackend, key: Key) -> None:
        """Absent is leased, whatever was seen there."""
        backend.put_many([item(key(1), b"one")])
        seen = dict(backend.get_many([key(1)]))
        backend.invalidate_many([key(1)])
        assert backend.lease_many(seen, fresh_token(), "").granted == {key(1)}

    def test_what_is_no_value_is_replaced_if_its_bytes_are_those_seen(
        self, backend: CoherentBackend, other: CoherentBackend, key: Key
    ) -> None:
        """An alias where a record is meant gives way to a lease of who saw it."""
        backend.put_many([], [alias(key(1), key(9))])
        assert other.lease_many({key(1): None}, fresh_token(), "").granted == frozenset()
        assert other.lease_many({key(1): pack_alias(key(9))}, fresh_token(), "").granted == {key(1)}

    def test_a_lease_and_a_marker_are_never_leased(self, backend: CoherentBackend, other: CoherentBackend, key: Key) -> None:
        """Neither another's lease nor a marker is replaced, seen or not."""
        lease(backend, key(1))
        backend.mark_many([key(2)], ONE)
        found = dict(other.get_many([key(1), key(2)]))
        for seen in (found, dict.fromkeys(found)):
            answer = other.lease_many(seen, fresh_token(), "")
            assert (answer.cells, answer.granted) == (found, frozenset())
        assert other.get_many([key(1), key(2)]) == found

    def test_threads_that_race_for_a_lease_get_one(self, backend: CoherentBackend, other: CoherentBackend, key: Key) -> None:
        """Of readers at the same time exactly one is granted each key."""
        keys = [key(number) for number in range(100)]
        start = Barrier(THREADS)

        def race(thread: int) -> frozenset[str]:
            start.wait(PATIENCE)
            return (backend, other)[thread % 2].lease_many(dict.fromkeys(keys), fresh_token(), "").granted

        with ThreadPoolExecutor(THREADS) as threads:
            granted = [name for names in threads.map(race, range(THREADS)) for name in names]
        assert sorted(granted) == sorted(keys)
