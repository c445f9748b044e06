"""What a backend's markers must do, and what invalidation does to them, as tests."""

import pytest

from stockstore.backends.coherent import CoherentBackend
from stockstore.cells import (
    tickets_of,
)
from stockstore.testing.coherent_basics import (
    ONE,
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


class CoherentMarkers(CoherentBasics):
    """Markers and invalidation."""

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

    @pytest.mark.parametrize("turn", range(3))
    def test_one_batch_has_cells_of_every_sort(self, backend: CoherentBackend, other: CoherentBackend, key: Key, turn: int) -> None:
        """Absent ones, values and others' markers, in whatever order, are marked as each of them would be alone, released and invalidated."""
        absent, valued, marked = key(1), key(2), key(3)
        shared = [[absent, valued, marked], [valued, marked, absent], [marked, absent, valued]][turn]
        other.put_many([item(valued, b"old")])
        other.mark_many([], TWO, [marked])
        backend.mark_many([], ONE, shared)
        cells = other.get_many(shared)
        assert {name: set(tickets_of(cell)) for name, cell in cells.items()} == {absent: {ONE}, valued: {ONE}, marked: {ONE, TWO}}
        assert backend.release_many(shared, ONE, committed=True) == len(shared)
        assert other.get_many(shared) == {marked: b"W+" + TWO}
        other.put_many([item(valued, b"new")])
        assert backend.invalidate_many(shared) == 1
        assert other.get_many(shared) == {marked: b"W+" + TWO}

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
