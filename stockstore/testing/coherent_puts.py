"""What a backend must do that is put to, and whose keys have aliases, as tests."""

import pytest

from stockstore.backends.coherent import CoherentBackend
from stockstore.backends.columns import PointersInTurn, Values
from stockstore.cells import BODY_AT, pack_alias
from stockstore.testing.coherent_basics import (
    HOUR,
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


class CoherentPuts(CoherentBasics):
    """Puts and aliases."""

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

    @pytest.mark.parametrize("number", [1, 3, 600])
    def test_aliases_in_turn_are_written_as_any_others(
        self, backend: CoherentBackend, other: CoherentBackend, key: Key, number: int
    ) -> None:
        """Each alias of a batch points to its own value, that of a second key too."""
        names = {key(at, kind): key(at) for kind in ("Name", "Mail") for at in range(number)}
        records = [key(at) for at in range(number)]
        items = [item(name, b"%d" % at) for at, name in enumerate(records)]
        backend.put_many(items, PointersInTurn([*names], records, HOUR))
        assert other.get_many(list(names)) == {name: pack_alias(target) for name, target in names.items()}
        assert {name: cell[BODY_AT:] for name, cell in other.follow_many(list(names)).items()} == {
            name: body(b"%d" % at) for kind in ("Name", "Mail") for at in range(number) for name in (key(at, kind),)
        }

    @pytest.mark.parametrize("number", [1, 3, 600])
    @pytest.mark.parametrize("lasts", [HOUR, 2 * HOUR])
    def test_values_in_columns_are_written_as_any_others(
        self, backend: CoherentBackend, other: CoherentBackend, key: Key, number: int, lasts: int
    ) -> None:
        """What begins alike is put whole, markers stay, and aliases of another lifetime are written along."""
        marked, head = key(number), body(b"")
        backend.mark_many([marked], ONE)
        keys = [key(at) for at in range(number + 1)]
        rests = [b"%d" % at for at in range(number + 1)]
        backend.put_many(Values(keys, head, rests, HOUR), PointersInTurn([key(at, "Name") for at in range(number + 1)], keys, lasts))
        expected = [head + rest for rest in rests[:-1]]
        assert [cell and cell[BODY_AT:] for cell in other.look(keys[:-1])] == expected
        assert [cell and cell[BODY_AT:] for cell in other.look([key(at, "Name") for at in range(number)], follow=True)] == expected
        assert other.look([marked, key(number, "Name")], follow=True) == [b"W-" + ONE, pack_alias(marked)]

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
