"""What every backend must do that takes part in the coherence protocol, as tests.

The test file of a backend is a subclass and a fixture::

    class TestMine(CoherentBackendContract):
        @pytest.fixture
        def backend(self):
            backend = MyBackend(...)
            yield backend
            backend.close()

The storage may be shared with others: each test keeps to a namespace of its own.
"""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from stockstore.backends.coherent import CoherentBackend
from stockstore.cells import (
    BODY_AT,
    GENERATION_SIZE,
    ID_SIZE,
    LEASE,
    NO_GENERATION,
    TOKEN_SIZE,
    VALUE,
    generation_of,
    pack_alias,
    tickets_of,
)
from stockstore.testing.coherent_basics import (
    HOUR,
    MANY,
    ONE,
    PATIENCE,
    THREADS,
    TWO,
    CoherentBasics,
    Key,
    alias,
    bodies,
    body,
    fresh_token,
    item,
    lease,
)


class CoherentBackendContract(CoherentBasics):
    """The tests. A subclass gives the fixture ``backend``, and where it can ``other``: another one on the same storage."""

    # -- leases and fills -----------------------------------------------------------------------

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

    # -- markers --------------------------------------------------------------------------------

    def test_a_marker_stands_on_anything(self, backend: CoherentBackend, other: CoherentBackend, key: Key) -> None:
        """A mark replaces a value, a lease, and nothing."""
        backend.put_many([item(key(1), b"one")])
        lease(backend, key(2))
        other.mark_many([key(1), key(2), key(3)], ONE)
        assert backend.get_many([key(1), key(2), key(3)]) == dict.fromkeys([key(1), key(2), key(3)], b"W-" + ONE)

    def test_a_marker_on_a_shared_cell_stands_on_anything(self, backend: CoherentBackend, other: CoherentBackend, key: Key) -> None:
        """A list that readers have kept, or are about to keep, gives way to its writer, and is kept again only after it."""
        backend.put_many([item(key(1), b"old")])
        token = lease(backend, key(2))
        other.mark_many([key(4)], ONE, [key(1), key(2), key(3)])
        assert backend.fill_many([item(key(2), b"old")], token) == 0
        assert backend.get_many([key(1), key(2), key(3)]) == dict.fromkeys([key(1), key(2), key(3)], b"W-" + ONE)
        assert backend.lease_many({key(1): None}, fresh_token(), "").granted == frozenset()
        assert other.release_many([key(4), key(1), key(2), key(3)], ONE, committed=True) == 4  # noqa: PLR2004 - as many keys
        assert backend.get_many([key(1), key(2), key(3)]) == {}
        token = lease(backend, key(1))
        assert backend.fill_many([item(key(1), b"new")], token) == 1

    def test_a_mark_twice_is_one(self, backend: CoherentBackend, key: Key) -> None:
        """A mark that is repeated, as after a lost answer, leaves one marker."""
        for shared in ([], [key(2)]):
            for _ in range(2):
                backend.mark_many([key(1)], ONE, shared)
        assert backend.get_many([key(1), key(2)]) == {key(1): b"W-" + ONE, key(2): b"W-" + ONE}

    def test_a_fill_after_a_mark_is_refused(self, backend: CoherentBackend, other: CoherentBackend, key: Key) -> None:
        """A reader's old row never stands where a writer is at work."""
        token = lease(backend, key(1))
        other.mark_many([key(1)], ONE)
        assert backend.fill_many([item(key(1), b"old")], token) == 0
        assert backend.get_many([key(1)]) == {key(1): b"W-" + ONE}

    def test_a_fill_after_mark_and_release_is_refused(self, backend: CoherentBackend, other: CoherentBackend, key: Key) -> None:
        """A reader that was slow finds its lease gone, whatever the writer left."""
        token = lease(backend, key(1), key(2))
        other.mark_many([key(1), key(2)], ONE)
        other.release_many([key(1), key(2)], ONE, committed=True, values=[item(key(2), b"new")])
        assert backend.fill_many([item(key(1), b"old"), item(key(2), b"old")], token) == 0
        assert bodies(backend, key(1), key(2)) == {key(2): body(b"new")}

    def test_a_sole_marker_gives_way_to_the_value(self, backend: CoherentBackend, other: CoherentBackend, key: Key) -> None:
        """After a commit the value stands where one was given, and the other keys are absent and can be leased."""
        backend.put_many([item(key(1), b"old"), item(key(2), b"old")])
        backend.mark_many([key(1), key(2)], ONE)
        assert backend.release_many([key(1), key(2)], ONE, committed=True, values=[item(key(1), b"new")]) == 2  # noqa: PLR2004 - two of them
        assert bodies(other, key(1), key(2)) == {key(1): body(b"new")}
        assert other.fill_many([item(key(2), b"read")], lease(other, key(2))) == 1

    @pytest.mark.parametrize("committed", [True, False])
    def test_a_release_without_values_leaves_nothing(self, backend: CoherentBackend, key: Key, committed: bool) -> None:
        """Whichever way the writer's transaction ended, its sole marker goes."""
        backend.mark_many([key(1)], ONE)
        assert backend.release_many([key(1)], ONE, committed=committed) == 1
        assert backend.get_many([key(1)]) == {}
        assert backend.lease_many({key(1): None}, fresh_token(), "").granted == {key(1)}

    def test_no_value_follows_a_rollback(self, backend: CoherentBackend, key: Key) -> None:
        """What was not committed stands nowhere, even where it was given."""
        backend.mark_many([key(1)], ONE)
        backend.release_many([key(1)], ONE, committed=False, values=[item(key(1), b"never")])
        assert backend.get_many([key(1)]) == {}

    def test_two_writers_of_shared_cells_leave_no_value(self, backend: CoherentBackend, other: CoherentBackend, key: Key) -> None:
        """Where two markers stood, the first release leaves the other's, and the last leaves nothing."""
        backend.mark_many([], ONE, [key(1)])
        other.mark_many([], TWO, [key(1)])
        cell = backend.get_many([key(1)])[key(1)]
        assert (cell[:2], set(tickets_of(cell))) == (b"W+", {ONE, TWO})
        assert backend.release_many([key(1)], ONE, committed=True, values=[item(key(1), b"one")]) == 1
        assert other.get_many([key(1)]) == {key(1): b"W+" + TWO}
        assert other.lease_many({key(1): None}, fresh_token(), "").granted == frozenset()
        assert other.release_many([key(1)], TWO, committed=True, values=[item(key(1), b"two")]) == 1
        assert backend.get_many([key(1)]) == {}

    def test_a_later_writer_of_a_row_outlives_the_earlier_release(self, backend: CoherentBackend, other: CoherentBackend, key: Key) -> None:
        """A row that the next writer has marked keeps that marker, and never gets the first one's value."""
        backend.mark_many([key(1)], ONE)
        other.mark_many([key(1)], TWO)
        backend.release_many([key(1)], ONE, committed=True, values=[item(key(1), b"one")])
        assert TWO in tickets_of(other.get_many([key(1)])[key(1)])
        other.release_many([key(1)], TWO, committed=True, values=[item(key(1), b"two")])
        assert bodies(backend, key(1)) in ({}, {key(1): body(b"two")})

    def test_a_commit_whose_marker_was_lost_leaves_nothing(self, backend: CoherentBackend, other: CoherentBackend, key: Key) -> None:
        """Values and leases that came after a marker was lost are removed by the release, and no value is put."""
        other.put_many([item(key(1), b"old"), item(key(4), b"old")], [alias(key(6), key(1))])
        token = lease(other, key(2), key(5))
        keys = [key(number) for number in range(1, 7)]
        values = [item(name, b"new") for name in keys[:3]]
        assert backend.release_many(keys, ONE, committed=True, values=values) == 0
        assert backend.get_many(keys) == {}
        assert other.fill_many([item(key(2), b"old"), item(key(5), b"old")], token) == 0

    def test_a_rollback_whose_marker_was_lost_leaves_what_is_there(
        self, backend: CoherentBackend, other: CoherentBackend, key: Key
    ) -> None:
        """A value that came after a marker was lost is true after a rollback, and a lease stays good."""
        other.put_many([item(key(1), b"true")])
        token = lease(other, key(2))
        assert backend.release_many([key(1), key(2)], ONE, committed=False) == 0
        assert other.fill_many([item(key(2), b"true")], token) == 1
        assert bodies(backend, key(1), key(2)) == {key(1): body(b"true"), key(2): body(b"true")}

    @pytest.mark.parametrize("committed", [True, False])
    def test_a_release_leaves_the_markers_of_others(
        self, backend: CoherentBackend, other: CoherentBackend, key: Key, committed: bool
    ) -> None:
        """Where only another's marker stands, it stays, and no value is put."""
        other.mark_many([key(1)], TWO)
        values = [item(key(1), b"one")]
        assert backend.release_many([key(1)], ONE, committed=committed, values=values) == 0
        assert tickets_of(other.get_many([key(1)])[key(1)]) == [TWO]

    def test_a_ticket_that_is_part_of_another_is_not_it(self, backend: CoherentBackend, key: Key) -> None:
        """Tickets are compared whole."""
        backend.mark_many([], b"db.11", [key(1)])
        backend.mark_many([], b"db.1", [key(1)])
        assert set(tickets_of(backend.get_many([key(1)])[key(1)])) == {b"db.11", b"db.1"}
        assert backend.release_many([key(1)], b"db.1", committed=False) == 1
        assert backend.get_many([key(1)]) == {key(1): b"W+db.11"}
        assert backend.release_many([key(1)], b"b.11", committed=False) == 0
        assert backend.get_many([key(1)]) == {key(1): b"W+db.11"}

    def test_a_release_twice_leaves_nothing_old(self, backend: CoherentBackend, key: Key) -> None:
        """A release that is repeated, as after a lost answer, leaves the value that it put, or nothing."""
        backend.mark_many([key(1)], ONE)
        for _ in range(2):
            backend.release_many([key(1)], ONE, committed=True, values=[item(key(1), b"new")])
        assert bodies(backend, key(1)) in ({}, {key(1): body(b"new")})

    def test_markers_outlive_the_lifetime_of_what_they_replaced(self, backend: CoherentBackend, key: Key) -> None:
        """A marker has no lifetime, and takes none over."""
        if not self.expires:
            return
        backend.put_many([(key(1), body(b"one"), 1), (key(2), body(b"two"), 1)])
        backend.mark_many([key(1)], ONE)
        self.wait_until_absent(backend, key(2))
        assert backend.get_many([key(1)]) == {key(1): b"W-" + ONE}

    # -- invalidation ---------------------------------------------------------------------------

    def test_invalidation_removes_values_and_counts_them(self, backend: CoherentBackend, other: CoherentBackend, key: Key) -> None:
        """Values, leases and aliases go; values are counted, each once; others stay."""
        backend.put_many([item(key(number), b"%d" % number) for number in range(3)], [alias(key(5), key(0))])
        lease(backend, key(4))
        assert other.invalidate_many([key(0), key(9), key(1), key(0), key(4), key(5)]) == 2  # noqa: PLR2004 - two of them
        assert bodies(backend, *map(key, range(10))) == {key(2): body(b"2")}
        assert other.delete_many([key(0), key(2)]) == 1
        assert backend.get_many([key(2)]) == {}

    def test_a_fill_after_invalidation_is_refused(self, backend: CoherentBackend, other: CoherentBackend, key: Key) -> None:
        """A lease that was taken away is not filled, nor where another reader has leased the key since."""
        token = lease(backend, key(1), key(2))
        other.invalidate_many([key(1), key(2)])
        theirs = lease(other, key(2))
        assert backend.fill_many([item(key(1), b"old"), item(key(2), b"old")], token) == 0
        assert other.fill_many([item(key(2), b"new")], theirs) == 1
        assert bodies(backend, key(1), key(2)) == {key(2): body(b"new")}

    def test_invalidation_keeps_markers_and_lets_no_value_follow(self, backend: CoherentBackend, other: CoherentBackend, key: Key) -> None:
        """A writer whose cell was invalidated releases it without its value, which may be the older one."""
        backend.mark_many([key(1), key(2)], ONE)
        assert other.invalidate_many([key(1)]) == 0
        assert other.get_many([key(1), key(2)]) == {key(1): b"W+" + ONE, key(2): b"W-" + ONE}
        values = [item(key(1), b"one"), item(key(2), b"two")]
        assert backend.release_many([key(1), key(2)], ONE, committed=True, values=values) == 2  # noqa: PLR2004 - two of them
        assert bodies(other, key(1), key(2)) == {key(2): body(b"two")}

    def test_invalidation_of_joined_markers_changes_nothing(self, backend: CoherentBackend, key: Key) -> None:
        """Two markers stay two."""
        backend.mark_many([], ONE, [key(1)])
        backend.mark_many([], TWO, [key(1)])
        before = backend.get_many([key(1)])
        assert backend.invalidate_many([key(1)]) == 0
        assert backend.get_many([key(1)]) == before

    # -- puts -----------------------------------------------------------------------------------

    def test_the_last_put_wins(self, backend: CoherentBackend, other: CoherentBackend, key: Key) -> None:
        """A put replaces values and leases, also within a batch."""
        token = lease(backend, key(1))
        other.put_many([item(key(1), b"old")])
        other.put_many([item(key(1), b"older"), item(key(1), b"new")])
        assert bodies(backend, key(1)) == {key(1): body(b"new")}
        assert backend.fill_many([item(key(1), b"read")], token) == 0
        assert bodies(backend, key(1)) == {key(1): body(b"new")}

    def test_a_put_leaves_markers(self, backend: CoherentBackend, other: CoherentBackend, key: Key) -> None:
        """Where a writer is at work nothing is put; the rest of the batch is."""
        backend.mark_many([key(1)], ONE)
        backend.mark_many([], ONE, [key(2)])
        backend.mark_many([], TWO, [key(2)])
        before = backend.get_many([key(1), key(2)])
        other.put_many([item(key(number), b"put") for number in (1, 2, 3)])
        assert bodies(backend, key(1), key(2), key(3)) == before | {key(3): body(b"put")}

    def test_a_put_marker_still_has_no_lifetime(self, backend: CoherentBackend, key: Key) -> None:
        """A put that was refused leaves the marker as lasting as it was."""
        if not self.expires:
            return
        backend.mark_many([key(1)], ONE)
        backend.put_many([(key(1), body(b"one"), 1), (key(2), body(b"two"), 1)])
        self.wait_until_absent(backend, key(2))
        assert backend.get_many([key(1)]) == {key(1): b"W-" + ONE}

    @pytest.mark.parametrize(
        "text",
        [b"", b"\0", b"\r\n", b"END\r\n", b"VALUE a 0 1\r\nx\r\nEND\r\n", b"A", bytes(range(256)), b"\xff" * 300_000],
        ids=["empty", "nul", "newline", "end", "answer", "tag", "all bytes", "300 kB"],
    )
    def test_any_bytes_are_kept(self, backend: CoherentBackend, key: Key, text: bytes) -> None:
        """A value is given back byte for byte, whatever it holds, by put, fill and release."""
        backend.put_many([item(key(1), text), item(key(2), b"next")])
        backend.fill_many([item(key(3), text)], lease(backend, key(3)))
        backend.mark_many([key(4)], ONE)
        backend.release_many([key(4)], ONE, committed=True, values=[item(key(4), text)])
        expected = {key(1): body(text), key(2): body(b"next"), key(3): body(text), key(4): body(text)}
        assert bodies(backend, *expected) == expected

    # -- aliases --------------------------------------------------------------------------------

    def test_aliases_are_written_along(self, backend: CoherentBackend, other: CoherentBackend, key: Key) -> None:
        """Puts, fills and releases write aliases, and following them gives the value under the asked key."""
        backend.put_many([item(key(1), b"1")], [alias(key(1, "Name"), key(1))])
        backend.fill_many([item(key(2), b"2")], lease(backend, key(2)), [alias(key(2, "Name"), key(2))])
        backend.mark_many([key(3)], ONE)
        aliases = [alias(key(3, "Name"), key(3))]
        backend.release_many([key(3)], ONE, committed=True, values=[item(key(3), b"3")], aliases=aliases)
        names = [key(number, "Name") for number in (1, 2, 3)]
        assert other.get_many(names) == {key(number, "Name"): pack_alias(key(number)) for number in (1, 2, 3)}
        found = other.follow_many([*names, key(1)])
        assert {name: cell[BODY_AT:] for name, cell in found.items()} == {
            **{key(number, "Name"): body(b"%d" % number) for number in (1, 2, 3)},
            key(1): body(b"1"),
        }

    def test_aliases_are_written_whatever_becomes_of_the_values(self, backend: CoherentBackend, key: Key) -> None:
        """An alias is a hint: it stands though its value was refused."""
        backend.mark_many([key(1)], ONE)
        backend.put_many([item(key(1), b"1")], [alias(key(1, "Name"), key(1))])
        assert backend.fill_many([item(key(2), b"2")], fresh_token(), [alias(key(2, "Name"), key(2))]) == 0
        names = [key(1, "Name"), key(2, "Name")]
        assert backend.get_many(names) == {key(n, "Name"): pack_alias(key(n)) for n in (1, 2)}

    def test_an_alias_without_a_value_gives_itself(self, backend: CoherentBackend, key: Key) -> None:
        """Where the target is absent, leased, marked or an alias again, the alias is given as it stands."""
        lease(backend, key(2))
        backend.mark_many([key(3)], ONE)
        targets = {key(number, "Name"): key(number) for number in (1, 2, 3, 4)}
        backend.put_many([item(key(9), b"9")], [alias(key(4), key(9)), *(alias(name, target) for name, target in targets.items())])
        assert backend.follow_many(list(targets)) == {name: pack_alias(target) for name, target in targets.items()}

    def test_following_gives_everything_else_as_it_stands(self, backend: CoherentBackend, key: Key) -> None:
        """Leases and markers are shown under their own keys, and absent keys are left out."""
        lease(backend, key(1))
        backend.mark_many([key(2)], ONE)
        keys = [key(1), key(2), key(3)]
        assert backend.follow_many(keys) == backend.get_many(keys)
        assert set(backend.follow_many(keys)) == {key(1), key(2)}

    def test_two_aliases_may_share_a_target(self, backend: CoherentBackend, key: Key) -> None:
        """Both aliases give the value."""
        backend.put_many([item(key(1), b"one")], [alias(key(2), key(1)), alias(key(3), key(1))])
        found = backend.follow_many([key(2), key(3)])
        assert {name: cell[BODY_AT:] for name, cell in found.items()} == {key(2): body(b"one"), key(3): body(b"one")}

    @pytest.mark.parametrize("target", [b"", b"gone", b"two words", b"a\r\nflush_all", b"\xff\xfe", b"x" * 300])
    def test_an_alias_to_no_key_disturbs_no_other(self, backend: CoherentBackend, key: Key, target: bytes) -> None:
        """An alias whose target is no key at all is given as it stands, or left out."""
        backend.put_many([item(key(2), b"two")], [(key(1), b"A" + target, HOUR)])
        found = backend.follow_many([key(1), key(2)])
        assert found.pop(key(1), b"A" + target) == b"A" + target
        assert {name: cell[BODY_AT:] for name, cell in found.items()} == {key(2): body(b"two")}
        assert bodies(backend, key(2)) == {key(2): body(b"two")}

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
