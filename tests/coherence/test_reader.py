"""The read of a chain over tiers that write down what they are asked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from stockstore.coherence.protocol import Outcome, Writes
from stockstore.coherence.reader import Reader
from stockstore.coherence.writer import WriteThrough
from stockstore.keys import Key, keys_of
from stockstore.stores.snapshots import ObjectSnapshot, Snapshot
from tests.coherence.dict_tier import DOWN, DictTier, Lease

pytestmark = pytest.mark.sa_agnostic


@dataclass
class User:
    __keys__: ClassVar = ["id", "email"]
    id: int
    email: str = ""
    name: str = "old"


class Origin:
    """Rows in a list; a test may hook in before they are given, or after they were read."""

    def __init__(self, *rows: User) -> None:
        self.rows = list(rows)
        self.asked: list[list[Key]] = []
        self.after: Callable[[], object] = lambda: None
        self.shared = True

    def fetch(self, cls: type, keys: Sequence[Key], *, session: object = None) -> list[Snapshot | None]:
        """Give what is there now, then let the test go on."""
        self.asked.append(list(keys))
        found = [self._find(cls, key) for key in keys]
        self.after()
        return found

    def _find(self, cls: type, key: Key) -> Snapshot | None:
        plan, native, _ = keys_of(cls).lookup(key)
        row = next((row for row in self.rows if plan.native_of(row) == native), None)
        snapshot = None if row is None else ObjectSnapshot(User(row.id, row.email, row.name))
        if snapshot is not None and not self.shared:
            snapshot = Private(snapshot.value)
        return snapshot


class Private(ObjectSnapshot):
    shared = False


def read(tiers: Sequence[DictTier], origin: Origin, *keys: Key) -> list[str | None]:
    """Read keys through the tiers, and give the names of what was found."""
    places = [keys_of(User).lookup(key)[:2] for key in keys]
    found = Reader[Any](tiers, origin.fetch).read(User, dict(zip(places, keys, strict=True)))
    return [None if place not in found else found[place].value.name for place in places]


def names(tier: DictTier) -> dict[object, str]:
    """Give the values of a tier."""
    return {native: vars(cell.value)["name"] for (_, native), cell in tier.cells.items() if isinstance(cell, ObjectSnapshot)}


def write(tiers: Sequence[DictTier], origin: Origin, user: User) -> None:
    """Commit a row as a chain does."""
    through, writes = WriteThrough[Any](tiers), Writes()
    writes.add(User, user.id)
    located = through.locate(writes)
    through.mark(located, b"t")
    origin.rows = [row for row in origin.rows if row.id != user.id] + [user]
    through.settle(located, Outcome.COMMITTED, [ObjectSnapshot(user)])


@pytest.fixture
def log() -> list[Any]:
    """What all tiers were asked and told, in order."""
    return []


@pytest.fixture
def tiers(log: list[Any]) -> list[DictTier]:
    """Two tiers, the upper one first."""
    return [DictTier("upper", log=log), DictTier("lower", log=log)]


def test_leases_go_down_and_fills_go_up(tiers: list[DictTier], log: list[Any]) -> None:
    """The upper lease is taken first, the origin is asked once after all leases, and the lower tier is filled first."""
    origin = Origin(User(1), User(2))
    origin.after = lambda: log.append("origin")
    assert read(tiers, origin, 1, 2, 404) == ["old", "old", None]
    both = [{"id": 1}, {"id": 2}]
    assert log == [
        ("upper", "lease", [1, 2, 404]),
        ("lower", "lease", [1, 2, 404]),
        "origin",
        ("lower", "fill", both),
        ("upper", "fill", both),
    ]
    assert origin.asked == [[1, 2, 404]]
    assert names(tiers[0]) == names(tiers[1]) == {1: "old", 2: "old"}


def test_each_tier_is_asked_only_for_what_is_missing(tiers: list[DictTier], log: list[Any]) -> None:
    """What an upper tier has no lower one is asked for, none is asked for nothing, and a hit below fills above alone."""
    origin = Origin(User(1), User(2), User(3))
    read(tiers, origin, 1)
    read(tiers[1:], origin, 2)
    log.clear()
    origin.asked.clear()
    assert read(tiers, origin, 1, 2, 3) == ["old"] * 3
    assert log[:3] == [("upper", "lease", [1, 2, 3]), ("lower", "lease", [2, 3]), ("upper", "fill", [{"id": 2}])]
    assert origin.asked == [[3]]
    log.clear()
    assert read(tiers, origin, 3, 2, 1) == ["old"] * 3
    assert log == [("upper", "lease", [3, 2, 1])]
    assert origin.asked == [[3]]


def test_a_fill_that_a_writer_has_overtaken_is_refused(tiers: list[DictTier]) -> None:
    """A put that commits between a reader's look at the origin and its fill is not undone in any tier."""
    origin = Origin(User(1))
    origin.after = lambda: write(tiers, origin, User(1, name="new"))
    assert read(tiers, origin, 1) == ["old"]
    assert names(tiers[0]) == names(tiers[1]) == {1: "new"}
    assert read(tiers, origin, 1) == ["new"]


