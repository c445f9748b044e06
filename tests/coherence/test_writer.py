"""The write of a chain over tiers that write down what they are told."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from stockstore.coherence.protocol import Outcome, Writes
from stockstore.coherence.writer import Located, WriteThrough
from stockstore.errors import CacheUnreachable
from stockstore.stores.snapshots import ObjectSnapshot
from tests.coherence.dict_tier import DOWN, DictTier, Marker

pytestmark = pytest.mark.sa_agnostic


@dataclass
class User:
    __keys__: ClassVar = ["id"]
    id: int
    name: str = "new"


class Case:
    """Process memory over a server, both with an old value, and a write to it."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.local, self.server = DictTier("local", log=self.log), DictTier("server", remote=True, log=self.log)
        self.tiers = [self.local, self.server]
        self.through = WriteThrough[Any](self.tiers)
        self.writes = Writes()
        self.writes.add(User, 1)
        self.record = next(iter(self.writes.records))
        for tier in self.tiers:
            tier.cells[self.record] = ObjectSnapshot(User(1, "old"))

    def cells(self) -> list[object]:
        """Give what stands in the tiers: a name, a marker's tickets, or nothing."""
        found = [tier.cells.get(self.record) for tier in self.tiers]
        return [vars(cell.value)["name"] if isinstance(cell, ObjectSnapshot) else cell for cell in found]

    def steps(self) -> list[str]:
        """Give what was done where."""
        return [f"{tier} {step}" for tier, step, *_ in self.log]


@pytest.fixture
def case() -> Case:
    """Two tiers with an old value."""
    return Case()


def marked(case: Case, ticket: bytes | None = b"t") -> Located[Any]:
    """Locate and mark."""
    located = case.through.locate(case.writes)
    case.through.mark(located, ticket)
    return located


NEW = [ObjectSnapshot(User(1))]


def test_a_commit_goes_from_the_origin_outward(case: Case) -> None:
    """The lowest tier is marked and released first, and each has the committed value after it, no value before."""
    located = marked(case)
    assert case.cells() == [Marker((b"t",), False)] * 2
    case.through.settle(located, Outcome.COMMITTED, NEW)
    assert case.cells() == ["new", "new"]
    assert case.steps() == ["server mark", "local mark", "server release", "local release"]


def test_the_texts_are_those_of_remote_tiers(case: Case) -> None:
    """Another process gets the keys that it can reach."""
    assert case.through.locate(case.writes).texts == [f"n:{__name__}.User:id:i1"]


def test_without_a_ticket_a_remote_tier_is_fast(case: Case) -> None:
    """A remote tier without evidence is not marked but invalidated after the commit; process memory is strict all the same."""
    located = marked(case, None)
    assert case.cells()[1] == "old"
    assert isinstance(case.cells()[0], Marker)
    case.through.settle(located, Outcome.COMMITTED, NEW)
    assert case.cells() == ["new", None]
    assert located.cold == [case.server]


def test_tickets_of_process_memory_differ(case: Case) -> None:
    """Two transactions without tickets of their own are told apart: no value follows where both were at work."""
    first, second = marked(case, None), marked(case, None)
    case.through.settle(first, Outcome.COMMITTED, NEW)
    assert isinstance(case.cells()[0], Marker)
    case.through.settle(second, Outcome.COMMITTED, NEW)
    assert case.cells()[0] is None


def test_a_rollback_leaves_no_marker_and_no_value(case: Case) -> None:
    """What was marked is released, and what was not is left as it was."""
    case.through.settle(marked(case), Outcome.ROLLED_BACK, NEW)
    assert case.cells() == [None, None]
    case.server.cells[case.record] = ObjectSnapshot(User(1, "old"))
    case.through.settle(marked(case, None), Outcome.ROLLED_BACK)
    assert case.cells() == [None, "old"]


def test_an_unknown_end_leaves_remote_markers_to_the_resolver(case: Case) -> None:
    """Process memory is emptied, and the server's marker stays."""
    case.through.settle(marked(case), Outcome.UNKNOWN, NEW)
    assert case.cells() == [None, Marker((b"t",), False)]


def test_an_unknown_end_invalidates_a_fast_tier(case: Case) -> None:
    """Where no marker stands the old value goes."""
    case.through.settle(marked(case, None), Outcome.UNKNOWN, NEW)
    assert case.cells() == [None, None]


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_tier_that_cannot_be_marked(case: Case, outcome: Outcome) -> None:
    """The error is raised once all others are marked, and the tier owes the removal however the transaction ends."""
    case.server.down = DOWN
    located = case.through.locate(case.writes)
    with pytest.raises(CacheUnreachable):
        case.through.mark(located, b"t")
    assert isinstance(case.cells()[0], Marker)
    case.through.settle(located, outcome, NEW)
    ticket = None if outcome is Outcome.UNKNOWN else b"t"
    assert case.server.owed == [(frozenset([case.record]), ticket)]
    assert located.cold == [case.server]
    assert case.local.owed == []


def test_a_tier_that_could_not_keep_a_value(case: Case) -> None:
    """A tier that tells that it kept less than it was given is told apart from those that kept all."""
    located = marked(case)
    case.server.kept = 0
    case.through.settle(located, Outcome.COMMITTED, NEW)
    assert located.cold == [case.server]


def test_a_tier_of_somebodys_own_that_cannot_be_marked(case: Case) -> None:
    """Whatever it raises is told as a cache that is out of reach, with what it raised."""
    case.local.down = ZeroDivisionError("the cache")
    with pytest.raises(CacheUnreachable, match="could not be marked: ZeroDivisionError") as caught:
        marked(case)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert isinstance(case.cells()[1], Marker)


def test_a_tier_that_cannot_be_released(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    """It owes the release, the error is logged and not raised, and the tier above is released."""
    located = marked(case)
    case.server.down = ZeroDivisionError("the cache")
    case.through.settle(located, Outcome.COMMITTED, NEW)
    assert case.server.owed == [(frozenset([case.record]), b"t")]
    assert case.cells()[0] == "new"
    assert "ZeroDivisionError" in caplog.text


def test_a_tier_that_cannot_be_invalidated(case: Case) -> None:
    """It owes the removal, and no release."""
    case.server.down = DOWN
    case.through.invalidate(case.writes)
    assert case.server.owed == [(frozenset([case.record]), None)]
    assert case.cells() == [None, "old"]


def test_an_interrupt_comes_out_last(case: Case) -> None:
    """What interrupts a release is raised after the other tiers were released, and the release is owed."""
    located = marked(case)
    case.server.down = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        case.through.settle(located, Outcome.COMMITTED, NEW)
    assert case.cells()[0] == "new"
    assert case.server.owed == [(frozenset([case.record]), b"t")]


def test_a_mark_that_is_cut_off_may_have_been_set(case: Case) -> None:
    """What an interrupt leaves half marked is released with the rest."""
    located = case.through.locate(case.writes)
    case.server.down = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        case.through.mark(located, b"t")
    case.through.settle(located, Outcome.ROLLED_BACK)
    assert case.server.owed == [(frozenset([case.record]), b"t")]
    assert case.cells()[0] == "old"


def test_an_invalidation_keeps_another_writers_marker(case: Case) -> None:
    """A writer that is at work stays marked, and its value does not follow."""
    located = marked(case)
    case.through.invalidate(case.writes)
    assert case.cells() == [Marker((b"t",), True)] * 2
    case.through.settle(located, Outcome.COMMITTED, NEW)
    assert case.cells() == [None, None]


class Spoken:
    """An announcer that writes down what it says."""

    def __init__(self, log: list[Any], *, carries: bool = True) -> None:
        self.log, self.carries = log, carries

    def within(self, connection: object, texts: Sequence[str], ticket: bytes) -> bool:
        """Take the transaction for its own, or not."""
        del connection
        if self.carries:
            self.log.append(("say", "within", list(texts), ticket))
        return self.carries

    def afterwards(self, texts: Sequence[str], ticket: bytes) -> None:
        """Say it."""
        self.log.append(("say", "afterwards", list(texts), ticket))


KEY = f"n:{__name__}.User:id:i1"
HERE: Any = object()


@pytest.mark.parametrize("end", Outcome)
def test_what_is_announced_within_a_transaction_is_not_announced_again(case: Case, end: Outcome) -> None:
    """It is told once, after the markers, whatever becomes of the transaction."""
    case.local.announcer = Spoken(case.log)
    located = marked(case)
    case.through.announce(located, HERE)
    case.through.settle(located, end)
    assert case.steps()[:3] == ["server mark", "local mark", "say within"]
    assert [said for said in case.log if said[0] == "say"] == [("say", "within", [KEY], b"t")]


@pytest.mark.parametrize(("end", "told"), [(Outcome.COMMITTED, True), (Outcome.UNKNOWN, True), (Outcome.ROLLED_BACK, False)])
def test_what_could_not_be_announced_within_is_announced_after_the_release(case: Case, end: Outcome, told: bool) -> None:
    """Unless nothing was committed; by then no cache below gives the old value any more."""
    case.local.announcer = Spoken(case.log, carries=False)
    located = marked(case)
    case.through.announce(located, HERE)
    case.through.settle(located, end)
    assert case.log[-1][:2] == (("say", "afterwards") if told else case.log[-1][:2])
    assert [said for said in case.log if said[0] == "say"] == ([("say", "afterwards", [KEY], b"t")] if told else [])


def test_nothing_is_announced_before_a_cache_below_is_told(case: Case) -> None:
    """A shared cache without a marker gives the old value until it is invalidated, and who heard before that would fill from it."""
    case.local.announcer = Spoken(case.log)
    located = marked(case, None)
    case.through.announce(located, HERE)
    case.through.settle(located, Outcome.COMMITTED)
    assert [step for step in case.steps() if step.startswith(("say", "server"))] == ["server invalidate", "say afterwards"]


def test_one_announcer_speaks_once_for_several_memories(case: Case) -> None:
    """The keys of all of them are one announcement."""
    other = DictTier("other", log=case.log)
    case.local.announcer = other.announcer = Spoken(case.log)
    through = WriteThrough[Any]([case.local, other, case.server])
    through.invalidate(case.writes)
    assert [said for said in case.log if said[0] == "say"] == [("say", "afterwards", [KEY, KEY], b"")]