@pytest.mark.parametrize("level", [0, 1])
def test_a_marker_is_passed_and_nothing_is_filled_at_it_or_above(tiers: list[DictTier], level: int) -> None:
    """What a writer is at work on is read from below, and kept in no tier from the marker up."""
    origin, writes = Origin(User(1)), Writes()
    writes.add(User, 1)
    tiers[level].mark(tiers[level].locate(writes), b"t")
    assert read(tiers, origin, 1) == ["old"]
    assert [names(tier) for tier in tiers] == [{}, {1: "old"} if level == 0 else {}]


def test_a_tier_that_is_not_to_be_read_is_passed(tiers: list[DictTier], log: list[Any]) -> None:
    """A tier that owes removals is neither asked nor filled."""
    tiers[1].deaf = True
    assert read(tiers, Origin(User(1)), 1) == ["old"]
    assert [entry[:2] for entry in log] == [("upper", "lease"), ("upper", "fill")]


def test_what_is_private_to_a_session_fills_nothing(tiers: list[DictTier]) -> None:
    """A row as one session alone sees it is given to its caller, and kept nowhere, by whatever key."""
    origin = Origin(User(1, "a"))
    origin.shared = False
    assert read(tiers, origin, 1, {"email": "a"}) == ["old", "old"]
    assert [names(tier) for tier in tiers] == [{}, {}]
    assert len(origin.asked) == 1


def test_the_second_read_by_any_key_is_a_hit(tiers: list[DictTier]) -> None:
    """A read by a key that no tier has a pointer for keeps what it found by its identity, with pointers from every key."""
    origin = Origin(User(1, "a"), User(2, "b"))
    assert read(tiers, origin, {"email": "a"}, {"email": "b"}, {"email": "c"}) == ["old", "old", None]
    assert origin.asked[1:] == [[{"id": 1}, {"id": 2}]]
    origin.asked.clear()
    assert read(tiers[:1], origin, {"email": "a"}, 1, {"email": "b"}, 2) == ["old"] * 4
    assert read(tiers[1:], origin, {"email": "a"}, 1, {"email": "b"}, 2) == ["old"] * 4
    assert origin.asked == []


def test_a_hit_below_by_another_key_is_kept_above(tiers: list[DictTier]) -> None:
    """A tier without a pointer gets what the tier below has by its own."""
    origin = Origin(User(1, "a"))
    read(tiers[1:], origin, 1)
    origin.asked.clear()
    assert read(tiers, origin, {"email": "a"}) == ["old"]
    assert names(tiers[0]) == {1: "old"}
    assert origin.asked == []


def test_a_pointer_to_another_record_is_not_believed(tiers: list[DictTier]) -> None:
    """A key that has moved to another row finds that row, and fills neither the record that it pointed to nor leaves its own out."""
    origin = Origin(User(1, "a"))
    read(tiers, origin, {"email": "a"})
    origin.rows = [User(1, "b"), User(2, "a", "two")]
    for tier in tiers:
        tier.cells.clear()
    assert read(tiers, origin, {"email": "a"}) == ["two"]
    assert names(tiers[0]) == {2: "two"}
    origin.asked.clear()
    assert read(tiers, origin, {"email": "a"}) == ["two"]
    assert origin.asked == []


def test_the_answer_carries_the_key_though_the_row_moves_meanwhile(tiers: list[DictTier]) -> None:
    """The answer by another key is what the origin first gave, though the row has lost the key before it is kept."""
    origin = Origin(User(1, "a"))
    origin.after = lambda: origin.rows.__setitem__(0, User(1, "b", "new"))
    assert read(tiers, origin, {"email": "a"}) == ["old"]
    assert names(tiers[0]) == {1: "new"}


def test_a_tier_that_fails_to_fill_fails_no_read(tiers: list[DictTier], caplog: pytest.LogCaptureFixture) -> None:
    """An error of a fill is logged, and the tiers above are filled all the same."""
    origin = Origin(User(1))
    origin.after = lambda: setattr(tiers[1], "down", DOWN)
    assert read(tiers, origin, 1) == ["old"]
    assert "could not be filled: the dictionary is away" in caplog.text
    assert names(tiers[0]) == {1: "old"}


def test_an_origin_that_fails_the_second_time_fails_no_read(tiers: list[DictTier], caplog: pytest.LogCaptureFixture) -> None:
    """What is read again only to be kept is not missed by the caller."""
    origin = Origin(User(1, "a"))
    origin.after = lambda: setattr(origin, "rows", None)
    assert read(tiers, origin, {"email": "a"}) == ["old"]
    assert "the tiers above could not be filled" in caplog.text.lower()


def test_an_interrupted_read_leaves_leases_alone(tiers: list[DictTier]) -> None:
    """What interrupts a read comes out of it, and no value stands anywhere."""
    origin = Origin(User(1))

    def interrupt() -> None:
        raise KeyboardInterrupt

    origin.after = interrupt
    with pytest.raises(KeyboardInterrupt):
        read(tiers, origin, 1)
    assert [[type(cell) for cell in tier.cells.values()] for tier in tiers] == [[Lease], [Lease]]
